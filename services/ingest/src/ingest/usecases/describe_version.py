"""The description of a version: its title and metadata, which may change after its upload."""

from aquifer.structs import JsonObject
from ingest.domain import State, Version
from ingest.usecases import announce
from ingest.usecases.work import Trace, Work


async def describe(
    work: Work,
    version: Version,
    title: str,
    metadata: JsonObject,
    *,
    order_ns: int = 0,
    trace: Trace = None,
) -> Version:
    """Sets title and metadata of a version and announces them; the document is locked.

    `order_ns` is when they were given, 0 means now. Does nothing if the version has them already.
    The chunks of a version that is not prepared yet will bring its description themselves.
    """
    if version.is_described_by(title, metadata):
        return version
    described = await work.documents.describe(version, title, metadata, order_ns)
    if described.state is not State.ACCEPTED:
        announce.send_description(work, described, trace)
    return described

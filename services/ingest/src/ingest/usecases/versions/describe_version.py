"""The description of a version: its title and metadata, which may change after its upload."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from aquifer.query.v1.passage_events_pb2 import VersionDescribed
from aquifer.structs import JsonObject
from chassis.events.delivery import Batch
from ingest.domain import Draft, Entry, State, Version
from ingest.usecases import announce
from ingest.usecases.work import Begin, Trace, Work


async def describe(
    work: Work,
    version: Version,
    title: str,
    metadata: JsonObject,
    *,
    wait_s: float,
    order_ns: int = 0,
    trace: Trace = None,
) -> Version:
    """Sets title and metadata of a version and announces them; the document is locked.

    `order_ns` is when they were given, 0 means now. If query does not confirm them within `wait_s`,
    they may be sent again. Does nothing if the version has them already. The chunks of a version
    that is not prepared yet bring its description themselves.
    """
    if version.is_described_by(title, metadata):
        return version
    described = await work.documents.describe(
        version, title, metadata, order_ns=order_ns, wait_s=wait_s
    )
    if described.state is not State.ACCEPTED:
        announce.send_description(work, described, trace)
    return described


async def describe_later(work: Work, draft: Draft, entry: Entry, newest: Version | None) -> Draft:
    """The draft of an upload event, with the description that was given after it.

    That is the one of an event which was handled before it, or of a call.
    """
    given_ns = max(draft.order_ns, entry.description_order)
    is_valid = newest is not None and newest.number > entry.tombstone_version
    if newest and is_valid and draft.order_ns and newest.description_order > given_ns:
        return replace(draft, title=newest.given_title, metadata=newest.metadata)
    if not 0 < draft.order_ns < entry.description_order:
        return draft
    found = await work.documents.find_description(draft.name)
    if found is None:
        return draft  # a delete has removed it
    title, metadata = found
    return replace(draft, title=title, metadata=metadata)


async def describe_shown(
    work: Work,
    entry: Entry,
    newest: Version,
    change: Callable[[Version], tuple[str, JsonObject]],
    *,
    wait_s: float,
    order_ns: int = 0,
) -> Version:
    """Describes the newest version and the live one; returns the newest.

    They differ while a newer version is in progress or has failed.
    """
    # An older live version that is being deleted keeps its description until it is hidden.
    if entry.tombstone_version < entry.live_version < entry.latest_version:
        live = await work.documents.find_version(entry.name, entry.live_version)
        assert live is not None, "a live version is never removed"
        await describe(work, live, *change(live), wait_s=wait_s, order_ns=order_ns)
    return await describe(work, newest, *change(newest), wait_s=wait_s, order_ns=order_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmDescriptions:
    """Records that query knows descriptions, so that they are not sent again."""

    begin: Begin

    async def run(self, batch: Batch[VersionDescribed]) -> None:
        """Does nothing for a description that has changed since; it gets its own confirmation."""
        async with self.begin(batch.tenant, batch) as work:
            revisions: dict[tuple[str, int], int] = {}
            for delivery in work.fresh:
                event = delivery.event
                version = (event.document, event.version)
                revisions[version] = max(event.revision, revisions.get(version, 0))
            views = await work.documents.lock_versions(sorted(revisions))
            versions = [view.version for view in views]
            await work.documents.confirm_descriptions(
                [one for one in versions if one.revision <= revisions[one.document, one.number]]
            )

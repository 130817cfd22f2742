"""An upload that comes again is the upload it was, and hears what it should have heard."""

from dataclasses import replace

from ingest.domain import Entry, Upload, Version, View
from ingest.usecases import facts
from ingest.usecases.facts import Fact
from ingest.usecases.ports import Work


async def repeat(work: Work, upload: Upload) -> View:
    """The version that a known upload made.

    To an upload event the acknowledgement or the result is told again, under the same id: whoever
    sends it again has not heard it.
    """
    entry = await work.documents.entry(upload.document) or Entry(name=upload.document)
    version = await work.documents.version(upload.document, upload.version)
    assert version is not None, "an upload's version is never removed"
    if upload.origin.source:
        told = facts.retold(version, upload) or await _deletion(work, version, upload)
        if told:
            work.tell(told)
    return View(entry=entry, version=version)


async def _deletion(work: Work, version: Version, upload: Upload) -> Fact | None:
    found = await work.deletions.receipt(version.document, version.number)
    if found is None:
        return None
    last, receipt = found
    return facts.deleted(replace(version, number=last), upload.origin, receipt)

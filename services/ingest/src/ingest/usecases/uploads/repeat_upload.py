"""Repeated uploads: each gets the answer of the first one again."""

from dataclasses import replace

from ingest.domain import Entry, Upload, Version, View
from ingest.usecases import announce
from ingest.usecases.documents.duplicates import show_same_content
from ingest.usecases.work import Work


async def repeat(work: Work, upload: Upload) -> View:
    """Returns the document and version of a known upload, or of another event about a document.

    For an event, the acknowledgement or result is sent again with the same id, because its
    producer may not have received it.
    """
    entry = await work.documents.find_entry(upload.document) or Entry(name=upload.document)
    version = await work.documents.find_version(upload.document, upload.version)
    assert version is not None, "an upload's version is never removed"
    [view] = await show_same_content(work.duplicates, [View(entry=entry, version=version)])
    if upload.origin.source:
        announce.resend(work, view, upload)
        await _repeat_deletion(work, version, upload)
    return view


async def _repeat_deletion(work: Work, version: Version, upload: Upload) -> None:
    if not announce.is_ended_by_delete(version, upload):
        return
    found = await work.deletions.find_receipt(version.document, version.number)
    if found is None:
        announce.send_acknowledgement(work, version, upload.origin)
        return
    last, receipt = found
    announce.send_deletion(work, replace(version, number=last), upload.origin, receipt)

"""Uploads of bytes that the newest version of their document has."""

from dataclasses import replace

from ingest.domain import Draft, Entry, Object, State, Upload, UploadResult, Version, View
from ingest.usecases import announce
from ingest.usecases.documents.duplicates import list_same_content
from ingest.usecases.documents.label_documents import label_upload
from ingest.usecases.versions.describe_version import describe
from ingest.usecases.work import Trace, Work


def brings_nothing(draft: Draft, stored: Object, known: Version) -> bool:
    """Whether an upload brings nothing that the version's parser does not have.

    With a password it is a new version until the version is parsed: its parser may be at work
    without the password.
    """
    brings_password = draft.password != "" and known.state is State.ACCEPTED
    return not brings_password and known.is_same(draft.media_type, stored.sha256)


async def join(
    work: Work,
    draft: Draft,
    entry: Entry,
    newest: Version,
    *,
    inherited: tuple[str, ...],
    wait_s: float,
    trace: Trace,
) -> View | None:
    """Assigns an upload with known bytes to the existing version; it gets the version's result.

    Its title and metadata take effect, unless a later upload or update was handled before it.
    `inherited` are the labels of its collection. None for a repeat.
    """
    origin = draft.origin
    upload = Upload(
        origin=origin,
        document=newest.document,
        version=newest.number,
        sha256=newest.stored.sha256,
        unchanged=True,
    )
    if newest.state is State.INDEXED and origin.source:
        upload = replace(upload, result=UploadResult.INDEXED)
    if origin.request_id and not await work.uploads.add(upload):
        return None
    entry = await label_upload(work, draft, entry, inherited)
    latest_ns = max(entry.upload_order, entry.description_order, newest.description_order)
    if not draft.order_ns or draft.order_ns >= latest_ns:
        newest = await describe(
            work,
            newest,
            draft.title,
            draft.metadata,
            wait_s=wait_s,
            order_ns=draft.order_ns,
            trace=trace,
        )
    await work.documents.raise_order(newest.document, draft.order_ns)
    if upload.result:
        same = await list_same_content(work.duplicates, [newest])
        announce.send_result(
            work, newest, upload, trace=trace, same_content=same.get(newest.document, ())
        )
    else:
        announce.send_acknowledgement(work, newest, origin, trace)
    return View(entry=entry, version=newest)

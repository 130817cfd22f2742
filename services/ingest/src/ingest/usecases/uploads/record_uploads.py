"""Records uploads in the database; those that arrive while a transaction runs share the next one.

A single upload does not wait. The same code records one upload or many, so a group has the same
effect as its uploads one after the other.
"""

import asyncio
import contextvars
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from weakref import WeakValueDictionary

from opentelemetry import context as otel_context

from chassis.base.errors import ConflictError, FailedPreconditionError
from chassis.base.labels import Held
from ingest.domain import (
    SUPERSEDED,
    Draft,
    Entry,
    Object,
    State,
    Upload,
    Version,
    View,
)
from ingest.lanes import share_of
from ingest.pace import Pace, work_s
from ingest.usecases import announce
from ingest.usecases.deletion.delete_document import write_tombstones
from ingest.usecases.documents.duplicates import show_same_content
from ingest.usecases.documents.label_documents import check_upload_labels, label_upload
from ingest.usecases.ports import Cut, CutText, Passwords
from ingest.usecases.rows import Addition, Claimed
from ingest.usecases.uploads.known_bytes import brings_nothing, join
from ingest.usecases.uploads.refusals import (
    AnsweredBeforeError,
    SupersededError,
    check_reuse,
    check_tenant,
    deleted_version_error,
    refuse_pinned,
    refuse_unknown_collection,
)
from ingest.usecases.uploads.repeat_upload import repeat
from ingest.usecases.versions.describe_version import describe_later
from ingest.usecases.work import Begin, Trace, Work

GROUP_MAX: Final = 64
# Writing the statements of one group blocks the event loop.
GROUP_MAX_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """An upload with its bytes, in memory or stored.

    `content` is set if the bytes go into the database, `cut` if the text is already cut; `trace` is
    the upload's own trace. `restored` is the version of the document that had these bytes, for a
    roll back; 0 otherwise. `held` are the labels of the sender.
    """

    draft: Draft
    held: Held
    stored: Object
    content: bytes | None
    cut: Cut | None = None
    trace: Trace = None
    restored: int = 0


# The outcome of an upload: its document, an error, or None for a repeat.
_Outcome = View | Exception | None


@dataclass(slots=True, eq=False)
class _Waiting:
    incoming: Incoming
    done: "asyncio.Future[View]"


@dataclass(slots=True, kw_only=True)
class RecordUploads:
    """Records uploads, with one queue per tenant and lane: no single upload waits for an import.

    `notice` is called with the tenant and name of each document that may have changed. Unless
    `implicit_collections`, only collections that were created take uploads.
    """

    begin: Begin
    pace: Pace
    cut_text: CutText
    passwords: Passwords
    notice: Callable[[str, str], None]
    implicit_collections: bool = True
    _lines: dict[str, deque[_Waiting]] = field(default_factory=lambda: defaultdict(deque))
    _running: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _cutting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _cutting_for: "WeakValueDictionary[str, asyncio.Lock]" = field(
        default_factory=WeakValueDictionary
    )

    async def run(self, incoming: Incoming) -> View:
        """Records an upload; returns its document.

        Raises:
            AlreadyExistsError: REQUEST_REUSED.
            ForbiddenError: LABELS_FORBIDDEN; TENANT_SUSPENDED, for an upload event.
            NotFoundError: COLLECTION_UNKNOWN.
            FailedPreconditionError: DOCUMENT_PINNED; COLLECTION_DELETED, for an upload event;
                DOCUMENT_DELETED, for a roll back.
            ConflictError: REQUEST_FORGOTTEN, try again.
            TenantLateError, AnsweredBeforeError, SupersededError: for an upload event.
        """
        tenant = incoming.draft.tenant
        share = share_of(tenant, incoming.draft.lane)
        loop = asyncio.get_running_loop()
        cut = await self._cut_small_text(incoming, share)
        trace = incoming.trace or otel_context.get_current()
        waiting = _Waiting(replace(incoming, cut=cut, trace=trace), loop.create_future())
        self._lines[share].append(waiting)
        if share not in self._running:
            # In its own context, because it serves uploads of many traces.
            work = self._record_all(share, tenant)
            self._running[share] = loop.create_task(work, context=contextvars.Context())
        return await waiting.done

    async def _cut_small_text(self, incoming: Incoming, share: str) -> Cut | None:
        """Cuts small plain text, one text at a time; other tasks may run between two texts.

        One upload of each share waits for its turn, so tenants take turns.
        """
        if incoming.content is None:
            return None
        own = self._cutting_for.setdefault(share, asyncio.Lock())
        async with own, self._cutting:
            cut = self.cut_text(incoming.draft, incoming.content)
            await asyncio.sleep(0)
        return cut

    async def _record_all(self, share: str, tenant: str) -> None:
        """Records waiting uploads, group after group, until none is left."""
        line = self._lines[share]
        try:
            while line:
                await self._record_group(tenant, _take_group(line))
        finally:
            del self._running[share], self._lines[share]

    async def _record_group(self, tenant: str, group: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._record(tenant, [one.incoming for one in group])
        except Exception as error:  # noqa: BLE001  (each upload's caller gets it)
            if len(group) == 1:
                _resolve(group[0], error)
                return
            for one in group:
                await self._record_group(tenant, [one])
            return
        for one, outcome in zip(group, outcomes, strict=True):
            self.notice(tenant, one.incoming.draft.name)
            if outcome is None:
                try:
                    outcome = await self._repeat(one.incoming)  # noqa: PLW2901
                except Exception as error:  # noqa: BLE001  (its caller gets it)
                    outcome = error  # noqa: PLW2901
            _resolve(one, outcome)

    async def _record(self, tenant: str, group: Sequence[Incoming]) -> Sequence[_Outcome]:
        """Records uploads of different documents in one transaction."""
        async with self.begin(tenant) as work:
            claimed = await work.documents.claim(sorted(one.draft.name for one in group))
            entries = {**claimed.entries, **await self._end_deleted(work, claimed)}
            newest = await work.documents.list_versions(
                {
                    name: entry.latest_version
                    for name, entry in entries.items()
                    if entry.latest_version
                }
            )
            outcomes: dict[str, _Outcome] = {}
            additions: dict[str, tuple[Incoming, Addition]] = {}
            for one in group:
                name, entry = one.draft.name, entries[one.draft.name]
                if (refusal := self._refuse(one, entry, claimed)) is not None:
                    outcomes[name] = refusal
                elif not (self.implicit_collections or name in claimed.created):
                    outcomes[name] = await refuse_unknown_collection(work, one.draft.origin)
                elif (known := newest.get(name)) and brings_nothing(one.draft, one.stored, known):
                    outcomes[name] = await join(
                        work,
                        one.draft,
                        entry,
                        known,
                        inherited=claimed.inherited.get(name, ()),
                        wait_s=self.pace.wait_s(0),
                        trace=one.trace,
                    )
                elif 0 < one.draft.order_ns < entry.upload_order:
                    outcomes[name] = await _supersede(work, one, entry)
                elif entry.pinned:
                    outcomes[name] = await refuse_pinned(work, one.draft.origin)
                else:
                    draft = await describe_later(work, one.draft, entry, known)
                    # Not the cut by other settings.
                    cut = None if name in claimed.cut_apart else one.cut
                    one = replace(one, draft=draft, cut=cut)  # noqa: PLW2901
                    additions[name] = (one, self._add(one, entry.next_version))
            outcomes |= await _add_all(work, entries, claimed, additions)
            views = [one for one in outcomes.values() if isinstance(one, View)]
            shown = await show_same_content(work.duplicates, views)
            outcomes |= {view.entry.name: view for view in shown}
            if unused := outcomes.keys() - {view.entry.name for view in views}:
                await work.documents.release(sorted(unused))
        return [outcomes[one.draft.name] for one in group]

    async def _end_deleted(self, work: Work, claimed: Claimed) -> dict[str, Entry]:
        """Writes the tombstones that the deletion of a collection has not written yet.

        So an upload after the deletion is a new version, and the versions before it are deleted.
        """
        tombstones = [
            cut.make_tombstone(name, claimed.entries[name].latest_version)
            for name, cut in claimed.cuts.items()
            if cut.includes(claimed.entries[name])
        ]
        if tombstones:
            await write_tombstones(work, tombstones, self.pace.wait_s(0))
        return {
            one.document: replace(
                claimed.entries[one.document], tombstone_version=one.number, pinned=False
            )
            for one in tombstones
        }

    def _refuse(self, one: Incoming, entry: Entry, claimed: Claimed) -> Exception | None:
        """Checks what was deleted, and the tenant of an upload event; for a call, its token was.

        A roll back must not bring back what was deleted after its bytes were read.
        """
        if refusal := check_tenant(one.draft.origin, claimed.standing):
            return refusal
        cut = claimed.cuts.get(one.draft.name)
        if cut and 0 < one.draft.order_ns <= cut.upload_order:
            return FailedPreconditionError(
                "COLLECTION_DELETED",
                "the collection was deleted after the event was published; publish a new event",
            )
        if 0 < one.restored <= entry.tombstone_version:
            return deleted_version_error(one.restored)
        inherited = claimed.inherited.get(one.draft.name, ())
        return check_upload_labels(one.draft, entry, inherited, one.held)

    def _add(self, one: Incoming, number: int) -> Addition:
        """The version to add for an upload; small plain text is cut at once."""
        draft, cut = one.draft, one.cut
        prepared = cut.prepare(draft.tenant, draft.name, number) if cut is not None else None
        state = State.ACCEPTED if prepared is None else State.PREPARED
        batches = prepared.batch_count if prepared else 0
        password = None
        if draft.password and prepared is None:
            password = self.passwords.seal(draft.tenant, draft.name, number, draft.password)
        return Addition(
            draft=draft,
            number=number,
            stored=one.stored,
            content=one.content,
            prepared=prepared,
            password=password,
            wait_s=self.pace.wait_s(0, work_s(state, one.stored.size_bytes, batches)),
        )

    async def _repeat(self, one: Incoming) -> View:
        """Answers a known upload, found by its event's source and id or by its request id."""
        async with self.begin(one.draft.tenant) as work:
            upload = await work.uploads.find(one.draft.origin)
            if upload is None:
                raise ConflictError(
                    "REQUEST_FORGOTTEN", "the request id has just expired; send the upload again"
                )
            if not upload.version:
                raise AnsweredBeforeError
            if not one.draft.origin.source:
                check_reuse(upload, one.draft.name, one.stored.sha256, one.held)
            return await repeat(work, upload)


def _take_group(line: deque[_Waiting]) -> list[_Waiting]:
    """Takes the first uploads of a queue that can share a transaction.

    Uploads of the same document or with the same request id are recorded one after the other.
    """
    group: list[_Waiting] = []
    left: list[_Waiting] = []
    names: set[str] = set()
    requests: set[tuple[str, str]] = set()
    size = 0
    while line and len(group) < GROUP_MAX and size < GROUP_MAX_BYTES:
        one = line.popleft()
        draft = one.incoming.draft
        request = (draft.origin.source, draft.origin.request_id)
        if draft.name in names or (request[1] and request in requests):
            left.append(one)
        else:
            group.append(one)
            size += len(one.incoming.content or b"")
        # Also of those left: later uploads in the queue must not overtake them.
        names.add(draft.name)
        requests.add(request)
    line.extendleft(reversed(left))
    return group


def _resolve(one: _Waiting, outcome: _Outcome) -> None:
    if one.done.done():
        return  # its caller was cancelled; the upload stays recorded
    if isinstance(outcome, Exception):
        one.done.set_exception(outcome)
    else:
        assert outcome is not None, "a repeat was looked up"
        one.done.set_result(outcome)


async def _supersede(work: Work, one: Incoming, entry: Entry) -> SupersededError | None:
    """Records an upload that was handled after a later upload or delete; it adds no version."""
    upload = Upload(
        origin=one.draft.origin,
        document=entry.name,
        version=0,
        sha256=one.stored.sha256,
        unchanged=False,
        result=SUPERSEDED.reason,
        result_detail=SUPERSEDED.detail,
    )
    if not await work.uploads.add(upload):
        return None
    announce.send_superseded(work, one.draft.tenant, upload, one.trace)
    return SupersededError()


async def _add_all(
    work: Work,
    entries: Mapping[str, Entry],
    claimed: Claimed,
    additions: Mapping[str, tuple[Incoming, Addition]],
) -> Mapping[str, _Outcome]:
    """Adds the versions and announces them; a known upload adds none."""
    made = await work.documents.add([addition for _, addition in additions.values()])
    outcomes: dict[str, _Outcome] = dict.fromkeys(additions)
    for name, version in made.items():
        one, addition = additions[name]
        inherited = claimed.inherited.get(name, ())
        entry = await label_upload(work, one.draft, entries[name], inherited)
        _announce_version(work, one, addition, version, entry)
        outcomes[name] = View(entry=replace(entry, latest_version=version.number), version=version)
    return outcomes


def _announce_version(
    work: Work, one: Incoming, addition: Addition, version: Version, entry: Entry
) -> None:
    """Acknowledges a new version and orders its next step."""
    announce.send_acknowledgement(work, version, one.draft.origin, one.trace)
    if addition.prepared is None:
        announce.order_preparation(work, version, one.trace)
    else:
        pieces = addition.prepared.pieces
        announce.send_chunks(work, version, pieces, entry.labels, trace=one.trace)

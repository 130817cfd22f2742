"""Last writer wins: the live version of a document is that of its last upload or delete.

An upload event takes its place when the broker stores it, a call when it is accepted. Events are
ordered by the sequence of their stream, read from their PubAcks; everything else only where it did
not overlap: an event was acknowledged, or a call answered, before the other was begun. Where that
leaves two writers unordered, either may be the last; an event published twice, or without a PubAck,
has every place that one of its copies may have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.faults.evidence import FINAL, Evidence, Row
from tests.faults.journal import Copy, Facts, Journal

LATE = "VERSION_SUPERSEDED"
DELETED = "COLLECTION_DELETED"
LAST_ONES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """An upload or a delete of one document.

    `version` is 0 when it made none that is known; `took_effect` is False while that is open.
    `begun` and `ended` are line numbers of the journal: it took its place between the two, if it
    did. `ended` is None while it may still take it.
    """

    operation: str
    kind: str
    version: int
    result: str
    took_effect: bool
    begun: int
    ended: int | None
    copies: tuple[Copy, ...] = ()

    def precedes(self, other: "Writer") -> bool:
        """Whether it certainly came first."""
        if self.ended is not None and self.ended < other.begun:
            return True
        if not (self.copies and other.copies):
            return False
        return all(_copy_precedes(one, two) for one in self.copies for two in other.copies)


def _copy_precedes(one: Copy, two: Copy) -> bool:
    if one.place and two.place and one.place[0] == two.place[0]:
        return one.place < two.place
    return one.acked is not None and one.acked < two.begun


def order_violations(journal: Journal, evidence: Evidence) -> Iterator[str]:
    """Documents whose live version or whose results contradict the order of their writers."""
    states = {(row["document"], row["version"]): row["state"] for row in evidence.versions}
    on_their_way = {name for (name, _), state in states.items() if state not in FINAL}
    live = {row["name"]: row["live_version"] for row in evidence.documents}
    for document, writers in _writers(journal, evidence).items():
        if document in on_their_way:
            continue  # stuck, which is another finding; what will be live is open
        shown = live.get(document, 0)
        yield from _live_is_not_the_last(document, shown, writers, states)
        yield from _untrue_results(document, shown, writers)
    yield from _unhandled(journal, evidence)


def count_decided(journal: Journal, evidence: Evidence) -> int:
    """Documents of several writers of which one is certainly the last: what the rule can prove."""
    decided = 0
    for writers in _writers(journal, evidence).values():
        effective = [writer for writer in writers if writer.took_effect]
        if len(effective) > 1:
            # Only one of those that began last can have come after all others.
            decided += any(
                all(other.precedes(last) for other in effective if other is not last)
                for last in effective[-LAST_ONES:]
            )
    return decided


def _writers(journal: Journal, evidence: Evidence) -> Mapping[str, list[Writer]]:
    rows = {row["request_id"]: row for row in evidence.uploads}
    found: dict[str, list[Writer]] = {}
    for operation, facts in journal.begun.items():
        writer = _writer(journal, operation, facts, rows.get(operation))
        found.setdefault(str(facts["document"]), []).append(writer)
    return {document: _without_borrowed_versions(writers) for document, writers in found.items()}


def _without_borrowed_versions(writers: Sequence[Writer]) -> list[Writer]:
    """A late event may be answered with the version that superseded it, which it did not make."""
    made = {writer.version for writer in writers if writer.result != LATE}
    return [
        replace(writer, version=0) if writer.result == LATE and writer.version in made else writer
        for writer in writers
    ]


def _writer(journal: Journal, operation: str, facts: Facts, row: Row | None) -> Writer:
    answer = journal.ended.get(operation, {})
    begun, ended = journal.lines[operation]
    answered = bool(answer.get("accepted") or answer.get("deleted") or answer.get("result"))
    copies = tuple(journal.copies.get(operation, ()))
    ends = [ended] if answered and ended else []
    stored = [copy.acked for copy in copies if copy.acked]
    if stored and len(stored) == len(copies):
        ends.append(max(stored))
    return Writer(
        operation=operation,
        kind=str(facts["kind"]),
        version=row["version"] if row else answer.get("version", 0),
        result=(row["result"] if row else "") or answer.get("result", ""),
        took_effect=_counts(row) or bool(answer.get("accepted") or answer.get("deleted")),
        begun=begun,
        ended=min(ends, default=None),
        copies=copies,
    )


def _counts(row: Row | None) -> bool:
    """Whether an upload is known and was not refused: a refusal leaves a row and no version."""
    return row is not None and (row["version"] > 0 or row["result"] == LATE)


def _live_is_not_the_last(
    document: str, live: int, writers: Iterable[Writer], states: Mapping[tuple[str, int], str]
) -> Iterator[str]:
    """The live version needs a writer that nobody certainly came after."""
    last_words = [
        writer for writer in writers if writer.took_effect and not _failed(document, writer, states)
    ]
    if not last_words:
        return
    later: Writer | None = None
    for candidate in _candidates(live, writers):
        after = [w for w in last_words if not _says(w, live) and candidate.precedes(w)]
        if not after:
            return
        later = after[-1]
    said = f"v{live} is live" if live else "no version is live"
    if later is None:
        yield f"order: {document}: {said}, which no upload or delete explains"
    else:
        yield f"order: {document}: {said}, though {_name(later)} came after it"


def _candidates(live: int, writers: Iterable[Writer]) -> list[Writer]:
    return [writer for writer in writers if _says(writer, live)]


def _says(writer: Writer, live: int) -> bool:
    """Whether this version, or none, is live when the writer is the last."""
    return live == 0 if writer.kind == "delete" else 0 < writer.version == live


def _failed(document: str, writer: Writer, states: Mapping[tuple[str, int], str]) -> bool:
    """An upload that was given up for a reason of its own leaves the version before it live."""
    failed = states.get((document, writer.version)) == "FAILED"
    return failed and writer.result != LATE


def _untrue_results(document: str, live: int, writers: Sequence[Writer]) -> Iterator[str]:
    """Only an upload that is not the last one may end as superseded, or with its collection."""
    for writer in writers:
        if writer.result == DELETED and all(
            other.precedes(writer) for other in writers if other.kind == "delete"
        ):
            yield f"order: {document}: {_name(writer)} ended as {DELETED} and no delete came after"
        if writer.result != LATE:
            continue
        if writer.version and writer.version == live:
            yield f"order: {document}: {_name(writer)} ended as {LATE} and is live"
        # The newest first: one of them usually settles the question.
        others = [w for w in reversed(writers) if w is not writer and w.took_effect]
        if all(other.precedes(writer) for other in others):
            yield f"order: {document}: {_name(writer)} ended as {LATE} and nothing came after it"


def _unhandled(journal: Journal, evidence: Evidence) -> Iterator[str]:
    """What the broker acknowledged is handled, unless its store was lost on the way."""
    known = {row["request_id"] for row in evidence.uploads}
    for operation, copies in journal.copies.items():
        answered = journal.ended.get(operation, {}).get("result")
        kept = any(copy.place and copy.place[0] == journal.stores_lost for copy in copies)
        if kept and operation not in known and not answered:
            yield f"lost: upload event {operation} was published, and nothing came of it"


def _name(writer: Writer) -> str:
    places = [str(copy.place[1]) for copy in writer.copies if copy.place]
    at = f" (stream sequence {', '.join(places)})" if places else ""
    made = f" v{writer.version}" if writer.version else ""
    return f"{writer.kind} {writer.operation}{at}{made}"

"""Reading the text of a version back, exactly as it was extracted and cleaned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidInputError,
    NotFoundError,
)
from ingest.domain import State, Version, View, check_name
from ingest.pieces import Piece
from ingest.usecases.deletion.delete_document import unknown_document_error
from ingest.usecases.rows import Extent
from ingest.usecases.work import Begin, Work

# At most a megabyte of UTF-8, and with a page break for every other character below 4 MiB.
PART_MAX_CHARS: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuery:
    """Which part of which version to read; 0 in a field leaves it open, see the contract."""

    version: int = 0
    start: int = 0
    end: int = 0
    first_page: int = 0
    last_page: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A part of the text of a version; offsets count characters of the whole text.

    `next_start` is where the rest of what was asked for begins, 0 if there is none. `page` is the
    page of the first character, 0 for a format without pages; `page_breaks` are the offsets and
    numbers of further pages.
    """

    version: Version
    text: str
    start: int
    next_start: int
    length: int
    page: int
    page_breaks: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDocumentText:
    begin: Begin

    async def run(self, tenant: str, name: str, query: TextQuery) -> TextPart:
        """At most `PART_MAX_CHARS` characters of the live version, or else of the newest.

        Raises:
            InvalidInputError: DOCUMENT_NAME, TEXT_RANGE, PAGE_RANGE.
            NotFoundError: DOCUMENT_UNKNOWN, VERSION_UNKNOWN.
            FailedPreconditionError: TEXT_PENDING, TEXT_MISSING.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            version = await _find_version(work, name, query.version)
            if version.state is State.ACCEPTED:
                # A part of its text may be stored already.
                raise _no_text_error(version)
            extent = await work.texts.measure(name, version.number)
            if extent is None:
                raise _no_text_error(version)
            first, behind = await _find_bounds(work, version, extent, query)
            start, end = _find_range(query, first, behind)
            stop = min(end, start + PART_MAX_CHARS)
            pieces = await work.texts.list_pieces(name, version.number, start, stop)
        if not pieces:
            # A newer version went live, or a delete was completed, between two statements.
            raise _no_text_error(version)
        page, page_breaks = _find_page_breaks(pieces, start, stop)
        return TextPart(
            version=version,
            text=_join(pieces, start, stop),
            start=start,
            next_start=stop if stop < end else 0,
            length=extent.length,
            page=page,
            page_breaks=page_breaks,
        )


async def _find_version(work: Work, name: str, number: int) -> Version:
    """The version to read, which is not deleted."""
    newest = await work.documents.find_newest(name)
    if newest is None:
        raise unknown_document_error()
    latest = newest.entry.latest_version
    number = number or _choose_number(newest)
    if not 1 <= number <= latest:
        raise unknown_version_error(latest)
    version = newest.version
    if number != latest:
        found = await work.documents.find_version(name, number)
        if found is None:
            # The reconciler adopts a document that only query has, with its last version alone.
            raise unknown_version_error(latest)
        version = found
    if version.state in (State.DELETING, State.DELETED):
        raise _no_text_error(version)
    return version


def unknown_version_error(latest: int) -> NotFoundError:
    """The document has no version of the number that was sent."""
    return NotFoundError(
        "VERSION_UNKNOWN",
        f"the document has no version of this number; the newest is {latest}",
        latest_version=latest,
    )


def _choose_number(newest: View) -> int:
    """The live version, unless a delete has begun to hide it, or else the newest."""
    entry = newest.entry
    return (
        entry.live_version
        if entry.live_version > entry.tombstone_version
        else (entry.latest_version)
    )


def _no_text_error(version: Version) -> FailedPreconditionError:
    number = version.number
    if version.state is State.ACCEPTED:
        return FailedPreconditionError(
            "TEXT_PENDING",
            f"version {number} is not parsed yet; read again when its state is PREPARED",
            version=number,
        )
    if version.state in (State.DELETING, State.DELETED):
        why = "the document is deleted; upload it again to read it"
    elif version.state is State.FAILED:
        why = f"version {number} has failed with {version.reason}; correct it and upload it again"
    else:
        why = f"version {number} is superseded and its text is not stored; read the live one"
    return FailedPreconditionError("TEXT_MISSING", why, version=number, state=version.state)


async def _find_bounds(
    work: Work, version: Version, extent: Extent, query: TextQuery
) -> tuple[int, int]:
    """First character of the pages that are asked for, and the one behind them."""
    first, last = query.first_page, query.last_page or query.first_page
    if not first and not last:
        return 0, extent.length
    if not extent.last_page:
        raise _page_error("the document has no pages; send `start` and `end` instead", extent)
    if not 1 <= first <= last:
        raise _page_error(f"send pages from 1 to {extent.last_page}, the first one first", extent)
    begins = await work.texts.find_page(version.document, version.number, first)
    ends = await work.texts.find_page(version.document, version.number, last + 1)
    if begins is None or begins == ends:
        raise _page_error(
            f"there is no text on these pages; the last page with text is {extent.last_page}",
            extent,
        )
    return begins, extent.length if ends is None else ends


def _page_error(detail: str, extent: Extent) -> InvalidInputError:
    violation = FieldViolation("first_page", detail)
    return InvalidInputError("PAGE_RANGE", detail, fields=[violation], last_page=extent.last_page)


def _find_range(query: TextQuery, first: int, behind: int) -> tuple[int, int]:
    """First character to read, and the one behind the last, within the bounds."""
    start, end = query.start or first, query.end or behind
    if not first <= start < end <= behind:
        detail = f"the text has characters {first} to {behind}; send a part of it, or 0 for all"
        raise InvalidInputError(
            "TEXT_RANGE", detail, fields=[FieldViolation("start", detail)], start=first, end=behind
        )
    return start, end


def _join(pieces: Sequence[Piece], start: int, end: int) -> str:
    """The characters of a range; pieces that end before it only tell where the next gap begins."""
    parts: list[str] = []
    behind = 0
    for piece in pieces:
        if piece.end > start:
            # A gap that was not kept has the right length in blanks.
            parts += (piece.gap.rjust(piece.start - behind), piece.text)
        behind = piece.end
    text = "".join(parts)
    begins = behind - len(text)
    return text[start - begins : end - begins]


def _find_page_breaks(
    pieces: Sequence[Piece], start: int, end: int
) -> tuple[int, Sequence[tuple[int, int]]]:
    """The page at the start of a range, and the pages that begin after it."""
    first = current = pieces[0].page
    breaks: list[tuple[int, int]] = []
    for place, page in _list_places(pieces):
        if page == current or place >= end:
            continue
        current = page
        if place <= start:
            first = page
        else:
            breaks.append((place, page))
    return first, breaks


def _list_places(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    for piece in pieces:
        yield piece.start, piece.page
        yield from piece.page_breaks

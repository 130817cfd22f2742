"""Documents with the bytes of others, and documents with almost the same text as others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from chassis.base.labels import Held
from ingest.collections import collection_of
from ingest.domain import UNFINISHED, State, Version, View
from ingest.notes import Note, NoteCode
from ingest.signature import estimate_similarity, list_bands
from ingest.steps import VERSIONS, Step

# More documents with the same bytes are not named.
SAME_MAX: Final = 5
# Nor are more with a similar text, nor those below this similarity.
SIMILAR_MAX: Final = 3
SIMILARITY_MIN: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A version, and another document whose text may be similar, with their signatures."""

    document: str
    signature: bytes
    other: str
    other_signature: bytes


class Duplicates(Protocol):
    """Finds documents of the tenant that are duplicates of others, and keeps signatures."""

    async def list_same(self, digests: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        """Other documents with the same bytes, by the names of documents with their SHA-256.

        At most `SAME_MAX` of each, those of its own collection first, then by name. As for
        `Documents.check`, the newest version of these documents has the bytes, and has neither
        failed nor been deleted. A document without duplicates is left out.
        """

    async def keep_signature(
        self, document: str, number: int, signature: bytes, bands: Sequence[int]
    ) -> None:
        """Store the signature of a version until it is superseded or purged."""

    async def list_pairs(self, versions: Sequence[tuple[str, int]]) -> Sequence[Pair]:
        """These versions with documents that have a band in common with them.

        Of the documents the newest version counts, if it is prepared or indexed. Of those with one
        band, only some are returned, the oldest first.
        """

    async def add_notes(self, notes: Mapping[tuple[str, int], Note]) -> None:
        """Add a note to each of these versions."""


async def list_same_content(
    duplicates: Duplicates, versions: Sequence[Version]
) -> Mapping[str, Sequence[str]]:
    """Other documents with the bytes of these versions, by document; for all in one statement."""
    digests = {
        one.document: one.stored.sha256
        for one in versions
        if one.state in (*UNFINISHED, State.INDEXED)
    }
    return await duplicates.list_same(digests) if digests else {}


async def show_same_content(duplicates: Duplicates, views: Sequence[View]) -> Sequence[View]:
    """Documents, each with the others that have the bytes of its version."""
    same = await list_same_content(duplicates, [view.version for view in views])
    return [replace(view, same_content=same.get(view.version.document, ())) for view in views]


async def keep_signature(duplicates: Duplicates, version: Version, signature: bytes) -> None:
    """Stores the signature of a version that is prepared; it is compared inside its collection."""
    # Signatures of another version of the step mean something else.
    scope = f"{VERSIONS[Step.NEAR_DUPLICATES]} {collection_of(version.document)}"
    bands = list_bands(signature, scope)
    await duplicates.keep_signature(version.document, version.number, signature, bands)


async def note_near_duplicates(
    duplicates: Duplicates, versions: Sequence[Version]
) -> Sequence[Version]:
    """Adds a note to each version with a signature whose text is like that of other documents.

    Called when versions become indexed, after the commit of their signatures: of two documents that
    are prepared at the same moment, the one that is indexed last finds the other.
    """
    pairs = await duplicates.list_pairs([(one.document, one.number) for one in versions])
    similar: dict[str, list[tuple[float, str]]] = {}
    for pair in pairs:
        similarity = estimate_similarity(pair.signature, pair.other_signature)
        if similarity >= SIMILARITY_MIN:
            similar.setdefault(pair.document, []).append((-similarity, pair.other))
    notes = {name: _describe(sorted(found)) for name, found in similar.items()}
    numbers = {one.document: one.number for one in versions}
    if notes:
        await duplicates.add_notes({(name, numbers[name]): note for name, note in notes.items()})
    return [
        replace(one, notes=[*one.notes, notes[one.document]]) if one.document in notes else one
        for one in versions
    ]


def hide_names(notes: Sequence[Note], held: Held) -> Sequence[Note]:
    """Notes as somebody with these labels may see them.

    Labels change after a note was made, so the documents that it names may be hidden by now: only
    whoever holds all labels gets their names.
    """
    if held is None:
        return notes
    return [
        note._replace(detail=f"{note.detail.partition(':')[0]}: text like that of others")
        if note.code is NoteCode.NEAR_DUPLICATES
        else note
        for note in notes
    ]


def _describe(similar: Sequence[tuple[float, str]]) -> Note:
    named = ", ".join(
        f"{-below:.2f} like {document.rpartition('/')[2]}"
        for below, document in similar[:SIMILAR_MAX]
    )
    return Note(NoteCode.NEAR_DUPLICATES, f"version {VERSIONS[Step.NEAR_DUPLICATES]}: text {named}")

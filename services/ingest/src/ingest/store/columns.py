"""New versions as the columns of set-based statements: one list for each, in one order."""

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from ingest.domain import State, Version
from ingest.pieces import Piece
from ingest.usecases.rows import Addition


def additions(made: Sequence[Addition]) -> dict[str, Any]:
    """Rows of versions and uploads."""
    drafts = [one.draft for one in made]
    return {
        "names": [draft.name for draft in drafts],
        "numbers": [one.number for one in made],
        "states": [(State.PREPARED if one.prepared else State.ACCEPTED).value for one in made],
        "titles": [draft.title for draft in drafts],
        "text_titles": [one.prepared.title if one.prepared else "" for one in made],
        "file_names": [draft.file_name for draft in drafts],
        "hints": [draft.media_type for draft in drafts],
        "media_types": [one.prepared.media_type if one.prepared else "" for one in made],
        "metadata": [Jsonb(dict(draft.metadata)) for draft in drafts],
        "sizes": [one.stored.size_bytes for one in made],
        "sha256s": [one.stored.sha256 for one in made],
        "keys": [one.stored.key for one in made],
        "sources": [draft.origin.source for draft in drafts],
        "request_ids": [draft.origin.request_id for draft in drafts],
        "event_ids": [draft.origin.event_id for draft in drafts],
        "correlation_ids": [draft.origin.correlation_id for draft in drafts],
        "trace_ids": [draft.trace_id for draft in drafts],
        "chunk_counts": [len(one.prepared.pieces) if one.prepared else 0 for one in made],
        "batch_counts": [one.prepared.batch_count if one.prepared else 0 for one in made],
        "waits_s": [one.wait_s for one in made],
        "orders": [draft.order_ns for draft in drafts],
        "notes": [Jsonb(one.prepared.notes if one.prepared else []) for one in made],
        "passwords": [one.password for one in made],
        "lanes": [draft.lane for draft in drafts],
    }


def contents(made: Sequence[Addition]) -> dict[str, Any]:
    """Bytes that are stored in the database; empty if there are none."""
    inline = [one for one in made if one.content is not None]
    if not inline:
        return {}
    return {
        "names": [one.draft.name for one in inline],
        "numbers": [one.number for one in inline],
        "contents": [one.content for one in inline],
    }


def pieces(made: Sequence[Addition]) -> dict[str, Any]:
    """Pieces of versions that are already cut; empty if there are none."""
    cut = [(one, piece) for one in made if one.prepared for piece in one.prepared.pieces]
    if not cut:
        return {}
    return {
        "names": [one.draft.name for one, _ in cut],
        "numbers": [one.number for one, _ in cut],
        **chunks([piece for _, piece in cut]),
    }


def pieces_of(version: Version, pieces: Sequence[Piece]) -> dict[str, Any]:
    """Pieces of one version."""
    return {
        "names": [version.document] * len(pieces),
        "numbers": [version.number] * len(pieces),
        **chunks(pieces),
    }


def chunks(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Columns of pieces, without their versions."""
    return {
        "chunk_ids": [piece.chunk_id for piece in pieces],
        "ordinals": [piece.ordinal for piece in pieces],
        "batches": [piece.batch for piece in pieces],
        "gaps": [piece.gap for piece in pieces],
        "texts": [piece.text for piece in pieces],
        "starts": [piece.start for piece in pieces],
        "ends": [piece.end for piece in pieces],
        "pages": [piece.page for piece in pieces],
        "page_breaks": [Jsonb(list(piece.page_breaks)) for piece in pieces],
        "headings": [Jsonb(list(piece.headings)) for piece in pieces],
        "table_headers": [piece.table_header for piece in pieces],
        "lines": [piece.lines for piece in pieces],
    }

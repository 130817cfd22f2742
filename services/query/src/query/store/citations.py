"""Citations as they are stored with their answer."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from query.answer import Citation
from query.domain import PageBreak, Passage, Version


def write_citation(citation: Citation) -> dict[str, Any]:
    """A citation as JSON."""
    passage = citation.passage
    return {
        "marker": citation.marker,
        "quote": citation.quote,
        "quote_start": citation.start,
        "quote_end": citation.end,
        "document": passage.version.document,
        "version": passage.version.number,
        "ordinal": passage.ordinal,
        "chunk_id": str(passage.chunk_id),
        "text": passage.text,
        "title": passage.title,
        "metadata": dict(passage.metadata),
        "start": passage.start,
        "end": passage.end,
        "page": passage.page,
        "page_breaks": passage.page_breaks,
        "headings": passage.headings,
        "table_header": passage.table_header,
        "lines": passage.lines.hex(),
        "ingest_trace_id": passage.ingest_trace_id,
        "upload_event_id": passage.upload_event_id,
        "score": citation.score,
    }


def read_citation(stored: Mapping[str, Any]) -> Citation:
    """A citation from its JSON."""
    return Citation(
        marker=stored["marker"],
        passage=Passage(
            version=Version(document=stored["document"], number=stored["version"]),
            ordinal=stored["ordinal"],
            chunk_id=UUID(stored["chunk_id"]),
            text=stored["text"],
            title=stored["title"],
            metadata=stored["metadata"],
            start=stored["start"],
            end=stored["end"],
            page=stored["page"],
            page_breaks=tuple(PageBreak(*one) for one in stored["page_breaks"]),
            headings=tuple(stored.get("headings", ())),
            table_header=stored.get("table_header", ""),
            lines=bytes.fromhex(stored.get("lines", "")),
            ingest_trace_id=stored["ingest_trace_id"],
            upload_event_id=stored.get("upload_event_id", ""),
        ),
        quote=stored["quote"],
        start=stored["quote_start"],
        end=stored["quote_end"],
        score=stored.get("score"),
    )

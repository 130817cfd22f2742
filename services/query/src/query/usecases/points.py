"""Makes the point of a passage; indexing and rebuilding make equal points."""

from uuid import UUID

from query.domain import Passage, Vector
from query.filters.facts import Facts, list_facts
from query.retrieval.lexical import encode_passage
from query.retrieval.vector_store import Point


def make_point(point_id: UUID, passage: Passage, dense: Vector) -> Point:
    """Makes the point of a passage from its vector; the terms are weighted here."""
    return Point(
        point_id=str(point_id),
        document=passage.version.document,
        version=passage.version.number,
        ordinal=passage.ordinal,
        dense=dense,
        sparse=encode_passage(passage.text_in_context, passage.title),
        labels=passage.labels,
        facts=describe_point(passage),
    )


def describe_point(passage: Passage) -> Facts:
    """What the point of a passage knows of the description of its version."""
    return list_facts(
        passage.version.document,
        passage.title,
        passage.metadata,
        passage.created_at,
        live_at=passage.live_at,
        superseded_at=passage.superseded_at,
    )

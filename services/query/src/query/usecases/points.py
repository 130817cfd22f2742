"""A passage as the vector store keeps it: the same whenever and by whomever it is written."""

from uuid import UUID

from query.domain import Passage, Vector
from query.retrieval.lexical import encode_passage
from query.retrieval.vector_store import Point


def make_point(point_id: UUID, passage: Passage, dense: Vector) -> Point:
    """The point of a passage; its words are weighed here, its meaning was embedded before."""
    return Point(
        point_id=str(point_id),
        document=passage.version.document,
        version=passage.version.number,
        ordinal=passage.ordinal,
        dense=dense,
        sparse=encode_passage(passage.text, passage.title),
    )

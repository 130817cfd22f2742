"""Counts documents by the values of their fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aquifer.structs import JsonValue
from query.filters.facets import FacetField, Facets


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """The most frequent values of a field with their numbers of documents, most frequent first.

    Values with equal numbers come in their own order. `distinct` is the number of all values.
    """

    field: FacetField
    values: Sequence[tuple[JsonValue, int]]
    distinct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The facets, in the order of the fields, of so many documents.

    `partial`: there are more documents than are counted.
    """

    facets: Sequence[Facet]
    documents: int
    partial: bool


class CountFacets(Protocol):
    """Counts documents by the values of their fields; raises as `Ledger` does."""

    async def run(self, asked: Facets) -> Counted:
        """A list counts with each of its values, once."""

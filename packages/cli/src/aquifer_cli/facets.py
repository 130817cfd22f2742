"""Documents counted by the values of their fields."""

from collections.abc import Sequence

from google.protobuf.struct_pb2 import Struct

from aquifer.query.v1.query_service_pb2 import (
    CountFacetsRequest,
    CountFacetsResponse,
    Facet,
    FacetValue,
)
from aquifer.structs import JsonValue, to_json
from aquifer_cli.client import Client
from aquifer_cli.layout import Row, cut
from aquifer_cli.screen import Screen

VALUE_WIDTH = 80


async def count(
    client: Client, fields: Sequence[str], *, collections: Sequence[str], where: str, limit: int
) -> CountFacetsResponse:
    """The most frequent values of fields; `where` is a filter as that of a search."""
    request = CountFacetsRequest(fields=fields, collections=collections, filter=where, limit=limit)
    counted: CountFacetsResponse = await client.call(client.query.CountFacets, request)
    return counted


def as_json(facet: Facet) -> dict[str, object]:
    """A facet for machines."""
    return {
        "field": facet.field,
        "distinct_values": facet.distinct_values,
        "values": [{"value": _read(one), "documents": one.documents} for one in facet.values],
    }


def show(screen: Screen, counted: CountFacetsResponse) -> None:
    """Prints a line for each value, and what was not counted."""
    rows = [
        Row(cells=(f"{one.documents:,}", facet.field, cut(str(_read(one)), VALUE_WIDTH)))
        for facet in counted.facets
        for one in facet.values
    ]
    screen.table(["documents", "field", "value"], rows)
    for facet in counted.facets:
        more = facet.distinct_values - len(facet.values)
        if more:
            screen.note(f"{facet.field}: {more:,} more values; --limit shows up to 100")
    if counted.partial:
        screen.note(f"there are more than {counted.documents:,} documents; only these are counted")


def _read(one: FacetValue) -> JsonValue:
    return to_json(Struct(fields={"value": one.value}))["value"]

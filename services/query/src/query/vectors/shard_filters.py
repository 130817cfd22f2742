"""The filters of the embedded engine, and the fields that they read; no other module makes any.

Every filter starts with a condition that contains the tenant.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, assert_never

import qdrant_edge as edge

from query.filters.facts import SLOTS, Facts
from query.filters.points import (
    UNLABELLED,
    AllPoint,
    AnyPoint,
    Name,
    Named,
    NotPoint,
    Ordered,
    PointCondition,
    Stated,
    Versions,
)
from query.names import collection_of
from query.retrieval.vector_store import (
    ANALYSER_MAX,
    EVERYTHING,
    FACT_FIELDS,
    Filter,
    Point,
    TenantScope,
    list_partitions,
    name_partition,
    to_stored,
    to_stored_facts,
)

# Numbers that are only looked up, and numbers that are only compared with ranges.
_LOOKED_UP: Final = edge.IntegerIndexParams(lookup=True, range=False)
_IN_RANGES: Final = edge.IntegerIndexParams(lookup=False, range=True)
INDEXES: Final[Mapping[str, edge.KeywordIndexParams | edge.IntegerIndexParams]] = {
    "tenant": edge.KeywordIndexParams(is_tenant=True),
    "collection": edge.KeywordIndexParams(),
    "document": edge.KeywordIndexParams(),
    "labels": edge.KeywordIndexParams(),
    "version": edge.IntegerIndexParams(lookup=True, range=True),
    "ordered": _IN_RANGES,
    "analyser": _IN_RANGES,
    **dict.fromkeys(FACT_FIELDS, _LOOKED_UP),
}


def make_payload(scope: TenantScope, point: Point) -> dict[str, Any]:
    """The fields of a point."""
    return {
        "document": point.document,
        "version": point.version,
        "ordinal": point.ordinal,
        "analyser": point.analyser,
        "labels": to_stored(point.labels),
        **make_described(scope, point.document, point.facts),
    }


def make_described(scope: TenantScope, document: str, facts: Facts) -> dict[str, Any]:
    """The fields of a point that follow from what its version is described by."""
    partition = name_partition(scope, superseded=facts.superseded)
    return {
        "tenant": partition,
        "collection": _qualify(partition, collection_of(document)),
        **to_stored_facts(facts),
    }


def filter_tenant(scope: TenantScope, *also: "edge.ConditionType") -> edge.Filter:
    """All points of the tenant, whatever their labels, for which the conditions are true."""
    return edge.Filter(must=[_match("tenant", list_partitions(scope, EVERYTHING)), *also])


def filter_points(scope: TenantScope, within: Filter) -> edge.Filter:
    """The points of the tenant that exist for the call."""
    partitions = list_partitions(scope, within)
    must: list[edge.ConditionType] = [
        _collections(partitions, within.collections)
        if within.collections
        else _match("tenant", partitions)
    ]
    if within.documents:
        must.append(match_any("document", within.documents))
    if within.version is not None:
        must.append(edge.FieldCondition("version", edge.MatchValue(within.version)))
    if within.analyser is not None:
        must.append(_range("analyser", within.analyser, ANALYSER_MAX))
    if scope.held is not None:
        must.append(match_any("labels", {UNLABELLED, *scope.held}))
    if within.where is not None:
        must.append(edge.Filter(must=[_translate(partitions, within.where)]))
    return edge.Filter(must=must)


def match_any(field: str, names: Collection[str]) -> edge.FieldCondition:
    """The field has one of these names."""
    return edge.FieldCondition(field, edge.MatchAny(sorted(names)))


def _match(field: str, names: Sequence[str]) -> edge.FieldCondition:
    """The field has one of these names; a single one is looked up faster."""
    match = edge.MatchValue(names[0]) if len(names) == 1 else edge.MatchAny(list(names))
    return edge.FieldCondition(field, match)


def _qualify(partition: str, collection: str) -> str:
    """The stored name of a collection. It names the tenant too, so one condition covers both.

    A scan checks each condition for each point: two take about twice as long as one.
    """
    return f"{partition}/{collection}"


def _collections(partitions: Sequence[str], names: Collection[str]) -> edge.FieldCondition:
    stored = [_qualify(partition, name) for partition in partitions for name in sorted(names)]
    return _match("collection", stored)


def _translate(partitions: Sequence[str], condition: PointCondition) -> "edge.ConditionType":
    translated: edge.ConditionType
    match condition:
        case Named(field=Name.COLLECTION, names=names):
            translated = _collections(partitions, names)
        case Named(field=field, names=names):
            translated = match_any(field.value, names)
        case Stated(facts=facts):
            translated = edge.FieldCondition(
                FACT_FIELDS[min(facts) % SLOTS], edge.MatchAny(sorted(facts))
            )
        case Ordered(ranges=ranges):
            translated = edge.Filter(should=[_range("ordered", *one) for one in ranges])
        case Versions(lowest=lowest, highest=highest):
            translated = _range("version", lowest, highest)
        case NotPoint(part=part):
            translated = edge.Filter(must_not=[_translate(partitions, part)])
        case AllPoint(parts=parts):
            translated = edge.Filter(must=_translate_all(partitions, parts))
        case AnyPoint(parts=parts):
            translated = edge.Filter(should=_translate_all(partitions, parts))
        case _:
            assert_never(condition)
    return translated


def _translate_all(
    partitions: Sequence[str], conditions: Sequence[PointCondition]
) -> "list[edge.ConditionType]":
    return [_translate(partitions, one) for one in conditions]


def _range(field: str, lowest: int, highest: int) -> edge.FieldCondition:
    return edge.FieldCondition(field, range=edge.RangeFloat(gte=lowest, lte=highest))

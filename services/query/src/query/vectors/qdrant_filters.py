"""The filters of a Qdrant server, and the fields that they read; no other module makes any.

Every filter has exactly one condition on the tenant, which is its first.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

from qdrant_client import models

from query.filters.facts import SLOTS, Facts
from query.filters.points import (
    UNLABELLED,
    AllPoint,
    AnyPoint,
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

_KEYWORD: Final = models.KeywordIndexType.KEYWORD
_INTEGER: Final = models.IntegerIndexType.INTEGER
# Numbers that are only looked up, and numbers that are only compared with ranges.
_LOOKED_UP: Final = models.IntegerIndexParams(type=_INTEGER, lookup=True, range=False)
_IN_RANGES: Final = models.IntegerIndexParams(type=_INTEGER, lookup=False, range=True)
INDEXES: Final[Mapping[str, models.KeywordIndexParams | models.IntegerIndexParams]] = {
    "tenant": models.KeywordIndexParams(type=_KEYWORD, is_tenant=True),
    "collection": models.KeywordIndexParams(type=_KEYWORD),
    "document": models.KeywordIndexParams(type=_KEYWORD),
    "labels": models.KeywordIndexParams(type=_KEYWORD),
    "version": models.IntegerIndexParams(type=_INTEGER, lookup=True, range=True),
    "ordered": _IN_RANGES,
    "analyser": _IN_RANGES,
    **dict.fromkeys(FACT_FIELDS, _LOOKED_UP),
}

Conditions: TypeAlias = list[models.Condition]


def make_payload(scope: TenantScope, point: Point) -> dict[str, Any]:
    """The fields of a point."""
    return {
        "collection": collection_of(point.document),
        "document": point.document,
        "version": point.version,
        "ordinal": point.ordinal,
        "analyser": point.analyser,
        "labels": to_stored(point.labels),
        **make_described(scope, point.facts),
    }


def make_described(scope: TenantScope, facts: Facts) -> dict[str, Any]:
    """The fields of a point that follow from what its version is described by."""
    partition = name_partition(scope, superseded=facts.superseded)
    return {"tenant": partition, **to_stored_facts(facts)}


def tenant_filter(
    scope: TenantScope, within: Filter = EVERYTHING, *, also: Sequence[models.Condition] = ()
) -> models.Filter:
    """Makes a filter; the only function that does. Its first condition is the tenant."""
    must: Conditions = [_match_any("tenant", list_partitions(scope, within))]
    if within.collections:
        must.append(_match_any("collection", within.collections))
    if within.documents:
        must.append(_match_any("document", within.documents))
    if within.version is not None:
        must.append(_match("version", within.version))
    if within.analyser is not None:
        must.append(_range("analyser", within.analyser, ANALYSER_MAX))
    if scope.held is not None:
        must.append(_match_any("labels", scope.held | {UNLABELLED}))
    if within.where is not None:
        must.append(_translate(within.where))
    return models.Filter(must=[*must, *also])


def _translate(condition: PointCondition) -> models.Condition:
    translated: models.Condition
    match condition:
        case Named(field=field, names=names):
            translated = _match_any(field.value, names)
        case Stated(facts=facts):
            among = models.MatchAny(any=sorted(facts))
            translated = models.FieldCondition(key=FACT_FIELDS[min(facts) % SLOTS], match=among)
        case Ordered(ranges=ranges):
            translated = models.Filter(should=[_range("ordered", *one) for one in ranges])
        case Versions(lowest=lowest, highest=highest):
            translated = _range("version", lowest, highest)
        case NotPoint(part=part):
            translated = models.Filter(must_not=[_translate(part)])
        case AllPoint(parts=parts):
            translated = models.Filter(must=[_translate(part) for part in parts])
        case AnyPoint(parts=parts):
            translated = models.Filter(should=[_translate(part) for part in parts])
        case _:
            assert_never(condition)
    return translated


def _match(key: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _match_any(key: str, values: Collection[str]) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchAny(any=sorted(values)))


def _range(key: str, lowest: int, highest: int) -> models.FieldCondition:
    return models.FieldCondition(key=key, range=models.Range(gte=lowest, lte=highest))

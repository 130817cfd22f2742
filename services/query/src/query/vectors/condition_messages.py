"""Conditions on points as messages, between query and the vector process."""

from collections.abc import Sequence

from aquifer.query.vectors.v1 import vector_service_pb2 as pb
from chassis.base.errors import InvalidInputError
from query.filters.facts import SLOTS
from query.filters.points import (
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


def write_condition(condition: PointCondition) -> pb.Condition:
    """A condition as a message."""
    sent: pb.Condition
    match condition:
        case Named(field=Name.COLLECTION, names=names):
            sent = pb.Condition(collections=pb.Names(names=sorted(names)))
        case Named(field=Name.DOCUMENT, names=names):
            sent = pb.Condition(documents=pb.Names(names=sorted(names)))
        case Named(names=names):
            sent = pb.Condition(labels=pb.Names(names=sorted(names)))
        case Stated(facts=facts):
            sent = pb.Condition(facts=pb.Facts(facts=sorted(facts)))
        case Ordered(ranges=ranges):
            sent = pb.Condition(
                ordered=pb.Ranges(
                    ranges=[pb.Range(lowest=low, highest=high) for low, high in ranges]
                )
            )
        case Versions(lowest=lowest, highest=highest):
            sent = pb.Condition(versions=pb.Range(lowest=lowest, highest=highest))
        case NotPoint(part=part):
            sent = pb.Condition(negated=write_condition(part))
        case AllPoint(parts=parts):
            sent = pb.Condition(all=_write_all(parts))
        case AnyPoint(parts=parts):
            sent = pb.Condition(any=_write_all(parts))
    return sent


def read_condition(sent: pb.Condition) -> PointCondition:
    """The condition of a message.

    Raises:
        InvalidInputError: FILTER_INVALID, a part of it says nothing.
    """
    condition: PointCondition
    match sent.WhichOneof("kind"):
        case "collections":
            condition = Named(Name.COLLECTION, _check(frozenset(sent.collections.names)))
        case "documents":
            condition = Named(Name.DOCUMENT, _check(frozenset(sent.documents.names)))
        case "labels":
            condition = Named(Name.LABEL, _check(frozenset(sent.labels.names)))
        case "facts" if len({fact % SLOTS for fact in sent.facts.facts}) == 1:
            condition = Stated(frozenset(sent.facts.facts))
        case "ordered" if sent.ordered.ranges:
            condition = Ordered(tuple((one.lowest, one.highest) for one in sent.ordered.ranges))
        case "versions":
            condition = Versions(sent.versions.lowest, sent.versions.highest)
        case "all" if sent.all.conditions:
            condition = AllPoint(_read_all(sent.all.conditions))
        case "any" if sent.any.conditions:
            condition = AnyPoint(_read_all(sent.any.conditions))
        case "negated":
            condition = NotPoint(read_condition(sent.negated))
        case _:
            raise _empty_error()
    return condition


def _write_all(parts: Sequence[PointCondition]) -> pb.Conditions:
    return pb.Conditions(conditions=[write_condition(part) for part in parts])


def _read_all(sent: Sequence[pb.Condition]) -> tuple[PointCondition, ...]:
    return tuple(read_condition(one) for one in sent)


def _check(names: frozenset[str]) -> frozenset[str]:
    if not names:
        raise _empty_error()
    return names


def _empty_error() -> InvalidInputError:
    return InvalidInputError("FILTER_INVALID", "a condition on points is empty")

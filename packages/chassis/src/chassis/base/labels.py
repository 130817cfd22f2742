"""Access labels: who may see a document.

A document without labels is seen by everybody of its tenant. One with labels is seen by whoever
holds at least one of them, or holds all. `Held` are the labels somebody holds; None means all.
Transactions of a service with labelled documents pass the labels of the call to the database, whose
row-level security shows only what its sender may see; see `chassis.base.postgres`.
"""

from collections.abc import Collection, Iterable, Sequence
from contextvars import ContextVar
from typing import TypeAlias

from aquifer.labels import DOCUMENT_LABELS_MAX, find_problem
from chassis.base.errors import FieldViolation, InvalidInputError

Held: TypeAlias = "frozenset[str] | None"

_held: ContextVar[Held] = ContextVar("chassis_held_labels", default=None)


def hold(labels: Held) -> None:
    """Sets the labels that the sender of the current call holds."""
    _held.set(labels)


def held_labels() -> Held:
    """The labels that the sender of the current call holds; all outside a call."""
    return _held.get()


def may_see(labels: Collection[str], held: Held) -> bool:
    """Whether a document with these labels may be seen."""
    return held is None or not labels or not held.isdisjoint(labels)


def holds_all(labels: Iterable[str], held: Held) -> bool:
    """Whether somebody holds each of these labels, and so may give them."""
    return held is None or held.issuperset(labels)


def read_labels(
    labels: Sequence[str], *, field: str = "labels", most: int = DOCUMENT_LABELS_MAX
) -> tuple[str, ...]:
    """Checks labels; returns each once, sorted.

    Raises:
        InvalidInputError: LABELS_INVALID.
    """
    if problem := find_problem(labels, most):
        violation = FieldViolation(field, problem)
        raise InvalidInputError("LABELS_INVALID", problem, fields=[violation])
    return tuple(sorted(set(labels)))

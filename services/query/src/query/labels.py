"""The access labels of a document, and when they were given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.labels import read_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of a document, sorted; of several those with the highest order are valid.

    `order` is in nanoseconds since 1970; 0: it never had any.
    """

    names: tuple[str, ...] = ()
    order: int = 0


NO_LABELS: Final = Labels()


def to_labels(names: Sequence[str], order: int) -> Labels:
    """Labels as they were sent.

    Raises:
        InvalidInputError: LABELS_INVALID.
    """
    return Labels(names=read_labels(names), order=order)

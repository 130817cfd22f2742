"""The access labels of a document: who may see it, see `chassis.base.labels`."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of a document, sorted; of several those with the highest order are valid.

    `order` is as `Draft.order_ns`; 0: it never had any. Unless they are its `own`, they are those
    of its collection.
    """

    names: tuple[str, ...] = ()
    own: bool = False
    order: int = 0


NO_LABELS: Final = Labels()

"""The element that is being walked, and how deep the walk is in which kinds of elements."""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from selectolax.lexbor import LexborNode

from ingest.parsing.html.rules import Attributes


class Frame(NamedTuple):
    """An element whose content is being walked; `closers` undo what it changed, last one first."""

    node: LexborNode
    tag: str
    attributes: Attributes
    breaks: int
    is_box: bool
    closers: list[Callable[[], None]]


# Says whether the content of the element is walked.
Enter = Callable[[Frame], bool]


class Kind(Enum):
    HIDDEN = auto()
    VERBATIM = auto()
    OWNER_OF_FOOTERS = auto()
    DRAWING = auto()
    SUBSTITUTE = auto()
    SCRIPT = auto()


class Depths:
    def __init__(self) -> None:
        self._counts = dict.fromkeys(Kind, 0)

    def enter(self, frame: Frame, kind: Kind) -> None:
        self._counts[kind] += 1
        frame.closers.append(lambda: self._leave(kind))

    def suspend(self, frame: Frame, kind: Kind) -> None:
        """Counts from zero inside an element."""
        count, self._counts[kind] = self._counts[kind], 0

        def restore() -> None:
            self._counts[kind] = count

        frame.closers.append(restore)

    def is_in(self, kind: Kind) -> bool:
        return self._counts[kind] > 0

    def _leave(self, kind: Kind) -> None:
        self._counts[kind] -= 1

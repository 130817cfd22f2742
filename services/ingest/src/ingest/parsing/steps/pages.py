"""What a step gets and returns."""

from collections.abc import Mapping
from typing import NamedTuple


class Pages(NamedTuple):
    """The title and the cleaned pages of a document, with the marks of `outline_marks`.

    A format without pages has one; a page without text is empty.
    """

    title: str
    texts: list[str]


# The changed pages, and how many things of each kind were changed.
Changed = tuple[Pages, Mapping[str, int]]

"""Reads the headings that a tagged PDF declares: its structure elements H1 to H6."""

from collections.abc import Iterator
from contextlib import contextmanager

from ingest.outline import HEADING_LEVELS
from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.headings import Announced

# Bounds for the structure of a page, which a hostile file may repeat and nest.
ELEMENTS_MAX, DEPTH_MAX = 20_000, 64

_LEVELS = {f"H{level}": level for level in range(1, HEADING_LEVELS + 1)}


def read_tagged_headings(page: int, text: int, hidden: set[int]) -> list[Announced]:
    """The headings of a page in the order of its structure, without text of `hidden` objects.

    `text` is the handle of the page's text.
    """
    levels, owners = _read_structure(page)
    if not levels:
        return []
    parts: list[list[str]] = [[] for _ in levels]
    heights: list[float | None] = [None] * len(levels)
    for number in range(pdfium.count_page_objects(page)):
        item = pdfium.find_page_object(page, number)
        owner = owners.get(pdfium.find_marked_content(item))
        if owner is None or item in hidden or pdfium.find_type(item) != pdfium.TEXT_OBJECT:
            continue
        parts[owner].append(pdfium.read_object_text(item, text))
        if heights[owner] is None:
            heights[owner] = pdfium.find_top(item)
    found = zip(levels, map(" ".join, parts), heights, strict=True)
    return [Announced(*one) for one in found if one[1].strip()]


def _read_structure(page: int) -> tuple[list[int], dict[int, int]]:
    """The level of each heading, and for each of their marked contents the heading's index."""
    levels: list[int] = []
    owners: dict[int, int] = {}
    with _open_structure(page) as tree:
        heading, inside = -1, 0
        for element, depth in _walk(tree):
            if depth <= inside:
                heading, inside = -1, 0
            if heading < 0 and (level := _LEVELS.get(pdfium.read_structure_type(element))):
                heading, inside = len(levels), depth
                levels.append(level)
            if heading >= 0:
                owners.update(dict.fromkeys(_find_content(element), heading))
    return levels, owners


@contextmanager
def _open_structure(page: int) -> Iterator[int]:
    """The handle of the page's structure, 0 if it has none."""
    tree: int = pdfium.load_structure(page) or 0
    try:
        yield tree
    finally:
        if tree:
            pdfium.close_structure(tree)


def _walk(tree: int) -> Iterator[tuple[int, int]]:
    """Yields elements in reading order, with their depth from 1."""
    count = max(0, pdfium.count_top_elements(tree)) if tree else 0
    left = [(pdfium.find_top_element(tree, index), 1) for index in _from_last(count)]
    seen = 0
    while left and seen < ELEMENTS_MAX:
        element, depth = left.pop()
        if not element:
            continue
        seen += 1
        yield element, depth
        if depth < DEPTH_MAX:
            kids = _from_last(pdfium.count_elements(element))
            left.extend((pdfium.find_element(element, index), depth + 1) for index in kids)


def _from_last(count: int) -> range:
    return range(min(count, ELEMENTS_MAX) - 1, -1, -1)


def _find_content(element: int) -> Iterator[int]:
    """Yields the numbers of the marked contents that are directly in an element."""
    for index in range(min(pdfium.count_elements(element), ELEMENTS_MAX)):
        if (number := pdfium.find_element_content(element, index)) >= 0:
            yield number

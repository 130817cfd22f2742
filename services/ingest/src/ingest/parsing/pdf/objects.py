"""Prepares the objects of a PDF page for its text: what is switched off, what has no glyphs."""

from collections.abc import Callable, Iterator
from functools import partial

from ingest.parsing.pdf import pdfium

# The library skips text objects that are narrower.
WIDTH_MIN = 0.02

IsHidden = Callable[[str], bool]


def prepare_objects(page: int, is_hidden: IsHidden) -> set[int]:
    """Makes the library read all text objects; returns those of layers that are switched off.

    `is_hidden` tells it of the name of a layer, empty if the layer has none.
    """
    hidden = set[int]()
    for text_object, is_off in _walk(
        pdfium.count_page_objects(page), partial(pdfium.find_page_object, page), is_hidden
    ):
        if is_off:
            hidden.add(text_object)
        if pdfium.find_width(text_object) < WIDTH_MIN:
            pdfium.widen(text_object)
    return hidden


def _walk(
    count: int, find: Callable[[int], int], is_hidden: IsHidden
) -> Iterator[tuple[int, bool]]:
    """Yields all text objects, also those inside of forms, and whether their layer is off."""
    for number in range(count):
        item = find(number)
        kind = pdfium.find_type(item)
        if kind == pdfium.TEXT_OBJECT:
            yield item, _is_off(item, is_hidden)
        elif kind == pdfium.FORM_OBJECT:
            is_off = _is_off(item, is_hidden)
            size = pdfium.count_form_objects(item)
            for text_object, inner in _walk(
                size, partial(pdfium.find_form_object, item), is_hidden
            ):
                yield text_object, is_off or inner


def _is_off(item: int, is_hidden: IsHidden) -> bool:
    for number in range(pdfium.count_marks(item)):
        mark = pdfium.find_mark(item, number)
        if pdfium.read_mark_name(mark) == "OC" and is_hidden(pdfium.read_mark_value(mark, "Name")):
            return True
    return False

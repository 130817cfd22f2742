"""Reads what is filled in or written over a PDF page: form fields, free text and stamps."""

from collections.abc import Iterator
from dataclasses import dataclass

from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.pdfium import Box
from ingest.parsing.pdf.text import ASCENT, DESCENT, Word

FREE_TEXT, STAMP, WIDGET = 3, 13, 20
HIDDEN = 0b100010
CHECKBOX, RADIO_BUTTON, COMBO_BOX, LIST_BOX, TEXT_FIELD = 2, 3, 4, 5, 6
PASSWORD = 1 << 13
CHECKED = "[x]"
# A value stands in its field at this size at most, and its baseline at this share above the edge.
SIZE_MAX, LINE_STEP = 12.0, 1.2
# How much of letters must stand beside a field, in shares of their size.
OVERLAP_MIN = 0.5


@dataclass(slots=True)
class Overlay:
    """Values of form fields and texts laid over the page, with their places.

    `drawn` are the numbers of annotations whose text is only drawn.
    """

    values: list[tuple[Box, str]]
    notes: list[tuple[Box, str]]
    drawn: set[int]


def read_annotations(page: int, forms: int) -> Overlay:
    """Reads all that is not hidden; `forms` is the handle of the document's form, 0 for none."""
    overlay = Overlay([], [], set())
    for number in range(pdfium.count_annotations(page)):
        annotation = pdfium.load_annotation(page, number)
        if not annotation:
            continue
        try:
            _add(overlay, annotation, number, forms)
        finally:
            pdfium.close_annotation(annotation)
    return overlay


def draw_into_page(page: int, drawn: set[int]) -> bool:
    """Makes annotations a part of the page, and removes all others; then load it again.

    Returns:
        Whether they are a part of it now.
    """
    for number in reversed(range(pdfium.count_annotations(page))):
        if number not in drawn:
            pdfium.remove_annotation(page, number)
    return bool(pdfium.flatten(page, 0) == pdfium.FLATTENED)


def place_values(values: list[tuple[Box, str]], angle: int, beside: list[Word]) -> list[Word]:
    """The values as words on the lines of the words beside them."""
    words = list[Word]()
    after = 1 + max((word.last for word in beside), default=0)
    for box, value in values:
        turned = box.turn(angle)
        placed = list(_place_lines(turned, value, after + len(words)))
        if len(placed) == 1:
            placed[0].line = _find_line(turned, beside, placed[0].base)
        words += placed
    return words


def _find_line(field: Box, words: list[Word], otherwise: float) -> float:
    """The baseline of the words that stand beside a field for the most part."""

    def overlap(word: Word) -> float:
        upper = min(field.top, word.base + ASCENT * word.size)
        return upper - max(field.bottom, word.base - DESCENT * word.size)

    nearest = max(words, key=overlap, default=None)
    if nearest is None or overlap(nearest) < OVERLAP_MIN * nearest.size:
        return otherwise
    return nearest.line


def _place_lines(box: Box, value: str, after: int) -> Iterator[Word]:
    lines = [line for line in value.splitlines() if line.strip()]
    height = (box.top - box.bottom) / max(1, len(lines))
    size = max(1.0, min(SIZE_MAX, 0.7 * height))
    for number, line in enumerate(lines):
        base = box.top - (number + 1) * height + 0.25 * min(height, LINE_STEP * SIZE_MAX)
        order = after + number
        yield Word(
            line.strip(), box.left, box.right, base, size, order, order, is_apart=True, line=base
        )


def _add(overlay: Overlay, annotation: int, number: int, forms: int) -> None:
    if pdfium.find_flags(annotation) & HIDDEN:
        return
    kind = pdfium.find_subtype(annotation)
    if kind == WIDGET and forms:
        value = _read_value(annotation, forms).strip()
        if value:
            overlay.values.append((pdfium.find_annotation_box(annotation), value))
    elif kind in (FREE_TEXT, STAMP):
        note = pdfium.read_annotation_value(annotation, "Contents").strip()
        if note:
            box = pdfium.find_annotation_box(annotation)
            overlay.notes.append((box, note.replace("\r\n", "\n").replace("\r", "\n")))
        elif pdfium.count_drawn(annotation) > 0:
            overlay.drawn.add(number)


def _read_value(annotation: int, forms: int) -> str:
    match pdfium.find_field_type(forms, annotation):
        case kind if kind in (CHECKBOX, RADIO_BUTTON):
            return CHECKED if _is_checked(annotation) else ""
        case kind if kind in (COMBO_BOX, LIST_BOX):
            chosen = ", ".join(_read_chosen(annotation, forms))
            return chosen or pdfium.read_field_value(forms, annotation)
        case kind if kind == TEXT_FIELD:
            is_secret = pdfium.find_field_flags(forms, annotation) & PASSWORD
            return "" if is_secret else pdfium.read_field_value(forms, annotation)
        case _:
            return ""


def _is_checked(annotation: int) -> bool:
    """By the look it has: the library answers this only for a page that it draws."""
    return pdfium.read_annotation_value(annotation, "AS") not in ("", "Off")


def _read_chosen(annotation: int, forms: int) -> Iterator[str]:
    for option in range(pdfium.count_options(forms, annotation)):
        if pdfium.is_selected(forms, annotation, option) == 1:
            yield pdfium.read_option(forms, annotation, option)

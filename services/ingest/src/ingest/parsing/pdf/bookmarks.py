"""Reads the bookmarks of a PDF: each announces a heading on the page it leads to."""

from collections.abc import Iterator

from ingest.outline import HEADING_LEVELS
from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.headings import Announced

BOOKMARKS_MAX = 20_000


def read_bookmarks(document: int) -> dict[int, list[Announced]]:
    """The bookmarks of each page, by its index; those that are nested too deeply are left out."""
    found: dict[int, list[Announced]] = {}
    for level, bookmark in _walk(document):
        if destination := pdfium.find_destination(document, bookmark):
            page = pdfium.find_destination_page(document, destination)
            height = pdfium.find_destination_height(destination)
            title = pdfium.read_bookmark_title(bookmark)
            found.setdefault(page, []).append(Announced(level, title, height))
    return found


def _walk(document: int) -> Iterator[tuple[int, int]]:
    """Yields levels and bookmarks in order, each once: a file may link them in a circle."""
    seen = set[int]()
    left = [(1, pdfium.find_first_bookmark(document, None))]
    while left and len(seen) < BOOKMARKS_MAX:
        level, bookmark = left.pop()
        if not bookmark or bookmark in seen:
            continue
        seen.add(bookmark)
        yield level, bookmark
        left.append((level, pdfium.find_next_bookmark(document, bookmark)))
        if level < HEADING_LEVELS:
            left.append((level + 1, pdfium.find_first_bookmark(document, bookmark)))

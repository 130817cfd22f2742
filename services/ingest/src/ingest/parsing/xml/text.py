"""Writes the text of an XML tree in document order.

Values are `name: value` lines. Parts of documents, by the names in `names`, and elements that
have text between their children are paragraphs without a name.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import Element

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html import read_html
from ingest.parsing.line_writer import LINE, PARAGRAPH, LineWriter
from ingest.parsing.outline_marks import HEADING_MARKS, TABLE_MARK
from ingest.parsing.xml import names

DEPTH_MAX = 200
LIST_MARK = "- "

_HTML_TAG = re.compile(r"</[a-zA-Z]+>|<(?:br|hr|img|p)\b", re.IGNORECASE)
_NO_TEXT = re.compile(r"xml(?:ns)?(?::|$)|xsi:", re.IGNORECASE)
# Of the elements of a drawing, these two are for programs.
_OF_DRAWINGS = frozenset({"script", "style"})


class XmlText:
    def __init__(self, root: Element, limit_chars: int) -> None:
        self._limit_chars = limit_chars
        self._writer = LineWriter(limit_chars)
        self._root = root
        self._is_feed = find_name(root) in names.FEEDS
        self._is_drawing = find_name(root) == "svg"
        self._items = 0

    def collect(self) -> str:
        """Collect the text of all elements; call it once."""
        is_document = find_name(self._root) in names.DOCUMENTS
        self._write(self._root, 1, is_in_document=is_document)
        return self._writer.get_text()

    def _write(self, element: Element, depth: int, *, is_in_document: bool) -> None:
        """Write an element that stands for itself, not in a line of text."""
        self._check_depth(depth)
        name = find_name(element)
        if self._is_drawing and name in _OF_DRAWINGS:
            return
        is_part = is_in_document and name in names.PARTS
        if is_part and name in names.HEADINGS:
            # The title of a section is one level deeper than the section.
            self._writer.set_mark(HEADING_MARKS[min(max(depth - 1, 1), max(HEADING_MARKS))])
        elif is_part and name == "thead":
            self._writer.set_mark(TABLE_MARK)
        self._write_element(element, name, depth, is_part=is_part)
        self._writer.set_mark("")

    def _write_element(self, element: Element, name: str, depth: int, *, is_part: bool) -> None:
        if is_part and name in names.ROWS:
            self._write_row(element)
        elif is_part and name in names.VERBATIM:
            self._write_verbatim(element)
        elif is_mixed(element):
            self._write_attributes(element, is_part=is_part)
            with self._block(name, is_part=is_part):
                self._write_line(element, depth, is_part=is_part)
        elif len(element):
            self._write_children(element, name, depth, is_part=is_part)
        else:
            self._write_leaf(element, name, is_part=is_part)

    def _write_children(self, element: Element, name: str, depth: int, *, is_part: bool) -> None:
        with self._block(name, is_part=is_part):
            self._write_attributes(element, is_part=is_part)
            for child in element:
                self._write(child, depth + 1, is_in_document=is_part)

    def _write_leaf(self, element: Element, name: str, *, is_part: bool) -> None:
        self._write_attributes(element, is_part=is_part)
        text = element.text or ""
        if not text.strip():
            return
        if is_part and self._is_feed and _HTML_TAG.search(text):
            self._write_html(text)
        elif is_part:
            with self._block(name, is_part=True):
                self._writer.write(text)
        else:
            self._writer.request_break(LINE)
            self._writer.write(f"{cut_prefix(element.tag)}: {text.lstrip()}")
            self._writer.request_break(LINE)

    def _write_line(self, element: Element, depth: int, *, is_part: bool) -> None:
        """Write text with elements in it, of which the blocks stand alone."""
        self._check_depth(depth)
        self._writer.write(element.text or "")
        for child in element:
            name = find_name(child)
            if name in names.LINE_BREAKS:
                self._writer.request_break(LINE)
            elif name in names.NOTES:
                self._writer.write_word(f"({' '.join(' '.join(child.itertext()).split())})")
            elif name in names.BLOCKS:
                self._write(child, depth + 1, is_in_document=is_part)
            else:
                for text in self._list_attributes(child, is_part=is_part):
                    self._writer.write_word(f"({text})")
                self._write_line(child, depth + 1, is_part=is_part)
            self._writer.write(child.tail or "")

    def _write_row(self, row: Element) -> None:
        self._writer.request_break(LINE)
        for number, cell in enumerate(row):
            if number:
                self._writer.request_cell()
            self._writer.write(" ".join(cell.itertext()))
        self._writer.end_row()
        self._writer.request_break(LINE)

    def _write_verbatim(self, element: Element) -> None:
        self._writer.request_break(PARAGRAPH)
        self._writer.write_verbatim("".join(element.itertext()).strip("\n"))
        self._writer.request_break(PARAGRAPH)

    def _write_html(self, source: str) -> None:
        reading = read_html.read_part(f"<body>{source}</body>".encode(), "", self._limit_chars)
        self._writer.request_break(PARAGRAPH)
        self._writer.write_verbatim(reading.texts[0].strip("\n"))
        self._writer.request_break(PARAGRAPH)

    def _write_attributes(self, element: Element, *, is_part: bool) -> None:
        for text in self._list_attributes(element, is_part=is_part):
            self._writer.request_break(LINE)
            self._writer.write(text)
            self._writer.request_break(LINE)

    def _list_attributes(self, element: Element, *, is_part: bool) -> Iterator[str]:
        """Yields the attributes of an element that are text, with their names."""
        for attribute, value in () if self._is_drawing else element.items():
            is_text = (
                attribute in names.TEXT_ATTRIBUTES if is_part else not _NO_TEXT.match(attribute)
            )
            if is_text and value.strip():
                yield f"{cut_prefix(element.tag)} {cut_prefix(attribute)}: {value.strip()}"

    @contextmanager
    def _block(self, name: str, *, is_part: bool) -> Iterator[None]:
        """Separate what is written inside from the text around it."""
        if not (is_part and name in names.LIST_ITEMS):
            breaks = LINE if self._items or (is_part and name in names.LINES) else PARAGRAPH
            self._writer.request_break(breaks)
            yield
            self._writer.request_break(breaks)
            return
        self._writer.request_break(LINE)
        self._writer.set_prefix("  " * self._items + LIST_MARK)
        self._items += 1
        yield
        self._items -= 1
        self._writer.set_prefix("")
        self._writer.request_break(LINE)

    def _check_depth(self, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED,
                f"XML: elements are nested more than {DEPTH_MAX} levels deep",
            )


def find_title(root: Element) -> str:
    """The title of the document: that of its outermost element, or of a part that describes it."""
    holders = [root, *(child for child in root if find_name(child) in names.TITLE_HOLDERS)]
    titles = (child for holder in holders for child in holder if find_name(child) == "title")
    return next((" ".join(" ".join(title.itertext()).split()) for title in titles), "")


def find_name(element: Element) -> str:
    """The name of an element in lower case, without its prefix."""
    return cut_prefix(element.tag).lower()


def cut_prefix(name: str) -> str:
    return name.rpartition(":")[2]


def is_mixed(element: Element) -> bool:
    """Whether there is text between the children of an element."""
    if not len(element):
        return False
    return any(text and not text.isspace() for text in _list_own_texts(element))


def _list_own_texts(element: Element) -> Iterator[str | None]:
    yield element.text
    for child in element:
        yield child.tail

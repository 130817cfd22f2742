"""Converts HTML to readable lines; runs in the child."""

from collections.abc import Iterator

from lxml import etree  # type: ignore[import-untyped]

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.reading import Reading, check_length

LINE, PARAGRAPH = 1, 2

SKIPPED = frozenset(
    "script style noscript template head nav svg canvas iframe frame object embed applet audio"  # noqa: SIM905
    " video map button select option datalist input textarea meter progress dialog".split()
)
SKIPPED_ROLES = frozenset({"navigation", "search", "menu", "menubar", "toolbar", "dialog"})
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
PARAGRAPHS = HEADINGS | frozenset(
    "p ul ol dl table pre blockquote figure section article main header footer aside hr"  # noqa: SIM905
    " fieldset details address form".split()
)
LINES = frozenset("div li dt dd tr caption figcaption summary legend center body".split())  # noqa: SIM905
CELLS = frozenset({"td", "th"})
LISTS = frozenset({"ul", "ol"})
# A footer in one of these belongs to the text; any other footer belongs to the site.
OWNERS_OF_FOOTERS = frozenset({"article", "blockquote", "section", "main"})


def read(data: bytes, limit_chars: int) -> Reading:
    """Read HTML in UTF-8. Tables become `cell | cell` lines, list items become `- item` lines.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is nested too deeply for the library, or
            `PARSER_OUTPUT_LIMIT`.
    """
    # `huge_tree` removes limits that would silently truncate a long document; the jail limits
    # memory and time.
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        root = etree.fromstring(data, parser) if data.strip() else None
    except etree.XMLSyntaxError as error:
        # The parser recovers from all syntax errors, so only memory can be the cause.
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from error
        raise
    fatal = parser.error_log.filter_from_fatals()
    if len(fatal):
        raise RefusalError(ParseFailure.DOCUMENT_DAMAGED, f"HTML: {fatal[0].type_name}")
    if root is None:
        return Reading("", [""], 0)
    title = " ".join("".join(_find_title(root)).split())
    text = _Lines(limit_chars).collect(root)
    # A title that is not shown on the page is also text of the document.
    if title and title not in text[: 4 * len(title) + 400]:
        text = f"{title}\n\n{text}"
    return Reading(title, [text], 0)


def _find_title(root: etree._Element) -> Iterator[str]:
    for name in ("title", "h1"):
        element = next(root.iter(name), None)
        if element is not None and (text := "".join(element.itertext())).strip():
            yield text
            return


def _is_hidden(element: etree._Element) -> bool:
    name, attributes = element.tag, element.attrib
    if name in SKIPPED or attributes.get("role", "").lower() in SKIPPED_ROLES:
        return True
    if name == "a" and "hreflang" in attributes:
        return True  # the same page in another language
    if name == "footer":
        return not any(owner.tag in OWNERS_OF_FOOTERS for owner in element.iterancestors())
    style = attributes.get("style", "").replace(" ", "").lower()
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden", "").lower() == "true"
        or "display:none" in style
        or "visibility:hidden" in style
    )


def _is_row(table_row: etree._Element) -> bool:
    """Whether a row contains data; a row for layout contains paragraphs or tables."""
    return all(
        sum(child.tag in PARAGRAPHS or child.tag == "div" for child in cell) <= 1
        and not any(child.tag in LISTS or child.tag == "table" for child in cell)
        for cell in table_row
    )


class _Lines:
    """Collects text while it walks the tree; blanks and breaks are added when text follows."""

    def __init__(self, limit_chars: int) -> None:
        self._limit_chars = limit_chars
        self._size_chars = 0
        self._out: list[str] = []
        self._break = 0
        self._gap = ""
        self._prefix = ""
        self._verbatim = 0
        self._rows: list[bool] = []
        self._counters: list[int | None] = []

    def collect(self, root: etree._Element) -> str:
        walk = etree.iterwalk(root, events=("start", "end"))
        skipped = None
        for event, element in walk:
            if event == "start" and _is_hidden(element):
                skipped = element
                walk.skip_subtree()
            elif event == "start":
                self._enter(element)
                self._write(element.text)
            else:
                if element is not skipped:
                    self._leave(element)
                self._write(element.tail)
        return "".join(self._out)

    def _enter(self, element: etree._Element) -> None:
        name = element.tag
        self._add_breaks(name)
        if name in LISTS:
            self._counters.append(_read_first_number(element))
        elif name == "li":
            self._prefix = self._make_bullet()
        elif name == "tr":
            self._rows.append(_is_row(element))
        elif name in CELLS and self._is_in_row() and element.getprevious() is not None:
            self._gap = f"{self._gap}| " if self._gap.endswith("| ") else " | "
        elif name == "br":
            self._request_break(LINE)
        elif name == "pre":
            self._verbatim += 1

    def _leave(self, element: etree._Element) -> None:
        name = element.tag
        if name in LISTS:
            self._counters.pop()
        elif name == "li":
            self._prefix = ""
        elif name == "tr":
            self._rows.pop()
        elif name == "pre":
            self._verbatim -= 1
        self._add_breaks(name)

    def _add_breaks(self, name: str) -> None:
        if name in PARAGRAPHS and not (name in LISTS and len(self._counters) > 0):
            self._request_break(PARAGRAPH)
        elif name in LINES or name in LISTS or (name in CELLS and not self._is_in_row()):
            self._request_break(LINE)

    def _request_break(self, lines: int) -> None:
        if self._is_in_row():
            self._gap = self._gap or " "
        elif not self._prefix:
            self._break = max(self._break, lines)

    def _is_in_row(self) -> bool:
        return bool(self._rows) and self._rows[-1]

    def _make_bullet(self) -> str:
        if not self._counters or self._counters[-1] is None:
            return "- "
        number = self._counters[-1]
        self._counters[-1] = number + 1
        return f"{number}. "

    def _write(self, text: str | None) -> None:
        if not text:
            return
        words = text if self._verbatim else " ".join(text.split())
        if not self._verbatim and text[0].isspace():
            self._gap = self._gap or " "
        if words:
            self._out.append(self._take_separator() + words)
            self._size_chars += len(self._out[-1])
            check_length(self._size_chars, self._limit_chars)
            self._gap = " " if not self._verbatim and text[-1].isspace() else ""

    def _take_separator(self) -> str:
        separator = "\n" * self._break if self._break else self._gap
        prefix, self._prefix, self._break = self._prefix, "", 0
        return (separator if self._out else "") + prefix


def _read_first_number(element: etree._Element) -> int | None:
    if element.tag == "ul":
        return None
    start = element.get("start", "1")
    return int(start) if start.isdecimal() and len(start) < 10 else 1  # noqa: PLR2004

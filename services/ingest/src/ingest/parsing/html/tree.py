"""Parses HTML into the tree that a browser would build without scripts."""

import re
from html import escape

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode, SelectolaxError

from ingest.parsing.failure import ParseFailure, RefusalError

# The library looks through all open elements at each block: its time grows with the square of
# the depth, and no page that people read comes near this one.
NESTING_MAX = 12_000

_VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()  # noqa: SIM905
)
# Elements that the end of another one closes, so that a missing end tag does not nest.
_CLOSED_BY_OTHERS = frozenset(
    "p li dt dd tr td th thead tbody tfoot option optgroup rt rp body html head".split()  # noqa: SIM905
)
_NEVER_NESTED = _VOID | _CLOSED_BY_OTHERS
# A tag that ends itself closes an element of a drawing or a formula.
_TAG = re.compile(rb"<(/?)([a-zA-Z][^\s/<>]*)(?:[^<>]*(/)>)?")
_XHTML_HEAD_BYTES = 4096
_XHTML_PART = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<!\[CDATA\[(?P<cdata>.*?)(?:\]\]>|\Z)"
    r"|<(?P<name>[A-Za-z][\w:.-]*)(?P<rest>(?:[^<>\"'/]++|\"[^\"]*+\"|'[^']*+'|/(?!>))*+)/>",
    re.DOTALL,
)


def parse(data: bytes) -> LexborNode | None:
    """Parses HTML in UTF-8 by the WHATWG algorithm and returns its root element.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is nested too deeply.
    """
    if is_xhtml(data):
        data = expand_xhtml(data)
    check_nesting(data)
    try:
        tree = LexborHTMLParser(data, options=LexborDocumentOptions.WO_EVENTS)
    except SelectolaxError as error:
        # Every sequence of characters is HTML to the parser, so only memory can be the cause.
        raise MemoryError from error
    return tree.root


def is_xhtml(data: bytes) -> bool:
    head = data[:_XHTML_HEAD_BYTES].lstrip()
    return head.startswith(b"<?xml") or b"http://www.w3.org/1999/xhtml" in head


def expand_xhtml(data: bytes) -> bytes:
    """Writes empty elements and CDATA of XHTML as HTML.

    A parser of HTML reads `<title/>` as the beginning of a title that never ends.
    """
    return _XHTML_PART.sub(_expand_part, data.decode()).encode()


def _expand_part(part: re.Match[str]) -> str:
    if part["cdata"] is not None:
        return escape(part["cdata"], quote=False)
    name = part["name"]
    if name is None or name.lower() in _VOID:
        return part[0]
    return f"<{name}{part['rest']}></{name}>"


def check_nesting(data: bytes) -> None:
    if data.count(b"<") < NESTING_MAX:
        return
    depth = deepest = 0
    for tag in _TAG.finditer(data):
        end, name, ends_itself = tag.groups()
        if ends_itself or name.lower().decode("latin-1") in _NEVER_NESTED:
            continue
        depth = max(depth - 1, 0) if end else depth + 1
        deepest = max(deepest, depth)
    if deepest > NESTING_MAX:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED,
            f"HTML: elements are nested more than {NESTING_MAX} levels deep; close them",
        )

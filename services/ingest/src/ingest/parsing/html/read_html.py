"""Converts HTML to readable lines; runs in the child.

The parser builds the tree that a browser builds without scripts (`html_tree`), and the walk over
it (`html_text`) writes what a reader of the page can reach, also by a click. `html_rules` says
what is left out.
"""

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html.empty_shells import SHELL_DETAIL, is_empty_shell
from ingest.parsing.html.text import PageText
from ingest.parsing.html.tree import parse
from ingest.parsing.reading import Reading


def read(data: bytes, limit_chars: int) -> Reading:
    """Read a page in UTF-8. Tables become `cell | cell` lines, list items become `- item` lines.

    Raises:
        RefusalError: `NO_TEXT` if its scripts would bring the text, `DOCUMENT_DAMAGED` if it is
            nested too deeply, or `PARSER_OUTPUT_LIMIT`.
    """
    page = PageText(limit_chars, is_page=True)
    root = parse(data)
    text = page.collect(root) if root is not None else ""
    if (not text.strip() and page.has_scripts) or is_empty_shell(text, page.title):
        raise RefusalError(ParseFailure.NO_TEXT, SHELL_DETAIL)
    return build_reading(page.title or page.heading, text)


def read_part(data: bytes, title: str, limit_chars: int) -> Reading:
    """Read HTML in UTF-8 that another format was converted to: all of it is text.

    Raises:
        RefusalError: as `read`, without `NO_TEXT`.
    """
    part = PageText(limit_chars, is_page=False)
    root = parse(data)
    text = part.collect(root) if root is not None else ""
    return build_reading(title or part.title or part.heading, text)


def build_reading(title: str, text: str) -> Reading:
    beginning = " ".join(text[: 4 * len(title) + 400].split())
    # A title that is not shown is also text of the document.
    if title and text.strip() and title not in beginning:
        text = f"{title}\n\n{text}"
    return Reading(title, [text], is_marked=True)

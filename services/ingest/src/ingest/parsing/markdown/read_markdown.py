"""Converts Markdown to readable lines, by way of HTML; runs in the child.

All text of the file is text of the document, also in HTML blocks, except front matter, comments,
scripts and styles. Notes stay where they are written.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.footnote.index import footnote_def

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html import read_html
from ingest.parsing.markdown.formulas import read_formulas
from ingest.parsing.markdown.front_matter import read_front_matter
from ingest.parsing.markdown.tags import TagFilter
from ingest.parsing.reading import Reading

# Past its bound the library drops blocks without a word. This one is never reached: Python's stack
# ends before it. In a line the same bound only ends the search for links, and no text is lost.
NESTING_MAX, NESTING_IN_LINE_MAX = 10_000, 100


def read(data: bytes, limit_chars: int) -> Reading:
    """Read Markdown in UTF-8; only the title of front matter is kept.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is nested too deeply, or `PARSER_OUTPUT_LIMIT`.
    """
    source = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    front = read_front_matter(source)
    return read_body(source[front.end :], front.title, limit_chars)


def read_body(source: str, title: str, limit_chars: int) -> Reading:
    """Reads Markdown without front matter, as `read`."""
    try:
        body = _render(source)
    except RecursionError as error:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, "Markdown: quotes or lists are nested too deeply"
        ) from error
    return read_html.read_part(f"<body>{body}</body>".encode(), title, limit_chars)


def _render(source: str) -> str:
    markdown = _make_parser()
    env: dict[Any, Any] = {}
    tokens = markdown.parse(source, env)
    tags = TagFilter()
    for index, token in enumerate(tokens):
        if token.type == "html_block":
            token.content = tags.filter_block(token.content)
        elif token.children:
            tags.filter_line(token.children)
        elif token.type == "footnote_reference_open":
            _name_note(tokens, index)
    rendered: str = markdown.renderer.render(tokens, markdown.options, env)
    return rendered


def _make_parser() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"maxNesting": NESTING_MAX})
    markdown.enable(["table", "strikethrough"])
    # Only the definition: a mark of a note is text, and a definition without a mark is not lost.
    markdown.block.ruler.before(
        "reference", "footnote_def", footnote_def, {"alt": ["paragraph", "reference"]}
    )
    markdown.add_render_rule("footnote_reference_open", _write_note_begin)
    markdown.add_render_rule("footnote_reference_close", _write_note_end)
    markdown.add_render_rule("image", _write_image)
    read_formulas(markdown)
    markdown.core.ruler.before("inline", "bound_lines", _bound_lines)
    return markdown


def _bound_lines(state: StateCore) -> None:
    state.md.options["maxNesting"] = NESTING_IN_LINE_MAX


def _name_note(tokens: list[Token], index: int) -> None:
    """Writes the name of a note before its first words, or alone if it begins with a block."""
    name = Token("text", "", 0, content=f"[^{tokens[index].meta['label']}]: ")
    following = tokens[index + 1 : index + 3]
    if [token.type for token in following] == ["paragraph_open", "inline"]:
        following[1].children = [name, *(following[1].children or [])]
    else:
        tokens[index].content = name.content


def _write_note_begin(_self: object, tokens: Sequence[Token], index: int, *_: object) -> str:
    return f"<div>{escape(tokens[index].content)}"


def _write_note_end(*_: object) -> str:
    return "</div>\n"


def _write_image(_self: object, tokens: Sequence[Token], index: int, *_: object) -> str:
    return f'<img alt="{escape(_read_alternative(tokens[index]))}">'


def _read_alternative(image: Token) -> str:
    """The text of an image with everything in it, also code and formulas."""
    words, waiting = [], list(reversed(image.children or []))
    while waiting:
        token = waiting.pop()
        if token.type == "image":
            waiting += reversed(token.children or [])
        else:
            words.append(" " if token.type in {"softbreak", "hardbreak"} else token.content)
    return "".join(words)

"""Converts Markdown to readable lines, by way of HTML; runs in the child."""

import re
from html import escape

from markdown_it import MarkdownIt

from ingest.parsing import read_html
from ingest.parsing.reading import Reading

NESTING_MAX = 100

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+)$", re.MULTILINE | re.IGNORECASE)


def read(data: bytes, limit_chars: int) -> Reading:
    """Read Markdown in UTF-8; only the title of a front matter block is kept."""
    source = data.decode()
    front = _FRONT_MATTER.match(source)
    title = _TITLE.search(front[1]) if front else None
    named = escape(title[1].strip("\"' \t")) if title else ""
    # Past its nesting bound the library drops text, and its default of 20 is within reach.
    markdown = MarkdownIt("commonmark", {"maxNesting": NESTING_MAX})
    body = markdown.enable(["table", "strikethrough"]).render(
        source[front.end() :] if front else source
    )
    return read_html.read(f"<title>{named}</title><body>{body}</body>".encode(), limit_chars)

r"""Formulas in Markdown (`$...$`, `$$...$$`, `\(...\)`, `\[...\]`) keep every sign."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

_CLOSERS = {"\\(": "\\)", "\\[": "\\]"}
# Without one of these, the signs are brackets that are not to make a link.
_TEX_SIGNS = re.compile(r"[\\^_{}=+*<>]")


def read_formulas(markdown: MarkdownIt) -> None:
    """Lets a parser read formulas. They are written as they are: one may be a sum of money."""
    dollarmath_plugin(
        markdown,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        allow_labels=False,
        double_inline=True,
    )
    markdown.inline.ruler.before("escape", "math_bracket", _read_bracket)
    for name, mark in (("math_inline", "$"), ("math_inline_double", "$$"), ("math_bracket", "")):
        markdown.add_render_rule(name, _write_with(mark, "{}"))
    markdown.add_render_rule("math_block", _write_with("$$", "<pre>{}</pre>\n"))


def _read_bracket(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 (the library's signature)
    opening = state.src[state.pos : state.pos + 2]
    closing = _CLOSERS.get(opening)
    if closing is None or state.env.get(f"no {closing}") is state.src:
        return False
    end = state.src.find(closing, state.pos + 2, state.posMax)
    if end < 0:
        # The rest of the line needs no search again.
        state.env[f"no {closing}"] = state.src
        return False
    content = state.src[state.pos : end + 2]
    if not _TEX_SIGNS.search(content, 2, len(content) - 2):
        return False
    if not silent:
        state.push("math_bracket", "", 0).content = content
    state.pos = end + 2
    return True


def _write_with(mark: str, frame: str) -> Any:
    def write(_self: object, tokens: Sequence[Token], index: int, *_: object) -> str:
        return frame.format(escape(f"{mark}{tokens[index].content}{mark}", quote=False))

    return write

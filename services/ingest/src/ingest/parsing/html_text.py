"""Walks a tree of HTML and writes its text; `ingest.parsing.html_rules` says what is left out."""

from collections.abc import Callable
from typing import NamedTuple

from selectolax.lexbor import LexborNode

from ingest.parsing import html_rules
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html_elements import (
    BLOCK_DISPLAYS,
    BLOCKS,
    BOX_DISPLAYS,
    BOXES,
    CELLS,
    HOLDERS_OF_TEXT,
    LISTS,
    PARAGRAPHS,
    VERBATIM,
    read_style,
)
from ingest.parsing.html_formulas import FormulaSigns, clean_tex, find_tex
from ingest.parsing.html_rules import Attributes
from ingest.parsing.html_tree import parse
from ingest.parsing.line_writer import LINE, PARAGRAPH, Edge, LineWriter
from ingest.parsing.list_numbers import BULLET, ListMarks
from ingest.parsing.raised_signs import mark_lowered, mark_raised
from ingest.parsing.table_rows import TableRows

# Documents in documents: frames with their own text, shadow trees, `noframes`.
INNER_DOCUMENTS_MAX = 8
INDENT, INDENTS_MAX = "  ", 20
SHOWN_INPUTS = frozenset(
    "text button submit reset email number tel url date time month week datetime-local".split()  # noqa: SIM905
)


class _Frame(NamedTuple):
    """An element whose content is being walked; `closers` undo in order what it changed."""

    node: LexborNode
    tag: str
    attributes: Attributes
    breaks: int
    is_box: bool
    closers: list[Callable[[], None]]


class PageText:
    """Collects the text of one document.

    `is_page` is false for HTML that is a part of another format: it has no navigation.
    """

    def __init__(self, limit_chars: int, *, is_page: bool) -> None:
        self.title = ""
        self.heading = ""
        self.has_scripts = False
        self._is_page = is_page
        self._writer = LineWriter(limit_chars)
        self._rows = TableRows(self._writer)
        self._lists: list[ListMarks] = []
        self._alternatives: set[str] = set()
        self._last_alternative = ""
        self._readings: list[list[str]] = []
        self._signs: FormulaSigns | None = None
        self._depths = dict.fromkeys(
            ("hidden", "verbatim", "owner", "drawing", "substitute", "script", "inner"), 0
        )
        self._enter_special: dict[str, Callable[[_Frame], bool]] = {
            "title": self._enter_title,
            "h1": self._enter_heading,
            "ul": self._enter_list,
            "ol": self._enter_list,
            "menu": self._enter_list,
            "dir": self._enter_list,
            "li": self._enter_item,
            "table": self._enter_table,
            "tr": self._enter_row,
            "td": self._enter_cell,
            "th": self._enter_cell,
            "pre": self._enter_code,
            "br": self._enter_break,
            "img": self._enter_image,
            "area": self._enter_image,
            "input": self._enter_input,
            "svg": self._enter_drawing,
            "foreignObject": self._enter_foreign,
            "tspan": self._enter_drawn_line,
            "math": self._enter_formula,
            "annotation": self._enter_annotation,
            "annotation-xml": self._enter_annotation,
            "sup": self._enter_script,
            "sub": self._enter_script,
            "ruby": self._enter_ruby,
            "rt": self._enter_reading,
            "rtc": self._enter_reading,
            "q": self._enter_quote,
            "iframe": self._enter_frame,
            "noframes": self._enter_noframes,
            "template": self._enter_template,
        }

    def collect(self, root: LexborNode) -> str:
        self._walk(root.child)
        return self._writer.get_text()

    def _walk(self, node: LexborNode | None) -> None:
        """Walk a node and its later siblings, without recursion: pages are nested deeply."""
        open_elements: list[_Frame] = []
        while node is not None or open_elements:
            if node is None:
                frame = open_elements.pop()
                self._leave(frame)
                node = frame.node.next
            elif node.is_text_node:
                self._write_text(node.text_content or "")
                node = node.next
            elif node.is_element_node and (frame := self._enter(node)):
                open_elements.append(frame)
                node = node.child
            else:
                node = node.next

    def _write_text(self, text: str) -> None:
        if self._depths["verbatim"] and not self._writer.is_in_row:
            self._writer.write_verbatim(text)
        else:
            self._writer.write(text)

    # --- entering and leaving ---

    def _enter(self, node: LexborNode) -> _Frame | None:
        tag, attributes = node.tag or "", node.attributes
        if self._is_skipped(node, tag, attributes):
            return None
        breaks, is_box = self._find_layout(node, tag, attributes)
        frame = _Frame(node, tag, attributes, breaks, is_box, [])
        self._separate(frame)
        if attributes and html_rules.is_hidden(attributes):
            self._count(frame, "hidden")
        if tag in html_rules.OWNERS_OF_FOOTERS:
            self._count(frame, "owner")
        elif tag in html_rules.SUBSTITUTES:
            self._count(frame, "substitute")
        if tag in VERBATIM or (attributes and "white-space" in (attributes.get("style") or "")):
            self._enter_verbatim(frame)
        if self._signs and tag != "math":
            self._writer.append(self._signs.enter(tag, node))
            frame.closers.append(self._leave_sign)
        special = self._enter_special.get(tag)
        if special and not special(frame):
            self._leave(frame)
            return None
        return frame

    def _leave(self, frame: _Frame) -> None:
        for close in reversed(frame.closers):
            close()
        self._separate(frame)

    def _is_skipped(self, node: LexborNode, tag: str, attributes: Attributes) -> bool:
        if tag in html_rules.NEVER_TEXT:
            self._read_machine_part(node, tag, attributes)
            return True
        if attributes and html_rules.is_decoration(tag, attributes):
            return True
        return self._is_page and (
            html_rules.belongs_to_site(tag, owned_footer=self._depths["owner"] > 0)
            or self._is_empty_substitute(node, tag)
            or (
                bool(attributes)
                and (
                    html_rules.is_left_out(tag, attributes)
                    or self._is_hidden_mark(node, tag, attributes)
                )
            )
        )

    def _read_machine_part(self, node: LexborNode, tag: str, attributes: Attributes) -> None:
        if tag == "head":
            self._read_head(node)
        elif tag == "script":
            self._read_script(node, attributes)

    def _is_empty_substitute(self, node: LexborNode, tag: str) -> bool:
        return (
            tag in html_rules.SUBSTITUTES
            and not self._depths["substitute"]
            and html_rules.asks_for_program(node.text(separator=" "))
        )

    def _is_hidden_mark(self, node: LexborNode, tag: str, attributes: Attributes) -> bool:
        return (
            tag not in BLOCKS
            and not self._depths["hidden"]
            and html_rules.is_hidden(attributes)
            and not html_rules.says_enough(node)
        )

    def _find_layout(self, node: LexborNode, tag: str, attributes: Attributes) -> tuple[int, bool]:
        """The breaks around an element, and whether it is a box in its line."""
        style = attributes.get("style") if attributes else None
        if style and "display" in style:
            display = read_style(style).get("display", "")
            if display in BLOCK_DISPLAYS and tag not in BLOCKS:
                return LINE, False
            if display in BOX_DISPLAYS:
                return (0, True) if tag not in PARAGRAPHS else (PARAGRAPH, False)
        if tag in PARAGRAPHS:
            return (LINE if tag in LISTS and self._lists else PARAGRAPH), False
        if tag in CELLS:
            return 0, False
        if tag in BLOCKS or (self._depths["drawing"] and tag == "text"):
            return LINE, False
        if "-" in tag and not self._depths["drawing"] and _stands_alone(node):
            return LINE, False
        return 0, tag in BOXES

    def _separate(self, frame: _Frame) -> None:
        if frame.breaks:
            self._writer.request_break(frame.breaks)
        elif frame.is_box:
            self._writer.request_edge(Edge.BOX)

    def _count(self, frame: _Frame, name: str) -> None:
        self._depths[name] += 1

        def leave() -> None:
            self._depths[name] -= 1

        frame.closers.append(leave)

    def _leave_sign(self) -> None:
        if self._signs:
            self._writer.append(self._signs.leave())

    # --- titles ---

    def _read_head(self, head: LexborNode) -> None:
        child = head.child
        while child is not None:
            if child.tag == "title" and not self.title:
                self.title = _join(child.text())
            elif child.tag == "script":
                self.has_scripts = True
            child = child.next

    def _enter_title(self, frame: _Frame) -> bool:
        if self._depths["drawing"]:
            self._write_alternative(frame.node.text())
        elif not self.title:
            self.title = _join(frame.node.text())
        return False

    def _enter_heading(self, frame: _Frame) -> bool:
        if not self.heading:
            mark = self._writer.mark()

            def read_heading() -> None:
                self.heading = self.heading or self._writer.read_since(mark)

            frame.closers.append(read_heading)
        return True

    # --- lists and tables ---

    def _enter_list(self, frame: _Frame) -> bool:
        self._lists.append(ListMarks(frame.tag, frame.attributes))
        frame.closers.append(lambda: _drop(self._lists.pop()))
        return True

    def _enter_item(self, frame: _Frame) -> bool:
        mark = self._lists[-1].take(frame.attributes) if self._lists else BULLET
        level = min(len(self._lists) - 1, INDENTS_MAX)
        self._writer.set_prefix(mark if self._writer.is_in_row else INDENT * level + mark)
        frame.closers.append(lambda: self._writer.set_prefix(""))
        return True

    def _enter_table(self, frame: _Frame) -> bool:
        self._rows.enter_table()
        self._writer.request_break(PARAGRAPH)
        frame.closers.append(self._rows.leave_table)
        return True

    def _enter_row(self, frame: _Frame) -> bool:
        if self._rows.is_in_table:
            self._rows.enter_row(frame.node)
            frame.closers.append(self._rows.leave_row)
        return True

    def _enter_cell(self, frame: _Frame) -> bool:
        if self._rows.is_in_some_row:
            mark = self._rows.enter_cell()
            frame.closers.append(lambda: self._rows.leave_cell(frame.attributes, mark))
        return True

    # --- lines ---

    def _enter_verbatim(self, frame: _Frame) -> None:
        if frame.tag not in VERBATIM:
            space = read_style(frame.attributes.get("style") or "").get("white-space", "")
            if not space.startswith(("pre", "break-spaces")):
                return
        self._count(frame, "verbatim")

    def _enter_code(self, _frame: _Frame) -> bool:
        self._rows.break_up()
        self._writer.request_break(PARAGRAPH)
        return True

    def _enter_break(self, _frame: _Frame) -> bool:
        self._writer.request_break(LINE)
        return False

    def _enter_quote(self, frame: _Frame) -> bool:
        self._writer.write("\u201c")
        frame.closers.append(lambda: self._writer.append("\u201d"))
        return True

    def _enter_script(self, frame: _Frame) -> bool:
        if self._depths["script"]:
            mark = "^" if frame.tag == "sup" else "_"
            before, after = mark, ""
        else:
            before, after = self._mark_signs(frame)
        self._count(frame, "script")
        edge = Edge.RAISED if frame.tag == "sup" else Edge.LOWERED
        if before.isspace():
            edge = Edge.BOX
            self._writer.request_edge(edge)
        self._writer.append(before.strip())

        def leave() -> None:
            self._writer.append(after.strip())
            self._writer.request_edge(edge)

        frame.closers.append(leave)
        return True

    def _mark_signs(self, frame: _Frame) -> tuple[str, str]:
        content, previous = _join(frame.node.text()), self._writer.find_last()
        if frame.tag == "sub":
            return mark_lowered(content, previous)
        is_note = _is_note(frame.node, frame.attributes)
        return mark_raised(content, previous, is_note=is_note)

    def _enter_ruby(self, frame: _Frame) -> bool:
        self._readings.append([])

        def leave() -> None:
            if readings := "".join(self._readings.pop()):
                self._writer.append(f"({readings})")

        frame.closers.append(leave)
        return True

    def _enter_reading(self, frame: _Frame) -> bool:
        """How a word is spoken stands after the whole word, which stays whole for a search."""
        if self._readings:
            mark = self._writer.mark()
            frame.closers.append(
                lambda: self._readings[-1].append(self._writer.cut_since(mark))
            )
        return True

    # --- images, forms, formulas, drawings ---

    def _write_alternative(self, text: str | None) -> None:
        """Write a text that stands for an image, once where a page repeats it."""
        words = clean_tex(text or "")
        repeats = words == self._last_alternative or (
            self._depths["substitute"] > 0 and words in self._alternatives
        )
        if words and not repeats:
            self._writer.write_word(words)
            self._alternatives.add(words)
            self._last_alternative = words

    def _enter_image(self, frame: _Frame) -> bool:
        self._write_alternative(frame.attributes.get("alt"))
        return False

    def _enter_input(self, frame: _Frame) -> bool:
        kind = (frame.attributes.get("type") or "text").lower()
        if kind == "image":
            self._write_alternative(frame.attributes.get("alt"))
        elif kind in SHOWN_INPUTS:
            self._writer.write_word(frame.attributes.get("value") or "")
        return False

    def _enter_formula(self, frame: _Frame) -> bool:
        if self._signs:
            return True
        tex = find_tex(frame.node, frame.attributes.get("alttext"))
        if tex:
            self._write_alternative(tex)
            return False
        self._signs = FormulaSigns()

        def leave() -> None:
            self._signs = None

        frame.closers.append(leave)
        return True

    def _enter_annotation(self, _frame: _Frame) -> bool:
        return self._signs is None

    def _read_script(self, node: LexborNode, attributes: Attributes) -> None:
        """Older MathJax keeps the source of a formula in a script."""
        if (attributes.get("type") or "").lower().startswith("math/tex"):
            self._write_alternative(node.text())
        else:
            self.has_scripts = True

    def _enter_drawing(self, frame: _Frame) -> bool:
        self._count(frame, "drawing")
        self._write_alternative(frame.attributes.get("aria-label"))
        return True

    def _enter_foreign(self, frame: _Frame) -> bool:
        depth, self._depths["drawing"] = self._depths["drawing"], 0

        def leave() -> None:
            self._depths["drawing"] = depth

        frame.closers.append(leave)
        self._writer.request_break(LINE)
        return True

    def _enter_drawn_line(self, frame: _Frame) -> bool:
        if "y" in frame.attributes or "dy" in frame.attributes:
            self._writer.request_edge(Edge.BOX)
        return True

    # --- documents in documents ---

    def _enter_frame(self, frame: _Frame) -> bool:
        self._read_inner(frame.attributes.get("srcdoc") or "")
        return False

    def _enter_noframes(self, frame: _Frame) -> bool:
        self._read_inner(frame.node.text())
        return False

    def _enter_template(self, frame: _Frame) -> bool:
        """Only a shadow tree is shown without a script."""
        if "shadowrootmode" in frame.attributes:
            with_content = frame.node.template_fragments()
            self._enter_inner(lambda: [self._walk(each.child) for each in with_content])
        return False

    def _read_inner(self, source: str) -> None:
        if source.strip():
            self._enter_inner(lambda: self._walk_source(source))

    def _walk_source(self, source: str) -> None:
        root = parse(source.encode())
        if root is not None:
            self._walk(root.child)

    def _enter_inner(self, walk: Callable[[], object]) -> None:
        if self._depths["inner"] >= INNER_DOCUMENTS_MAX:
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED,
                f"HTML: more than {INNER_DOCUMENTS_MAX} documents in each other",
            )
        self._depths["inner"] += 1
        walk()
        self._depths["inner"] -= 1


def _drop(_: object) -> None:
    """A closer has no result."""


def _join(text: str) -> str:
    return " ".join(text.split())


def _is_note(sup: LexborNode, attributes: Attributes) -> bool:
    """Whether raised signs are the mark of a note: a link, or named so."""
    named = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower()
    if any(name in named for name in ("reference", "footnote", "fnref", "noteref")):
        return True
    parent = sup.parent
    if parent is not None and parent.tag == "a":
        return True
    child = sup.child
    while child is not None and child.is_text_node and not (child.text_content or "").strip():
        child = child.next
    return child is not None and child.tag == "a"


def _stands_alone(node: LexborNode) -> bool:
    """Whether a custom element is a block: it is no part of a line of text."""
    parent = node.parent
    if parent is not None and parent.tag in HOLDERS_OF_TEXT:
        return False
    return not any(
        sibling is not None and sibling.is_text_node and (sibling.text_content or "").strip()
        for sibling in (node.prev, node.next)
    )

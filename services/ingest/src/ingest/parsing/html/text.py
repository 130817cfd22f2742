"""Walks a tree of HTML and writes its text; `ingest.parsing.html.rules` says what is left out."""

from collections.abc import Callable

from selectolax.lexbor import LexborNode

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html import rules
from ingest.parsing.html.blocks import Blocks
from ingest.parsing.html.elements import (
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
from ingest.parsing.html.frame import Depths, Enter, Frame, Kind
from ingest.parsing.html.images import Images
from ingest.parsing.html.lines import LineParts
from ingest.parsing.html.rules import Attributes
from ingest.parsing.html.tree import parse
from ingest.parsing.line_writer import LINE, PARAGRAPH, Border, LineWriter
from ingest.parsing.outline_marks import HEADING_MARKS

# Documents in documents: frames with their own text, shadow trees, `noframes`.
INNER_DOCUMENTS_MAX = 8
HEADINGS = {f"h{level}": level for level in HEADING_MARKS}


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
        self._depths = Depths()
        self._inner_documents = 0
        self._blocks = Blocks(self._writer)
        self._images = Images(self._writer, self._depths)
        self._enters: dict[str, Enter] = {
            **self._blocks.enters,
            **self._images.enters,
            **LineParts(self._writer, self._depths).enters,
            "title": self._enter_title,
            **dict.fromkeys(HEADINGS, self._enter_heading),
            "iframe": self._enter_frame,
            "noframes": self._enter_noframes,
            "template": self._enter_template,
        }

    def collect(self, root: LexborNode) -> str:
        self._walk(root.child)
        return self._writer.get_text()

    def _walk(self, node: LexborNode | None) -> None:
        """Walk a node and its later siblings, without recursion: pages are nested deeply."""
        open_elements: list[Frame] = []
        while node is not None or open_elements:
            if node is None:
                frame = open_elements.pop()
                self._leave(frame)
                node = frame.node.next
            elif node.is_text_node:
                self._write_text(node.text_content or "")
                node = node.next
            elif node.is_element_node and (entered := self._enter(node)):
                open_elements.append(entered)
                node = node.child
            else:
                node = node.next

    def _write_text(self, text: str) -> None:
        if self._depths.is_in(Kind.VERBATIM) and not self._writer.is_in_row:
            self._writer.write_verbatim(text)
        else:
            self._writer.write(text)

    def _enter(self, node: LexborNode) -> Frame | None:
        tag, attributes = node.tag or "", node.attributes
        if self._is_skipped(node, tag, attributes):
            return None
        breaks, is_box = self._find_layout(node, tag, attributes)
        frame = Frame(node, tag, attributes, breaks, is_box, [])
        self._separate(frame)
        if attributes and rules.is_hidden(attributes):
            self._depths.enter(frame, Kind.HIDDEN)
        if tag in rules.OWNERS_OF_FOOTERS:
            self._depths.enter(frame, Kind.OWNER_OF_FOOTERS)
        elif tag in rules.SUBSTITUTES:
            self._depths.enter(frame, Kind.SUBSTITUTE)
        if tag in VERBATIM or (attributes and "white-space" in (attributes.get("style") or "")):
            self._enter_verbatim(frame)
        self._images.enter_sign(frame)
        special = self._enters.get(tag)
        if special and not special(frame):
            self._leave(frame)
            return None
        return frame

    def _leave(self, frame: Frame) -> None:
        for close in reversed(frame.closers):
            close()
        self._separate(frame)

    def _is_skipped(self, node: LexborNode, tag: str, attributes: Attributes) -> bool:
        if tag in rules.NEVER_TEXT:
            self._read_machine_part(node, tag, attributes)
            return True
        if attributes and rules.is_decoration(tag, attributes):
            return True
        return self._is_page and (
            rules.belongs_to_site(tag, owned_footer=self._depths.is_in(Kind.OWNER_OF_FOOTERS))
            or (tag == "ul" and rules.lists_languages(node))
            or self._is_empty_substitute(node, tag)
            or (
                bool(attributes)
                and (
                    rules.is_left_out(tag, attributes)
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
            tag in rules.SUBSTITUTES
            and not self._depths.is_in(Kind.SUBSTITUTE)
            and rules.asks_for_program(node.text(separator=" "))
        )

    def _is_hidden_mark(self, node: LexborNode, tag: str, attributes: Attributes) -> bool:
        return (
            tag not in BLOCKS
            and not self._depths.is_in(Kind.HIDDEN)
            and rules.is_hidden(attributes)
            and not rules.says_enough(node)
        )

    def _find_layout(self, node: LexborNode, tag: str, attributes: Attributes) -> tuple[int, bool]:
        """The breaks around an element, and whether it is a box in its line."""
        style = attributes.get("style") if attributes else None
        display = read_style(style).get("display", "") if style and "display" in style else ""
        if tag in PARAGRAPHS:
            return (LINE if tag in LISTS and self._blocks.is_in_list else PARAGRAPH), False
        if display in BOX_DISPLAYS or tag in CELLS:
            return 0, display in BOX_DISPLAYS
        is_line = tag in BLOCKS or display in BLOCK_DISPLAYS
        if is_line or self._is_drawn_text(tag) or self._is_custom_block(node, tag):
            return LINE, False
        return 0, tag in BOXES

    def _is_drawn_text(self, tag: str) -> bool:
        return tag == "text" and self._depths.is_in(Kind.DRAWING)

    def _is_custom_block(self, node: LexborNode, tag: str) -> bool:
        return "-" in tag and not self._depths.is_in(Kind.DRAWING) and _stands_alone(node)

    def _separate(self, frame: Frame) -> None:
        if frame.breaks:
            self._writer.request_break(frame.breaks)
        elif frame.is_box:
            self._writer.request_border(Border.BOX)

    def _read_head(self, head: LexborNode) -> None:
        child = head.child
        while child is not None:
            if child.tag == "title" and not self.title:
                self.title = _join(child.text())
            elif child.tag == "script":
                self.has_scripts = True
            child = child.next

    def _enter_title(self, frame: Frame) -> bool:
        if self._depths.is_in(Kind.DRAWING):
            self._images.write_alternative(frame.node.text())
        elif not self.title:
            self.title = _join(frame.node.text())
        return False

    def _enter_heading(self, frame: Frame) -> bool:
        if not self._writer.is_in_row:
            self._writer.set_mark(HEADING_MARKS[HEADINGS[frame.tag]])
            frame.closers.append(lambda: self._writer.set_mark(""))
        if frame.tag == "h1" and not self.heading:
            mark = self._writer.mark()

            def read_heading() -> None:
                self.heading = self.heading or self._writer.read_since(mark)

            frame.closers.append(read_heading)
        return True

    def _enter_verbatim(self, frame: Frame) -> None:
        if frame.tag not in VERBATIM:
            space = read_style(frame.attributes.get("style") or "").get("white-space", "")
            if not space.startswith(("pre", "break-spaces")):
                return
        self._depths.enter(frame, Kind.VERBATIM)

    def _read_script(self, node: LexborNode, attributes: Attributes) -> None:
        """Older MathJax keeps the source of a formula in a script."""
        if (attributes.get("type") or "").lower().startswith("math/tex"):
            self._images.write_alternative(node.text())
        else:
            self.has_scripts = True

    def _enter_frame(self, frame: Frame) -> bool:
        self._read_inner(frame.attributes.get("srcdoc") or "")
        return False

    def _enter_noframes(self, frame: Frame) -> bool:
        self._read_inner(frame.node.text())
        return False

    def _enter_template(self, frame: Frame) -> bool:
        """Only a shadow tree is shown without a script."""
        if "shadowrootmode" in frame.attributes:
            with_content = frame.node.template_fragments()
            self._enter_inner(lambda: self._walk_all(with_content))
        return False

    def _walk_all(self, fragments: list[LexborNode]) -> None:
        for fragment in fragments:
            self._walk(fragment.child)

    def _read_inner(self, source: str) -> None:
        if source.strip():
            self._enter_inner(lambda: self._walk_source(source))

    def _walk_source(self, source: str) -> None:
        root = parse(source.encode())
        if root is not None:
            self._walk(root.child)

    def _enter_inner(self, walk: Callable[[], object]) -> None:
        if self._inner_documents >= INNER_DOCUMENTS_MAX:
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED,
                f"HTML: more than {INNER_DOCUMENTS_MAX} documents in each other",
            )
        self._inner_documents += 1
        walk()
        self._inner_documents -= 1


def _join(text: str) -> str:
    return " ".join(text.split())


def _stands_alone(node: LexborNode) -> bool:
    """Whether a custom element is a block: it is no part of a line of text."""
    parent = node.parent
    if parent is not None and parent.tag in HOLDERS_OF_TEXT:
        return False
    return not any(
        sibling is not None and sibling.is_text_node and (sibling.text_content or "").strip()
        for sibling in (node.prev, node.next)
    )

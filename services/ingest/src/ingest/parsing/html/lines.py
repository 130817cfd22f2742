"""Parts of a line that are more than their text: raised signs, readings of words, quotations."""

from selectolax.lexbor import LexborNode

from ingest.parsing.html.frame import Depths, Enter, Frame, Kind
from ingest.parsing.html.raised_signs import mark_lowered, mark_raised
from ingest.parsing.html.rules import Attributes
from ingest.parsing.line_writer import LINE, Border, LineWriter


class LineParts:
    def __init__(self, writer: LineWriter, depths: Depths) -> None:
        self._writer = writer
        self._depths = depths
        self._readings: list[list[str]] = []
        self.enters: dict[str, Enter] = {
            "br": self._enter_break,
            "q": self._enter_quote,
            "sup": self._enter_script,
            "sub": self._enter_script,
            "ruby": self._enter_ruby,
            "rt": self._enter_reading,
            "rtc": self._enter_reading,
        }

    def _enter_break(self, _frame: Frame) -> bool:
        self._writer.request_break(LINE)
        return False

    def _enter_quote(self, frame: Frame) -> bool:
        self._writer.write("\u201c")
        frame.closers.append(lambda: self._writer.append("\u201d"))
        return True

    def _enter_script(self, frame: Frame) -> bool:
        if self._depths.is_in(Kind.SCRIPT):
            mark = "^" if frame.tag == "sup" else "_"
            before, after = mark, ""
        else:
            before, after = self._mark_signs(frame)
        self._depths.enter(frame, Kind.SCRIPT)
        border = Border.RAISED if frame.tag == "sup" else Border.LOWERED
        if before.isspace():
            border = Border.BOX
            self._writer.request_border(border)
        self._writer.append(before.strip())

        def leave() -> None:
            self._writer.append(after.strip())
            self._writer.request_border(border)

        frame.closers.append(leave)
        return True

    def _mark_signs(self, frame: Frame) -> tuple[str, str]:
        content, previous = " ".join(frame.node.text().split()), self._writer.find_last()
        if frame.tag == "sub":
            return mark_lowered(content, previous)
        is_note = _is_note(frame.node, frame.attributes)
        return mark_raised(content, previous, is_note=is_note)

    def _enter_ruby(self, frame: Frame) -> bool:
        self._readings.append([])

        def leave() -> None:
            if readings := "".join(self._readings.pop()):
                self._writer.append(f"({readings})")

        frame.closers.append(leave)
        return True

    def _enter_reading(self, frame: Frame) -> bool:
        """How a word is spoken stands after the whole word, which stays whole for a search."""
        if self._readings:
            mark = self._writer.mark()
            frame.closers.append(lambda: self._readings[-1].append(self._writer.cut_since(mark)))
        return True


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

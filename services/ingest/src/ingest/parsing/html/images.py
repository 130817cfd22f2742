"""Images, drawings, formulas and fields: each shows words that are no text of the page."""

from ingest.parsing.html.formulas import FormulaSigns, clean_tex, find_tex
from ingest.parsing.html.frame import Depths, Enter, Frame, Kind
from ingest.parsing.line_writer import LINE, Border, LineWriter

SHOWN_INPUTS = frozenset(
    "text button submit reset email number tel url date time month week datetime-local".split()  # noqa: SIM905
)


class Images:
    def __init__(self, writer: LineWriter, depths: Depths) -> None:
        self._writer = writer
        self._depths = depths
        self._signs: FormulaSigns | None = None
        self._alternatives: set[str] = set()
        self._last_alternative = ""
        self.enters: dict[str, Enter] = {
            "img": self._enter_image,
            "area": self._enter_image,
            "input": self._enter_input,
            "svg": self._enter_drawing,
            "foreignObject": self._enter_foreign,
            "tspan": self._enter_drawn_line,
            "math": self._enter_formula,
            "annotation": self._enter_annotation,
            "annotation-xml": self._enter_annotation,
        }

    def enter_sign(self, frame: Frame) -> None:
        """Write what stands before an element of a formula that has no TeX."""
        if self._signs and frame.tag != "math":
            self._writer.append(self._signs.enter(frame.tag, frame.node))
            frame.closers.append(self._leave_sign)

    def _leave_sign(self) -> None:
        if self._signs:
            self._writer.append(self._signs.leave())

    def write_alternative(self, text: str | None) -> None:
        """Write a text that stands for an image, once where a page repeats it."""
        words = clean_tex(text or "")
        repeats = words == self._last_alternative or (
            self._depths.is_in(Kind.SUBSTITUTE) and words in self._alternatives
        )
        if words and not repeats:
            self._writer.write_word(words)
            self._alternatives.add(words)
            self._last_alternative = words

    def _enter_image(self, frame: Frame) -> bool:
        self.write_alternative(frame.attributes.get("alt"))
        return False

    def _enter_input(self, frame: Frame) -> bool:
        kind = (frame.attributes.get("type") or "text").lower()
        if kind == "image":
            self.write_alternative(frame.attributes.get("alt"))
        elif kind in SHOWN_INPUTS:
            self._writer.write_word(frame.attributes.get("value") or "")
        return False

    def _enter_formula(self, frame: Frame) -> bool:
        if self._signs:
            return True
        tex = find_tex(frame.node, frame.attributes.get("alttext"))
        if tex:
            self.write_alternative(tex)
            return False
        self._signs = FormulaSigns()

        def leave() -> None:
            self._signs = None

        frame.closers.append(leave)
        return True

    def _enter_annotation(self, _frame: Frame) -> bool:
        return self._signs is None

    def _enter_drawing(self, frame: Frame) -> bool:
        self._depths.enter(frame, Kind.DRAWING)
        self.write_alternative(frame.attributes.get("aria-label"))
        return True

    def _enter_foreign(self, frame: Frame) -> bool:
        self._depths.suspend(frame, Kind.DRAWING)
        self._writer.request_break(LINE)
        return True

    def _enter_drawn_line(self, frame: Frame) -> bool:
        if "y" in frame.attributes or "dy" in frame.attributes:
            self._writer.request_border(Border.BOX)
        return True

"""Writes text in lines; blanks and breaks are written when text follows."""

from enum import IntEnum

from ingest.parsing.reading import check_length

LINE, PARAGRAPH = 1, 2
CELL_MARK = "| "

_OPENING = frozenset(" \t\n([{<\u201c\u2018\u00ab\u201e\u00bf\u00a1")
_CLOSING = frozenset(" \t\n)]}>.,;:!?%\u201d\u2019\u00bb\u2026")


class Border(IntEnum):
    """A place where two texts touch in the page but may not become one word."""

    NONE = 0
    LOWERED = 1  # two numbers
    RAISED = 2  # letters and numbers
    BOX = 3  # all but punctuation


class LineWriter:
    def __init__(self, limit_chars: int) -> None:
        self.is_in_row = False
        self._limit_chars = limit_chars
        self._size_chars = 0
        # Separators and texts in turn.
        self._pieces: list[str] = []
        self._last = ""
        self._break = 0
        self._gap = False
        self._border = Border.NONE
        self._cells = 0
        self._prefix = ""
        self._mark = ""

    def write(self, text: str) -> None:
        """Write text whose white space has no meaning."""
        words = text.split()
        if not words:
            self._gap = self._gap or bool(text)
            return
        if text[0].isspace():
            self._gap = True
        self._add(" ".join(words))
        self._gap = text[-1].isspace()

    def write_verbatim(self, text: str) -> None:
        if text:
            self._add(text)

    def write_word(self, text: str) -> None:
        """Write text that stands in the line as a box, such as the text of an image."""
        self.request_border(Border.BOX)
        self.write(text)
        self.request_border(Border.BOX)

    def append(self, text: str) -> None:
        """Write signs that belong to what is before them."""
        if text:
            gap, border, self._gap, self._border = self._gap, self._border, False, Border.NONE
            self._add(text)
            self._gap, self._border = gap, border

    def request_break(self, lines: int) -> None:
        if self.is_in_row:
            self._gap = True
        elif not self._prefix:
            self._break = max(self._break, lines)

    def request_border(self, border: Border) -> None:
        self._border = max(self._border, border)

    def request_cell(self) -> None:
        self._cells += 1

    def end_row(self) -> None:
        self._cells = 0

    def set_prefix(self, prefix: str) -> None:
        """Set what stands before the next text of this line, and only there."""
        self._prefix = prefix

    def set_mark(self, mark: str) -> None:
        """Set a mark of `outline_marks` for the next text, or none."""
        self._mark = mark

    def find_last(self) -> str:
        """The character that the next text touches, if it touches one."""
        touches = not (self._break or self._gap or self._cells or self._prefix)
        return self._last if touches and self._border is not Border.BOX else ""

    def mark(self) -> int:
        return len(self._pieces)

    def read_since(self, mark: int) -> str:
        """The text since a mark as one line, without the separator before it."""
        return " ".join("".join(self._pieces[mark + 1 :]).split())

    def cut_since(self, mark: int) -> str:
        text = self.read_since(mark)
        del self._pieces[mark:]
        self._last = self._pieces[-1][-1] if self._pieces else ""
        return text

    def get_text(self) -> str:
        return "".join(self._pieces)

    def _add(self, text: str) -> None:
        separator = self._take_separator(text[0])
        self._pieces += (separator, text)
        self._last = text[-1]
        self._size_chars += len(separator) + len(text)
        check_length(self._size_chars, self._limit_chars)

    def _take_separator(self, following: str) -> str:
        cells, prefix = CELL_MARK * self._cells, self._prefix
        separator = ""
        if self._pieces:
            if self._break:
                separator = "\n" * self._break
            elif self._gap or self._cells or self._is_edge_before(following):
                separator = " "
        self._break, self._gap, self._border, self._cells = 0, False, Border.NONE, 0
        mark, self._prefix, self._mark = self._mark, "", ""
        return separator + cells + prefix + mark

    def _is_edge_before(self, following: str) -> bool:
        last = self._last
        match self._border:
            case Border.BOX:
                return last not in _OPENING and following not in _CLOSING
            case Border.RAISED:
                return last.isalnum() and following.isalnum()
            case Border.LOWERED:
                return last.isdigit() and following.isdigit()
            case _:
                return False

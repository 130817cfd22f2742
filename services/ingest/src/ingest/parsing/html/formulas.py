"""Formulas in HTML: their TeX where the page has it, otherwise their signs in a line."""

from selectolax.lexbor import LexborNode

_DISPLAY_STYLES = (r"{\displaystyle", r"{\textstyle")
# What stands between the parts of an element, before the second and before the third.
_JOINERS = {
    "msup": ("^",),
    "mover": ("^",),
    "msub": ("_",),
    "munder": ("_",),
    "msubsup": ("_", "^"),
    "munderover": ("_", "^"),
    "mfrac": ("/",),
    "mroot": (", ",),
}
_AROUND = {"msqrt": ("√(", ")"), "mroot": ("√(", ")")}


def find_tex(formula: LexborNode, alternative: str | None) -> str:
    """Finds the TeX of a `math` element; empty if the page has only its signs."""
    for node in formula.traverse():
        if node.tag == "annotation" and "tex" in (node.attributes.get("encoding") or "").lower():
            return clean_tex(node.text())
    return clean_tex(alternative or "")


def clean_tex(text: str) -> str:
    r"""One line, without the `{\displaystyle ...}` that Wikipedia puts around its formulas."""
    text = " ".join(text.split())
    for style in _DISPLAY_STYLES:
        if text.startswith(style) and text.endswith("}"):
            return text[len(style) : -1].strip()
    return text


class FormulaSigns:
    """Says what to write around the elements of a formula without TeX, in document order."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []
        self._parts: list[int] = []

    def enter(self, tag: str, node: LexborNode) -> str:
        before = ""
        joiners: tuple[str, ...] = ()
        if self._open:
            joiners = _JOINERS.get(self._open[-1][0], ())
            number = self._parts[-1]
            self._parts[-1] += 1
            if 0 < number <= len(joiners):
                before = joiners[number - 1]
        opening, closing = _AROUND.get(tag, ("", ""))
        if tag == "mrow" and joiners and _has_parts(node):
            opening, closing = "(", ")"
        self._open.append((tag, closing))
        self._parts.append(0)
        return before + opening

    def leave(self) -> str:
        self._parts.pop()
        return self._open.pop()[1]


def _has_parts(row: LexborNode) -> bool:
    first = row.child
    while first is not None and not first.is_element_node:
        first = first.next
    second = first.next if first is not None else None
    while second is not None and not second.is_element_node:
        second = second.next
    return second is not None

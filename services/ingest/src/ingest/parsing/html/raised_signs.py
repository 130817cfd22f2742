"""How raised and lowered signs are written in a line: `10^19`, `H2O`, `T_max`, `2019[4]`."""

import re

MARK_MAX_CHARS = 40

_ORDINALS = frozenset(
    "st nd rd th er re ère e ème eme es o a os as º ª tm sm r c".split()  # noqa: SIM905
)
_COMPACT = re.compile(r"[+\u2212\u2013±-]?\w+(?:[.,/]\w+)*[+\u2212\u2013±*\u2032'-]?")
_HAS_WORDS = re.compile(r"\w")


def mark_raised(content: str, previous: str, *, is_note: bool) -> tuple[str, str]:
    """Says what to write before and after raised signs that follow the character `previous`."""
    if not previous or not _HAS_WORDS.search(content):
        return "", ""
    if is_note:
        return ("", "") if content[:1] in {"[", "("} else ("[", "]")
    if content.lower() in _ORDINALS:
        return "", ""
    return _bracket("^", content)


def mark_lowered(content: str, previous: str) -> tuple[str, str]:
    """Says what to write before and after lowered signs that follow the character `previous`."""
    if not previous or not _HAS_WORDS.search(content):
        return "", ""
    if previous.isalpha() and content.isdecimal():
        return "", ""
    return _bracket("_", content)


def _bracket(sign: str, content: str) -> tuple[str, str]:
    if _COMPACT.fullmatch(content):
        return sign, ""
    # More than a few signs are a text that only stands higher or lower.
    return (f"{sign}(", ")") if len(content) <= MARK_MAX_CHARS else (" ", " ")

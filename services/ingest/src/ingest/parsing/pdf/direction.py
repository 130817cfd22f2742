"""Puts the characters of a line that runs from right to left into the order of reading."""

import re
import unicodedata

from ingest.parsing.pdf.text import RIGHT_TO_LEFT, Word, is_mark

_CLASSES = {"L": "L", "R": "R", "AL": "R", "EN": "N", "AN": "N", "CS": "S", "ES": "S", "ET": "T"}
# Left to right inside of a line from right to left: words of such a script, numbers.
_LEFT_TO_RIGHT = re.compile(r"L(?:[LNSTO]*[LN])?|T*N+(?:S?N+)*T*")
_RIGHT_TO_LEFT = re.compile(r"R(?:[RNSTO]*[RN])?")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_TURNED = {**_PAIRS, **{close: begin for begin, close in _PAIRS.items()}}
# Blank between two characters, in shares of their size.
GAP_MIN = 0.2


def join_by_place(words: list[Word]) -> str:
    """Join characters that are placed one by one, from left to right, into the text they show."""
    return _order(_add_blanks(_place_marks(words)))


def has_right_to_left(text: str) -> bool:
    return RIGHT_TO_LEFT.search(text) is not None


def _place_marks(words: list[Word]) -> list[Word]:
    """Sort by place; a mark stands left of its letter, so that it follows when the line is turned.

    Of characters on one place the later comes first, for the same reason.
    """
    letters = [word for word in words if not is_mark(word.text)]
    letters.sort(key=lambda word: (word.start + word.end, -word.first))
    for mark in (word for word in words if is_mark(word.text)):
        place = mark.start + mark.end
        nearest = min(
            range(len(letters)),
            key=lambda index: abs(letters[index].start + letters[index].end - place),
            default=0,
        )
        letters.insert(nearest, mark)
    return letters


def _add_blanks(words: list[Word]) -> list[str]:
    parts = list[str]()
    end = words[0].start if words else 0.0
    for word in words:
        is_gap = word.start - end > GAP_MIN * word.size
        if parts and is_gap and not parts[-1].isspace() and not word.text.isspace():
            parts.append(" ")
        parts.append(word.text)
        end = max(end, word.end)
    return parts


def _order(parts: list[str]) -> str:
    """Turn parts around that stand in the order of sight."""
    kinds = "".join(_classify(part) for part in parts)
    if kinds.count("R") >= kinds.count("L"):
        return _pair_brackets(_turn_around(parts, kinds))
    ordered, end = "", 0
    for run in _RIGHT_TO_LEFT.finditer(kinds):
        ordered += "".join(parts[end : run.start()])
        ordered += _turn_around(parts[run.start() : run.end()], run[0])
        end = run.end()
    return _pair_brackets(ordered + "".join(parts[end:]))


def _classify(part: str) -> str:
    return _CLASSES.get(unicodedata.bidirectional(part[0]), "O")


def _turn_around(parts: list[str], kinds: str) -> str:
    runs, end = list[str](), 0
    for run in _LEFT_TO_RIGHT.finditer(kinds):
        runs += parts[end : run.start()]
        runs.append("".join(parts[run.start() : run.end()]))
        end = run.end()
    return "".join(reversed(runs + parts[end:]))


def _pair_brackets(text: str) -> str:
    """Turn brackets that close before they open, if then all have a partner.

    The library mirrors brackets, but not in all lines.
    """
    found, begun = list(text), list[int]()
    for index, sign in enumerate(text):
        if sign not in _TURNED:
            continue
        last = found[begun[-1]] if begun else ""
        if last in _PAIRS and _PAIRS[last] == sign:
            begun.pop()
        elif sign in _PAIRS and last == _PAIRS[sign]:
            found[begun.pop()], found[index] = sign, last
        else:
            begun.append(index)
    return text if begun else "".join(found)

"""Takes headers and footers out: lines that repeat at the same edge of most pages."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, islice, pairwise
from typing import Final

from ingest.parsing.outline_marks import begin_section, find_level, strip_marks
from ingest.parsing.steps.pages import Changed, Pages

# With fewer pages nothing tells a header from a title.
PAGES_MIN: Final = 4
# A line repeats if this share of all pages has it, or of the even or the odd ones.
SHARE_MIN: Final = 0.6
# Lines with text, from each edge of a page, that may be headers or footers.
EDGE_LINES: Final = 3
LINE_MAX_CHARS: Final = 200
NUMBERS_MAX: Final = 4

_NUMBER = re.compile(r"\d{1,9}")

# The outermost lines of a page, from the edge inward: the index of each, and its forms, of which
# lines of other pages may have one.
Edge = list[tuple[int, frozenset[str]]]


def run(pages: Pages) -> Changed | None:
    """Removes headers and footers; None for a document without enough pages.

    A line repeats if other pages have the same one, but for one number that counts the pages. The
    first line from the edge that does not repeat ends a header or footer, so no line inside the
    text is touched. A page that would lose all its lines keeps them. A section that begins with a
    header or footer begins with the text after it instead.
    """
    filled = [number for number, text in enumerate(pages.texts) if text]
    if len(filled) < PAGES_MIN:
        return None
    lines = {number: pages.texts[number].split("\n") for number in filled}
    following = dict(pairwise(filled))
    removed: defaultdict[int | None, str] = defaultdict(str)
    counts: dict[str, int] = {}
    for kind, step in (("header lines", 1), ("footer lines", -1)):
        edges = {number: _read_edge(lines[number][::step], number) for number in filled}
        repeated = _find_repeated(edges)
        for number, edge in edges.items():
            first = next((start for start, forms in edge if not forms & repeated), None)
            if first:
                outward = lines[number][::step]
                counts[kind] = counts.get(kind, 0) + sum(start < first for start, _ in edge)
                removed[number if step == 1 else following.get(number)] += "".join(outward[:first])
                lines[number] = outward[first:][::step]
    texts = ["\n".join(lines.get(number, ())) for number in range(len(pages.texts))]
    for number in filled:
        if (level := find_level(removed[number])) is not None:
            texts[number] = begin_section(texts[number], level)
    return pages._replace(texts=texts), counts


def _read_edge(lines: Sequence[str], page: int) -> Edge:
    """The outermost lines with text, from the edge inward, and the line behind them."""
    plain = ((index, strip_marks(line)) for index, line in enumerate(lines))
    found = ((index, line) for index, line in plain if line.strip())
    return [(index, _list_forms(line, page)) for index, line in islice(found, EDGE_LINES + 1)]


def _list_forms(line: str, page: int) -> frozenset[str]:
    """The line, and the line with a number as its difference to that of the page."""
    line = " ".join(line.split())[:LINE_MAX_CHARS]
    counted = (
        f"{line[: found.start()]}\0{int(found[0]) - page}\0{line[found.end() :]}"
        for found in islice(_NUMBER.finditer(line), NUMBERS_MAX)
    )
    return frozenset((line, *counted))


def _find_repeated(edges: Mapping[int, Edge]) -> frozenset[str]:
    """The forms that most pages have, or most of the even or of the odd ones."""
    found: set[str] = set()
    for parity in ({0, 1}, {0}, {1}):
        pages = [edge[:EDGE_LINES] for number, edge in edges.items() if number % 2 in parity]
        if len(pages) >= PAGES_MIN:
            forms = Counter(form for edge in pages for form in {*chain(*(one for _, one in edge))})
            found |= {form for form, count in forms.items() if count >= SHARE_MIN * len(pages)}
    return frozenset(found)

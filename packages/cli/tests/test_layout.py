"""Lines on screens of any width: nothing people copy is cut."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aquifer_cli import layout
from aquifer_cli.layout import Flow, Row

WIDTHS = st.one_of(st.none(), st.integers(20, 200))
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=30)
NAMES = st.from_regex(r"collections/[a-z]{1,60}/documents/[a-z~]{1,120}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.integers(0, 10**6), st.text(max_size=90)), min_size=1), WIDTHS)
def test_a_table_shows_every_name_whole(rows, width):
    lines = list(
        layout.table(
            ["number", "name"],
            [Row(cells=(number, name), aside=aside) for name, number, aside in rows],
            width,
        )
    )
    for (name, number, _), (first, second, aside) in zip(rows, lines[1:], strict=True):
        assert second.rstrip() == name
        assert first.strip() == f"{number:,}"
        whole = layout.GAP.join([first, second, aside])
        assert not aside or width is None or cell_len(whole) <= width
    assert len({tuple(map(cell_len, line[:2])) for line in lines}) == 1


def test_a_column_without_content_is_left_out():
    head, row = layout.table(["a", "b"], [Row(cells=("x", ""))], 80)
    assert (head, row) == (["a", ""], ["x", ""])


@given(st.lists(WORDS), WIDTHS, st.sampled_from(["", "    "]))
def test_filled_text_keeps_its_words_and_the_width(words, width, indent):
    lines = layout.fill(" ".join(words), width, indent)
    assert " ".join(lines).split() == words
    for line in lines:
        assert line.startswith(indent)
        assert width is None or cell_len(line) <= width or len(line.split()) == 1


@given(st.lists(st.text("ab \n", max_size=20)), st.integers(5, 40))
def test_text_that_comes_in_pieces_is_laid_out_like_the_whole(pieces, width):
    def flowed(parts):
        out = []
        flow = Flow(out.append, width)
        for part in parts:
            flow.add(part)
        flow.end()
        return "".join(out)

    text = flowed(pieces)
    assert text == flowed(["".join(pieces)])
    assert text.split() == "".join(pieces).split()
    assert all(cell_len(line) <= width or " " not in line.strip() for line in text.splitlines())


def test_every_line_of_a_flow_is_indented():
    out = []
    flow = Flow(out.append, 16, "   ")
    flow.add("one two three ")
    flow.add("four\nfive")
    flow.end()
    assert "".join(out) == "   one two three\n   four\n   five\n"


def test_a_text_too_wide_is_cut_with_a_mark():
    assert layout.cut("水は地下から来る", 7) == "水は地…"
    assert layout.cut("short", 7) == "short"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_shown(text):
    shown = layout.escape_controls(text)
    assert len(shown) == len(text)
    assert not {c for c in shown if unicodedata.category(c) == "Cc"} - {"\n"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert all(a == b or b in "\ufffd " for a, b in zip(text, shown, strict=True))

"""The reader of Markdown, called without its process: exact text of every kind of part."""

import pytest

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.markdown.read_markdown import read
from ingest.parsing.text.clean import clean

from .growth import assert_linear

LIMIT = 1 << 26


def read_text(source: str) -> str:
    return clean(read(source.encode(), LIMIT).texts[0])


@pytest.mark.parametrize(
    ("source", "title", "expected"),
    [
        ("---\ntitle: Weir\ntags: [a]\n---\nOpen it.", "Weir", "Weir\n\nOpen it."),
        ("---\r\ntitle: Weir\r\n---\r\nOpen it.\r\n", "Weir", "Weir\n\nOpen it."),
        ("---\ntitle: >\n  Weir\n  two\n---\nx", "Weir two", "Weir two\n\nx"),
        ("---\ntitle: |\n  Weir\n  two\n...\nx", "Weir two", "Weir two\n\nx"),
        ('---\ntitle: "Gate \\"B\\""\n---\nx', 'Gate "B"', 'Gate "B"\n\nx'),
        ("---\ntitle: 'It''s shut' # old\n---\nx", "It's shut", "It's shut\n\nx"),
        ("---\nnote: &n Gate\ntitle: *n\n---\nx", "Gate", "Gate\n\nx"),
        ("---\nTitle: Gate\n\nlang: en\n---\nx", "Gate", "Gate\n\nx"),
        ("---\ntitle:\nlang: en\n---\n# Gate", "Gate", "Gate"),
        ("---\ntitle: [a, b]\n---\nx", "", "x"),
        ('+++\ntitle = "Weir"\nday = 2023-05-06\n+++\nx', "Weir", "Weir\n\nx"),
        ("+++\r\n[page]\r\ntitle = 'no'\r\n+++\r\nx", "", "x"),
        ("+++\nno toml\n+++\nx", "", "+++ no toml +++ x"),
        ("---\n\nFirst part.\n\n---\n\nSecond part.", "", "First part.\n\nSecond part."),
        ("---\n- a\n- b\n---\nx", "", "- a\n- b\n\nx"),
        (
            "---\nOpen: at nine.\n\nShut: at five.\n\n---\nx",
            "",
            "Open: at nine.\n\nShut: at five.\n\nx",
        ),
        ("---\nWhat we saw there: nothing.\n---\nx", "", "What we saw there: nothing.\n\nx"),
        ('---\ntitle: "open\n---\nx', "", 'title: "open\n\nx'),
        ("\n---\ntitle: Weir\n---\nx", "", "title: Weir\n\nx"),
    ],
)
def test_front_matter_gives_the_title_and_nothing_else(source, title, expected):
    reading = read(source.encode(), LIMIT)
    assert (reading.title, clean(reading.texts[0])) == (title, expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # words in angle brackets
        ("Call http://<host>:<port>/x", "Call http://<host>:<port>/x"),
        ("Vec<T>, Set<String>, Box<Object>", "Vec<T>, Set<String>, Box<Object>"),
        ("if x<b or y>2 and <user-name>", "if x<b or y>2 and <user-name>"),
        ("type <b> to begin", "type <b> to begin"),
        ("<title> and <textarea> stay", "<title> and <textarea> stay"),
        ("<part>\n\nnext", "<part>\n\nnext"),
        ("<?php echo 1 ?>\n\nnext", "<?php echo 1 ?>\n\nnext"),
        ("a <b>bold</b> <kbd>F1</kbd><br>c", "a bold F1\nc"),
        # HTML blocks
        ("<nav>\n\n- one\n\n</nav>", "- one"),
        ("<dialog>Ring</dialog>\n\n<footer>End</footer>", "Ring\n\nEnd"),
        ('<div>\n<b>Hi</b> <item>x</item> <img alt="pic">\n</div>', "Hi <item>x</item> pic"),
        ('<svg viewBox="0"><path d="M"/><text>Tap</text></svg>', "Tap"),
        ("<details><summary>S</summary>\n\n**T**\n\n</details>", "S\n\nT"),
        ("<!-- no -->\n\n<style>\nno\n</style>\n\nyes", "yes"),
        ("<noscript>Enable scripts</noscript>", "Enable scripts"),
        # formulas
        ("Take $a*b*c_1$ now", "Take $a*b*c_1$ now"),
        ("$$\nx_1*y\n  *z*\n$$", "$$\nx_1*y\n  *z*\n$$"),
        ("As $$u*v*w$$ says", "As $$u*v*w$$ says"),
        ("\\(a*b*c\\) and \\[d_e_f\\]", "\\(a*b*c\\) and \\[d_e_f\\]"),
        ("It is $5 and *not* $6; \\[1\\]", "It is $5 and not $6; [1]"),
        # notes
        ("Deep.[^d]\n\n[^d]: Nine metres.", "Deep.[^d]\n\n[^d]: Nine metres."),
        ("[^u]: Unused\n\n    and more.", "[^u]: Unused\n\nand more."),
        ("[^l]: https://example.org\n\nx", "[^l]: https://example.org\n\nx"),
        # images
        ("![The *north* `gate`](a.png)", "The north gate"),
        ("See ![one ![two](b)](a), there", "See one two, there"),
        # structure
        ("- a\n  - b\n    1. c", "- a\n  - b\n    1. c"),
        ("- [x] done\n- [ ] open", "- [x] done\n- [ ] open"),
        ("|a|b|\n|-|-|\n|`x \\| y`|1<br>2|", "a | b\nx | y | 1 2"),
        ("```\nif x:\n    y<T>\n```", "if x:\n    y<T>"),
        ("10<sup>6</sup> H<sub>2</sub>O ~~x~~", "10^6 H2O x"),
        ("<html>\n\n# Name\n\ntext", "Name\n\ntext"),
    ],
)
def test_markdown_becomes_this_text(source, expected):
    assert read_text(source) == expected


def test_nested_quotes_are_read_or_refused_but_never_cut():
    assert read_text("> " * 150 + "the end") == "the end"
    with pytest.raises(RefusalError, match="nested") as refusal:
        read(b"> " * 10_000 + b"the end", LIMIT)
    assert refusal.value.failure is ParseFailure.DOCUMENT_DAMAGED


def test_brackets_without_end_are_text():
    assert read_text("[" * 500 + "the end") == "[" * 500 + "the end"


@pytest.mark.parametrize(
    "block",
    [
        "---\na: " + "[" * 4000 + "\n---\nx",
        "+++\na = " + "[" * 4000 + "\n+++\nx",
        "---\n" + "".join(f"k{n}: &k{n} [*k{n - 1}, *k{n - 1}]\n" for n in range(1, 99)) + "---\nx",
    ],
)
def test_hostile_front_matter_is_text(block):
    assert read_text(block).endswith("x")


def test_aliases_in_front_matter_are_not_expanded():
    lines = ["k0: &k0 [x]", *(f"k{n}: &k{n} [*k{n - 1}, *k{n - 1}]" for n in range(1, 99))]
    reading = read("---\n{}\ntitle: Bomb\n---\nx".format("\n".join(lines)).encode(), LIMIT)
    assert reading.title == "Bomb"


@pytest.mark.parametrize("part", ["$a ", "\\(a ", "<b ", "<!-- ", "*a ", "~~a ", "a <? "])
def test_marks_without_end_are_read_in_linear_time(part):
    assert_linear(lambda data: read(data, LIMIT), lambda size: part.encode() * size, 8_000)

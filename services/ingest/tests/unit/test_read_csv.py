"""The reader of separated values, called without its process: exact lines of every kind."""

import pytest

from ingest.notes import NoteCode
from ingest.parsing.data.read_csv import CELL_MAX_LINES, OPEN_QUOTES_MAX, read
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.outline_marks import TABLE_MARK

from .growth import assert_linear

LIMIT = 1 << 26


def read_lines(source: str) -> list[str]:
    return read(source.encode(), LIMIT).texts[0].replace(TABLE_MARK, "").split("\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # separators
        ("pump,kW\nnorth,4.25\n", ["pump | kW", "north | 4.25"]),
        ("pump;kW\nnorth;4,25\nsouth;1,5\n", ["pump | kW", "north | 4,25", "south | 1,5"]),
        ("a;1,5;2,3\nb;2,5;3,4\n", ["a | 1,5 | 2,3", "b | 2,5 | 3,4"]),
        ("pump\tkW\nnorth, old\t4\n", ["pump | kW", "north, old | 4"]),
        ("a|b|c\n1|2, or 3|4\n", ["a | b | c", "1 | 2, or 3 | 4"]),
        ("tags;n\na,b,c;1\nd,e,f;2\n", ["tags | n", "a,b,c | 1", "d,e,f | 2"]),
        (
            "place;at\nA;52.1, 13.2\nB;48.2, 11.5\n",
            ["place | at", "A | 52.1, 13.2", "B | 48.2, 11.5"],
        ),
        ("sep=;\r\na;b\r\n1,5;2\r\n", ["a | b", "1,5 | 2"]),
        ('"sep=|"\na|b\n1|2\n', ["a | b", "1 | 2"]),
        # line ends
        ("a,b\r1,2\r3,4\r", ["a | b", "1 | 2", "3 | 4"]),
        ("a,b\r\n1,2", ["a | b", "1 | 2"]),
        # quotes
        ('a,b\n"x, y",2\n"q ""r""",3\n', ["a | b", "x, y | 2", 'q "r" | 3']),
        ('a,b\n"x\r\ny, z",2\n"q\n\nr",3\n', ["a | b", "x y, z | 2", "q r | 3"]),
        ('a, b\n1, "x, y"\n2, z\n', ["a | b", "1 | x, y", "2 | z"]),
        ("a,b\n'x, y',2\n'q, r',3\n", ["a | b", "x, y | 2", "q, r | 3"]),
        (
            'a,b\n"say \\"hi, you\\"",C:\\temp\n"x",3\n',
            ["a | b", 'say "hi, you" | C:\\temp', "x | 3"],
        ),
        ('a,b\n"C:\\dir\\",x\n"q",y\n', ["a | b", "C:\\dir\\ | x", "q | y"]),
        # cells that are missing, empty or too many
        ("a,b,c\n1,,3\n,2,\n,,\n4,5,6,7\n", ["a | b | c", "1 | | 3", "| 2", "", "4 | 5 | 6 | 7"]),
        (
            "Report\n\nname,kW\nnorth,4\nsouth,5\n",
            ["Report", "", "name | kW", "north | 4", "south | 5"],
        ),
        (
            "Cups,,\nTeam,Place,Cups\nBlues,STL,1\n",
            ["Cups", "Team | Place | Cups", "Blues | STL | 1"],
        ),
        ("a,b\n1\x00,2\n", ["a | b", "1 | 2"]),
        # values stay as they are written
        ("a,b\n007,1e400\n0.10,2024-01-02\n", ["a | b", "007 | 1e400", "0.10 | 2024-01-02"]),
    ],
)
def test_rows_become_lines(source, expected):
    assert read_lines(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "The cat, the dog, and the bird.\nIt was late, so we left.\nNo comma here.\n",
        "name\nAda\nBob\n",
        "url\nhttp://a.example/b?x=1&y=2\nhttp://d.example/f\n",
        '{"a": 1, "b": "x"}\n{"c": [1, 2, 3, 4]}\n',
        "\n\n",
    ],
)
def test_text_without_columns_is_kept_as_it_is(source):
    assert read(source.encode(), LIMIT).texts == [source]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # one bad row among good ones, which have a separator in a quoted cell
        ('a,b\n"x,1\ny,2\n"p, q",3\n', ["a | b", '"x | 1', "y | 2", "p, q | 3"]),
        ('a,b\n"abc" def,1\n"p, q",3\n', ["a | b", '"abc" def | 1', "p, q | 3"]),
        (
            'w\tn\n"Hello," he said\t1\n5" pipe\t2\n',
            ["w | n", '"Hello," he said | 1', '5" pipe | 2'],
        ),
    ],
)
def test_row_with_an_open_quote_does_not_swallow_others(source, expected):
    reading = read(source.encode(), LIMIT)
    assert read_lines(source) == expected
    assert [note.code for note in reading.notes] == [NoteCode.QUOTES_UNMATCHED]


def test_quotes_that_are_open_everywhere_are_text():
    rows = "".join(f'"{number},in\n' for number in range(2 * OPEN_QUOTES_MAX))
    lines = read_lines(f"size,unit\n{rows}")
    assert lines[1:] == [f'"{number} | in' for number in range(2 * OPEN_QUOTES_MAX)]


def test_quoted_cell_may_have_many_lines_but_not_the_rest_of_the_file():
    text = "A line, with a comma;\n" * (CELL_MAX_LINES - 2)
    lines = read_lines(f'id,text\n1,"{text}"\n2,"{text * 2}"\n3,x\n')
    assert lines[1] == "1 | " + " ".join(text.split())
    assert lines[2] == '2 | "A line | with a comma;'
    assert lines[-1] == "3 | x"


@pytest.mark.parametrize(
    ("source", "marked"),
    [
        ("pump,kW\nnorth,4.25\n", ["pump | kW"]),
        ("Report\n\nname,kW\nnorth,4\nsouth,5\n", ["name | kW"]),
        ("north,4.25\nsouth,0.10\n", []),
        ("a,a\nb,c\n", []),
        ("a,,c\n1,2,3\n", []),
        ("2024,name\n1,x\n", []),
    ],
)
def test_row_that_names_the_columns_is_marked(source, marked):
    lines = read(source.encode(), LIMIT).texts[0].split("\n")
    assert [line[1:] for line in lines if line.startswith(TABLE_MARK)] == marked


def test_long_cells_do_not_hide_the_columns():
    text = "A line, with commas; and more.\n\n" * 900
    lines = read_lines("id,text\n" + "".join(f'{number},"{text}"\n' for number in range(20)))
    assert len(lines) == 21
    assert all(line.startswith(f"{number} | A line") for number, line in enumerate(lines[1:]))


def test_text_past_the_limit_is_refused():
    with pytest.raises(RefusalError) as refusal:
        read(b"a,b\n" * 10_000, 9_999)
    assert refusal.value.failure is ParseFailure.PARSER_OUTPUT_LIMIT


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b"a,b\n" + b"x.y," * (size // 4),
        lambda size: b'a,"b\n' * (size // 5),
        lambda size: b"a,b\n" + b"x." * (size // 2),
        lambda size: b"a,b\n" + b'"x"y,' * (size // 5),
        lambda size: b"a,b\n" + b'"",\n' * (size // 4),
    ],
    ids=["one row", "open quotes", "one cell", "mixed quotes", "empty cells"],
)
def test_work_grows_as_the_table(make):
    assert_linear(lambda data: read(data, LIMIT), make, 1 << 21)

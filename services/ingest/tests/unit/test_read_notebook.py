"""The reader of notebooks, called without its process."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.parsing.data.read_notebook import read, show_terminal
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.text.clean import clean

from .growth import assert_linear

LIMIT = 1 << 26
PYTHON = {"kernelspec": {"name": "python3", "language": "python"}}


def notebook(*cells: dict[str, Any], **metadata: Any) -> bytes:
    return json.dumps({"nbformat": 4, "metadata": metadata or PYTHON, "cells": cells}).encode()


def code(source: str | list[str], *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": outputs}


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source}


def result(**data: str | list[str]) -> dict[str, Any]:
    kinds = {f"text/{kind}" if kind != "png" else "image/png": text for kind, text in data.items()}
    return {"output_type": "execute_result", "data": kinds}


def read_text(data: bytes) -> str:
    return clean(read(data, LIMIT).texts[0])


def find_refusal(data: bytes, limit: int = LIMIT) -> RefusalError:
    with pytest.raises(RefusalError) as refusal:
        read(data, limit)
    return refusal.value


TABLE = (
    "<style scoped>.a{}</style>"
    "<table><tr><th></th><th>kW</th></tr><tr><th>0</th><td>4.2</td></table>"
)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (
            [markdown("# Pumps\n\nThe *north* pump."), code(["import os\n", "if 1:\n", "    x()"])],
            "Pumps\n\nThe north pump.\n\n```python\nimport os\nif 1:\n    x()\n```",
        ),
        ([code('print("```")')], '````python\nprint("```")\n````'),
        (
            [code("  "), markdown("a | b"), {"cell_type": "raw", "source": "kept *so*"}],
            "a | b\n\nkept *so*",
        ),
        (
            [{"cell_type": "raw", "source": "<p>kept", "metadata": {"raw_mimetype": "text/html"}}],
            "kept",
        ),
        # a cell that is open does not reach into the next one
        ([markdown("```\nopen"), markdown("# Next")], "open\n\nNext"),
        ([markdown("<div>"), markdown("*Next*")], "Next"),
        # outputs
        (
            [code("x", {"output_type": "stream", "name": "stdout", "text": ["a\n", "  b\n"]})],
            "```python\nx\n```\n\na\n  b",
        ),
        ([code("x", result(plain="4.20"))], "```python\nx\n```\n\n4.20"),
        ([code("x", result(plain="  kW\n0 4", html=TABLE))], "```python\nx\n```\n\n| kW\n0 | 4.2"),
        (
            [code("x", result(plain="chart", html="<script>plot()</script>"))],
            "```python\nx\n```\n\nchart",
        ),
        ([code("x", result(plain="<Figure size 6x4>", png="iVBORw0KGgo="))], "```python\nx\n```"),
        ([code("x", result(plain="[<Line2D at 0x7f>]"))], "```python\nx\n```"),
        ([code("x", result(markdown="**bold**", plain="<obj>"))], "```python\nx\n```\n\nbold"),
        ([code("x", result(latex="$x^2$"))], "```python\nx\n```\n\n$x^2$"),
        (
            [
                code(
                    "x",
                    {
                        "output_type": "error",
                        "ename": "KeyError",
                        "evalue": "1",
                        "traceback": ["\x1b[0;31mKeyError\x1b[0m: 1", "line \x1b[1;32m2"],
                    },
                )
            ],
            "```python\nx\n```\n\nKeyError: 1\nline 2",
        ),
        (
            [code("x", {"output_type": "error", "ename": "E", "evalue": "v"})],
            "```python\nx\n```\n\nE: v",
        ),
    ],
)
def test_cells_become_text(cells, expected):
    assert read_text(notebook(*cells)) == expected


def test_first_heading_or_metadata_gives_the_title():
    assert read(notebook(code("x"), markdown("# Weir\nx"), markdown("# No")), LIMIT).title == "Weir"
    reading = read(notebook(code("x"), title="Named"), LIMIT)
    assert reading.title == "Named"
    assert reading.texts[0].startswith("Named\n\n```\nx")


def test_notebook_of_format_3_is_read():
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Weir"},
        {
            "cell_type": "code",
            "language": "python",
            "input": ["x = 1\n", "x"],
            "outputs": [
                {"output_type": "pyout", "text": ["1"], "png": "iVBORw0KGgo="},
                {"output_type": "pyerr", "traceback": ["\x1b[31mno"]},
            ],
        },
    ]
    data = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]}).encode()
    assert read_text(data) == "Weir\n\n```python\nx = 1\nx\n```\n\n1\n\nno"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://a\x07link\x1b]8;;\x07", "red link"),
        (" 10%|#  |\r 90%|###|\r100%|####|\ndone\n", "100%|####|\ndone\n"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("end\r", "end"),
    ],
)
def test_output_is_what_a_terminal_shows(text, shown):
    assert show_terminal(text) == shown


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b'{"cells": [\n}', "line 2, column 1"),
        (b'{"a": 1}', "no cells"),
        (b"[]", "no cells"),
        (b'{"cells":' + b"[" * 100_000, "nested"),
        (b'{\x00"cells": []}', "line 1, column 2"),
    ],
)
def test_file_that_is_no_notebook_is_refused(data, detail):
    refusal = find_refusal(data)
    assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
    assert detail in refusal.detail


def test_text_past_the_limit_is_refused():
    data = notebook(*[code("x" * 100)] * 100)
    assert find_refusal(data, 5_000).failure is ParseFailure.PARSER_OUTPUT_LIMIT


KEYS = (
    *("cells", "worksheets", "metadata", "kernelspec", "language", "cell_type", "source", "input"),
    *("outputs", "output_type", "data", "text", "traceback", "ename", "text/html", "text/plain"),
)
WORDS = st.sampled_from(["code", "markdown", "error", "stream", "heading", "\ud800", "# x", "<p>"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES).map(lambda rest: {"cells": [rest]} | rest))
def test_notebook_of_any_shape_is_read(found):
    "".join(read(json.dumps(found).encode(), LIMIT).texts).encode()


def test_work_grows_as_the_notebook():
    stream = {"output_type": "stream", "text": "\r\x1b[31m50%"}
    assert_linear(
        lambda data: read(data, LIMIT),
        lambda size: notebook(*[markdown("# *a*"), code("x", stream)] * (size // 100)),
        1 << 17,
    )

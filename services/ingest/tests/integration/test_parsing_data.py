"""Tables and data in text, in the jailed child: what is read, and what is refused with a reason."""

import pytest

from chassis.base.errors import InvalidInputError
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure

TABLE = 'pump,kW,note\r\nnorth,4.25,"old, since 1998"\r\nsouth,0.10,größer\r\n'
TABLE_LINES = "pump | kW | note\nnorth | 4.25 | old, since 1998\nsouth | 0.10 | größer"

NOTEBOOK = (
    b'{"metadata": {"kernelspec": {"language": "R"}}, "cells": ['
    b'{"cell_type": "markdown", "source": ["# Pumps\\n", "Two *old* ones."]},'
    b'{"cell_type": "code", "source": "x", "outputs": ['
    b'{"output_type": "stream", "text": "4.20"}]}]}'
)
LEVELS = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
ENTITIES = f'<!DOCTYPE a [<!ENTITY e0 "boom">{LEVELS}]><a>&e9;</a>'.encode()


@pytest.mark.parametrize(
    ("data", "hints", "media_type", "text"),
    [
        (TABLE.encode(), {"file_name": "pumps.csv"}, MediaType.CSV, TABLE_LINES),
        (TABLE.encode("utf-8-sig"), {"media_type": "text/csv"}, MediaType.CSV, TABLE_LINES),
        (TABLE.encode("utf-16"), {"file_name": "pumps.csv"}, MediaType.CSV, TABLE_LINES),
        (
            TABLE.encode("cp850"),
            {"media_type": "text/csv; charset=cp850"},
            MediaType.CSV,
            TABLE_LINES,
        ),
        (
            TABLE.encode(),
            {"media_type": "application/vnd.ms-excel", "file_name": "pumps.csv"},
            MediaType.CSV,
            TABLE_LINES,
        ),
        (b"a\tb\n1, 2\t3\n", {"file_name": "pumps.tsv"}, MediaType.TSV, "a | b\n1, 2 | 3"),
        (
            b'{"pump": "north", "kW": 4.250, "parts": [{"name": "bolt"}, {"name": "nut"}]}',
            {"file_name": "pump.json"},
            MediaType.JSON,
            "pump: north\nkW: 4.250\n\nparts.name: bolt\n\nparts.name: nut",
        ),
        (
            '{"größe": "4 m"}'.encode("utf-16-le"),
            {"media_type": "application/json"},
            MediaType.JSON,
            "größe: 4 m",
        ),
        (
            b'{"id": 1, "at": "Ulm"}\nstopped\n{"id": 2}\n',
            {"file_name": "pumps.jsonl"},
            MediaType.JSONL,
            "id: 1\nat: Ulm\n\nstopped\n\nid: 2",
        ),
        (
            '<?xml version="1.0" encoding="ISO-8859-2"?><a><b>Łódź</b></a>'.encode("iso8859_2"),
            {"file_name": "a.xml"},
            MediaType.XML,
            "b: Łódź",
        ),
        (
            '<?xml version="1.0" encoding="utf-16"?><a><b>Łódź</b></a>'.encode("utf-16"),
            {"media_type": "application/rdf+xml"},
            MediaType.XML,
            "b: Łódź",
        ),
        (
            NOTEBOOK,
            {"file_name": "pumps.ipynb"},
            MediaType.NOTEBOOK,
            "Pumps\n\nTwo old ones.\n\n```R\nx\n```\n\n4.20",
        ),
        (b"one, two\nthree, four\n", {}, MediaType.TEXT, "one, two\nthree, four"),
    ],
)
async def test_file_becomes_readable_lines(parser, data, hints, media_type, text):
    document = await parser(data, **({"media_type": "", "file_name": ""} | hints))
    assert (document.media_type, document.text) == (media_type, text)


@pytest.mark.parametrize(
    ("data", "file_name", "reason", "detail"),
    [
        (b'{"a": 1,\n"b"}', "a.json", ParseFailure.DOCUMENT_DAMAGED, "line 2, column 4"),
        (b"[" * 100_000, "a.json", ParseFailure.DOCUMENT_DAMAGED, "nested"),
        (b'{"a":' * 100_000, "a.jsonl", ParseFailure.DOCUMENT_DAMAGED, "nested"),
        (b"<a>\n<b></a>", "a.xml", ParseFailure.DOCUMENT_DAMAGED, "line 2, column 6"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "a.xml", ParseFailure.DOCUMENT_DAMAGED, "nested"),
        (ENTITIES, "a.xml", ParseFailure.DOCUMENT_DAMAGED, "entities"),
        (b'{"cells": 1', "a.ipynb", ParseFailure.DOCUMENT_DAMAGED, "line 1, column 12"),
        (b"{}", "a.ipynb", ParseFailure.DOCUMENT_DAMAGED, "no cells"),
        (b"<a>" + b" " * 99 + b"</a>", "a.xml", ParseFailure.NO_TEXT, "no text"),
    ],
)
async def test_file_that_cannot_be_read_is_refused(parser, data, file_name, reason, detail):
    with pytest.raises(InvalidInputError, match=detail) as refusal:
        await parser(data, media_type="", file_name=file_name)
    assert refusal.value.reason == reason


async def test_passages_of_a_long_table_stand_under_its_columns(parser):
    rows = "".join(f"pump {number},{number}.50,old and new\n" for number in range(500))
    document = await parser(f"name,kW,note\n{rows}".encode(), media_type="", file_name="a.csv")
    assert len(document.chunks) > 9
    assert {one.place.table_header for one in document.chunks[1:]} == {"name | kW | note"}

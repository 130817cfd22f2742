"""Tables and data in text, in the jailed child: what is read, and what is refused with a reason."""

import pytest

from ingest.parsing.document import MediaType

TABLE = 'pump,kW,note\r\nnorth,4.25,"old, since 1998"\r\nsouth,0.10,größer\r\n'
TABLE_LINES = "pump | kW | note\nnorth | 4.25 | old, since 1998\nsouth | 0.10 | größer"


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
        (b"one, two\nthree, four\n", {}, MediaType.TEXT, "one, two\nthree, four"),
    ],
)
async def test_file_becomes_readable_lines(parser, data, hints, media_type, text):
    document = await parser(data, **({"media_type": "", "file_name": ""} | hints))
    assert (document.media_type, document.text) == (media_type, text)

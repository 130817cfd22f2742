"""The steps of a collection in the real child, and what its parent makes of its reply."""

import base64
import json

import pytest

from chassis.base.errors import InvalidInputError
from ingest.chunking import ChunkSettings
from ingest.parsing.document import CutDocument, MediaType
from ingest.parsing.jail.reply import Reply
from ingest.parsing.parser import Parser
from ingest.parsing.steps.near_duplicates import sign
from ingest.steps import Applied, Step
from testkit.pdf import lines, pdf

BODIES = [
    (b"Pumps lift water.", b"Valves hold it."),
    (b"Tides rise.", b"Winds turn."),
    (b"Stars move.", b"Clouds pass."),
    (b"Ice melts.", b"Rivers run."),
]
REPORT = pdf(
    *(
        lines(b"ACME Annual Report", *body, b"Page %d of 4" % number)
        for number, body in enumerate(BODIES, 1)
    ),
    title=b"Report for jane@example.com",
)
PAGE = b"""<!doctype html><title>Jane</title><h1>Write to jane@example.com</h1><p>Or call.</p>
<table><tr><th>Name</th><th>jane@example.com</th></tr>
<tr><td>Card</td><td>4111 1111 1111 1111</td></tr></table>"""

SIGNATURE = base64.b64encode(sign("Water finds its way.")).decode()


async def parse(parser: Parser, data: bytes, *steps: Step, file_name: str = "") -> CutDocument:
    return await parser(data, media_type="", file_name=file_name, steps=steps)


async def test_headers_and_footers_of_a_pdf_are_left_out(parser: Parser):
    whole = await parse(parser, REPORT)
    assert "ACME" in whole.text
    document = await parse(parser, REPORT, Step.REPEATED_LINES)
    assert document.text == "\n\n".join("\n".join(one.decode() for one in body) for body in BODIES)
    assert [page.number for page in document.pages] == [1, 2, 3, 4]
    assert [document.text[page.start_char :].split()[0] for page in document.pages] == [
        *("Pumps", "Tides", "Stars", "Ice"),
    ]
    counts = {"header lines": 4, "footer lines": 4}
    assert document.applied == (Applied(Step.REPEATED_LINES, counts),)


@pytest.mark.parametrize(
    ("data", "file_name", "counts"),
    [
        (b"Write to jane@example.com.", "a.txt", {"EMAIL": 1}),
        (b"# Write to jane@example.com\n\nOr +49 30 1234567", "a.md", {"EMAIL": 2, "PHONE": 1}),
        (PAGE, "a.html", {"CREDIT_CARD": 1, "EMAIL": 2}),
        (b"name,mail\nJane,jane@example.com\nJo,jo@example.com\n", "a.csv", {"EMAIL": 2}),
        (REPORT, "a.pdf", {"EMAIL": 1}),
        (b'{"jane@example.com": "8.8.8.8"}', "a.json", {"EMAIL": 1, "IP_ADDRESS": 1}),
    ],
)
async def test_no_masked_data_leaves_the_child(
    parser: Parser, data: bytes, file_name: str, counts: dict[str, int]
):
    document = await parse(parser, data, Step.PII_MASKING, file_name=file_name)
    assert document.applied == (Applied(Step.PII_MASKING, counts),)
    for secret in ("example.com", "4111", "8.8.8.8", "1234567"):
        assert secret not in repr(document)
    assert all(document.text[one.start : one.end] == one.text for one in document.chunks)


async def test_steps_run_in_one_order_whichever_is_named_first(parser: Parser):
    document = await parse(parser, REPORT, Step.REPEATED_LINES, Step.PII_MASKING)
    assert [one.step for one in document.applied] == [Step.REPEATED_LINES, Step.PII_MASKING]


async def test_a_step_without_use_for_a_document_is_not_told_of(parser: Parser):
    assert (await parse(parser, b"Water.", Step.REPEATED_LINES)).applied == ()


@pytest.mark.parametrize(
    ("data", "file_name"), [(b"Water finds its way.", "a.txt"), (PAGE, "a.html"), (REPORT, "a.pdf")]
)
async def test_the_child_signs_the_text_that_is_cut(parser: Parser, data: bytes, file_name: str):
    assert (await parse(parser, data, file_name=file_name)).signature == b""
    steps = (Step.PII_MASKING, Step.NEAR_DUPLICATES)
    document = await parse(parser, data, *steps, file_name=file_name)
    assert document.signature == sign(document.text)
    assert [one.step for one in document.applied] == [Step.PII_MASKING]


@pytest.mark.parametrize(
    ("signature", "steps"),
    [
        (SIGNATURE, []),
        (SIGNATURE[:-4], [Step.NEAR_DUPLICATES]),
        (SIGNATURE + "AAAA", [Step.NEAR_DUPLICATES]),
        ("no base64", [Step.NEAR_DUPLICATES]),
        (7, [Step.NEAR_DUPLICATES]),
        (None, [Step.NEAR_DUPLICATES]),
    ],
)
def test_a_signature_that_makes_no_sense_fails_the_document(signature: object, steps: list[Step]):
    reply = Reply(MediaType.TEXT, ChunkSettings(), steps)
    for frame in ({"text": "Water."}, {"chunks": [[0, 6]]}):
        assert reply.add(json.dumps(frame).encode()) is None
    with pytest.raises(InvalidInputError) as refusal:
        reply.add(json.dumps({"title": "", "signature": signature}).encode())
    assert refusal.value.reason == "PARSER_CRASHED"


@pytest.mark.parametrize(
    "applied",
    [
        [["NO_STEP", {}]],
        [["NEAR_DUPLICATES", {}]],
        [["REPEATED_LINES", {}]],
        [["PII_MASKING", {"EMAIL": "jane@example.com"}]],
        [["PII_MASKING", {"jane@example.com": 1}]],
        [["PII_MASKING", {"EMAIL": True}]],
        [["PII_MASKING", {f"K{'I' * number}": 1 for number in range(17)}]],
        [["PII_MASKING", {}], ["PII_MASKING", {}]],
        [["PII_MASKING"]],
        [["PII_MASKING", []]],
        ["PII_MASKING"],
    ],
)
def test_a_report_that_makes_no_sense_fails_the_document(applied: object):
    reply = Reply(MediaType.TEXT, ChunkSettings(), [Step.PII_MASKING, Step.NEAR_DUPLICATES])
    for frame in ({"text": "Water."}, {"chunks": [[0, 6]]}):
        assert reply.add(json.dumps(frame).encode()) is None
    with pytest.raises(InvalidInputError) as refusal:
        reply.add(json.dumps({"notes": [], "applied": applied}).encode())
    assert refusal.value.reason == "PARSER_CRASHED"

"""`aquifer events check`: what is wrong with an event, where, and what to do; no stack runs."""

import json
import subprocess
import sys
import time

import pytest

from aquifer.ingest.v1.upload_events_pb2 import (
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)

NAME = "collections/reports/documents/q3"
BODY = {"tenant": "acme", "document": NAME, "content": "V2F0ZXI="}
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/dms",
    "type": "aquifer.ingest.v1.DocumentUploaded",
    "data": BODY,
}


def check(*arguments, stdin=b""):
    return subprocess.run(
        [sys.executable, "-m", "aquifer_cli", "events", "check", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def records(*arguments, stdin=b"", code=0):
    done = check(*arguments, "--json", stdin=stdin)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(BODY).encode(),
        json.dumps(BODY, indent=2).encode(),
        b"\n\n" + json.dumps(EVENT, indent=2).encode() + b"\n",
        DocumentUploaded(tenant="acme", document=NAME, content=b"x").SerializeToString(),
    ],
)
def test_every_form_of_an_event_is_read(tmp_path, payload):
    file = tmp_path / "event"
    file.write_bytes(payload)
    for found in (records(file, "--tenant", "acme"), records("-", stdin=payload)):
        [record] = found
        assert record["valid"]
        assert record["document"] == NAME
        assert record["findings"] == []


@pytest.mark.parametrize("kind", [DocumentRemoved, DocumentDescribed])
def test_the_other_events_are_known(tmp_path, kind):
    named = {"type": kind.DESCRIPTOR.full_name, "data": {"tenant": "acme", "document": NAME}}
    file = tmp_path / "event"
    file.write_text(json.dumps({**EVENT, **named}))
    assert records(file, "--tenant", "acme")[0]["valid"]
    [record] = records(file, "--event", "DocumentUploaded", code=1)
    assert record["findings"][0]["reason"] == "SCHEMA_UNSUPPORTED"
    file.write_bytes(kind(tenant="acme", document=NAME).SerializeToString())
    assert records(file, "--event", kind.DESCRIPTOR.name)[0]["valid"]
    assert records(file, code=1)[0]["findings"][0]["reason"] == "BODY_MISSING"


def test_an_unknown_field_is_named_with_its_place_and_a_suggestion(tmp_path):
    file = tmp_path / "event.json"
    file.write_text(json.dumps({**EVENT, "data": {**BODY, "fileNam": "a", "zzz": 1}}))
    [record] = records(file, code=1)
    assert [(one["at"], one["reason"]) for one in record["findings"]] == [
        ("$.data.fileNam", "EVENT_UNDECODABLE"),
        ("$.data.zzz", "EVENT_UNDECODABLE"),
    ]
    assert record["findings"][0]["detail"] == "unknown field; did you mean fileName?"
    done = check(file)
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == ["event", "at", "reason"]
    assert lines[-1] == "1 event: 0 valid, 1 would be refused"


def test_lines_are_events_and_each_is_named(tmp_path):
    file = tmp_path / "events.jsonl"
    lines = [json.dumps(EVENT), "", json.dumps({**EVENT, "specversion": "0.3"}), "{broken"]
    file.write_text("\n".join(lines))
    found = records(file, code=1)
    assert [one["event"] for one in found] == [f"{file}:{number}" for number in (1, 3, 4)]
    reasons = [[finding["reason"] for finding in one["findings"]] for one in found]
    assert reasons == [[], ["EVENT_SPEC_VERSION"], ["EVENT_UNDECODABLE"]]


def test_a_broken_first_line_does_not_hide_the_others():
    stdin = b'{"tenant": \n' + json.dumps(EVENT).encode() + b"\n"
    found = records("-", stdin=stdin, code=1)
    assert [one["valid"] for one in found] == [False, True]


def test_every_finding_is_told_at_once(tmp_path):
    file = tmp_path / "event.json"
    data = {"tenant": "acme", "document": "q3", "fileName": "x" * 256, "metadata": {"a": "b" * 513}}
    file.write_text(json.dumps({**EVENT, "id": "", "data": data}))
    [record] = records(file, "--tenant", "other", code=1)
    assert [(one["at"], one["reason"]) for one in record["findings"]] == [
        ("$.id", "EVENT_HEADER_MISSING"),
        ("$.data.tenant", "TENANT_MISMATCH"),
        ("$.data.document", "DOCUMENT_NAME"),
        ("$.data.fileName", "METADATA_RANGE"),
        ("$.data.metadata.a", "METADATA_RANGE"),
        ("$.data.content", "BODY_MISSING"),
    ]


def test_headers_are_checked_in_binary_mode(tmp_path):
    file = tmp_path / "body.json"
    file.write_text(json.dumps(BODY))
    named = [
        "ce-id:1",
        "ce-source:/dms",
        f"ce-type:{EVENT['type']}",
        "Content-Type:application/json",
    ]
    headers = [part for one in named for part in ("-H", one)]
    [record] = records(file, *headers, code=1)
    assert [(one["at"], one["reason"]) for one in record["findings"]] == [
        ("ce-specversion", "EVENT_HEADER_MISSING")
    ]
    assert records(file, *headers, "-H", "ce-specversion:1.0")[0]["valid"]


def test_a_warning_refuses_nothing(tmp_path):
    file = tmp_path / "event.json"
    file.write_text(json.dumps({**EVENT, "Not_A_Name": "x"}))
    [record] = records(file)
    assert [one["severity"] for one in record["findings"]] == ["warning"]
    newer = DocumentUploaded(tenant="acme", document=NAME, content=b"x").SerializeToString()
    [record] = records("-", stdin=newer + b"\xba>\x05hello")
    assert [one["reason"] for one in record["findings"]] == ["FIELD_UNKNOWN"]


def test_what_the_broker_refuses_is_told_and_a_huge_file_is_not_read(tmp_path):
    file = tmp_path / "event.json"
    file.write_text(json.dumps({**BODY, "title": "x" * (8 << 20)}))
    began = time.monotonic()
    [record] = records(file, code=1)
    assert [one["reason"] for one in record["findings"]] == ["EVENT_TOO_LARGE"]
    assert time.monotonic() - began < 20


def test_a_long_line_ends_no_other(tmp_path):
    file = tmp_path / "events.jsonl"
    long = json.dumps({**EVENT, "data": {**BODY, "title": "x" * (3 << 20)}})
    file.write_text("\n".join([json.dumps(EVENT), long, json.dumps(EVENT)]))
    found = records(file, code=1)
    assert [one["valid"] for one in found] == [True, False, True]
    assert [one["event"][-2:] for one in found] == [":1", ":2", ":3"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["/no/such/file"], "FILE_UNREADABLE"),
        (["/"], "FILE_UNREADABLE"),
        ([], "USAGE"),
        (["-", "-H", "nonsense"], "USAGE"),
    ],
)
def test_wrong_usage_is_code_2(arguments, reason):
    done = check(*arguments, "--json", stdin=json.dumps(EVENT).encode())
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["reason"] == reason


def test_an_empty_file_is_no_event(tmp_path):
    file = tmp_path / "empty"
    file.touch()
    [record] = records(file, code=1)
    assert [one["reason"] for one in record["findings"]] != []

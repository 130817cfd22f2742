"""`aquifer dead-letters` on a whole stack: what operators see, replay and discard."""

import asyncio
import base64
import json
import os
import pty
import socket
import subprocess
import sys
import time
import uuid
from typing import Any

import nats
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer.services import NAMES, address_variable
from stack import roles

pytestmark = pytest.mark.timeout(300)

TYPE = "aquifer.ingest.v1.DocumentUploaded"
SECRET = "the well is eleven metres deep"


async def publish(stack: Any, *bodies: bytes, headers: dict[str, str] | None = None) -> list[str]:
    """Publishes upload events; returns their ids."""
    known = stack.endpoints.nats
    connection = await nats.connect(known["url"], user=known["user"], password=known["password"])
    ids = [str(uuid.uuid4()) for _ in bodies]
    try:
        for event_id, body in zip(ids, bodies, strict=True):
            await connection.jetstream().publish(
                f"{TYPE}.{stack.endpoints.tenant}",
                body,
                headers={
                    "ce-specversion": "1.0",
                    "ce-id": event_id,
                    "ce-source": "/operators",
                    "ce-type": TYPE,
                    **(headers or {}),
                },
            )
    finally:
        await connection.close()
    return ids


def make_letters(stack: Any, *bodies: bytes, **options: Any) -> list[dict[str, Any]]:
    """Events that become dead letters, as `list` shows them."""
    ids = asyncio.run(publish(stack, *bodies, **options))

    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = {one["event_id"]: one for one in stack.json("dead-letters", "list")}
        if set(ids) <= set(found):
            return [found[event_id] for event_id in ids]
    raise AssertionError("no dead letters")


def foreign(document: str = "collections/c/documents/d") -> bytes:
    """An upload event whose body names another tenant."""
    return DocumentUploaded(
        tenant="other", document=document, title="Wells", content=SECRET.encode()
    ).SerializeToString()


@pytest.fixture(autouse=True)
def _none_left(stack):
    yield
    stack.run("dead-letters", "discard", "--all", "--yes")


def test_the_list_says_what_why_and_of_whom(stack):
    [letter] = make_letters(stack, foreign())
    assert letter["service"] == "ingest"
    assert letter["id"].startswith("ingest/")
    assert (letter["reason"], letter["tenant"]) == ("TENANT_MISMATCH", stack.endpoints.tenant)
    assert letter["document"] == "collections/c/documents/d"
    shown = stack.run("dead-letters", "list")
    assert shown.returncode == 0
    for word in (letter["id"], "TENANT_MISMATCH", "DocumentUploaded", letter["document"]):
        assert word in shown.stdout
    assert "dead-letters list" in stack.run("status").stdout


def test_filters_choose(stack):
    [unreadable] = make_letters(stack, b"\xff")
    [mismatch] = make_letters(stack, foreign())
    listed = stack.json("dead-letters", "list", "--reason", "TENANT_MISMATCH")
    assert [one["id"] for one in listed] == [mismatch["id"]]
    listed = stack.json("dead-letters", "list", "--tenant", unreadable["tenant"])
    assert {one["id"] for one in listed} >= {unreadable["id"], mismatch["id"]}
    for nothing in (("--tenant", "nobody"), ("--service", "query"), ("--reason", "NONE")):
        assert stack.json("dead-letters", "list", *nothing) == []
    assert "no dead letters" in stack.run("dead-letters", "list", "--reason", "NONE").stdout


def test_a_dead_letter_is_shown_without_the_document_unless_asked(stack):
    [letter] = make_letters(stack, foreign())
    shown = stack.run("dead-letters", "show", letter["id"]).stdout
    for word in ("TENANT_MISMATCH", "ce-source: /operators", '"tenant": "other"', letter["id"]):
        assert word in shown
    assert "Nats-" not in shown
    [details] = stack.json("dead-letters", "show", letter["id"])
    assert details["body"]["document"] == letter["document"]
    assert f"discard {letter['id']}" in details["next"]
    encoded = base64.b64encode(SECRET.encode()).decode()
    for text in (shown, json.dumps(details)):
        assert "Wells" not in text
        assert encoded not in text
    [whole] = stack.json("dead-letters", "show", letter["id"], "--content")
    assert (whole["body"]["content"], whole["body"]["title"]) == (encoded, "Wells")


def test_a_body_that_cannot_be_decoded_is_shown_as_bytes_when_asked(stack):
    [letter] = make_letters(stack, b"\xff\xfe")
    [details] = stack.json("dead-letters", "show", letter["id"])
    assert (details["body"], details["body_base64"]) == (None, None)
    assert "cannot be decoded" in stack.run("dead-letters", "show", letter["id"]).stdout
    [whole] = stack.json("dead-letters", "show", letter["id"], "--content")
    assert whole["body_base64"] == "//4="
    shown = stack.run("dead-letters", "show", letter["id"], "--content").stdout
    assert r"b'\xff\xfe'" in shown


def test_one_that_still_cannot_be_handled_stays_and_the_exit_code_says_so(stack):
    [letter] = make_letters(stack, b"\xff")
    done = stack.run("dead-letters", "replay", letter["id"])
    assert done.returncode == 1
    assert "EVENT_UNDECODABLE" in done.stdout
    [result] = stack.json("dead-letters", "replay", letter["id"])
    assert (result["id"], result["result"]) == (letter["id"], "FAILED")
    assert result["error"]["reason"] == "EVENT_UNDECODABLE"
    assert letter["id"] in [one["id"] for one in stack.json("dead-letters", "list")]


def test_a_replay_works_after_the_cause_is_gone(stack):
    """Ingest does not know the tenant for a while, as before its first event comes."""
    dsn = make_conninfo(stack.postgres.superuser_dsn, dbname=roles.DATABASE)
    tenant, document = stack.endpoints.tenant, "collections/replayed/documents/wells"
    event = DocumentUploaded(tenant=tenant, document=document, content=SECRET.encode())
    with psycopg.connect(dsn, autocommit=True) as rows:
        rows.execute("DELETE FROM ingest.tenants WHERE tenant_id = %s", [tenant])
        [letter] = make_letters(stack, event.SerializeToString())
        assert (letter["reason"], letter["document"]) == ("TENANT_UNKNOWN", document)
        [again] = stack.json("dead-letters", "replay", letter["id"])
        assert (again["result"], again["error"]["reason"]) == ("FAILED", "TENANT_UNKNOWN")
        rows.execute("INSERT INTO ingest.tenants VALUES (%s, false)", [tenant])
    done = stack.run("dead-letters", "replay", "--reason", "TENANT_UNKNOWN", "--tenant", tenant)
    assert done.returncode == 0, done.stderr
    assert f"{letter['id']}  REPLAYED" in done.stdout
    assert letter["id"] not in [one["id"] for one in stack.json("dead-letters", "list")]
    until = time.monotonic() + 60
    while not stack.json("documents", "-c", "replayed", "--state", "INDEXED"):
        assert time.monotonic() < until


def test_a_discarded_one_is_gone_and_then_unknown(stack):
    [letter] = make_letters(stack, foreign())
    assert stack.run("dead-letters", "discard", letter["id"]).returncode == 0
    assert letter["id"] not in [one["id"] for one in stack.json("dead-letters", "list")]
    again = stack.run("dead-letters", "discard", letter["id"])
    assert again.returncode == 1
    assert "DEAD_LETTER_UNKNOWN" in again.stdout


def test_all_of_a_reason_go_and_no_others(stack):
    gone = make_letters(stack, *[b"\xff"] * 30)
    [stays] = make_letters(stack, foreign())
    results = stack.json("dead-letters", "discard", "--reason", "EVENT_UNDECODABLE", "--yes")
    assert {one["id"] for one in results} >= {one["id"] for one in gone}
    assert {one["result"] for one in results} == {"DISCARDED"}
    assert [one["id"] for one in stack.json("dead-letters", "list")] == [stays["id"]]


@pytest.mark.parametrize("answer", ["n", "y"])
def test_in_a_terminal_it_asks_before(stack, answer: str):
    [letter] = make_letters(stack, b"\xff")
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aquifer_cli", "dead-letters", "discard", "--all"],
        env={**os.environ, "AQUIFER_HOME": str(stack.folder), "TERM": "xterm"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    seen = b""
    while b"discard 1 dead letter?" not in seen:
        seen += os.read(outer, 4_096)
    os.write(outer, answer.encode() + b"\n")
    try:
        while part := os.read(outer, 4_096):
            seen += part
    except OSError:
        pass  # the end of a terminal
    assert process.wait(60) == (0 if answer == "y" else 1)
    left = [one["id"] for one in stack.json("dead-letters", "list")]
    assert (letter["id"] in left) is (answer == "n")
    os.close(outer)


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "12"),
        ("show", "ingest/0"),
        ("show", "nobody/1"),
        ("show", "ingest/99999999999999999999"),
        ("discard",),
        ("discard", "ingest/1", "--all"),
        ("replay", "--service", "ingest"),
    ],
)
def test_wrong_usage_says_what_to_do(stack, arguments):
    done = stack.run("dead-letters", *arguments)
    assert done.returncode == 2, done.stderr
    assert "dead-letters" in done.stderr or "--all" in done.stderr


def test_a_service_that_is_down_is_named_and_the_others_go_on(stack):
    [letter] = make_letters(stack, b"\xff")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        addresses = {address_variable(name): stack.endpoints.services[name] for name in NAMES} | {
            address_variable("inference"): f"127.0.0.1:{nobody.getsockname()[1]}"
        }
        env = {**os.environ, **addresses, "AQUIFER_API_KEY": stack.endpoints.api_key}

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "aquifer_cli", "dead-letters", *arguments],
                env=env,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )

        listed = run("list")
        assert listed.returncode == 3
        assert letter["id"] in listed.stdout
        assert "inference: UNAVAILABLE" in listed.stderr
        records = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
        assert [one["error"]["reason"] for one in records if "error" in one] == ["UNAVAILABLE"]
        done = run("discard", "--all", "--yes")
        assert done.returncode == 3
    assert letter["id"] not in [one["id"] for one in stack.json("dead-letters", "list")]

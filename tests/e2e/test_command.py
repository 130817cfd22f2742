"""The output of every command, for people and for programs."""

import errno
import fcntl
import json
import os
import pty
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections import Counter

import pytest

pytestmark = pytest.mark.timeout(300)

TIDES = """# Tides of the north shore

High water comes twice a day, twelve hours and twenty-five minutes apart.

At spring tide the water rises by six metres, at neap tide by three.
"""
LONG_NAME = f"{'a-very-long-folder-name~' * 4}report-of-the-harbour-master.md"
WIDTH = 80


@pytest.fixture(scope="module")
def tides(stack, tmp_path_factory):
    """A document in a collection of its own, and the files it came from."""
    folder = tmp_path_factory.mktemp("tides")
    file = folder / LONG_NAME.replace("~", "/")
    file.parent.mkdir(parents=True)
    file.write_text(TIDES)
    [outcome] = stack.json("upload", str(folder), "-c", "tides", "--wait")
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "when is high water"}\n\n')
    (folder / "corpus.jsonl").write_text('{"_id": "1", "text": "Moon and sun make the tides."}\n')
    return {"folder": folder, "file": str(file), "document": outcome["document"]}


def ask(stack, tides):
    """An answer of which a citation is known."""
    steps = stack.json("ask", "How far does the water rise at spring tide?", "-c", "tides")
    return steps[0]["answer"]


SEARCHED = "collection = tides AND NOT metadata.year:* AND create_time > 2026-01-01T00:00:00Z"

UPLOADED = {"path", "document", "version", "state", "reason", "notes", "same_content"}
DOCUMENT = {
    *("document", "version", "state", "reason", "reason_detail", "live_version", "title"),
    *("media_type", "size_bytes", "sha256", "chunk_count", "metadata"),
    *("create_time", "update_time", "trace_id", "file_name", "notes", "pinned", "same_content"),
    *("labels", "own_labels"),
}
VERSION = {
    *("document", "version", "state", "reason", "reason_detail", "live", "bytes_kept", "title"),
    *("file_name", "media_type", "size_bytes", "sha256", "create_time", "update_time", "trace_id"),
}
HIT = {
    "cosine",
    "bm25",
    "rerank_score",
    "copy_count",
    "copies",
    *("rank", "score", "document", "version", "chunk_id", "ordinal", "title", "page"),
    *("headings", "table_header", "start", "end", "text", "metadata", "ingest_trace_id"),
    *("lines", "before", "after", "explanation"),
}
COLLECTION = {
    *("collection", "documents", "states", "description", "labels"),
    *("target_chars", "max_chars", "retention_s", "version_retention", "steps", "create_time"),
}
TEXT = {
    *("document", "version", "title", "media_type", "start", "end", "length"),
    *("page", "page_breaks", "text"),
}
TABLE = {
    "upload": (["upload", "{file}", "-c", "tides"], UPLOADED),
    "upload --wait": (["upload", "{folder}", "-c", "tides2", "--wait"], UPLOADED),
    "import": (["import", "{folder}/corpus.jsonl", "-c", "tides3"], UPLOADED),
    "import --wait": (["import", "{folder}/corpus.jsonl", "-c", "tides3", "--wait"], UPLOADED),
    "documents": (["documents", "-c", "tides"], DOCUMENT),
    "documents --filter": (
        ["documents", "--filter", "title:tides AND state = INDEXED"],
        DOCUMENT,
    ),
    "collections create": (
        ["collections", "create", "tides9", "--retention-days", "90", "--step", "pii_masking"],
        COLLECTION,
    ),
    "collections list": (["collections", "list"], COLLECTION),
    "sync": (["sync", "{folder}", "-c", "tides4"], {*UPLOADED, "change"}),
    "sync --dry-run": (["sync", "{folder}", "-c", "tides4", "--dry-run"], {*UPLOADED, "change"}),
    "text": (["text", "{document}", "--range", "0:9"], TEXT),
    "versions": (["versions", "{document}"], VERSION),
    "search": (["search", "high water", "-c", "tides"], HIT),
    "search --filter": (
        ["search", "high water", "-c", "tides", "-c", "tides2", "--filter", SEARCHED],
        HIT,
    ),
    "facets": (
        ["facets", "labels", "metadata.year", "--filter", "collection = tides"],
        {"field", "distinct_values", "values"},
    ),
    "search --queries": (
        ["search", "--queries", "{folder}/queries.jsonl", "--run", "{folder}/run", "-c", "tides"],
        {"queries", "run"},
    ),
    "trace of a document": (["trace", "{document}"], {"trace_id", "spans"}),
    "status": (["status"], {"parts", "servers", "models"}),
    "status of a document": (["status", "{document}"], DOCUMENT),
}


def test_a_collection_is_deleted_with_its_documents_and_shows_the_receipt(stack, tides):
    stack.json("upload", tides["file"], "-c", "tides7", "--wait")
    whole = stack.run("collections", "delete", "tides7")
    assert (whole.returncode, "COLLECTION_NOT_EMPTY" in whole.stderr) == (1, True)
    done = stack.run("collections", "delete", "tides7", "--documents", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head == "tides7: deleted, with 1 document"
    assert [row.split()[:2] for row in rows[:2]] == [["removed", "number"], ["objects", "1"]]
    [again] = stack.json("collections", "delete", "tides7", "--documents", "--yes")
    assert again["documents_deleted"] == 1
    assert again["receipt"]["objects"] == 1
    assert again["receipt"]["passages"] == again["receipt"]["points"] > 0
    assert stack.run("search", "high water", "-c", "tides7").returncode == 1


@pytest.mark.parametrize("row", TABLE)
def test_every_command_prints_one_json_object_a_line(stack, tides, row):
    arguments, keys = TABLE[row]
    done = stack.run(*(each.format(**tides) for each in arguments), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records
    assert all(set(record) == keys for record in records)


def test_an_answer_comes_step_by_step(stack, tides):
    done = stack.run("ask", "How far does the water rise at spring tide?", "-c", "tides", "--json")
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [step["step"] for step in steps]
    assert (kinds[0], kinds[-1], done.stderr) == ("started", "finished", "")
    assert {"delta", "citation"} <= set(kinds)


def test_a_citation_points_into_the_text_of_its_document(stack, tides):
    whole = stack.run("text", tides["document"]).stdout
    assert whole.startswith("Tides of the north shore\n\nHigh water")
    steps = stack.json("ask", "How far does the water rise at spring tide?", "-c", "tides")
    cited = [step for step in steps if step["step"] == "citation"]
    assert cited
    for citation in cited:
        passage = citation["passage"]
        start, end = (passage["start"] + citation[at] for at in ("quote_start", "quote_end"))
        done = stack.run("text", passage["document"], "--range", f"{start}:{end}")
        assert (done.stdout, done.stderr, done.returncode) == (citation["quote"], "", 0)


@pytest.mark.parametrize("typed", ["tidse", "Tides", "tides2x"])
@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_collection_without_documents_is_not_found_before_anything_is_shown(
    stack, tides, command, typed
):
    [only] = stack.json(command, "high water", "-c", typed)
    assert only["error"]["reason"] == "NOT_FOUND"
    assert "tides" in only["error"]["hint"]
    [several] = stack.json("ask", "high water", "-c", "tides", "-c", typed)
    assert several == only
    for_people = stack.run(command, "high water", "-c", typed)
    assert (for_people.returncode, for_people.stdout) == (1, "")
    assert "tides" in for_people.stderr


def test_a_run_over_a_collection_without_documents_writes_nothing(stack, tides):
    run = tides["folder"] / "no-run"
    queries = str(tides["folder"] / "queries.jsonl")
    [only] = stack.json("search", "--queries", queries, "--run", str(run), "-c", "tidse")
    assert only["error"]["reason"] == "NOT_FOUND"
    assert not run.exists()


def test_an_answer_has_a_trace(stack, tides):
    answer = ask(stack, tides)
    deadline = time.monotonic() + 60
    while (done := stack.run("trace", answer, "--json")).returncode:
        assert json.loads(done.stdout)["error"]["reason"] == "TRACE_UNKNOWN"
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert "QueryService/Ask" in done.stdout


def test_a_delete_shows_the_document(stack, tmp_path):
    file = tmp_path / "gone.md"
    file.write_text("Soon gone.")
    stack.json("upload", str(file), "--wait")
    [deleted] = stack.json("delete", "gone.md")
    assert set(deleted) == DOCUMENT
    assert deleted["state"] in ("DELETING", "DELETED")


def test_an_update_shows_what_is_valid_now(stack, tmp_path):
    file = tmp_path / "described.md"
    file.write_text("Soon described.")
    pairs = ["--metadata", "author=Ada", "--metadata", "year:=2020"]
    stack.json("upload", str(file), "--wait", *pairs)
    [updated] = stack.json("update", "described.md", "--title", "Described", "--unset", "author")
    assert set(updated) == DOCUMENT
    assert (updated["title"], updated["metadata"]) == ("Described", {"year": 2020})
    for_people = stack.run("update", "described.md", "--metadata", 'tags:=["a"]')
    assert (for_people.returncode, for_people.stderr) == (0, "")
    assert for_people.stdout.splitlines() == [
        "collections/default/documents/described.md: Described",
        '  tags:=["a"]',
        "  year:=2020",
    ]
    [unknown] = stack.json("update", "none.md", "--title", "x")
    assert unknown["error"]["reason"] == "DOCUMENT_UNKNOWN"


def wait_until_live(stack, document: list[str], version: int) -> None:
    deadline = time.monotonic() + 30
    while stack.json("status", *document)[0]["live_version"] != version:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_document_is_rolled_back_and_pinned(stack, tmp_path):
    file, document = tmp_path / "pumps.md", ["pumps.md", "-c", "books"]
    [created] = stack.json("collections", "create", "books", "--version-retention", "1")
    assert created["version_retention"] == 1
    for text in ("Pumps run by night.", "Pumps run by day."):
        file.write_text(text)
        stack.json("upload", str(file), "-c", "books", "--wait")
    listed = stack.json("versions", *document)
    assert [(v["version"], v["state"], v["live"], v["bytes_kept"]) for v in listed] == [
        (2, "INDEXED", True, True),
        (1, "SUPERSEDED", False, True),
    ]
    assert stack.run("text", *document, "--version", "1").stdout == "Pumps run by night."
    [rolled] = stack.json("rollback", "pumps.md", "1", "-c", "books")
    assert (rolled["version"], rolled["sha256"]) == (3, listed[1]["sha256"])
    wait_until_live(stack, document, 3)
    [hit] = stack.json("search", "when do pumps run", "-c", "books")
    assert (hit["version"], hit["text"]) == (3, "Pumps run by night.")
    shown = stack.run("versions", *document).stdout.splitlines()
    assert [line.split()[:3] for line in shown[1:3]] == [
        ["v3", "INDEXED", "live"],
        ["v2", "SUPERSEDED", "kept"],
    ]
    [gone] = stack.json("rollback", "pumps.md", "1", "-c", "books")
    assert gone["error"]["reason"] == "BYTES_REMOVED"
    [pinned] = stack.json("pin", "pumps.md", "3", "-c", "books")
    assert pinned["pinned"]
    file.write_text("Pumps are off.")
    [refused] = stack.json("upload", str(file), "-c", "books")
    assert refused["reason"] == "DOCUMENT_PINNED"
    done = stack.run("unpin", *document)
    assert (done.returncode, done.stderr) == (0, "")
    [sent] = stack.json("upload", str(file), "-c", "books", "--wait")
    assert (sent["version"], sent["state"]) == (4, "INDEXED")


def test_a_file_is_deleted_and_traced_by_its_own_name(stack, tmp_path):
    file = tmp_path / "minutes of may.txt"
    file.write_text("We met in May.")
    [sent] = stack.json("upload", str(file), "-c", "minutes", "--wait")
    deadline = time.monotonic() + 20
    while (done := stack.run("trace", file.name, "-c", "minutes")).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert sent["document"] in done.stdout
    [deleted] = stack.json("delete", file.name, "-c", "minutes")
    assert deleted["document"] == sent["document"]


def test_a_failed_lookup_is_not_the_trace_of_the_name(stack):
    assert stack.json("delete", "never-there.md")[0]["error"]["reason"] == "DOCUMENT_UNKNOWN"
    time.sleep(3)  # until its span would have arrived
    [unknown] = stack.json("trace", "never-there.md")
    assert unknown["error"]["reason"] == "TRACE_UNKNOWN"


def run_on_terminal(stack, *arguments):
    """What a terminal of 80 columns is sent, without its colours and line ends."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "aquifer_cli", *arguments],
        env={**environment, "AQUIFER_HOME": str(stack.folder), "TERM": "xterm", "NO_COLOR": "1"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 4096):
            shown += piece
    except OSError as error:
        if error.errno != errno.EIO:  # that is how Linux reports that the other side has closed
            raise
    finally:
        os.close(controller)
        process.wait(90)
    return shown.decode()


@pytest.mark.parametrize("command", [["documents"], ["upload", "{file}"], ["search", "high water"]])
def test_on_a_terminal_a_name_is_never_cut(stack, tides, command):
    arguments = [each.format(**tides) for each in command]
    document = tides["document"]
    if command[0] == "upload":
        document = f"collections/tides/documents/{LONG_NAME.rsplit('~', 1)[-1]}"
    else:
        assert document == f"collections/tides/documents/{LONG_NAME}"
    shown = run_on_terminal(stack, *arguments, "-c", "tides")
    assert document in shown
    assert "Traceback" not in shown


def test_on_a_terminal_every_other_line_fits(stack, tides):
    shown = run_on_terminal(stack, "trace", tides["document"])
    lines = [line for line in shown.splitlines() if tides["document"] not in line]
    assert lines
    assert all(len(line) <= WIDTH for line in lines)


def test_colours_are_for_terminals_only(stack, tides):
    for arguments in (["documents"], ["trace", tides["document"]], ["status"]):
        assert "\x1b" not in stack.run(*arguments).stdout


def test_addresses_and_the_first_key_are_for_their_owner_only(stack):
    assert stat.S_IMODE((stack.folder / "endpoints.json").stat().st_mode) == 0o600
    assert stack.folder.stat().st_mode & stat.S_IRWXO in (0, stat.S_IXOTH)
    assert stat.S_IMODE(stack.folder.stat().st_mode) & (stat.S_IRWXG | stat.S_IROTH) == 0


def test_a_second_stack_in_the_same_folder_is_refused(stack):
    done = stack.run("up", "--json")
    [event] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (event["event"], event["error"]["reason"]) == ("failed", "DATA_DIR_IN_USE")
    assert done.returncode == 1
    assert stack.run("status").returncode == 0


def test_lines_with_one_id_are_one_document(stack, tmp_path):
    corpus = tmp_path / "twice.jsonl"
    rows = [("a", "first"), ("b", "other"), ("a", "second")]
    corpus.write_text("\n".join(json.dumps({"_id": i, "text": t}) for i, t in rows))
    outcomes = stack.json("import", str(corpus), "-c", "twice", "--wait")
    by_line = {outcome["path"].rsplit(":", 1)[-1]: outcome for outcome in outcomes}
    assert {line: (o["state"], o["version"]) for line, o in by_line.items()} == {
        "1": ("SKIPPED", 0),
        "2": ("INDEXED", 1),
        "3": ("INDEXED", 1),
    }
    [hit] = [h for h in stack.json("search", "second", "-c", "twice") if h["document"][-1] == "a"]
    assert hit["text"] == "second"


def test_two_files_that_would_be_one_document_are_not_sent(stack, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.md").write_text(folder)
    paths = [str(tmp_path / folder / "same.md") for folder in ("x", "y")]
    done = stack.run("upload", *paths, "-c", "collision", "--json")
    assert json.loads(done.stdout)["error"]["reason"] == "DOCUMENT_TWICE"
    assert stack.json("documents", "-c", "collision") == []


def test_ctrl_c_while_importing_shows_what_was_done(stack, tmp_path):
    corpus = tmp_path / "many.jsonl"
    # So many that it is not done before the signal, also if this process has to wait for a core.
    rows = [{"_id": str(number), "text": f"Number {number}."} for number in range(12_000)]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    process = subprocess.Popen(
        [sys.executable, "-m", "aquifer_cli", "import", str(corpus), "-c", "many", "--json"],
        env={**os.environ, "AQUIFER_HOME": str(stack.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what `readline` kept back, `communicate` would not see
    )
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    *done, last = (json.loads(line) for line in (first + out).splitlines())
    assert (process.returncode, err) == (130, b"")
    assert last["error"]["reason"] == "INTERRUPTED"
    assert 0 < len(done) < len(rows)
    states = Counter(row["state"] for row in done)
    assert set(states) <= {"ACCEPTED", "PREPARED"}
    counted = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    assert f"{counted}, {len(rows) - len(done):,} not sent" == last["error"]["detail"]


def test_a_part_that_is_away_is_reported_at_once_and_serves_after_its_return(stack, tides):
    query = stack.parts["query"]
    query.kill()
    try:
        done = stack.run("ask", "When is high water?", "--json")
        assert json.loads(done.stdout)["error"]["reason"] == "UNAVAILABLE"
        assert (done.returncode, done.stderr) == (3, "")
        status = stack.run("status", "--json")
        parts = {part["service"]: part for part in json.loads(status.stdout)["parts"]}
        assert status.returncode == 1
        assert parts["query"]["not_ready"] == ["UNAVAILABLE"]
        assert parts["query"]["stages"] is parts["query"]["dead_letters"] is None
        assert parts["auth"]["ready"]
    finally:
        query.start()
    assert stack.run("search", "high water", "-c", "tides").returncode == 0


def test_the_bus_is_in_line_with_the_contract(stack, monkeypatch):
    for variable, value in stack._bus("provisioner").items():
        monkeypatch.setenv(variable, value)
    assert stack.json("bus", "apply") == []
    monkeypatch.setenv("AQUIFER_NATS_URL", "nats://127.0.0.1:9")
    done = stack.run("bus", "apply", "--timeout", "2", "--json")
    assert json.loads(done.stdout)["error"]["reason"] == "BUS_NOT_APPLIED"

"""Bad input gets a reason at once, and other documents are not affected."""

import json

import pytest

pytestmark = pytest.mark.timeout(300)

PDF_HEADER = b"%PDF-1.7\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.txt", b"", "EMPTY_DOCUMENT"),
        ("noise.bin", bytes(range(256)) * 8, "TEXT_UNDECODABLE"),
        ("damaged.pdf", PDF_HEADER + b"garbage" * 50, "DOCUMENT_DAMAGED"),
        ("blank.txt", b" \n\t \n", "NO_TEXT"),
    ],
)
def test_a_bad_file_fails_with_its_reason(stack, tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_bytes(content)
    [outcome] = stack.json("upload", str(file), "--collection", "bad", "--wait")
    assert outcome["state"] in ("FAILED", "REFUSED")
    assert outcome["reason"] == reason


def test_a_bad_neighbour_does_not_stop_the_good_ones(stack, tmp_path):
    (tmp_path / "good.txt").write_text("Good text about lighthouses.")
    (tmp_path / "bad.pdf").write_bytes(PDF_HEADER)
    outcomes = stack.json("upload", str(tmp_path), "--collection", "mixed", "--wait")
    states = {outcome["document"].rsplit("/", 1)[-1]: outcome["state"] for outcome in outcomes}
    assert states == {"good.txt": "INDEXED", "bad.pdf": "FAILED"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["search", ""], "QUESTION_LENGTH"),
        (["ask", "x" * 4001], "QUESTION_LENGTH"),
        (["delete", "no-such-document"], "DOCUMENT_UNKNOWN"),
        (["trace", "f" * 32], "TRACE_UNKNOWN"),
        (["documents", "--state", "SLEEPING"], "STATE_UNKNOWN"),
        (["upload", "/no/such/file"], "PATH_UNKNOWN"),
    ],
)
def test_a_bad_request_says_what_is_wrong(stack, arguments, reason):
    done = stack.run(*arguments, "--json")
    assert done.returncode != 0
    assert json.loads(done.stdout.splitlines()[-1])["error"]["reason"] == reason
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_refused(stack, tmp_path):
    known = json.loads((stack.folder / "endpoints.json").read_text())
    known["api_key"] = known["api_key"][:-9] + "AAAA" + known["api_key"][-5:]
    (tmp_path / "endpoints.json").write_text(json.dumps(known))
    done = stack.run("search", "anything", "--json", data=tmp_path)
    assert json.loads(done.stdout)["error"]["reason"] == "KEY_INVALID"


def test_no_stack_is_said_so(stack, tmp_path):
    done = stack.run("status", "--json", data=tmp_path)
    assert json.loads(done.stdout)["error"]["reason"] == "NOT_RUNNING"

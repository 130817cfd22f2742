"""The command where no stack is: whatever is typed, a reason and no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aquifer_cli import commands, documents
from aquifer_cli.errors import CommandError
from aquifer_cli.launch import command_name, command_of, spell_commands

NO_CORPUS = ["--corpus", "/no", "--queries", "/no", "--qrels", "/no"]
NO_PASSAGES = ["--questions", "/no", "--passages", "/no"]


def run(*arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AQUIFER_")}
    return subprocess.run(
        [sys.executable, "-m", "aquifer_cli", *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonsense", "--json"], "USAGE"),
        (["upload", "--json"], "USAGE"),
        (["search", "x", "--limit", "0", "--json"], "USAGE"),
        (["search", "--json"], "USAGE"),
        (["search", "x", "--queries", "y", "--json"], "USAGE"),
        (["--json", "status"], "NOT_RUNNING"),
        (["status", "--json"], "NOT_RUNNING"),
        (["--json", "upload", "/no/such/file"], "PATH_UNKNOWN"),
        (["search", "x", "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["search", "x", "-c", "a", "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["ask", "x", "-c", "a", "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["facets", "labels", "-c", "a", "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["search", "--queries", "/no", "--run", "/no/run", "--json"], "FILE_UNREADABLE"),
        (["up", "--data-dir", "/proc/nothing", "--json"], "DATA_DIR_UNUSABLE"),
        (["ask", b"caf\xe9?", "--json"], "ARGUMENT_ENCODING"),
        (["chat", "--conversation", "x", "--json"], "CONVERSATION_NAME"),
        (["chat", "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["chat", "--filter", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["feedback", "x", "great", "--json"], "USAGE"),
        (["feedback", "x", "good", "--reason", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["conversations", "list", "--json"], "NOT_RUNNING"),
        (["conversations", "show", "x", "--json"], "CONVERSATION_NAME"),
        (["conversations", "rename", "x", "y", "--json"], "CONVERSATION_NAME"),
        (["conversations", "rename", "x", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["conversations", "delete", "conversations/x", "--json"], "CONVERSATION_NAME"),
        (["ask", "x", "--prompt", "a b", "--json"], "PROMPT_NAME"),
        (["chat", "--prompt", "a@0", "--json"], "PROMPT_NAME"),
        (["prompts", "list", "--json"], "NOT_RUNNING"),
        (["prompts", "get", "", "--json"], "PROMPT_NAME"),
        (["prompts", "get", "a@b", "--json"], "PROMPT_NAME"),
        (["prompts", "create", "a@1", "/no", "--json"], "PROMPT_NAME"),
        (["prompts", "create", "a", "/no", "--json"], "FILE_UNREADABLE"),
        (["prompts", "update", "a", "/dev/zero", "--json"], "PROMPT_INVALID"),
        (["prompts", "versions", "a@1", "--json"], "PROMPT_NAME"),
        (["prompts", "delete", "prompts/a/b", "--json"], "PROMPT_NAME"),
        (["search", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["search", "x", "-c", b"\xc3", "--json"], "ARGUMENT_ENCODING"),
        (["documents", "--state", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["delete", b"\xed\xa0\x80.md", "--json"], "ARGUMENT_ENCODING"),
        (["text", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["text", "collections/a b", "--json"], "DOCUMENT_NAME"),
        (["text", "x", "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["text", "x", "--page", "0", "--json"], "USAGE"),
        (["text", "x", "--page", "7-", "--json"], "USAGE"),
        (["text", "x", "--page", "3,4", "--json"], "USAGE"),
        (["text", "x", "--page", "1234567890", "--json"], "USAGE"),
        (["text", "x", "--page", b"\xff", "--json"], "USAGE"),
        (["text", "x", "--range", "7", "--json"], "USAGE"),
        (["text", "x", "--range", "7:7", "--json"], "USAGE"),
        (["text", "x", "--range", "7:3", "--json"], "USAGE"),
        (["text", "x", "--range", ":0", "--json"], "USAGE"),
        (["text", "x", "--range", "-1:3", "--json"], "USAGE"),
        (["text", "x", "--page", "1", "--range", "1:3", "--json"], "USAGE"),
        (["text", "x", "--version", "-1", "--json"], "USAGE"),
        (["update", "a.md", "--json"], "USAGE"),
        (["update", "a.md", "--metadata", "a=1", "--unset", "a", "--json"], "USAGE"),
        (["update", "a.md", "--metadata", "year", "--json"], "METADATA_UNREADABLE"),
        (["update", "a.md", "--metadata", "year:=x", "--json"], "METADATA_UNREADABLE"),
        (["update", "a.md", "--title", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["update", "a.md", "--metadata", b"a=\xff", "--json"], "ARGUMENT_ENCODING"),
        (["update", "a.md", "--title", "A", "--json"], "NOT_RUNNING"),
        (["upload", ".", "--metadata", "=x", "--json"], "METADATA_UNREADABLE"),
        (["trace", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["upload", "x", "-c", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["up", "--data-dir", b"/tmp/\xff", "--json"], "ARGUMENT_ENCODING"),
        (["status", "--data-dir", b"/tmp/\xff", "--json"], "ARGUMENT_ENCODING"),
        (["upload", b"/no/\xff", "--json"], "PATH_UNKNOWN"),
        (["import", b"/no/\xff", "--json"], "FILE_UNREADABLE"),
        (["search", "--queries", b"/no/\xff", "--run", "/no/run", "--json"], "FILE_UNREADABLE"),
        (["bus", "apply", "--replicas", b"\xff", "--json"], "USAGE"),
        ([b"\xff", "--json"], "USAGE"),
        (["status", b"--\xff", "--json"], "USAGE"),
        (["models", "load", "a", "--json"], "USAGE"),
        (["eval", "retrieval", "--json"], "USAGE"),
        (["eval", "retrieval", *NO_CORPUS, "--json"], "FILE_UNREADABLE"),
        (["eval", "retrieval", *NO_CORPUS, "-c", "a b", "--json"], "COLLECTION_NAME"),
        (["eval", "retrieval", *NO_CORPUS, "--out", "/no/run", "--json"], "FILE_UNWRITABLE"),
        (["eval", "retrieval", *NO_CORPUS, "--plot", "/no/png", "--json"], "FILE_UNWRITABLE"),
        (["eval", "retrieval", *NO_CORPUS, "--against", "/no/run", "--json"], "FILE_UNREADABLE"),
        (["eval", "answers", *NO_PASSAGES, "--json"], "FILE_UNREADABLE"),
        (["eval", "answers", *NO_PASSAGES, "--limit", "-1", "--json"], "USAGE"),
        (["models", "load", "a", "--folder", "b", "--spare-url", "http://c/v1", "--json"], "USAGE"),
        (["models", "load", "a", "--folder", "b", "--key-variable", "HOME", "--json"], "USAGE"),
        (["bus", "apply", "--json"], "SETTING_MISSING"),
        (["keys", "--json"], "USAGE"),
        (["keys", "create", "reader", "--json"], "USAGE"),
        (["keys", "create", "reader", "-s", "search", "--days", "400", "--json"], "USAGE"),
        (["keys", "create", b"\xff", "-s", "search", "--json"], "ARGUMENT_ENCODING"),
        (
            ["keys", "create", "reader", "-s", "search", "-s", b"\xff", "--json"],
            "ARGUMENT_ENCODING",
        ),
        (["keys", "revoke", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["keys", "list", "--tenant", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["tenants", "create", "acme", "--name", b"\xff", "--json"], "ARGUMENT_ENCODING"),
        (["keys", "list", "--json"], "NOT_RUNNING"),
        (["tenants", "suspend", "acme", "--json"], "NOT_RUNNING"),
    ],
)
def test_what_is_typed_wrong_is_one_object_with_a_reason(tmp_path, arguments, reason):
    done = run(*arguments, AQUIFER_HOME=str(tmp_path / "nowhere"))
    assert json.loads(done.stdout)["error"]["reason"] == reason
    assert (done.returncode, done.stderr) == (2, "")


def test_for_people_the_reason_is_on_stderr_with_a_way_out(tmp_path):
    done = run("documents", AQUIFER_HOME=str(tmp_path))
    assert done.stdout == ""
    assert done.stderr.startswith(f"NOT_RUNNING: no stack is running in {tmp_path}\n")
    assert "aquifer up" in done.stderr


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("{here}/.venv/bin/aquifer", ".venv/bin/aquifer"),
        ("/opt/no such/aquifer", "/opt/no such/aquifer"),
        ("{here}/aquifer_cli/__main__.py", "aquifer"),
    ],
)
def test_commands_are_shown_as_this_one_was_started(tmp_path, monkeypatch, started, shown):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [started.format(here=tmp_path)])
    assert spell_commands("next: `aquifer up`") == f"next: `{shown.format(here=tmp_path)} up`"


def test_a_command_on_the_path_is_told_by_its_name(tmp_path, monkeypatch):
    program = tmp_path / "aquifer"
    program.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert command_name() == "aquifer"


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"auth": 1}', "\x00"])
def test_a_spoilt_endpoints_file_is_told(tmp_path, content):
    (tmp_path / "endpoints.json").write_text(content)
    done = run("status", "--json", "--data-dir", str(tmp_path))
    assert json.loads(done.stdout)["error"]["reason"].startswith("ENDPOINTS_")
    assert done.stderr == ""


def test_addresses_come_from_the_environment_where_a_key_does():
    done = run("status", "--json", AQUIFER_API_KEY="key")
    assert json.loads(done.stdout)["error"]["reason"] == "ENDPOINTS_INCOMPLETE"
    nobody = dict.fromkeys(
        [f"AQUIFER_{name}_ADDRESS" for name in ("AUTH", "INGEST", "QUERY", "INFERENCE")],
        "127.0.0.1:9",
    )
    for command in (["status"], ["documents"], ["ask", "why?"], ["search", "why?"]):
        done = run(*command, "--json", AQUIFER_API_KEY="key", **nobody)
        assert json.loads(done.stdout)["error"]["reason"] == "UNAVAILABLE"
        assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("arguments", [["--help"], ["upload", "-h"], ["bus", "--help"]])
def test_help_is_no_failure(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: aquifer")
    # A command that click has to cut in the list would need a shorter first sentence.
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.mark.parametrize("arguments", ["--help", "upload --help", "status --json"])
def test_a_reader_that_goes_away_is_told_by_the_exit_code_alone(tmp_path, arguments):
    command = f"{sys.executable} -m aquifer_cli {arguments} --data-dir {tmp_path}"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--json"]])
def test_a_full_disk_is_told(tmp_path, arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aquifer_cli", *arguments],
            env={**os.environ, "AQUIFER_HOME": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("OUTPUT_UNWRITABLE: ")
    assert done.stderr.count("\n") == 1


def test_a_module_of_the_current_folder_is_not_taken_for_the_stack(tmp_path):
    (tmp_path / "chassis.py").write_text("raise SystemExit('the wrong one')")
    done = subprocess.run(
        command_of("chassis.events.provision", "--help"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_part_that_is_not_installed_is_told():
    with pytest.raises(CommandError) as refusal:
        command_of("no_such_part.up")
    assert refusal.value.reason == "NOT_INSTALLED"


LIBRARIES = ("grpc", "google.protobuf", "nats", "rich", "asyncio", "opentelemetry")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["-h"], ["upload", "--help"], ["bus", "apply", "--help"], ["nonsense"]],
)
def test_help_and_usage_import_no_library_but_click(arguments):
    script = (
        "import sys; sys.argv[0] = 'aquifer'; from aquifer_cli import __main__ as command\n"
        "command.show_failure = lambda error, machine: error.exit_code\n"
        "try: command.main()\n"
        "except SystemExit: pass\n"
        f"print('imported', [name for name in {LIBRARIES} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported []"


def test_the_states_of_the_help_are_those_of_the_contract():
    assert commands.STATES == documents.STATES

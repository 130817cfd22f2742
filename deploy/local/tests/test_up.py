"""The whole stack as far as it goes without starting the services."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from aquifer.services import NAMES
from chassis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidInputError,
    UnavailableError,
)
from chassis.events import topology
from stack.first_keys import FirstKeys, make_first_keys
from stack.ports import free_ports, ports_from
from stack.up import Stack

KEYS = {"tenant": "default", "api_key": "k", "service_keys": {"query": "q"}}
KEPT = FirstKeys(**KEYS)


def up(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stack", "up", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def free_base() -> int:
    """The first of as many free ports in a row as a stack needs."""
    while True:
        base = free_ports(1)[0]
        with suppress(FailedPreconditionError):
            ports_from(base, 13)
            return base


def test_each_service_is_given_its_own_secrets_and_no_others(folder: Path):
    with Stack(folder) as stack:
        environments = {name: stack._environment(name) for name in NAMES}
    held = {
        name: {value for key, value in settings.items() if key.endswith(("PASSWORD", "DSN"))}
        for name, settings in environments.items()
    }
    assert [len(held[name]) for name in NAMES] == [2, 1, 2, 2]
    assert len(set().union(*held.values())) == sum(map(len, held.values()))
    assert [name for name in NAMES if "AQUIFER_AUTH_SIGNING_KEY" in environments[name]] == ["auth"]
    assert environments["query"]["AQUIFER_VECTORS"] == f"unix:{folder}/vectors.sock"
    superuser = json.loads((folder / "secrets.json").read_text())["postgres"]["postgres"]
    assert not any(superuser in value for each in environments.values() for value in each.values())


def test_the_bus_knows_the_users_of_the_contract_and_no_others(folder: Path):
    with Stack(folder) as stack:
        users = {user.name: user for user in stack.nats.users}
        reserved = sum(stream.max_bytes for stream in topology.streams())
        assert stack.nats.max_file_bytes > reserved
    assert set(users) == {*NAMES, "provisioner", "upstream-default"}
    upstream = users["upstream-default"]
    assert upstream.publish == topology.upstream_permissions("default").publish
    assert all(subject.endswith((".default", "INBOX.>")) for subject in upstream.subscribe)
    assert len({user.password for user in users.values()}) == len(users)


def test_every_door_has_a_port_of_its_own_from_the_base_on(folder: Path):
    base = free_base()
    with Stack(folder, base_port=base) as stack:
        ports = [stack._ports[name] for name in stack._ports]
    assert ports == list(range(base, base + 13))


def test_a_second_start_on_the_same_folder_is_refused_in_words(folder: Path):
    base = free_base()
    with Stack(folder, base_port=base) as stack:
        stack.sink.start()
        refused = up("--data-dir", folder, "--base-port", str(base), "--json")
        stack.sink.stop()
    assert refused.returncode == 1
    said = json.loads(refused.stdout)
    assert (said["event"], said["error"]["reason"]) == ("failed", "DATA_DIR_IN_USE")
    assert str(folder) in said["error"]["detail"]
    assert "aquifer status" in said["error"]["hint"]
    assert refused.stderr == ""


def test_a_taken_port_is_refused_in_words(folder: Path):
    with Stack(folder / "one") as stack:
        stack.sink.start()
        refused = up("--data-dir", folder / "two", "--base-port", str(stack.sink.http_port))
        assert refused.returncode == 1
        assert "is not free; try another --base-port" in refused.stdout
        assert "starting" not in refused.stderr
        with pytest.raises(FailedPreconditionError):
            Stack(folder / "two", base_port=stack.sink.http_port)
        stack.sink.stop()


def test_a_request_to_end_while_it_starts_is_no_failure(folder: Path):
    command = [sys.executable, "-m", "stack", "up", "--json", "--data-dir", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starting:
        first = json.loads(starting.stdout.readline())
        starting.terminate()
        rest = [json.loads(line) for line in starting.stdout]
    assert starting.returncode == 0
    assert first["event"] == "up"
    assert first["part"] in {said["part"] for said in rest if said["event"] == "stopped"}
    assert not any(said["event"] == "failed" for said in rest)


def test_a_failed_construction_lets_go_of_the_folder(folder: Path):
    secrets = folder / "secrets.json"
    secrets.write_text("spoiled")
    with pytest.raises(DataLossError):
        Stack(folder)
    secrets.unlink()
    with Stack(folder):
        pass


def test_spans_are_sent_on_to_the_collector_of_the_user(folder: Path, monkeypatch):
    monkeypatch.setenv("AQUIFER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    with Stack(folder) as stack:
        assert stack.sink.command().argv[-2:] == ("--forward", "http://127.0.0.1:4317")
        # Services send to the local store, which sends on.
        assert stack._environment("query")["AQUIFER_OTLP_ENDPOINT"] == stack.sink.endpoint


def test_a_collector_that_can_not_be_one_is_refused_at_once(folder: Path, monkeypatch):
    monkeypatch.setenv("AQUIFER_OTLP_ENDPOINT", "nowhere")
    with pytest.raises(InvalidInputError, match="AQUIFER_OTLP_ENDPOINT") as refusal:
        Stack(folder)
    assert refusal.value.reason == "SETTING_INVALID"


def test_first_keys_are_made_once(folder: Path):
    path = folder / "first-keys.json"
    assert make_first_keys(path, lambda output: output.write_text(json.dumps(KEYS))) == KEPT
    assert make_first_keys(path, refused) == KEPT
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_keys_of_a_bootstrap_killed_before_its_commit_are_made_anew(folder: Path):
    path = folder / "first-keys.json"
    killed = json.dumps({**KEYS, "api_key": "never counted"})
    with pytest.raises(UnavailableError):
        make_first_keys(path, lambda output: output.write_text(killed) and fail("-9"))
    assert make_first_keys(path, lambda output: output.write_text(json.dumps(KEYS))) == KEPT
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_keys_of_a_bootstrap_killed_after_its_commit_are_kept(folder: Path):
    path = folder / "first-keys.json"
    with pytest.raises(UnavailableError):
        make_first_keys(path, lambda output: output.write_text(json.dumps(KEYS)) and fail("-9"))
    # Postgres was away, then the killed bootstrap turned out to have done its work.
    with pytest.raises(UnavailableError):
        make_first_keys(path, lambda _: fail("1"))
    assert make_first_keys(path, refused) == KEPT


def test_a_refused_bootstrap_without_any_keys_is_a_failure(folder: Path):
    with pytest.raises(UnavailableError):
        make_first_keys(folder / "first-keys.json", refused)


def fail(exit_code: str) -> None:
    raise UnavailableError("STEP_FAILED", "ended", exit_code=exit_code)


def refused(_: Path) -> None:
    fail("2")

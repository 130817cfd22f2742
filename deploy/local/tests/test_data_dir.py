import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chassis.base.errors import DataLossError, FailedPreconditionError
from stack.data_dir import SOCKET_PATH_BYTES, DataDir
from stack.ports import free_ports, ports_from
from stack.secrets import load

HOLD = """
import pathlib, sys
from stack.data_dir import DataDir
data = DataDir(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process_at_a_time(folder: Path):
    with holder(folder) as other:
        with pytest.raises(
            FailedPreconditionError, match=f"in use by process {other.pid}"
        ) as refused:
            DataDir(folder)
        assert refused.value.reason == "DATA_DIR_IN_USE"
        other.kill()
    with DataDir(folder) as data:
        assert (data.path / "lock").read_text() == str(os.getpid())
    with DataDir(folder):
        pass


def test_a_new_folder_is_private(folder: Path):
    with DataDir(folder / "new" / "data") as data:
        assert data.path.stat().st_mode & 0o777 == 0o700


def test_a_socket_that_fits_lies_in_the_folder_and_another_in_a_short_one(folder: Path):
    with DataDir(folder) as data:
        assert data.socket("vectors") == folder / "vectors.sock"
    deep = folder / ("d" * 60) / ("e" * 60)
    with DataDir(deep) as data:
        short = data.socket("vectors")
    try:
        assert len(os.fsencode(short)) <= SOCKET_PATH_BYTES
        assert short.parent.stat().st_mode & 0o777 == 0o700
        with DataDir(deep) as data:
            assert data.socket("vectors") == short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(short))
        short.unlink()
        short.parent.chmod(0o755)
        with DataDir(deep) as data, pytest.raises(FailedPreconditionError, match="not a private"):
            data.socket("vectors")
    finally:
        short.parent.rmdir()


def test_secrets_are_made_once_and_kept_private(folder: Path):
    path = folder / "secrets.json"
    first = load(path, nats=["auth", "query"], postgres=["auth"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path, nats=["auth", "query"], postgres=["auth"]) == first
    assert len({*first.nats.values(), *first.postgres.values()}) == 3
    assert len(base64.b64decode(first.auth_pepper, validate=True)) == 32
    key = load_pem_private_key(first.auth_signing_key.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert first.nats["auth"] not in repr(first)


def test_a_new_user_gets_a_password_and_the_others_keep_theirs(folder: Path):
    path = folder / "secrets.json"
    first = load(path, nats=["auth"], postgres=["auth"])
    second = load(path, nats=["auth", "query"], postgres=["auth"])
    assert second.nats["auth"] == first.nats["auth"]
    assert second.auth_signing_key == first.auth_signing_key
    assert load(path, nats=["query"], postgres=["auth"]) == second


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"nats": {}})])
def test_a_spoiled_file_of_secrets_is_never_replaced(folder: Path, text: str):
    path = folder / "secrets.json"
    path.write_text(text)
    with pytest.raises(DataLossError, match="does not contain the secrets"):
        load(path, nats=["auth"], postgres=["auth"])
    assert path.read_text() == text


def test_free_ports_are_different_and_outside_the_range_of_outgoing_connections():
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 32768


def test_a_taken_port_is_named():
    base = free_ports(1)[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base))
        taken.listen()
        with pytest.raises(FailedPreconditionError, match=f":{base} is not free"):
            ports_from(base, 3)
    assert list(ports_from(base, 1)) == [base]

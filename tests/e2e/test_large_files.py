"""A large file arrives though ingest is killed while it is sent, and the command as well."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

pytestmark = pytest.mark.timeout(300)

PART_BYTES = 4 << 20
FILE_BYTES = 40 << 20
WITHIN_S = 120.0


class Progress:
    """What ingest has of the upload."""

    def __init__(self, stack) -> None:
        self.dsn = make_conninfo(stack.postgres.superuser_dsn, dbname="aquifer")

    def offset(self) -> int:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute("SELECT offset_bytes FROM ingest.upload_sessions").fetchone()
        return row[0] if row else 0

    def wait_until(self, arrived: Callable[[int], bool]) -> int:
        ends_at = time.monotonic() + WITHIN_S
        while not arrived(offset := self.offset()):
            assert time.monotonic() < ends_at, f"it stays at {offset}"
            time.sleep(0.02)
        return offset


def start_upload(stack, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "aquifer_cli", "upload", str(file), "-c", "large", "--json"],
        env={**os.environ, "AQUIFER_HOME": str(stack.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_large_file_survives_kills_of_the_service_and_of_the_command(stack, tmp_path):
    content = random.Random(3).randbytes(FILE_BYTES)
    file = tmp_path / "large.bin"
    file.write_bytes(content)
    progress, ingest = Progress(stack), stack.parts["ingest"]
    sending = start_upload(stack, file)
    progress.wait_until(lambda offset: offset >= PART_BYTES)
    ingest.kill()
    before = progress.offset()
    ingest.start()
    assert progress.wait_until(lambda offset: offset > before) >= before + (64 << 10)
    sending.kill()
    sending.communicate(timeout=30)
    before = progress.offset()
    assert before >= PART_BYTES
    sending = start_upload(stack, file)
    out, err = sending.communicate(timeout=WITHIN_S)
    assert sending.returncode == 0, err
    [outcome] = map(json.loads, out.splitlines())
    assert (outcome["version"], outcome["reason"]) == (1, "")
    [document] = stack.json("documents", "-c", "large")
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    assert progress.offset() == 0

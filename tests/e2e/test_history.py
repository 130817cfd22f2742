"""Searches of the past, as a user of the command line does them, over a restart."""

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import RunningStack

pytestmark = pytest.mark.timeout(300)
QUESTION = "How deep is the well?"


def upload(stack: RunningStack, file: Path, text: str) -> int:
    file.write_text(text)
    [done] = stack.json("upload", str(file), "-c", "wells", "--wait")
    assert done["state"] == "INDEXED", done
    return int(done["version"])


def test_the_old_version_is_found_as_of_its_time(monkeypatch, tmp_path):
    monkeypatch.setenv("AQUIFER_HISTORY_DAYS", "1")
    file = tmp_path / "well.md"
    with RunningStack(tmp_path / "data") as stack:
        stack.start()
        dsn = stack.postgres.superuser_dsn.rsplit("/", 1)[0] + "/aquifer"
        with psycopg.connect(dsn) as connection:
            # A stack begins its history a minute after its start.
            connection.execute("UPDATE query.history SET since = now()")
        assert upload(stack, file, "# Well\n\nThe well is 12 metres deep.\n") == 1
        moment = datetime.now(UTC).isoformat()
        assert upload(stack, file, "# Well\n\nThe well is 31 metres deep.\n") == 2
        stack.parts["query"].kill()
        stack.parts["query"].start()
        [hit] = stack.json("search", QUESTION)
        assert (hit["version"], "31 metres" in hit["text"]) == (2, True)
        [hit] = stack.json("search", QUESTION, "--as-of", moment)
        assert (hit["version"], "12 metres" in hit["text"]) == (1, True)
        answered = stack.run("ask", QUESTION, "--as-of", moment)
        assert answered.returncode == 0, answered.stderr
        assert "12 metres" in answered.stdout
        refused = stack.run("search", QUESTION, "--as-of", "2020-01-01")
        assert refused.returncode != 0
        assert "searches can look back to" in refused.stderr
        assert stack.json("delete", "well.md", "-c", "wells")
        assert stack.json("search", QUESTION, "--as-of", moment) == []


def test_without_a_history_the_past_is_refused_with_what_to_do(stack):
    refused = stack.run("search", QUESTION, "--as-of", "2026-01-31")
    assert refused.returncode != 0
    assert "AQUIFER_HISTORY_DAYS" in refused.stderr

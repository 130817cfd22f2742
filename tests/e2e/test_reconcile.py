"""`aquifer reconcile` on a whole stack in which stores were really broken."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from query.retrieval.vector_store import Filter, TenantScope
from query.vectors.engine_client import EngineVectors, open_channel
from stack import roles

pytestmark = pytest.mark.timeout(400)

COLLECTION = "broken"


@pytest.fixture(scope="module")
def rows(stack) -> Iterator[psycopg.Connection]:
    """A connection to the database of all services that no policy binds."""
    dsn = make_conninfo(stack.postgres.superuser_dsn, dbname=roles.DATABASE)
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def name(document: str) -> str:
    return f"collections/{COLLECTION}/documents/{document}"


def upload(stack: Any, folder: Any, **texts: str) -> None:
    for document, text in texts.items():
        (folder / document).write_text(text)
    paths = [str(folder / document) for document in texts]
    outcomes = stack.json("upload", *paths, "-c", COLLECTION, "--wait")
    assert {one["state"] for one in outcomes} == {"INDEXED"}


def delete_points(stack: Any, document: str) -> int:
    """Removes the points of a document behind the back of query."""

    async def run() -> int:
        async with open_channel(stack.vectors.address) as channel:
            store = EngineVectors(channel, profile="minilm-l6-v2", dimensions=384)
            scope = TenantScope(stack.endpoints.tenant)
            page = await store.scroll(scope, Filter(documents=frozenset({document})))
            return await store.delete_points(scope, [one.point_id for one in page.entries])

    return asyncio.run(run())


def compare(stack: Any, *options: str) -> dict[str, tuple[int, int]]:
    """Number found and repaired, or that would be, of each kind."""
    return {
        one["difference"]: (one["found"], one.get("repaired", one.get("would_repair")))
        for one in stack.json("reconcile", "-c", COLLECTION, *options)
    }


def find(stack: Any, question: str) -> set[str]:
    hits = stack.json("search", question, "-c", COLLECTION, "-k", "20")
    return {hit["document"].rpartition("/")[2] for hit in hits}


def break_everything(stack: Any, rows: psycopg.Connection, folder: Any) -> None:
    """One document for each way in which stores can differ."""
    upload(
        stack,
        folder,
        points="The lighthouse keeper counts the lanterns every evening.",
        passage="The harbour master writes the tide into a green book.",
        document="The ferry carries bicycles free of charge on Sundays.",
        deleted="The baker of the island sells bread with caraway.",
        object="The archive keeps every letter of the lighthouse. " * 2_000,
        whole="The school bell rings at eight.",
    )
    stack.json("delete", "deleted", "-c", COLLECTION)
    until = time.monotonic() + 60
    while stack.json("documents", "-c", COLLECTION, "--state", "DELETED") == []:
        assert time.monotonic() < until
    assert delete_points(stack, name("points")) == 1
    rows.execute("DELETE FROM query.passages WHERE document = %s", [name("passage")])
    for table in ("passages", "documents"):
        rows.execute(f"DELETE FROM query.{table} WHERE document = %s", [name("document")])
    # As after restoring a copy of query from before the delete.
    rows.execute(
        "UPDATE query.documents SET tombstone_version = 0, live_version = 1 WHERE document = %s",
        [name("deleted")],
    )
    key = rows.execute(
        "SELECT object_key FROM ingest.versions WHERE document = %s", [name("object")]
    ).fetchone()
    assert key is not None
    (stack.folder / "objects" / key[0]).unlink()


def test_what_is_broken_is_found_and_repaired(stack, rows, tmp_path):
    assert compare(stack) == {}
    break_everything(stack, rows, tmp_path)
    broken = {
        "POINT_MISSING": (1, 1),
        # Points of the lost passage and of the lost document.
        "POINT_ORPHANED": (2, 2),
        "OBJECT_MISSING": (1, 0),
        "PASSAGES_MISSING": (2, 2),
        "PASSAGES_LEFT": (1, 1),
    }
    assert compare(stack, "--dry-run") == broken
    assert compare(stack, "--dry-run") == broken
    shown = stack.run("reconcile", "-c", COLLECTION, "--dry-run")
    assert shown.returncode == 1
    for word in ("would repair", "PASSAGES_MISSING", name("document"), "OBJECT_MISSING"):
        assert word in shown.stdout
    assert "restore" in shown.stderr
    assert compare(stack) == broken
    until = time.monotonic() + 60
    while compare(stack, "--dry-run") != {"OBJECT_MISSING": (1, 0)}:
        assert time.monotonic() < until
    for word, document in (
        ("who counts the lanterns?", "points"),
        ("what does the harbour master write?", "passage"),
        ("what does the ferry carry?", "document"),
        ("when does the school bell ring?", "whole"),
    ):
        assert document in find(stack, word)
    assert "deleted" not in find(stack, "what does the baker sell?")
    states = {one["document"]: one["state"] for one in stack.json("documents", "-c", COLLECTION)}
    assert set(states.values()) == {"INDEXED"}
    assert len(states) == 5


def test_an_unused_object_is_removed(stack):
    folder = stack.folder / "objects" / stack.endpoints.tenant / "left"
    folder.mkdir(parents=True)
    unused = folder / "0000000000001-left"
    unused.write_bytes(b"x")

    def found(*options: str) -> list[tuple[int, list[str]]]:
        return [
            (one["found"], one["examples"])
            for one in stack.json("reconcile", *options)
            if one["difference"] == "OBJECT_UNUSED"
        ]

    key = f"{stack.endpoints.tenant}/left/0000000000001-left"
    assert found("--dry-run") == [(1, [key])]
    assert unused.exists()
    assert found() == [(1, [key])]
    assert not unused.exists()


def test_where_nothing_differs_it_says_so(stack):
    done = stack.run("reconcile", "-c", "nothing-here")
    assert done.returncode == 0
    assert "nothing differs" in done.stdout
    assert stack.json("reconcile", "-c", "nothing-here") == []


@pytest.mark.parametrize("options", [["-c", "a/b"], ["--collection", "%"], ["extra"]])
def test_wrong_usage_says_what_to_do(stack, options):
    done = stack.run("reconcile", *options)
    assert done.returncode == 2
    assert done.stderr

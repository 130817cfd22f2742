"""A folder kept in step: what is sent, what is removed, and what never is."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from google.rpc.code_pb2 import Code

from aquifer_cli import folder, show, sync
from aquifer_cli import upload as uploading
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, CommandError
from aquifer_cli.folder import SOURCE
from aquifer_cli.outcome import Outcome
from aquifer_cli.screen import Screen
from aquifer_cli.sending import exit_code
from aquifer_cli.sync import Order

from .loopback import FAILED, INDEXED, Ingest, serving

HERE = "host:/here"


def name(path):
    return f"collections/c/documents/{path}"


def write(path, content="text", age_s=60.0):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content)
    then = time.time() - age_s
    os.utime(path, (then, then))


def order(path, *, delete=False, source=HERE):
    return Order(folder=path, collection="c", source=source, delete=delete)


async def run(client, wanted, *, dry_run=False):
    """The changes by the last part of the document's name, and the outcomes."""
    outcomes = await sync.run(client, Screen(machine=False), wanted, dry_run=dry_run)
    return {one.document.rpartition("/")[2]: one.change for one in outcomes}, outcomes


@pytest.fixture
def three(tmp_path):
    for letter in "abc":
        write(tmp_path / letter, letter)
    return tmp_path


async def test_new_changed_unchanged_and_removed_files(three):
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        changes, outcomes = await run(client, order(three))
        assert changes == dict.fromkeys("abc", "NEW")
        assert {one.state for one in outcomes} == {"INDEXED"}
        assert ingest.metadata[name("a")] == {SOURCE: HERE}
        write(three / "b", "changed")
        (three / "c").unlink()
        write(three / "sub/d")
        changes, outcomes = await run(client, order(three))
        assert changes == {"a": "UNCHANGED", "b": "CHANGED", "sub~d": "NEW", "c": "KEPT"}
        assert exit_code(outcomes) == 0
        assert ingest.deleted == []
        changes, _ = await run(client, order(three, delete=True))
        assert changes == {"a": "UNCHANGED", "b": "UNCHANGED", "sub~d": "UNCHANGED", "c": "REMOVED"}
        assert ingest.deleted == [name("c")]
        changes, _ = await run(client, order(three, delete=True))
    assert set(changes.values()) == {"UNCHANGED"}
    assert ingest.deleted == [name("c")]


async def test_only_what_came_from_the_folder_is_deleted(three):
    ingest = Ingest(answer_after_s=0)
    ingest.contents |= {name("uploaded"): b"x", name("elsewhere"): b"x", name("b"): b"b"}
    ingest.metadata |= {name("elsewhere"): {SOURCE: "host:/there"}}
    ingest.final = dict.fromkeys(ingest.contents, INDEXED)
    async with serving(ingest) as (client, _):
        await run(client, order(three))
        for letter in "abc":
            (three / letter).unlink()
        write(three / "d")
        changes, _ = await run(client, order(three, delete=True))
        # `b` had these bytes before and was not sent, so it did not come from here.
        assert changes == {"d": "NEW", "a": "REMOVED", "c": "REMOVED"}
        assert set(ingest.contents) == {name(n) for n in ("uploaded", "elsewhere", "b", "d")}
        changes, _ = await run(client, order(three, delete=True, source="host:/there"))
    assert changes == {"d": "UNCHANGED", "elsewhere": "REMOVED"}


async def test_an_empty_folder_deletes_nothing(three):
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        await run(client, order(three))
        for letter in "abc":
            (three / letter).unlink()
        with pytest.raises(CommandError) as refused:
            await run(client, order(three, delete=True))
    assert refused.value.reason == "NO_FILES"
    assert len(ingest.contents) == 3


async def test_while_a_folder_inside_cannot_be_read_nothing_is_deleted(three, monkeypatch):
    write(three / "sub/d")
    ingest = Ingest(answer_after_s=0)
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    async with serving(ingest) as (client, _):
        await run(client, order(three))
        (three / "a").unlink()
        monkeypatch.setattr(os, "scandir", scandir)
        changes, outcomes = await run(client, order(three, delete=True))
        assert ingest.deleted == []
        [unread] = [one for one in outcomes if one.failed]
        assert (unread.reason, unread.path) == ("FILE_UNREADABLE", str(three / "sub"))
        assert exit_code(outcomes) == EXIT_FAILED
        monkeypatch.undo()
        changes, _ = await run(client, order(three, delete=True))
    assert changes == {"a": "REMOVED", "b": "UNCHANGED", "c": "UNCHANGED", "sub~d": "UNCHANGED"}


async def test_a_dry_run_changes_nothing(three):
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        changes, _ = await run(client, order(three), dry_run=True)
        assert changes == dict.fromkeys("abc", "NEW")
        assert ingest.contents == {}
        await run(client, order(three))
        (three / "a").unlink()
        write(three / "b", "changed")
        before = dict(ingest.contents)
        changes, outcomes = await run(client, order(three, delete=True), dry_run=True)
        assert changes == {"a": "REMOVED", "b": "CHANGED", "c": "UNCHANGED"}
        assert exit_code(outcomes) == 0
        changes, _ = await run(client, order(three), dry_run=True)
        assert changes["a"] == "KEPT"
        assert (ingest.contents, ingest.deleted) == (before, [])
        ingest.check_refusals.append((Code.UNAVAILABLE, "DATABASE_UNAVAILABLE"))
        _, outcomes = await run(client, order(three), dry_run=True)
    assert [one.reason for one in outcomes[:2]] == ["DATABASE_UNAVAILABLE"] * 2
    assert exit_code(outcomes) == EXIT_UNAVAILABLE


async def test_a_run_that_was_stopped_goes_on(tmp_path):
    for number in range(300):
        write(tmp_path / str(number), str(number))
    ingest = Ingest(answer_after_s=0.005)
    async with serving(ingest) as (client, _):
        task = asyncio.create_task(run(client, order(tmp_path)))
        while len(ingest.contents) < 100:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done = len(ingest.contents)
        assert done < 300
        changes, _ = await run(client, order(tmp_path))
    assert len(ingest.contents) == 300
    assert list(changes.values()).count("UNCHANGED") >= done - 1


async def test_failed_and_refused_files_are_told_and_stop_no_other(three):
    write(three / "empty", "")
    ingest = Ingest(answer_after_s=0, finals={name("b"): FAILED})
    ingest.refusals = []
    async with serving(ingest) as (client, _):
        _, outcomes = await run(client, order(three))
        found = {one.document.rpartition("/")[2]: one.state for one in outcomes}
        assert (found["b"], found["a"], found["c"]) == ("FAILED", "INDEXED", "INDEXED")
        assert exit_code(outcomes) == EXIT_FAILED
        # It is tried again: whatever made it fail may have been repaired.
        changes, _ = await run(client, order(three))
    assert (changes["a"], changes["b"]) == ("UNCHANGED", "CHANGED")


@pytest.mark.parametrize(
    ("refused", "change", "exits"),
    [
        ((Code.NOT_FOUND, "DOCUMENT_UNKNOWN"), "REMOVED", 0),
        ((Code.UNAVAILABLE, "HIDE_PENDING"), "KEPT", EXIT_UNAVAILABLE),
        ((Code.PERMISSION_DENIED, "SCOPE_MISSING"), "KEPT", EXIT_FAILED),
    ],
)
async def test_a_delete_that_is_refused_is_told(three, refused, change, exits):
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        await run(client, order(three))
        (three / "a").unlink()
        ingest.delete_refusals.append(refused)
        _, outcomes = await run(client, order(three, delete=True))
    [removal] = [one for one in outcomes if one.document == name("a")]
    assert (removal.state, exit_code(outcomes)) == (change, exits)


async def test_a_file_that_is_being_written_is_not_sent(three, monkeypatch):
    monkeypatch.setattr(folder, "SETTLE_S", 0.4)
    monkeypatch.setattr(sync, "SETTLE_S", 0.4)
    ingest = Ingest(answer_after_s=0)
    growing = three / "growing"

    async def grow():
        while True:
            with growing.open("a") as stream:
                stream.write("more ")
            await asyncio.sleep(0.05)

    async with serving(ingest) as (client, _):
        writing = asyncio.create_task(grow())
        await asyncio.sleep(0.1)
        _, outcomes = await run(client, order(three))
        writing.cancel()
        assert set(ingest.contents) == {name(letter) for letter in "abc"}
        [left] = [one for one in outcomes if one.failed]
        assert (left.state, left.reason) == ("NOT_SENT", "FILE_CHANGING")
        assert exit_code(outcomes) == EXIT_FAILED
        await run(client, order(three))
    assert ingest.contents[name("growing")] == growing.read_bytes()


@asynccontextmanager
async def watching(client, wanted, monkeypatch):
    """What is shown while a folder is watched, as it comes."""
    for module in (folder, sync):
        monkeypatch.setattr(module, "SETTLE_S", 0.3)
    monkeypatch.setattr(sync, "PAUSE_S", 0.2)
    shown = asyncio.Queue()
    task = asyncio.create_task(sync.watch(client, Screen(machine=False), wanted, shown.put_nowait))

    async def take():
        async with asyncio.timeout(20):
            outcomes = await shown.get()
        return {one.document.rpartition("/")[2]: one.change for one in outcomes}

    try:
        yield take, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_watch_follows_what_happens_to_the_files(three, monkeypatch):
    ingest = Ingest(answer_after_s=0)
    async with (
        serving(ingest) as (client, _),
        watching(client, order(three, delete=True), monkeypatch) as (take, _),
    ):
        assert await take() == dict.fromkeys("abc", "NEW")
        write(three / "b", "changed", age_s=0)
        assert await take() == {"b": "CHANGED"}
        (three / "a").unlink()
        assert await take() == {"a": "REMOVED"}
        write(three / "a", "again", age_s=0)
        assert await take() == {"a": "NEW"}
        (three / "c").rename(three / "d")
        assert await take() == {"d": "NEW"}
        assert await take() == {"c": "REMOVED"}
        checks = ingest.checks
        await asyncio.sleep(1)
        assert ingest.checks == checks
    assert set(ingest.contents) == {name(letter) for letter in "abd"}


async def test_a_watch_keeps_what_others_have_uploaded_since(three, monkeypatch):
    ingest = Ingest(answer_after_s=0)
    async with (
        serving(ingest) as (client, _),
        watching(client, order(three, delete=True), monkeypatch) as (take, _),
    ):
        await take()
        ingest.metadata[name("a")] = {"author": "Ada"}
        del ingest.contents[name("b")]
        for letter in "ab":
            (three / letter).unlink()
        assert await take() == {"a": "KEPT", "b": "REMOVED"}
        write(three / "a", "again", age_s=0)
        assert await take() == {"a": "CHANGED"}
        (three / "a").unlink()
        assert await take() == {"a": "REMOVED"}
    assert ingest.deleted == [name("a")]


async def test_a_watch_tells_once_what_it_keeps(three, monkeypatch):
    ingest = Ingest(answer_after_s=0)
    async with (
        serving(ingest) as (client, _),
        watching(client, order(three), monkeypatch) as (take, _),
    ):
        await take()
        (three / "a").unlink()
        assert await take() == {"a": "KEPT"}
        write(three / "d", age_s=0)
        assert await take() == {"d": "NEW"}
    assert ingest.deleted == []


async def test_a_file_that_is_replaced_in_two_steps_is_never_deleted(three, monkeypatch):
    ingest = Ingest(answer_after_s=0)
    async with (
        serving(ingest) as (client, _),
        watching(client, order(three, delete=True), monkeypatch) as (take, _),
    ):
        await take()
        for number in range(4):
            (three / "a").unlink()
            await asyncio.sleep(0.2)
            write(three / "a", f"text {number}", age_s=0)
            await asyncio.sleep(0.4)
        # One that is replaced at the moment it is read is tried again.
        while (changes := await take()) != {"a": "CHANGED"}:
            assert changes == {"a": ""}
        while ingest.contents[name("a")] != b"text 3":
            await take()
    assert ingest.deleted == []


async def test_a_watch_outlives_a_service_and_a_folder_that_are_away(three, monkeypatch):
    monkeypatch.setattr(uploading, "PATIENCE_S", 0.1)
    ingest = Ingest(answer_after_s=0)
    async with (
        serving(ingest) as (client, _),
        watching(client, order(three, delete=True), monkeypatch) as (take, task),
    ):
        await take()
        write(three / "a", "changed", age_s=0)
        ingest.refusals = [(Code.UNAVAILABLE, "DATABASE_UNAVAILABLE")] * 3
        while (changes := await take()) != {"a": "CHANGED"} or name("a") not in ingest.final:
            assert changes == {"a": "CHANGED"}
        while ingest.contents[name("a")] != b"changed":
            await take()
        moved = three.with_name("moved")
        three.rename(moved)
        await asyncio.sleep(1)
        three.mkdir()
        await asyncio.sleep(1)
        assert not task.done()
        three.rmdir()
        moved.rename(three)
        write(three / "d", age_s=0)
        assert await take() == {"d": "NEW"}
    assert ingest.deleted == []


async def test_a_watch_ends_where_it_cannot_begin(three, tmp_path):
    def show(_):
        raise AssertionError

    async with serving(Ingest(), api_key="wrong") as (client, _):
        with pytest.raises(CommandError) as refused:
            await sync.watch(client, Screen(machine=False), order(three), show)
    assert refused.value.reason == "KEY_INVALID"
    async with serving(Ingest()) as (client, _):
        wanted = replace(order(three), folder=tmp_path / "none")
        with pytest.raises(CommandError) as refused:
            await sync.watch(client, Screen(machine=False), wanted, show)
    assert refused.value.reason == "PATH_UNKNOWN"


def test_problems_are_shown_first_and_everything_is_counted(capsys):
    def outcome(number, **fields):
        return Outcome(path=f"{number}", document=name(f"{number:03}"), **fields)

    outcomes = [outcome(n, change="UNCHANGED", state="INDEXED", version=1) for n in range(100)]
    outcomes += [outcome(n, change="NEW", state="INDEXED", version=1) for n in range(100, 130)]
    outcomes.append(outcome(130, change="CHANGED", state="FAILED", version=2, reason="NO_TEXT"))
    outcomes.append(outcome(131, change="KEPT", state="KEPT", version=1))
    show.show_changes(Screen(machine=False), outcomes)
    shown = capsys.readouterr()
    head, first, why, *_, last = shown.out.splitlines()
    assert head.split() == ["change", "state", "ver", "document"]
    assert first.split() == ["CHANGED", "FAILED", "v2", name("130")]
    assert "NO_TEXT" in why
    assert last == "30 new, 0 changed, 100 unchanged, 0 removed, 1 failed, 1 kept"
    assert "and 12 more; --json lists all" in shown.err
    assert name("000") not in shown.out

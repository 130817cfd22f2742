"""A folder kept in step with a real service, and uploads that would change nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

pytestmark = pytest.mark.timeout(300)


def write(path, text, age_s=60.0):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    then = time.time() - age_s
    os.utime(path, (then, then))


def sync(stack, folder, collection, *options):
    """The change of each document by the last part of its name."""
    changes = stack.json("sync", str(folder), "-c", collection, *options)
    return {one["document"].rpartition("/")[2]: one["change"] for one in changes}


def count_states(stack, collection):
    [states] = [
        one["states"]
        for one in stack.json("collections", "list")
        if one["collection"] == collection
    ]
    return states


def test_a_collection_follows_its_folder(stack, tmp_path):
    for name in ("tides.md", "wells.md", "sub/rain.md"):
        write(tmp_path / name, f"Text about {name}.")
    stack.json("import", str(write_corpus(tmp_path.parent / "other.jsonl")), "-c", "step", "--wait")
    assert sync(stack, tmp_path, "step") == {
        "tides.md": "NEW",
        "wells.md": "NEW",
        "sub~rain.md": "NEW",
    }
    assert count_states(stack, "step") == {"INDEXED": 4}
    write(tmp_path / "wells.md", "Another text.")
    (tmp_path / "tides.md").unlink()
    planned = sync(stack, tmp_path, "step", "--delete", "--dry-run")
    assert planned == {"wells.md": "CHANGED", "sub~rain.md": "UNCHANGED", "tides.md": "REMOVED"}
    assert sync(stack, tmp_path, "step") == planned | {"tides.md": "KEPT"}
    assert sync(stack, tmp_path, "step", "--delete") == {
        "wells.md": "UNCHANGED",
        "sub~rain.md": "UNCHANGED",
        "tides.md": "REMOVED",
    }
    # The document of another way stays, and its deletion is nothing that --delete was asked for.
    assert count_states(stack, "step") == {"INDEXED": 3}
    for_people = stack.run("sync", str(tmp_path), "-c", "step", "--delete")
    assert (for_people.returncode, for_people.stdout) == (
        0,
        "0 new, 0 changed, 2 unchanged, 0 removed, 0 failed\n",
    )


def test_a_file_that_fails_is_told_with_its_reason(stack, tmp_path):
    write(tmp_path / "good.md", "A good text.")
    write(tmp_path / "empty.md", "")
    write(tmp_path / "broken.pdf", "%PDF-1.7 and then nothing")
    done = stack.run("sync", str(tmp_path), "-c", "failing", "--json")
    changes = map(json.loads, done.stdout.splitlines())
    found = {one["document"].rpartition("/")[2]: one for one in changes}
    assert done.returncode == 1
    assert (found["good.md"]["state"], found["empty.md"]["reason"]) == ("INDEXED", "EMPTY_DOCUMENT")
    assert found["broken.pdf"]["state"] == "FAILED"
    assert found["broken.pdf"]["reason"]
    for_people = stack.run("sync", str(tmp_path), "-c", "failing")
    assert for_people.stdout.splitlines()[-1] == (
        "0 new, 0 changed, 1 unchanged, 0 removed, 2 failed"
    )
    assert count_states(stack, "failing") == {"INDEXED": 1, "FAILED": 1}
    listed = stack.json("documents", "-c", "failing", "--filter", 'state = FAILED AND reason != ""')
    assert [one["document"].rpartition("/")[2] for one in listed] == ["broken.pdf"]


def test_a_watch_follows_until_ctrl_c(stack, tmp_path):
    write(tmp_path / "a.md", "The first text.")
    options = ("-c", "watched", "--watch", "--delete", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "aquifer_cli", "sync", str(tmp_path), *options],
        env={**os.environ, "AQUIFER_HOME": str(stack.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )

    def take():
        one = json.loads(process.stdout.readline())
        return one["document"].rpartition("/")[2], one["change"], one["state"]

    try:
        assert take() == ("a.md", "NEW", "INDEXED")
        write(tmp_path / "b.md", "The second text.", age_s=0)
        assert take() == ("b.md", "NEW", "INDEXED")
        (tmp_path / "a.md").unlink()
        assert take() == ("a.md", "REMOVED", "REMOVED")
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(rest)["error"]["reason"] == "INTERRUPTED"
    assert count_states(stack, "watched") == {"INDEXED": 1}


def write_corpus(path, year="1987", count=1):
    rows = (
        {"_id": f"doc-{n}", "title": f"Title {n}", "text": f"Text {n}.", "metadata": {"year": year}}
        for n in range(count)
    )
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_corpus_that_is_imported_again_is_not_sent(stack, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", count=1_500)
    first = stack.json("import", str(corpus), "-c", "again", "--wait")
    assert Counter(one["state"] for one in first) == {"INDEXED": 1_500}
    before = stack.json("documents", "-c", "again")
    again = stack.json("import", str(corpus), "-c", "again", "--wait")
    assert Counter((one["state"], one["version"]) for one in again) == {("INDEXED", 1): 1_500}
    # A repeated upload would have its own trace.
    assert stack.json("documents", "-c", "again") == before


def test_other_metadata_of_the_same_bytes_takes_effect(stack, tmp_path):
    def find_year():
        [document] = stack.json("documents", "-c", "years")
        return document["version"], document["metadata"]["year"]

    for year in ("1987", "1988"):
        corpus = write_corpus(tmp_path / "corpus.jsonl", year=year)
        stack.json("import", str(corpus), "-c", "years", "--wait")
        assert find_year() == (1, year)
    # A folder does not touch what people have set on a document whose file has not changed.
    write(tmp_path / "folder/doc-0", "Title 0\n\nText 0.")
    assert sync(stack, tmp_path / "folder", "years") == {"doc-0": "UNCHANGED"}
    assert find_year() == (1, "1988")

"""The calculation of figures from measurements."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.trees import descendants
from tests.bench import corpus, processes, quality
from tests.bench.figures import Aim, Row, quantile


def test_ndcg_discounts_by_rank_and_is_one_for_the_best_order() -> None:
    relevant = frozenset({"a", "b"})
    assert quality.ndcg(["a", "b", "x"], relevant, 10) == pytest.approx(1.0)
    # Ranks 1 and 3: (1 + 1/2) over (1 + 1/log2(3)).
    assert quality.ndcg(["a", "x", "b"], relevant, 10) == pytest.approx(1.5 / 1.63092975)
    assert quality.ndcg(["x", "a"], relevant, 1) == 0


def test_recall_counts_only_what_is_within_the_depth() -> None:
    relevant = frozenset({"a", "b"})
    assert quality.recall(["a", "x", "b"], relevant, 2) == 0.5
    assert quality.recall(["a", "x", "b"], relevant, 3) == 1.0


def test_a_run_is_read_in_the_order_of_its_ranks() -> None:
    run = "q1 Q0 d2 1 0.9 aquifer\nq1 Q0 d1 2 0.8 aquifer\nq2 Q0 d3 1 0.7 aquifer\n"
    assert quality.read_run(run) == {"q1": ["d2", "d1"], "q2": ["d3"]}


@pytest.mark.parametrize(("ratio", "met"), [(1.5, True), (1.6, True), (1.7, False), (None, None)])
def test_an_aim_is_held_against_what_it_is_of(ratio: float | None, *, met: bool | None) -> None:
    aim = Aim(sense="<=", limit=1.6, of="ratio")
    assert Row(name="x", value=9.0, unit="s", ratio=ratio, aim=aim).met is met


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(each) for each in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51
    assert quantile(values, 0.95) == 96
    assert quantile([3.0], 0.95) == 3.0


def test_processor_time_and_memory_include_children() -> None:
    burn = "import time\nt = time.process_time()\nx = bytearray(64 << 20)\n"
    burn += "while time.process_time() < t + 0.3: pass\nprint(flush=True); time.sleep(60)"
    nest = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", nest], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        cpu_s, memory = processes.cpu_s(process.pid), processes.memory(process.pid)
        family = descendants(process.pid)
        for pid in (process.pid, *family):
            subprocess.run(["kill", "-9", str(pid)], check=True)
    assert 0.3 <= cpu_s < 5
    assert 64 < memory.total < 200
    assert memory.total >= memory.anonymous > 64


def test_processor_time_of_an_ended_child_is_its_parents() -> None:
    burn = "import time\nt = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    nest = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {burn!r}]);"
    nest += "print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", nest], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not descendants(process.pid)
        assert processes.cpu_s(process.pid) >= 0.3
        process.kill()


def test_the_client_is_counted_without_the_stack_below_it() -> None:
    client = {processes.CLIENT: os.getpid()}
    before, own_s = processes.cpu_by_part(client), time.process_time()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        while processes.cpu_s(child.pid) < 1:
            time.sleep(0.05)
        beside, beside_s = processes.cpu_by_part(client), time.process_time()
        child.kill()
    after, after_s = processes.cpu_by_part(client), time.process_time()
    for figures, used_s in ((beside, beside_s), (after, after_s)):
        assert abs(figures[processes.CLIENT] - before[processes.CLIENT] - used_s + own_s) < 0.1


def test_a_part_of_a_collection_is_judged_by_what_is_in_it(tmp_path: Path) -> None:
    documents = [{"_id": str(n), "title": "", "text": f"text {n}"} for n in (1, 2, 3)]
    documents.append({"_id": "4", "title": "empty", "text": " "})
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    queries = [{"_id": "a", "text": "one"}, {"_id": "b", "text": "three"}]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = "query-id\tcorpus-id\tscore\na\t1\t1\na\t2\t0\nb\t3\t1\n"
    (tmp_path / "qrels.tsv").write_text(judged)
    part = corpus.load(tmp_path, 2)
    assert (len(part.lines), part.whole) == (2, False)
    assert part.relevant == {"a": frozenset({"1"})}
    assert part.queries == [("a", "one")]
    assert len(corpus.load(tmp_path, None).lines) == 3


def test_a_generated_collection_is_always_the_same_and_can_be_answered(tmp_path: Path) -> None:
    made = corpus.load(tmp_path / "absent", 150)
    assert made == corpus.load(tmp_path / "absent", 150)
    texts = {row["_id"]: row["text"].lower() for row in map(json.loads, made.lines)}
    for query, question in made.queries[:20]:
        [answer] = made.relevant[query]
        rare = question.removeprefix("what is known of ").removesuffix(" ?").split()
        assert all(word in texts[answer] for word in rare)

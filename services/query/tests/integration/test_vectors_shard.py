"""What the embedded engine does when it finds damage while it runs."""

import json
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.base.errors import FailedPreconditionError, OverloadedError
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import SparseVector, encode_passage, encode_question
from query.retrieval.vector_store import (
    EVERYTHING,
    Point,
    Probe,
    Quantization,
    TenantScope,
)
from query.vectors import stores
from query.vectors.shard import Shard
from query.vectors.shard_errors import EngineBrokenError
from query.vectors.stores import Stores

ACME = TenantScope("acme")


def points(first: int, last: int) -> list[Point]:
    rows = np.random.default_rng(first).standard_normal((last - first, 8)).astype(np.float32)
    return [
        Point(
            point_id=str(uuid.UUID(int=number)),
            document="collections/c/documents/d",
            version=1,
            ordinal=number,
            dense=row,
            sparse=encode_passage(f"word{number} pump"),
        )
        for number, row in zip(range(first, last), rows, strict=True)
    ]


@pytest.fixture
def shard(tmp_path):
    one = Shard.create(tmp_path, 8)
    for first in range(1, 1001, 250):
        one.upsert(ACME, points(first, first + 250))
    one.flush()
    return one


def spoil(folder: Path, name: str, damage: bytes) -> None:
    [path] = folder.rglob(name)
    with path.open("r+b") as file:
        file.write(damage)


def read(shard: Shard) -> None:
    shard.scroll(ACME, EVERYTHING, start=None, limit=1000)


def test_a_sound_store_is_whole(shard):
    assert shard.is_whole()
    assert shard.count_points() == 1000


def engine_vectors(shard: Shard, ids: list[str]) -> np.ndarray:
    records = shard._shard.retrieve(ids, with_payload=False, with_vector=["dense"])
    found = {str(record.id): record.vector["dense"] for record in records}
    return np.array([found[point_id] for point_id in ids], dtype="<f4")


def cached_vectors(shard: Shard, ids: list[str]) -> np.ndarray:
    rows, missing = shard._cache.get(ACME.tenant, ids)
    assert missing == []
    return rows


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 1.0, 1.0000005, 50.0]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_vectors_at_hand_are_the_engines_bit_by_bit(shard, seed, scale):
    rows = np.random.default_rng(seed).standard_normal((20, 8))
    rows *= scale / np.linalg.norm(rows, axis=1, keepdims=True)
    written = [
        replace(one, dense=row.astype("<f4")) for one, row in zip(points(1, 21), rows, strict=True)
    ]
    shard.upsert(ACME, written)
    ids = [one.point_id for one in written]
    np.testing.assert_array_equal(cached_vectors(shard, ids), engine_vectors(shard, ids))


def test_a_store_opened_again_ranks_as_before(shard, tmp_path):
    """Its vectors come from the engine first, and are in memory then."""
    probe = Probe(dense=points(1, 2)[0].dense, sparse=encode_question("pump word7"))
    before = shard.search(ACME, probe)
    shard.close()
    again = Shard.load(tmp_path, 8)
    for _ in range(2):
        assert ranking(again.search(ACME, probe)) == ranking(before)
    again.close()


def ranking(found: Ranked) -> tuple[Sequence[str], Sequence[float]]:
    return found.point_ids, found.scores


@pytest.mark.parametrize(
    ("quantization", "found"),
    [(Quantization.NONE, 0.999), (Quantization.TURBO4, 0.999), (Quantization.TURBO2, 0.85)],
)
def test_the_scan_of_codes_finds_what_an_exact_scan_finds(tmp_path, quantization, found):
    """Also after points were replaced and removed, and after the store was opened again."""
    rng = np.random.default_rng(3)
    themes = rng.standard_normal((40, 64))

    def rows(count: int) -> np.ndarray:
        drawn = themes[rng.integers(0, 40, count)] + 0.4 * rng.standard_normal((count, 64))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype("<f4")

    numbered = dict(enumerate(rows(6_000), start=1))
    one = Shard.create(tmp_path, 64, quantization)
    write(one, numbered)
    moved = dict(zip(range(1, 6_000, 7), rows(858), strict=False))
    write(one, moved)
    numbered |= moved
    removed = range(3, 6_000, 11)
    for first in range(0, len(removed), 256):
        one.delete_points(ACME, [str(uuid.UUID(int=n)) for n in removed[first : first + 256]])
    kept = {n: row for n, row in numbered.items() if n not in removed}
    questions = rows(30)
    assert recall(one, kept, questions) >= found
    one.close()
    again = Shard.load(tmp_path, 64)
    assert recall(again, kept, questions) >= found
    again.close()


def write(shard: Shard, numbered: dict[int, np.ndarray]) -> None:
    numbers = list(numbered)
    for first in range(0, len(numbers), 256):
        shard.upsert(
            ACME,
            [
                replace(point, point_id=str(uuid.UUID(int=n)), dense=numbered[n])
                for n, point in zip(numbers[first : first + 256], points(1, 257), strict=False)
            ],
        )


def recall(shard: Shard, numbered: dict[int, np.ndarray], questions: np.ndarray) -> float:
    """Share of the 200 nearest that are found; the best ten of each question all are."""
    ids = np.array([str(uuid.UUID(int=n)) for n in numbered])
    matrix = np.stack(list(numbered.values()))
    shares = []
    for question in questions:
        nearest = ids[np.argsort(-(matrix @ question))]
        ranked = shard.search(ACME, Probe(dense=question, sparse=SparseVector((), ())))
        found = set(ranked.point_ids)
        assert found >= set(nearest[:10])
        shares.append(len(found & set(nearest[:200])) / 200)
    return float(np.mean(shares))


def test_searches_see_whole_rows_while_points_come_and_go(shard):
    over = threading.Event()
    states = [points(1, 51), [replace(one, dense=-one.dense) for one in points(1, 51)]]
    ids = [point.point_id for point in states[0]]

    def churn() -> None:
        while not over.is_set():
            for state in states:
                shard.delete_points(ACME, ids)
                shard.upsert(ACME, state)

    probe = Probe(dense=states[0][0].dense, sparse=encode_question("pump"))
    with ThreadPoolExecutor(1) as pool:
        churned = pool.submit(churn)
        try:
            for _ in range(150):
                found = shard.search(ACME, probe)
                # The lists have 200; what is removed before its vector is read is left out.
                assert len(set(found.point_ids)) == len(found.point_ids) >= 150
                assert np.isfinite(found.scores).all()
        finally:
            over.set()
        churned.result(10)
    shard.search(ACME, probe)
    np.testing.assert_array_equal(cached_vectors(shard, ids), engine_vectors(shard, ids))


@pytest.mark.parametrize("damage", [b"\xff" * 8192, b"\x01\0\0\0" * 2048], ids=["panic", "error"])
def test_a_read_over_damage_breaks_the_engine(shard, tmp_path, damage):
    spoil(tmp_path, "payload_storage/tracker.dat", damage)
    with pytest.raises(EngineBrokenError):
        read(shard)
    assert not shard.is_whole()


def test_a_write_that_fails_breaks_the_engine(shard, tmp_path):
    """It would refuse every later write: only opening the store anew helps."""
    spoil(tmp_path, "payload_index/*document-map/page_0.dat", b"\xff" * 8192)
    with pytest.raises(EngineBrokenError):
        shard.delete_points(ACME, [points(1, 2)[0].point_id])


def test_a_call_that_meets_a_dropped_store_finds_none(shard):
    shard.close()
    with pytest.raises(FailedPreconditionError) as missing:
        read(shard)
    assert missing.value.reason == "STORE_MISSING"


def test_changes_wait_in_the_log_until_a_flush_is_due(tmp_path):
    some = Stores(tmp_path, uuid.uuid4)
    some.prepare("p", 8)
    shard = some.get("p")
    shard.upsert(ACME, points(1, 101))
    assert shard.delete_points(ACME, [one.point_id for one in points(1, 5)]) == 4
    shard.describe(ACME, "collections/c/documents/d", ("hr",), {})
    assert shard.count_points() == 96
    assert shard.unflushed == 105
    some.flush(least=106)
    assert shard.unflushed == 105
    some.flush(least=105)
    assert shard.unflushed == 0
    some.close()


def test_a_store_keeps_the_codes_it_was_created_with(tmp_path):
    first = Stores(tmp_path, uuid.uuid4, Quantization.TURBO2)
    first.prepare("p", 64)
    first.close()
    # As stores from before codes were a setting.
    record = json.loads((tmp_path / "p/store.json").read_text())
    assert record.pop("quantization") == "turbo2"
    again = Stores(tmp_path, uuid.uuid4, Quantization.NONE)
    again.load()
    assert json.loads((tmp_path / "p/store.json").read_text())["quantization"] == "turbo2"
    again.drop("p")
    again.prepare("p", 64)
    again.close()
    assert json.loads((tmp_path / "p/store.json").read_text())["quantization"] == "none"
    (tmp_path / "p/store.json").write_text(json.dumps(record | {"points": 0}))
    old = Stores(tmp_path, uuid.uuid4)
    old.load()
    old.close()
    assert json.loads((tmp_path / "p/store.json").read_text())["quantization"] == "turbo4"


def test_a_full_disk_stops_writes_and_sets_nothing_aside(tmp_path, monkeypatch):
    kept = Stores(tmp_path, uuid.uuid4)
    kept.prepare("p", 8)
    kept.close()
    (tmp_path / "p" / "store.json").write_text("")
    monkeypatch.setattr(stores, "FREE_MIN_BYTES", 2**62)
    full = Stores(tmp_path, uuid.uuid4)
    for call in (full.check_space, full.load, lambda: full.prepare("q", 8)):
        with pytest.raises(OverloadedError) as refused:
            call()
        assert refused.value.reason == "DISK_FULL"
    assert (tmp_path / "p" / "shard").is_dir()


def test_stores_are_bounded_in_number(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "STORES_MAX", 2)
    some = Stores(tmp_path, uuid.uuid4)
    for number in range(stores.STORES_MAX):
        some.prepare(f"p{number}", 8)
    with pytest.raises(OverloadedError) as refused:
        some.prepare("one-more", 8)
    assert refused.value.reason == "STORES_FULL"
    some.drop("p0")
    assert some.prepare("one-more", 8).points == 0
    some.close()


def test_a_store_half_made_is_made_again(tmp_path):
    (tmp_path / ".new" / "p" / "shard").mkdir(parents=True)
    (tmp_path / ".new" / "p" / "shard" / "edge_config.json").write_text("{")
    some = Stores(tmp_path, uuid.uuid4)
    some.load()
    assert some.prepare("p", 8).points == 0
    some.close()

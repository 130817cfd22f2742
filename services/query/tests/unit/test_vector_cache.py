import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from query.vectors.vector_cache import VectorCache

WIDTH = 4
CAPACITY = 5


def row(number: int) -> np.ndarray:
    return np.full(WIDTH, number, dtype="<f4")


def cache(capacity: int = CAPACITY) -> VectorCache:
    return VectorCache(WIDTH, capacity * WIDTH * 4)


def read_known(one: VectorCache, tenant: str, *ids: str) -> dict[str, float]:
    rows, missing = one.get(tenant, ids)
    return {ids[n]: float(rows[n][0]) for n in range(len(ids)) if n not in missing}


def test_what_was_put_is_known_to_its_tenant_alone():
    one = cache()
    one.put("acme", [("a", row(1)), ("b", row(2))])
    assert read_known(one, "acme", "b", "x", "a") == {"b": 2, "a": 1}
    assert read_known(one, "evil", "a", "b") == {}


def test_the_oldest_make_capacity():
    one = cache()
    one.put("acme", [(str(n), row(n)) for n in range(CAPACITY)])
    one.put("acme", [("0", row(10))])  # written again: the newest now
    one.put("acme", [("new", row(11))])
    assert read_known(one, "acme", "0", "1", "2", "new") == {"0": 10, "2": 2, "new": 11}


def test_more_at_once_than_there_is_capacity_for():
    one = cache()
    one.put("acme", [(str(n), row(n)) for n in range(3 * CAPACITY)])
    ids = [str(n) for n in range(3 * CAPACITY)]
    assert read_known(one, "acme", *ids) == {str(n): n for n in range(2 * CAPACITY, 3 * CAPACITY)}


def test_what_was_read_before_a_write_is_not_kept():
    one = cache()
    before = one.writes
    one.forget("acme", ["a"])
    one.put_if_unchanged("acme", [("a", row(1))], writes=before)
    assert read_known(one, "acme", "a") == {}
    one.put("acme", [("a", row(2))])
    one.put_if_unchanged("acme", [("a", row(1))], writes=before)
    assert read_known(one, "acme", "a") == {"a": 2}
    one.put_if_unchanged("acme", [("b", row(3))], writes=one.writes)
    assert read_known(one, "acme", "b") == {"b": 3}


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "forget"]), st.sampled_from("ab"), st.integers(0, 7)),
    max_size=60,
)


@given(steps=STEPS)
def test_what_is_known_is_what_was_written_last(steps):
    one, truth = cache(), {}
    for number, (step, tenant, point) in enumerate(steps):
        if step == "put":
            one.put(tenant, [(str(point), row(number))])
            truth[tenant, str(point)] = number
        else:
            one.forget(tenant, [str(point)])
            truth.pop((tenant, str(point)), None)
        for owner in "ab":
            for point_id, value in read_known(one, owner, *map(str, range(8))).items():
                assert truth[owner, point_id] == value
    kept = sum(len(read_known(one, owner, *map(str, range(8)))) for owner in "ab")
    assert kept == min(len(truth), CAPACITY) or kept <= CAPACITY

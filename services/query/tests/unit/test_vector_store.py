import numpy as np
import pytest

from chassis.base.errors import InvalidInputError
from query.names import collection_of
from query.retrieval.lexical import SparseVector
from query.retrieval.vector_store import (
    FILTER_VALUES_MAX,
    Filter,
    Point,
    Probe,
    TenantScope,
    check_profile,
)

GOOD = {
    "point_id": "0b0e6f0e-6d2c-5f6e-9a53-2f0d1c1b7a11",
    "document": "collections/manuals/documents/pump-7",
    "version": 1,
    "ordinal": 0,
    "dense": np.ones(3, dtype=np.float32),
    "sparse": SparseVector((), ()),
}


def test_a_well_formed_point_is_accepted():
    assert Point(**GOOD).document == GOOD["document"]
    assert collection_of(GOOD["document"]) == "collections/manuals"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("point_id", "7", "POINT_ID_INVALID"),
        ("point_id", "0B0E6F0E-6D2C-5F6E-9A53-2F0D1C1B7A11", "POINT_ID_INVALID"),
        ("document", "manuals/pump-7", "DOCUMENT_NAME"),
        ("document", "collections/manuals/documents/../secret", "DOCUMENT_NAME"),
        ("document", "collections/manuals/documents/x\n", "DOCUMENT_NAME"),
        ("version", 0, "POINT_INVALID"),
        ("version", 2**63, "POINT_INVALID"),
        ("ordinal", -1, "POINT_INVALID"),
        ("dense", np.array([1.0, np.nan], dtype=np.float32), "VECTOR_INVALID"),
        ("dense", np.ones((2, 2), dtype=np.float32), "VECTOR_INVALID"),
    ],
)
def test_a_malformed_point_is_refused(field, value, reason):
    with pytest.raises(InvalidInputError) as refused:
        Point(**{**GOOD, field: value})
    assert refused.value.reason == reason


@pytest.mark.parametrize("tenant", ["", "Acme", "a" * 64, "a b", "a\n", "*"])
def test_a_scope_needs_a_tenant(tenant):
    with pytest.raises(InvalidInputError):
        TenantScope(tenant)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"collections": frozenset({"manuals"})},
        {"documents": frozenset({"collections/manuals"})},
        {"version": 0},
        {"collections": frozenset(f"collections/c{n}" for n in range(FILTER_VALUES_MAX + 1))},
    ],
)
def test_a_malformed_filter_is_refused(kwargs):
    with pytest.raises(InvalidInputError):
        Filter(**kwargs)


@pytest.mark.parametrize(
    "bounds", [{"depth": 0}, {"depth": 201}, {"depth": -1}, {"limit": 0}, {"limit": 101}]
)
def test_a_search_is_bounded(bounds):
    with pytest.raises(InvalidInputError) as refused:
        Probe(dense=None, sparse=SparseVector((), ()), **bounds)
    assert refused.value.reason == "LIMIT_RANGE"


@pytest.mark.parametrize("profile", ["", ".", "..", ".hidden", "a/b", "a b", "é", "x" * 128])
def test_a_profile_can_name_a_folder(profile):
    with pytest.raises(InvalidInputError):
        check_profile(profile)

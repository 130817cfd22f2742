"""Whatever is asked, the tenant is asked for exactly once, by both builders of queries."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models

from query.filters.points import ask_points
from query.retrieval.lexical import SparseVector
from query.retrieval.vector_store import Filter, Probe, TenantScope
from query.vectors import qdrant, qdrant_filters, shard_filters
from services.query.tests.filters import EXPRESSIONS

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,20}", fullmatch=True)
COLLECTIONS = NAMES.map("collections/{}".format)
DOCUMENTS = st.tuples(NAMES, NAMES).map(lambda pair: "collections/{}/documents/{}".format(*pair))
FILTERS = st.builds(
    Filter,
    collections=st.frozensets(COLLECTIONS, max_size=3),
    documents=st.frozensets(DOCUMENTS, max_size=3),
    version=st.none() | st.integers(1, 9),
    where=st.none() | EXPRESSIONS.map(ask_points),
    live_only=st.booleans(),
)
SCOPES = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True).map(TenantScope)
PROBES = st.builds(
    Probe,
    dense=st.none() | st.just(np.ones(3, dtype=np.float32)),
    sparse=st.sampled_from([SparseVector((), ()), SparseVector((1, 2), (1.0, 1.0))]),
    depth=st.integers(1, 200),
    within=FILTERS,
)


def tenants(where: models.Filter) -> list[str]:
    """Tenants a filter demands; a filter that offers alternatives demands nothing."""
    assert where.should is None
    assert where.min_should is None
    [demanded] = [one for one in where.must if getattr(one, "key", None) == "tenant"]
    return demanded.match.any


def partitions(scope: TenantScope, within: Filter) -> list[str]:
    return [scope.tenant] if within.live_only else [scope.tenant, f"{scope.tenant}~"]


@given(scope=SCOPES, probe=PROBES)
def test_every_query_to_a_server_demands_the_tenant_once(scope, probe):
    requests = qdrant.build_queries(scope, probe)
    assert len(requests) == (probe.dense is not None) + bool(probe.sparse.indices)
    for request in requests:
        assert tenants(request.filter) == partitions(scope, probe.within)
        assert request.prefetch is None
        if request.using == qdrant.SPARSE:
            assert tenants(request.params.idf.corpus) == partitions(scope, probe.within)


@given(scope=SCOPES, within=FILTERS, ids=st.lists(st.uuids().map(str), max_size=3))
def test_every_other_filter_for_a_server_demands_the_tenant_once(scope, within, ids):
    also = [models.HasIdCondition(has_id=ids)] if ids else []
    where = qdrant_filters.tenant_filter(scope, within, also=also)
    assert tenants(where) == partitions(scope, within)


@given(scope=SCOPES, within=FILTERS)
def test_every_filter_for_the_engine_demands_the_tenant_once(scope, within):
    where = shard_filters.filter_points(scope, within)
    named = [one for one in where.must if getattr(one, "key", None) in ("tenant", "collection")]
    [condition] = named
    stored = condition.match.value
    values = [stored] if isinstance(stored, str) else list(stored)
    expected = partitions(scope, within)
    if within.collections:
        expected = [f"{one}/{name}" for one in expected for name in within.collections]
    assert condition.key == ("collection" if within.collections else "tenant")
    assert sorted(values) == sorted(expected)
    assert not where.should
    assert not where.must_not

"""A vector process that starts on an older copy of its folder."""

import shutil
import uuid

import pytest

from query.retrieval.vector_store import TenantScope
from stack.programs import Vectors

from .test_reconcile import reconcile

ACME = TenantScope("acme")
KEPT, REMOVED, ADDED = (f"collections/manuals/documents/{name}" for name in ("a", "b", "c"))


@pytest.fixture
def engine(servers_folder, guardian):
    """A vector process for one test, which stops it."""
    folder = servers_folder / uuid.uuid4().hex[:8]
    with Vectors(
        folder / "data",
        socket_path=folder / "socket",
        guardian=guardian,
        log=servers_folder / "restored.log",
    ) as engine:
        yield engine


async def test_a_restored_copy_is_repaired_and_never_shows_what_was_removed_since(world, engine):
    """By reconciling: the numbers of points and passages agree, so nothing else would notice."""
    await world.deliver(world.embedded("impeller kept", document=KEPT))
    await world.deliver(world.embedded("impeller removed", document=REMOVED))
    old_points = await world.points()
    copy = engine.data.with_name("copy")
    engine.stop()
    shutil.copytree(engine.data, copy)
    engine.start()
    await world.purge(1, REMOVED)
    await world.deliver(world.embedded("impeller added", document=ADDED))
    points, store_id = await world.points(), (await world.vectors.info()).store_id
    engine.stop()
    shutil.rmtree(engine.data)
    copy.rename(engine.data)
    engine.start()
    assert await world.points() == old_points
    # The store has the id that PostgreSQL knows, so it is used at once.
    assert (await world.vectors.info()).store_id == store_id
    assert await world.search("impeller") == ["impeller kept"]
    await world.rebuild.run()
    assert await world.points() == old_points
    assert await reconcile(world) == {"POINT_MISSING": (1, 1), "POINT_ORPHANED": (1, 1)}
    assert await world.points() == points
    assert sorted(await world.search("impeller")) == ["impeller added", "impeller kept"]
    assert await reconcile(world) == {}

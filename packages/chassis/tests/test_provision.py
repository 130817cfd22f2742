"""Provisioning is idempotent, repairs drift, and leaves alone what it does not know."""

from nats.js.api import StreamConfig

from chassis.events import topology
from chassis.events.provision import provision


async def test_a_second_run_changes_nothing(bus):
    async with bus.connect("provisioner") as admin:
        assert await provision(admin.jetstream, replicas=1, apply=True) == []


async def test_drift_is_shown_and_repaired(bus):
    async with bus.connect("provisioner") as admin:
        info = await admin.jetstream.stream_info("UPLOADS")
        info.config.max_age = 3600
        await admin.jetstream.update_stream(info.config)
        shown = await provision(admin.jetstream, replicas=1, apply=False)
        assert [(change.name, change.action) for change in shown] == [("UPLOADS", "update")]
        await provision(admin.jetstream, replicas=1, apply=True)
        assert await provision(admin.jetstream, replicas=1, apply=False) == []


async def test_a_lost_durable_is_made_again(bus):
    durable = topology.durables()[0]
    async with bus.connect("provisioner") as admin:
        await admin.jetstream.delete_consumer(durable.stream, durable.name)
        [change] = await provision(admin.jetstream, replicas=1, apply=True)
        assert (change.name, change.action) == (durable.name, "create")


async def test_a_stream_of_somebody_else_is_left_alone(bus):
    async with bus.connect("provisioner") as admin:
        await admin.jetstream.add_stream(StreamConfig(name="THEIRS", subjects=["theirs.>"]))
        [change] = await provision(admin.jetstream, replicas=1, apply=True)
        assert (change.name, change.action) == ("THEIRS", "unknown")
        assert (await admin.jetstream.stream_info("THEIRS")).config.name == "THEIRS"


async def test_everything_fits_the_brokers_store(bus):
    reserved = sum(stream.max_bytes for stream in topology.streams())
    assert reserved <= bus.server.max_file_bytes

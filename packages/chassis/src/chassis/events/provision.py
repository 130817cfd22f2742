"""Creates and updates the broker's streams and durables as the contract declares them.

`python -m chassis.events.provision apply` creates what is missing, updates what differs and prints
each step; `diff` only prints. Both are idempotent. A stream that the contract does not name is
reported and left alone, because it may hold messages. No other program changes streams.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from typing_extensions import override

from chassis.events import topology
from chassis.events.bus import open_bus
from chassis.events.topology import Durable, Stream

VERSION_FLOOR = (2, 12)


@dataclass(frozen=True, slots=True)
class Change:
    """One step towards the declared state."""

    kind: str
    name: str
    action: str
    detail: str = ""

    @override
    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.action:9}{self.kind:8}{self.name}{detail}"


def stream_config(stream: Stream, replicas: int) -> StreamConfig:
    """JetStream's configuration of a declared stream."""
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy(stream.retention),
        discard=DiscardPolicy(stream.discard),
        discard_new_per_subject=stream.discard_new_per_subject,
        max_age=stream.max_age_s,
        max_bytes=stream.max_bytes,
        max_msg_size=stream.max_msg_bytes,
        max_msgs_per_subject=stream.max_msgs_per_subject,
        duplicate_window=stream.duplicate_window_s,
        allow_direct=stream.allow_direct,
        storage=StorageType.FILE,
        num_replicas=replicas,
    )


def consumer_config(durable: Durable) -> ConsumerConfig:
    """JetStream's configuration of a declared durable."""
    return ConsumerConfig(
        durable_name=durable.name,
        filter_subject=durable.subject,
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        ack_wait=durable.ack_wait_s,
        max_deliver=durable.max_deliver,
        max_ack_pending=durable.max_ack_pending,
    )


async def provision(jetstream: JetStreamContext, *, replicas: int, apply: bool) -> list[Change]:
    """Compares streams and durables with the contract; changes them if `apply` is set.

    Returns the steps in order.
    """
    changes = []
    for stream in topology.streams():
        changes += await _provision_stream(jetstream, stream_config(stream, replicas), apply=apply)
    for durable in topology.durables():
        changes += await _provision_durable(jetstream, durable, apply=apply)
    known = {stream.name for stream in topology.streams()}
    for info in await jetstream.streams_info():
        if info.config.name not in known:
            changes.append(Change("stream", str(info.config.name), "unknown", "left alone"))
    return changes


async def _provision_stream(
    js: JetStreamContext, config: StreamConfig, *, apply: bool
) -> list[Change]:
    assert config.name is not None
    try:
        current = (await js.stream_info(config.name)).config
    except NotFoundError:
        if apply:
            await js.add_stream(config)
        return [Change("stream", config.name, "create")]
    wrong = _find_differences(config, current)
    if not wrong:
        return []
    if apply:
        await js.update_stream(config)
    return [Change("stream", config.name, "update", ", ".join(wrong))]


async def _provision_durable(
    js: JetStreamContext, durable: Durable, *, apply: bool
) -> list[Change]:
    config = consumer_config(durable)
    try:
        current = (await js.consumer_info(durable.stream, durable.name)).config
    except NotFoundError:
        if apply:
            await js.add_consumer(durable.stream, config)
        return [Change("durable", durable.name, "create")]
    wrong = _find_differences(config, current)
    if not wrong:
        return []
    if apply:
        await js.add_consumer(durable.stream, config)
    return [Change("durable", durable.name, "update", ", ".join(wrong))]


def _find_differences(wanted: StreamConfig | ConsumerConfig, current: object) -> list[str]:
    """Declared fields that differ; fields that the contract leaves open are not compared."""
    return [
        f"{field} {getattr(current, field, None)} -> {value}"
        for field, value in _list_settings(wanted)
        if getattr(current, field, None) != value
    ]


def _list_settings(config: StreamConfig | ConsumerConfig) -> Iterator[tuple[str, object]]:
    for field in config.__dataclass_fields__:
        value = getattr(config, field)
        if value is not None and field != "name":
            yield field, value


async def _run(arguments: argparse.Namespace) -> int:
    environment = os.environ
    url = environment["AQUIFER_NATS_URL"]
    user = environment.get("AQUIFER_NATS_USER", "provisioner")
    password = environment.get("AQUIFER_NATS_PASSWORD", "")
    async with asyncio.timeout(arguments.timeout):
        async with open_bus(url, user, password, name="provision", lost=lambda: None) as bus:
            await bus.wait_until_connected()
            version = bus.client.connected_server_version
            if (version.major, version.minor) < VERSION_FLOOR:
                sys.stderr.write(f"nats-server {version} is too old: 2.12 or newer is needed\n")
                return 1
            changes = await provision(
                bus.jetstream, replicas=arguments.replicas, apply=arguments.action == "apply"
            )
    for change in changes:
        sys.stdout.write((json.dumps(asdict(change)) if arguments.json else str(change)) + "\n")
    if not changes and not arguments.json:
        sys.stdout.write("streams and durables match the contract; nothing to do\n")
    return 0


def main() -> int:
    """Runs the command. Exit code 0: done. 1: the broker refused or did not answer."""
    parser = argparse.ArgumentParser(prog="python -m chassis.events.provision", description=__doc__)
    parser.add_argument("action", choices=["apply", "diff"])
    parser.add_argument("--replicas", type=int, default=1, help="copies of each stream (1, 3, 5)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for the whole run")
    parser.add_argument("--json", action="store_true", help="one object a line")
    try:
        return asyncio.run(_run(parser.parse_args()))
    except KeyError as error:
        sys.stderr.write(f"set {error.args[0]}\n")
    except (NatsError, JetStreamError, TimeoutError, OSError) as error:
        sys.stderr.write(f"the broker refused or did not answer: {type(error).__name__}: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

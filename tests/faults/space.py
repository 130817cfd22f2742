"""The broker has no space for some seconds: its disk takes nothing, or its streams do not."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy
from nats.js.errors import Error as JetStreamError

from chassis.events import topology
from chassis.events.provision import provision, stream_config
from stack.nats import Nats
from tests.faults.evidence import jetstream

PROBES = 5
PROBE_S = 0.2
SILENT = (NatsError, JetStreamError, OSError)


@contextmanager
def disk_is_full(nats: Nats) -> Iterator[None]:
    """No file of the broker may grow: each write fails in the kernel, as on a full disk.

    The failure is EFBIG in place of ENOSPC; the broker treats both alike, as a critical write error
    of the stream. It wants no mount and touches no other process.
    """
    pid = nats.pid
    if pid is None:  # it is down just now: nothing can be written to it either
        yield
        return
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, most))
        yield
    finally:
        with suppress(ProcessLookupError):  # killed meanwhile; the next process has no such limit
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def has_recovered(nats: Nats) -> bool:
    """Whether the broker serves again by itself, now that there is space."""
    for _ in range(PROBES):
        if nats.is_ready():
            return True
        time.sleep(PROBE_S)
    return False


@asynccontextmanager
async def streams_are_full(nats: Nats) -> AsyncIterator[None]:
    """Streams that refuse when full hold no more than they do now; the contract's bounds after.

    A broker that is started meanwhile is given the contract's bounds at once, as always.
    """
    with suppress(*SILENT):  # it is down just now, and takes nothing
        async with jetstream(nats) as js:
            for stream in topology.streams():
                config = stream_config(stream, 1)
                if config.discard is DiscardPolicy.NEW:
                    state = (await js.stream_info(stream.name)).state
                    await js.update_stream(replace(config, max_bytes=max(1, state.bytes)))
    try:
        yield
    finally:
        await _restore_bounds(nats)


async def _restore_bounds(nats: Nats) -> None:
    while True:
        try:
            async with jetstream(nats) as js:
                await provision(js, replicas=1, apply=True)
        except SILENT:  # it is killed or stopped, for a bounded time
            await asyncio.sleep(PROBE_S)
        else:
            return

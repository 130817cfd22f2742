"""TCP ports of 127.0.0.1 for the parts of the stack."""

import random
import socket
from collections.abc import Sequence

from chassis.base.errors import FailedPreconditionError

LOOPBACK = "127.0.0.1"
# Below 32768, where Linux starts the ports of outgoing connections: a client that keeps connecting
# to a stopped server could otherwise get the port of that server and hold it.
_FIRST = 20_000
_LAST = 32_000
_TRIES = 200


def free_ports(count: int) -> list[int]:
    """Different free ports, chosen at random.

    Raises:
        FailedPreconditionError: NO_FREE_PORT.
    """
    held: list[socket.socket] = []
    try:
        for port in random.SystemRandom().sample(range(_FIRST, _LAST), _TRIES + count):
            if len(held) == count:
                break
            taken = _bind(port)
            if taken:
                held.append(taken)
        if len(held) < count:
            raise FailedPreconditionError(
                "NO_FREE_PORT", f"no {count} free ports on {LOOPBACK}; stop other programs"
            )
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def ports_from(base: int, count: int) -> Sequence[int]:
    """`count` ports from `base` on.

    Raises:
        FailedPreconditionError: PORT_IN_USE.
    """
    for port in range(base, base + count):
        taken = _bind(port)
        if taken is None:
            raise FailedPreconditionError(
                "PORT_IN_USE", f"{LOOPBACK}:{port} is not free; try another --base-port", port=port
            )
        taken.close()
    return range(base, base + count)


def is_listening(port: int, timeout_s: float = 0.5) -> bool:
    """True if a server on 127.0.0.1 accepts a connection on `port`."""
    try:
        socket.create_connection((LOOPBACK, port), timeout_s).close()
    except OSError:
        return False
    return True


def _bind(port: int) -> socket.socket | None:
    candidate = socket.socket()
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        candidate.bind((LOOPBACK, port))
    except OSError:
        candidate.close()
        return None
    return candidate

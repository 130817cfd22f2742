"""Limits of messages and connections, for servers and channels."""

from typing import Final

MESSAGE_MAX_BYTES = 4 * 1024 * 1024
METADATA_MAX_BYTES = 16 * 1024
STREAMS_PER_CONNECTION = 256
# Calls without a token cost processor time before they are refused: the fewer of them a connection
# can have open, the shorter all others wait.
STREAMS_PER_OPEN_CONNECTION = 32

Options = tuple[tuple[str, int], ...]

SERVER_OPTIONS: Final[Options] = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_metadata_size", METADATA_MAX_BYTES),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Less than the documented 10 s, because the network can bring pings closer together.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A second process on the port must fail instead of sharing its calls.
    ("grpc.so_reuseport", 0),
)


def limit_streams(options: Options) -> Options:
    """The options of a server that callers without a token can reach."""
    fewer = {"grpc.max_concurrent_streams": STREAMS_PER_OPEN_CONNECTION}
    return tuple((dict(options) | fewer).items())

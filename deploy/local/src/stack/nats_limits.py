"""What a connection to the event bus can use up, whoever opens it. Containers have the same limits.

Everything a user may publish and subscribe to is in its permissions; these limits bound the rest,
before authentication as well. A client that opens connections as fast as it can still keeps others
from connecting, but not those who are connected: untrusted networks must not reach the port.
"""

from collections.abc import Mapping

_MIB = 1 << 20

MAX_PAYLOAD_BYTES = _MIB
# About 30 kB each. By default 65,536: more than the files a process may open.
MAX_CONNECTIONS = 1_024
AUTHENTICATE_WITHIN_S = 2
# A service has one for each stream it pulls from and for its replies. By default without limit.
MAX_SUBSCRIPTIONS = 256
# The longest subject of the contract has 8. By default without limit.
MAX_SUBJECT_TOKENS = 16
# Also the limit of what is read from a connection before it is authenticated.
MAX_CONTROL_LINE_BYTES = 4_096
# What waits for a reader: ingest can have thirty pulls of 2 MiB open.
MAX_PENDING_BYTES = 64 * _MIB
# A reader that takes nothing for so long is disconnected.
WRITE_WITHIN_S = 10
# Three unanswered pings end a connection whose other end is lost. By default after six minutes.
PING_EVERY_S = 30
PINGS_UNANSWERED = 2

LIMITS: Mapping[str, object] = {
    "max_payload": MAX_PAYLOAD_BYTES,
    "max_connections": MAX_CONNECTIONS,
    "authorization": {"timeout": AUTHENTICATE_WITHIN_S},
    "max_subscriptions": MAX_SUBSCRIPTIONS,
    "max_subscription_tokens": MAX_SUBJECT_TOKENS,
    "max_control_line": MAX_CONTROL_LINE_BYTES,
    "max_pending": MAX_PENDING_BYTES,
    "write_deadline": f"{WRITE_WITHIN_S}s",
    "ping_interval": f"{PING_EVERY_S}s",
    "ping_max": PINGS_UNANSWERED,
}

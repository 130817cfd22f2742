"""The services of the platform, once: what lists them reads it here.

Streams and grants of the bus, roles and schemas of the database, keys, ports and processes of the
local stack, and the command follow from these entries. A new service is one entry more.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service: a package `aquifer.<name>` of the contract and a program `python -m <name>`.

    Attributes:
        name: also its NATS user, its database role and its schema.
        tables: whether it owns a schema, and migrates it.
        keyed: whether it calls others, for which it needs a key of its own.
    """

    name: str
    tables: bool
    keyed: bool = True


# In the order of their ports.
SERVICES: Final = (
    Service(name="auth", tables=True, keyed=False),
    Service(name="inference", tables=False),
    Service(name="query", tables=True),
    Service(name="ingest", tables=True),
)

NAMES: Final = tuple(service.name for service in SERVICES)
WITH_TABLES: Final = tuple(service.name for service in SERVICES if service.tables)
WITH_KEY: Final = tuple(service.name for service in SERVICES if service.keyed)


def address_variable(name: str) -> str:
    """Environment variable that holds the address (host:port) of a service."""
    return f"AQUIFER_{name.upper()}_ADDRESS"

"""Create keys of services; this needs access to the database."""

from collections.abc import Callable
from dataclasses import dataclass

from aquifer import services
from auth.domain import INTERNAL, SCOPES, SYSTEM_TENANT, Actor, ApiKey, make_lasting_key
from auth.keys import KeyText, Peppers
from auth.usecases.api_keys import add_key
from auth.usecases.ports import Clock, Registry
from chassis.base.errors import FailedPreconditionError

SERVICES = services.WITH_KEY
SERVICE_SCOPES = (INTERNAL, "models")

_ISSUER = Actor(
    tenant_id=SYSTEM_TENANT, principal="service-key", key_id="", scopes=frozenset(SCOPES)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueServiceKey:
    """Creates another key for a service; its existing keys stay valid.

    `keep` gets the key before the commit; if it raises, nothing is created.

    Raises:
        FailedPreconditionError: NOT_FOUNDED, the platform has no keys yet.
    """

    registry: Registry
    peppers: Peppers
    clock: Clock
    new_key: Callable[[], KeyText]

    async def run(self, service: str, keep: Callable[[KeyText], None]) -> ApiKey:
        text = self.new_key()
        key = make_lasting_key(
            text.key_id, SYSTEM_TENANT, name=service, scopes=SERVICE_SCOPES, now=self.clock()
        )
        async with self.registry.begin(SYSTEM_TENANT) as records:
            if await records.find_tenant() is None:
                raise FailedPreconditionError(
                    "NOT_FOUNDED", "the platform has no keys; run `auth bootstrap` first"
                )
            await add_key(records, _ISSUER, key, self.peppers.proof(text), request_id="")
            keep(text)
        return key

"""Keys of the services themselves, which only who holds the database can make."""

from collections.abc import Callable
from dataclasses import dataclass

from aquifer import services
from auth.domain import INTERNAL, SCOPES, SYSTEM_TENANT, Actor, ApiKey, lasting_key
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
    """Makes a further key of a service; those it has go on until they end or are revoked.

    `keep` is given the key before it counts: what it raises undoes everything.

    Raises:
        FailedPreconditionError: NOT_FOUNDED, the platform has no keys yet.
    """

    registry: Registry
    peppers: Peppers
    clock: Clock
    new_key: Callable[[], KeyText]

    async def __call__(self, service: str, keep: Callable[[KeyText], None]) -> ApiKey:
        text = self.new_key()
        key = lasting_key(
            text.key_id, SYSTEM_TENANT, name=service, scopes=SERVICE_SCOPES, now=self.clock()
        )
        async with self.registry.within(SYSTEM_TENANT) as records:
            if await records.tenant() is None:
                raise FailedPreconditionError("NOT_FOUNDED", "`auth bootstrap` comes first")
            await add_key(records, _ISSUER, key, self.peppers.proof(text), request_id="")
            keep(text)
        return key

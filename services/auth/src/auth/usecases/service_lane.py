"""Recognises the keys of services, so that their exchanges wait for nobody else's."""

import asyncio
import logging
from dataclasses import dataclass, field

from auth.domain import SYSTEM_TENANT
from auth.keys import KeyText, Peppers, Proof
from auth.usecases.ports import Registry
from chassis.base.errors import ServiceError

log = logging.getLogger(__name__)

RENEW_S = 60.0
RETRY_S = 1.0
# Four services with a few keys each, while they are replaced.
KEYS_MAX = 100


@dataclass(slots=True, kw_only=True)
class ServiceKeys:
    """The services' keys, in memory. The database still decides whether a key is valid."""

    registry: Registry
    peppers: Peppers
    _proofs: dict[str, Proof] = field(default_factory=dict)

    def recognise(self, key: KeyText) -> bool:
        """True if this is the key of a service, secret included: its id alone proves nothing."""
        stored = self._proofs.get(key.key_id)
        return stored is not None and self.peppers.confirm(key, stored)

    async def load(self) -> None:
        """Reads the newest keys of the services."""
        async with self.registry.begin(SYSTEM_TENANT) as records:
            keys = await records.list_keys(KEYS_MAX, None)
        found = [await self.registry.find_credential(key.key_id) for key in keys]
        self._proofs = {one.key.key_id: one.proof for one in found if one}

    async def follow(self) -> None:
        """Loads the keys again and again; never returns."""
        while True:
            pause_s = RENEW_S
            try:
                await self.load()
            except ServiceError as error:
                log.warning("service_keys.not_loaded", extra={"error": repr(error)})
                pause_s = RETRY_S
            await asyncio.sleep(pause_s)

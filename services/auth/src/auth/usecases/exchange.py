"""Exchange keys for tokens, and list revocations."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from auth.domain import REVOCATION_MATTERS, Credential, Grant, Revocation, grant
from auth.keys import KeyText, Peppers
from auth.usecases.fair_semaphore import FairSemaphore
from auth.usecases.ports import Clock, Registry, Signer
from auth.usecases.service_lane import ServiceKeys
from chassis.base.errors import FieldViolation, InvalidInputError, UnauthenticatedError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    grant: Grant
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeToken:
    """Exchanges an API key for an access token.

    What is not a complete key is refused by its form and checksum, before any other work. Services
    have a limit of their own, so other callers cannot delay them.

    Raises:
        UnauthenticatedError: KEY_INVALID for everything that is not a valid key, without details;
            KEY_REVOKED, KEY_EXPIRED, TENANT_SUSPENDED only if the secret is correct.
        OverloadedError: EXCHANGES_OPEN.
    """

    registry: Registry
    peppers: Peppers
    signer: Signer
    clock: Clock
    new_token_id: Callable[[], str]
    service_keys: ServiceKeys
    service_exchanges: FairSemaphore
    other_exchanges: FairSemaphore

    async def run(self, api_key: str, peer: str) -> IssuedToken:
        presented = KeyText.parse(api_key)
        if presented is None:
            raise _refusal_error("KEY_INVALID")
        recognised = self.service_keys.recognise(presented)
        async with (self.service_exchanges if recognised else self.other_exchanges).acquire(peer):
            found = await self.registry.find_credential(presented.key_id)
        now = self.clock()
        refusal = self._find_refusal(presented, found, now)
        if found is None or refusal:
            log.info("key.refused", extra={"key_id": presented.key_id, "reason": refusal})
            raise _refusal_error(refusal)
        issued = grant(found.key, now=now, token_id=self.new_token_id())
        return IssuedToken(grant=issued, text=self.signer.sign(issued))

    def _find_refusal(self, presented: KeyText, found: Credential | None, now: datetime) -> str:
        """The reason to refuse this key; empty if it is accepted."""
        proved = self.peppers.confirm(presented, found.proof if found else None)
        if found is None or not proved:
            return "KEY_INVALID"
        if found.key.revoke_time is not None:
            return "KEY_REVOKED"
        if found.key.expire_time <= now:
            return "KEY_EXPIRED"
        return "TENANT_SUSPENDED" if found.tenant_suspended else ""


def _refusal_error(reason: str) -> UnauthenticatedError:
    details = {
        "KEY_INVALID": "the API key is not valid; check that it is complete and unchanged",
        "KEY_REVOKED": "the API key was revoked; request a new key",
        "KEY_EXPIRED": "the API key has expired; request a new key",
        "TENANT_SUSPENDED": "the tenant is suspended; contact the operator of the platform",
    }
    return UnauthenticatedError(reason, details[reason])


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRevocations:
    """Lists revocations that can still affect a valid token, and the last sequence.

    Raises:
        InvalidInputError: AFTER_RANGE.
    """

    registry: Registry
    clock: Clock

    async def run(self, limit: int, *, after: int) -> tuple[Sequence[Revocation], int]:
        if after < 0:
            detail = "after must be a sequence number, 0 or above"
            raise InvalidInputError("AFTER_RANGE", detail, fields=[FieldViolation("after", detail)])
        since = self.clock() - REVOCATION_MATTERS
        return await self.registry.list_revocations(limit, after=after, since=since)

"""Keys turned into tokens, and which of them no longer count."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from auth.domain import REVOCATION_MATTERS, Credential, Grant, Revocation, grant
from auth.keys import KeyText, Peppers
from auth.usecases.ports import Clock, Registry, Signer
from chassis.base.errors import FieldViolation, InvalidInputError, UnauthenticatedError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    grant: Grant
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeToken:
    """Turns an API key into an access token.

    Raises:
        UnauthenticatedError: KEY_INVALID for whatever is not a key of ours, without saying how;
            KEY_REVOKED, KEY_EXPIRED, TENANT_SUSPENDED only to who has proved the secret.
    """

    registry: Registry
    peppers: Peppers
    signer: Signer
    clock: Clock
    new_token_id: Callable[[], str]

    async def __call__(self, api_key: str) -> IssuedToken:
        presented = KeyText.parse(api_key)
        if presented is None:
            raise _refused("KEY_INVALID")
        found = await self.registry.credential(presented.key_id)
        now = self.clock()
        refusal = self._refusal(presented, found, now)
        if found is None or refusal:
            log.info("key.refused", extra={"key_id": presented.key_id, "reason": refusal})
            raise _refused(refusal)
        issued = grant(found.key, now=now, token_id=self.new_token_id())
        return IssuedToken(grant=issued, text=self.signer.sign(issued))

    def _refusal(self, presented: KeyText, found: Credential | None, now: datetime) -> str:
        """Why this key gets no token; empty when it does."""
        proved = self.peppers.confirm(presented, found.proof if found else None)
        if found is None or not proved:
            return "KEY_INVALID"
        if found.key.revoke_time is not None:
            return "KEY_REVOKED"
        if found.key.expire_time <= now:
            return "KEY_EXPIRED"
        return "TENANT_SUSPENDED" if found.tenant_suspended else ""


def _refused(reason: str) -> UnauthenticatedError:
    details = {
        "KEY_INVALID": "the API key is not valid",
        "KEY_REVOKED": "the API key was revoked",
        "KEY_EXPIRED": "the API key has expired",
        "TENANT_SUSPENDED": "the tenant is suspended",
    }
    return UnauthenticatedError(reason, details[reason])


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRevocations:
    """Revocations after a sequence whose tokens may still be alive; and the last sequence."""

    registry: Registry
    clock: Clock

    async def __call__(self, limit: int, *, after: int) -> tuple[Sequence[Revocation], int]:
        if after < 0:
            detail = "after is a sequence, 0 or more"
            raise InvalidInputError("AFTER_RANGE", detail, fields=[FieldViolation("after", detail)])
        since = self.clock() - REVOCATION_MATTERS
        return await self.registry.revocations(limit, after=after, since=since)

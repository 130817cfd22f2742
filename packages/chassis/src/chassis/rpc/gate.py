"""Authorises calls: checks token, scopes and revocations, and ends calls that are revoked."""

from collections.abc import Callable
from typing import Any

from chassis.identity import tokens as identity
from chassis.identity.revocations import OpenCall, Revocations


class Gate:
    """Authorises callers by their tokens. A server without a gate has only public methods."""

    def __init__(self, verifier: identity.Verifier, revocations: Revocations) -> None:
        self._verifier = verifier
        self._revocations = revocations

    async def admit(
        self, scopes: frozenset[str], context: Any, end: Callable[[], None]
    ) -> OpenCall:
        """Verifies the caller and its scopes; a later revocation calls `end`.

        Raises:
            UnauthenticatedError, ForbiddenError: the caller is refused.
        """
        sent = context.invocation_metadata()
        token = identity.read_bearer_token(sent)
        who = await self._verifier.verify(token)
        self._revocations.check(who.key_id, who.tenant)
        who.require(scopes)
        identity.admit(identity.apply_acting_tenant(who, dict(sent)), token)
        call = OpenCall(who.key_id, who.tenant, end)
        self._revocations.watch(call)
        return call

    def check(self, call: OpenCall) -> None:
        """Raises the reason if an admitted caller has been revoked meanwhile."""
        self._revocations.check(call.key_id, call.tenant)

    def leave(self, call: OpenCall) -> None:
        """Stops watching a call that has ended."""
        self._revocations.unwatch(call)

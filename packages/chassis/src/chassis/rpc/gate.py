"""Who may call: the caller's token, its scopes, and their end when the right to call is revoked."""

from collections.abc import Callable
from typing import Any

from chassis.identity import tokens as identity
from chassis.identity.revocations import OpenCall, Revocations


class Gate:
    """Admits callers by their tokens. Without one a server can have public methods alone."""

    def __init__(self, verifier: identity.Verifier, revocations: Revocations) -> None:
        self._verifier = verifier
        self._revocations = revocations

    async def admit(
        self, scopes: frozenset[str], context: Any, end: Callable[[], None]
    ) -> OpenCall:
        """Verify the caller and its right to call; a later revocation calls `end`.

        Raises:
            UnauthenticatedError, ForbiddenError: it may not call.
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
        """Raise what an admitted caller is to be told that lost its right meanwhile."""
        self._revocations.check(call.key_id, call.tenant)

    def leave(self, call: OpenCall) -> None:
        """The call is over."""
        self._revocations.unwatch(call)

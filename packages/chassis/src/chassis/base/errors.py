"""What can go wrong, said once and without naming a transport.

`chassis.rpc.status` turns each class into a gRPC status, `chassis.events.consume` decides from it
whether a message is retried, waits for a dependency or becomes a dead letter; a service only
raises.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that must change, and how."""

    field: str
    description: str


class ServiceError(Exception):
    """Base of every failure a caller may act on.

    Args:
        reason: stable UPPER_SNAKE name of the cause, at most 63 characters; callers switch on it.
        detail: one sentence for a developer; holds no secret and no document text.
        facts: every value named in `detail`, again, for machines.
    """

    def __init__(self, reason: str, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.facts = {key: str(value) for key, value in facts.items()}


class InvalidInputError(ServiceError):
    """The caller must change the request; never retried."""

    def __init__(
        self, reason: str, detail: str, *, fields: Sequence[FieldViolation] = (), **facts: object
    ) -> None:
        super().__init__(reason, detail, **facts)
        self.fields = tuple(fields)


class UnauthenticatedError(ServiceError):
    """The caller did not prove who it is: no token, or an expired, revoked or foreign one."""


class ForbiddenError(ServiceError):
    """The caller is known and lacks the scope."""


class NotFoundError(ServiceError):
    """Nothing of that name, or nothing this caller may know of: the two look the same."""


class AlreadyExistsError(ServiceError):
    """The same idempotency key or name was used for something else."""


class FailedPreconditionError(ServiceError):
    """The thing named is not in a state that allows this."""


class ConflictError(ServiceError):
    """Someone else won; read again, then retry."""


class OverloadedError(ServiceError):
    """Shedding load; retry after `retry_after_s` seconds."""

    def __init__(
        self, reason: str, detail: str, *, retry_after_s: float = 1.0, **facts: object
    ) -> None:
        super().__init__(reason, detail, **facts)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """A dependency is away, the request is fine. Retry after `retry_after_s` seconds."""

    def __init__(
        self, reason: str, detail: str, *, retry_after_s: float = 1.0, **facts: object
    ) -> None:
        super().__init__(reason, detail, **facts)
        self.retry_after_s = retry_after_s


class DeadlineError(ServiceError):
    """The caller's deadline passed before the work was done."""


class DataLossError(ServiceError):
    """Stored bytes no longer match their checksum."""

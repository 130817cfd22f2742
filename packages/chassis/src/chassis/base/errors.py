"""The errors of all services, independent of the transport.

Services raise these errors and do not handle them. `chassis.rpc.status` converts each class to a
gRPC status; `chassis.events.settlement` decides by the class whether an event is retried, waits
for a dependency or becomes a dead letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of a request that must be changed, and how."""

    field: str
    description: str


class ServiceError(Exception):
    """Base class of all failures that a caller can act on.

    Args:
        reason: stable UPPER_SNAKE name of the cause, at most 63 characters; callers branch on it.
        detail: one sentence for a developer; contains no secret and no document text.
        facts: every value in `detail`, for programs.
    """

    def __init__(self, reason: str, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.facts = {key: str(value) for key, value in facts.items()}


class InvalidInputError(ServiceError):
    """The request is invalid; the caller must change it. Never retried."""

    def __init__(
        self, reason: str, detail: str, *, fields: Sequence[FieldViolation] = (), **facts: object
    ) -> None:
        super().__init__(reason, detail, **facts)
        self.fields = tuple(fields)


class UnauthenticatedError(ServiceError):
    """The caller is not authenticated: its token is missing, expired, revoked or invalid."""


class ForbiddenError(ServiceError):
    """The caller is authenticated but does not have the required scope."""


class NotFoundError(ServiceError):
    """Does not exist, or the caller may not know that it exists; both get the same answer."""


class AlreadyExistsError(ServiceError):
    """The idempotency key or name is already used for something else."""


class FailedPreconditionError(ServiceError):
    """The current state does not allow this request."""


class ConflictError(ServiceError):
    """A concurrent change was faster; read again, then retry."""


class OverloadedError(ServiceError):
    """The service is overloaded; retry after `retry_after_s` seconds."""

    def __init__(
        self, reason: str, detail: str, *, retry_after_s: float = 1.0, **facts: object
    ) -> None:
        super().__init__(reason, detail, **facts)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """A dependency is unavailable. The request is valid; retry after `retry_after_s` seconds."""

    def __init__(
        self, reason: str, detail: str, *, retry_after_s: float = 1.0, **facts: object
    ) -> None:
        super().__init__(reason, detail, **facts)
        self.retry_after_s = retry_after_s


class DeadlineError(ServiceError):
    """The deadline of the call passed before the work was done."""


class DataLossError(ServiceError):
    """Stored bytes no longer match their checksum."""

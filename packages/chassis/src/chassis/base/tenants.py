"""The error for what comes too late for its tenant."""

from chassis.base.errors import ConflictError


class TenantDeletedError(ConflictError):
    """The tenant was deleted since the caller, or the source of an event, was last checked."""


def tenant_deleted_error() -> TenantDeletedError:
    """TENANT_DELETED: nothing of the tenant is stored again."""
    return TenantDeletedError(
        "TENANT_DELETED", "the tenant is deleted; nothing of it is stored again"
    )

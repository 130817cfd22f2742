"""Tenants, API keys and access grants, and their validation."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aquifer.labels import KEY_LABELS_MAX
from aquifer.services import WITH_TABLES
from auth.keys import Proof
from chassis.base.errors import FieldViolation, ForbiddenError, InvalidInputError
from chassis.base.labels import Held, holds_all, read_labels

INTERNAL = "internal"
TENANTS_ADMIN = "tenants.admin"
SCOPES = (
    "documents.read",
    "documents.write",
    "search",
    "ask",
    "models",
    "keys.admin",
    TENANTS_ADMIN,
    "operate",
    INTERNAL,
)
# The tenant of the services; suspending it would stop the platform.
SYSTEM_TENANT = "system"
# Services that have something of a tenant, and report when they have removed it.
TENANT_SERVICES = frozenset(WITH_TABLES)

DISPLAY_NAME_MAX_CHARS = 128
REQUEST_ID_MAX_CHARS = 128
VALID_DAYS_DEFAULT = 90
VALID_DAYS_MAX = 365
TOKEN_LIFE = timedelta(minutes=10)
# Longer than a token of a revoked key can be valid, including leeway and clock differences.
REVOCATION_MATTERS = timedelta(seconds=1_000)

_TENANT_ID = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A customer of the platform; `suspend_time` is None while its keys are accepted.

    `delete_time` is when its deletion was ordered, `gone_time` when nothing of it was left.
    """

    tenant_id: str
    display_name: str
    create_time: datetime
    suspend_time: datetime | None = None
    delete_time: datetime | None = None
    gone_time: datetime | None = None

    def __post_init__(self) -> None:
        if not is_tenant_id(self.tenant_id):
            raise _invalid_error(
                "TENANT_INVALID", "tenant", "a tenant id must match [a-z0-9-]{1,63}"
            )
        _check_display_name(self.display_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantDeletion:
    """The deletion of a tenant; `receipts` says by service what it removed from which store."""

    tenant_id: str
    request_time: datetime
    finish_time: datetime | None = None
    receipts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    attempts: int = 1

    @property
    def pending_services(self) -> list[str]:
        """Services that have not reported yet."""
        return sorted(TENANT_SERVICES - self.receipts.keys())


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret; `principal` names its user, scopes and labels are sorted.

    `labels` are the access labels that it holds, None: all.
    """

    key_id: str
    tenant_id: str
    principal: str
    display_name: str
    scopes: tuple[str, ...]
    create_time: datetime
    expire_time: datetime
    revoke_time: datetime | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_display_name(self.display_name)
        if not self.scopes:
            raise _invalid_error("SCOPES_EMPTY", "scopes", "a key needs at least one scope")
        if not set(self.scopes) <= set(SCOPES):
            raise _invalid_error(
                "SCOPE_UNKNOWN", "scopes", f"unknown scope; valid scopes: {', '.join(SCOPES)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCursor:
    """The position of a key in the list of its tenant's keys, newest first."""

    create_time: datetime
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The stored data that a presented key is checked against."""

    key: ApiKey
    proof: Proof
    tenant_suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The caller, and the scopes and labels it may grant; `labels` None: all."""

    tenant_id: str
    principal: str
    key_id: str
    scopes: frozenset[str]
    labels: Held = None

    def check_may_label(self, labels: tuple[str, ...] | None) -> None:
        """Checks that the actor holds every label; None, all labels, needs an actor with all.

        Raises:
            ForbiddenError: LABELS_FORBIDDEN.
        """
        if self.labels is None or (labels is not None and holds_all(labels, self.labels)):
            return
        raise ForbiddenError(
            "LABELS_FORBIDDEN",
            "your key does not have all of these labels; give labels of your own key only",
            labels=",".join(sorted(self.labels)),
        )

    def check_may_grant(self, scopes: Iterable[str]) -> None:
        """Checks that the actor has every scope; nobody may grant `internal`.

        Raises:
            ForbiddenError: SCOPE_EXCEEDED.
        """
        exceeded = sorted(set(scopes) - (self.scopes - {INTERNAL}))
        if exceeded:
            listed = ", ".join(exceeded)
            raise ForbiddenError(
                "SCOPE_EXCEEDED",
                f"you cannot grant {listed}; ask someone who has these scopes",
                scopes=listed,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An administrative action: `act` is a constant such as `key.revoked`, `subject` an id."""

    time: datetime
    actor: Actor
    act: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A revoked key; with `key_id` None, a suspended tenant, or a resumed one if `resumed`."""

    sequence: int
    tenant_id: str
    key_id: str | None
    revoke_time: datetime
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The content of an access token; times are whole seconds."""

    token_id: str
    tenant_id: str
    principal: str
    key_id: str
    scopes: tuple[str, ...]
    labels: tuple[str, ...] | None
    issue_time: datetime
    expire_time: datetime


def grant(key: ApiKey, *, now: datetime, token_id: str) -> Grant:
    """The grant of a key at `now`: for ten minutes, or until the key expires."""
    return Grant(
        token_id=token_id,
        tenant_id=key.tenant_id,
        principal=key.principal,
        key_id=key.key_id,
        scopes=key.scopes,
        labels=key.labels,
        issue_time=now.replace(microsecond=0),
        expire_time=min(now + TOKEN_LIFE, key.expire_time).replace(microsecond=0),
    )


def is_tenant_id(text: str) -> bool:
    """True if the text is a valid tenant id."""
    return _TENANT_ID.fullmatch(text) is not None


def sort_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, each once, in a fixed order."""
    return tuple(sorted(set(scopes)))


def read_key_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of a key, each once, sorted.

    Raises:
        InvalidInputError: LABELS_INVALID.
    """
    return read_labels(labels, field="access_labels.labels", most=KEY_LABELS_MAX)


def choose_expiry(now: datetime, valid_days: int) -> datetime:
    """When a key created at `now` expires; 0 days mean `VALID_DAYS_DEFAULT`.

    Raises:
        InvalidInputError: EXPIRY_RANGE.
    """
    if not 0 <= valid_days <= VALID_DAYS_MAX:
        raise _invalid_error(
            "EXPIRY_RANGE", "valid_days", f"valid_days must be 1 to {VALID_DAYS_MAX}, or 0"
        )
    return now + timedelta(days=valid_days or VALID_DAYS_DEFAULT)


def make_lasting_key(
    key_id: str, tenant_id: str, *, name: str, scopes: Iterable[str], now: datetime
) -> ApiKey:
    """A key for `name`, created at `now` with the longest validity."""
    return ApiKey(
        key_id=key_id,
        tenant_id=tenant_id,
        principal=name,
        display_name=name,
        scopes=sort_scopes(scopes),
        create_time=now,
        expire_time=choose_expiry(now, VALID_DAYS_MAX),
    )


def check_request_id(request_id: str) -> None:
    """Checks an id that a client uses for its retries; empty is allowed.

    Raises:
        InvalidInputError: REQUEST_ID_INVALID.
    """
    if len(request_id) > REQUEST_ID_MAX_CHARS or _has_control_characters(request_id):
        raise _invalid_error(
            "REQUEST_ID_INVALID",
            "request_id",
            f"request_id is longer than {REQUEST_ID_MAX_CHARS} characters or contains control"
            " characters; send another",
        )


def _check_display_name(name: str) -> None:
    if len(name) > DISPLAY_NAME_MAX_CHARS or not name.strip() or _has_control_characters(name):
        raise _invalid_error(
            "DISPLAY_NAME_INVALID",
            "display_name",
            f"display_name must have 1 to {DISPLAY_NAME_MAX_CHARS} characters and no control"
            " characters",
        )


def _has_control_characters(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)


def _invalid_error(reason: str, field: str, detail: str) -> InvalidInputError:
    return InvalidInputError(reason, detail, fields=[FieldViolation(field, detail)])

"""Pages of a list: how many, from where on, and the opaque token in between."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime

from chassis.errors import FieldViolation, InvalidInputError

PAGE_MAX = 1_000
PAGE_DEFAULT = 100
TOKEN_MAX_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCursor:
    """The last key of a page, newest first."""

    create_time: datetime
    key_id: str


def page_size(asked: int, *, default: int = PAGE_DEFAULT) -> int:
    """Rows to return; 0 means `default`.

    Raises:
        InvalidInputError: PAGE_SIZE_RANGE.
    """
    if not 0 <= asked <= PAGE_MAX:
        detail = f"page_size is 1 to {PAGE_MAX}"
        raise InvalidInputError(
            "PAGE_SIZE_RANGE", detail, fields=[FieldViolation("page_size", detail)]
        )
    return asked or default


def tenant_token(tenant_id: str) -> str:
    """Token of the page after this tenant."""
    return _encoded(tenant_id)


def tenant_after(token: str) -> str:
    """Tenant after which the page begins; empty for the first page.

    Raises:
        InvalidInputError: PAGE_TOKEN_INVALID.
    """
    return _decoded(token, 1)[0] if token else ""


def key_token(cursor: KeyCursor) -> str:
    """Token of the page after this key."""
    return _encoded(cursor.create_time.isoformat(), cursor.key_id)


def key_after(token: str) -> KeyCursor | None:
    """Key after which the page begins; None for the first page.

    Raises:
        InvalidInputError: PAGE_TOKEN_INVALID.
    """
    if not token:
        return None
    time, key_id = _decoded(token, 2)
    try:
        create_time = datetime.fromisoformat(time)
    except ValueError as error:
        raise _invalid() from error
    if create_time.tzinfo is None:
        raise _invalid()
    return KeyCursor(create_time=create_time, key_id=key_id)


def _encoded(*parts: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _decoded(token: str, count: int) -> list[str]:
    """The parts of a token; whatever a client made up must not reach the database."""
    if len(token) > TOKEN_MAX_CHARS:
        raise _invalid()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _invalid() from error
    if not isinstance(parts, list) or len(parts) != count:
        raise _invalid()
    if not all(isinstance(part, str) and part.isprintable() for part in parts):
        raise _invalid()
    return parts


def _invalid() -> InvalidInputError:
    detail = "page_token is not one of a previous response"
    return InvalidInputError(
        "PAGE_TOKEN_INVALID", detail, fields=[FieldViolation("page_token", detail)]
    )

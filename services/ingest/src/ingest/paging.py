"""Page tokens of a list: opaque, and good only for the filter they were made under."""

import base64
import json
from typing import Final

from chassis.errors import FieldViolation, InvalidInputError

PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
TOKEN_MAX_CHARS: Final = 1_024


def page_size(asked: int) -> int:
    """Documents to return; 0 means 100.

    Raises:
        InvalidInputError: PAGE_SIZE.
    """
    if not 0 <= asked <= PAGE_MAX:
        raise InvalidInputError(
            "PAGE_SIZE",
            f"page_size is 1 to {PAGE_MAX}",
            fields=[FieldViolation("page_size", f"1 to {PAGE_MAX}")],
            max_size=PAGE_MAX,
        )
    return asked or PAGE_DEFAULT


def token_after(name: str, collection: str, state: str) -> str:
    """Token of the page that begins after a document."""
    text = json.dumps([name, collection, state])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def name_after(token: str, collection: str, state: str) -> str:
    """Name after which the page begins; empty for the first page.

    Raises:
        InvalidInputError: PAGE_TOKEN, not one of ours or of another filter.
    """
    if not token:
        return ""
    if len(token) > TOKEN_MAX_CHARS:
        raise _refusal("page_token is not one of a previous response")
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise _refusal("page_token is not one of a previous response") from error
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _refusal("page_token is not one of a previous response")
    if len(parts) != len(("name", "collection", "state")) or not parts[0].isascii():
        raise _refusal("page_token is not one of a previous response")
    if parts[1:] != [collection, state]:
        raise _refusal("page_token belongs to another collection or state")
    return str(parts[0])


def _refusal(detail: str) -> InvalidInputError:
    return InvalidInputError("PAGE_TOKEN", detail, fields=[FieldViolation("page_token", detail)])

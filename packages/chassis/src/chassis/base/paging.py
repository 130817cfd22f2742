"""Pages of a list: how many rows, from where on, and the opaque token in between."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from chassis.base.errors import FieldViolation, InvalidInputError

PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
TOKEN_MAX_CHARS: Final = 1_024

Row = TypeVar("Row")
Position = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page as it was asked for.

    `after` is the position it begins after, empty for the first page; `bound` what the list is
    filtered by: a token is good for no other filter.
    """

    size: int
    after: Position
    bound: Position

    @property
    def limit(self) -> int:
        """Rows to fetch: one more than are shown tells whether another page follows."""
        return self.size + 1

    @property
    def after_name(self) -> str:
        """The same where positions are a single name; empty for the first page."""
        return "".join(self.after)

    def cut(
        self, rows: Sequence[Row], position: Callable[[Row], Position]
    ) -> tuple[Sequence[Row], str]:
        """The rows to show of those fetched, and the next page's token; empty on the last page."""
        shown = rows[: self.size]
        more = len(rows) > self.size
        return shown, _token(*position(shown[-1]), *self.bound) if more else ""


def parse(page_size: int, page_token: str, *, parts: int = 1, bound: Position = ()) -> Page:
    """The page a request asks for, in a list whose positions have that many parts.

    Raises:
        InvalidInputError: PAGE_SIZE_RANGE, PAGE_TOKEN_INVALID.
    """
    size = parse_size(page_size)
    if not page_token:
        return Page(size=size, after=(), bound=bound)
    found = _parts(page_token)
    if len(found) != parts + len(bound):
        raise invalid_token_error()
    if found[parts:] != bound:
        raise _invalid_error("page_token belongs to a list with another filter")
    return Page(size=size, after=found[:parts], bound=bound)


def parse_size(page_size: int, *, default: int = PAGE_DEFAULT) -> int:
    """Rows to return; 0 means `default`.

    Raises:
        InvalidInputError: PAGE_SIZE_RANGE.
    """
    if not 0 <= page_size <= PAGE_MAX:
        detail = f"page_size is 1 to {PAGE_MAX}, or 0 for {default}"
        raise InvalidInputError(
            "PAGE_SIZE_RANGE",
            detail,
            fields=[FieldViolation("page_size", detail)],
            max_size=PAGE_MAX,
            default_size=default,
        )
    return page_size or default


def invalid_token_error() -> InvalidInputError:
    """PAGE_TOKEN_INVALID, for a position that this list could not have given out."""
    return _invalid_error("page_token is not one of a previous response")


def _token(*parts: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _parts(token: str) -> Position:
    """The parts of a token; whatever a client made up must not reach a database."""
    if len(token) > TOKEN_MAX_CHARS:
        raise invalid_token_error()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise invalid_token_error() from error
    if not isinstance(parts, list):
        raise invalid_token_error()
    if not all(isinstance(part, str) and part.isprintable() for part in parts):
        raise invalid_token_error()
    return tuple(parts)


def _invalid_error(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "PAGE_TOKEN_INVALID", detail, fields=[FieldViolation("page_token", detail)]
    )

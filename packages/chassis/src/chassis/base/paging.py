"""Pages of a list: their size, where they begin, and the opaque token for the next page."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.message import Message

from chassis.base.errors import FieldViolation, InvalidInputError

PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
TOKEN_MAX_CHARS: Final = 1_024
# A message has at most 4 MiB.
PAGE_MAX_BYTES: Final = 3 << 20
NUMBER_MAX_DIGITS: Final = 9

Row = TypeVar("Row")
Converted = TypeVar("Converted", bound=Message)
Position = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A requested page.

    `after` is the position of the last row before this page, empty for the first page. `bound` is
    the filter of the list: a token is only valid for the same filter.
    """

    size: int
    after: Position
    bound: Position

    @property
    def limit(self) -> int:
        """Rows to fetch: one more than the page shows, to see whether another page follows."""
        return self.size + 1

    @property
    def after_name(self) -> str:
        """The position if it is a single name; empty for the first page."""
        return "".join(self.after)

    def cut(
        self, rows: Sequence[Row], position: Callable[[Row], Position]
    ) -> tuple[Sequence[Row], str]:
        """The rows of this page and the token of the next page, which is empty on the last page."""
        shown = rows[: self.size]
        more = len(rows) > self.size
        return shown, self.make_token(*position(shown[-1])) if more else ""

    def make_token(self, *position: str) -> str:
        """The token of the page that begins after a position."""
        return make_token(*position, *self.bound)


def parse(page_size: int, page_token: str, *, parts: int = 1, bound: Position = ()) -> Page:
    """The requested page of a list; each position has `parts` parts.

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
        raise _invalid_error("page_token is from a list with another filter; start without a token")
    return Page(size=size, after=found[:parts], bound=bound)


def parse_size(page_size: int, *, default: int = PAGE_DEFAULT) -> int:
    """The number of rows to return; a `page_size` of 0 means `default`.

    Raises:
        InvalidInputError: PAGE_SIZE_RANGE.
    """
    if not 0 <= page_size <= PAGE_MAX:
        detail = f"page_size must be 1 to {PAGE_MAX}, or 0 for {default}"
        raise InvalidInputError(
            "PAGE_SIZE_RANGE",
            detail,
            fields=[FieldViolation("page_size", detail)],
            max_size=PAGE_MAX,
            default_size=default,
        )
    return page_size or default


def fill(
    page: Page,
    found: Sequence[Row],
    convert: Callable[[Row], Converted],
    position: Callable[[Row], Position],
) -> tuple[list[Converted], str]:
    """What fits into a message, at least one row, and the token of the next page."""
    shown, token = page.cut(found, position)
    rows: list[Converted] = []
    left_bytes = PAGE_MAX_BYTES
    for one in shown:
        row = convert(one)
        left_bytes -= row.ByteSize()
        if rows and left_bytes < 0:
            return rows, page.make_token(*position(found[len(rows) - 1]))
        rows.append(row)
    return rows, token


def read_number(position: Position) -> int:
    """The number that a position consists of; 0 for the first page.

    Raises:
        InvalidInputError: PAGE_TOKEN_INVALID.
    """
    if not position:
        return 0
    [number] = position
    if not (number.isascii() and number.isdecimal() and len(number) <= NUMBER_MAX_DIGITS):
        raise invalid_token_error()
    return int(number)


def invalid_token_error() -> InvalidInputError:
    """PAGE_TOKEN_INVALID: this list cannot have returned the position."""
    return _invalid_error("page_token is not from a previous response")


def make_token(*parts: str) -> str:
    """A token of these parts."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _parts(token: str) -> Position:
    """The parts of a token, checked because an invented token must not reach a database."""
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

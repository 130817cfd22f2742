"""What a point knows of its document's description: whole numbers, which need few indexes.

A fact is the hash of a statement such as "the metadata has for `year` the number 2020". So one
look-up of a number answers a comparison by equality, whatever the key. A hash has 60 bits, so two
statements of one corpus are never the same in practice.

A number or time can also be compared by order. Its 64 bits, in which order is that of the values,
are cut into three digits. Each is kept as one number: the hash of the key and of the digits before
it, and then the digit. So a comparison is at most five ranges of numbers. All are below 2^53,
because engines compare ranges as doubles.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, TypeAlias

from aquifer.structs import JsonObject
from chassis.base.filter_values import read_time

# Facts are spread over this many fields by their key, because an engine compares all of a field.
SLOTS: Final = 8

# Widths of the three digits in bits; a digit and the hash before it have 53.
_DIGITS: Final = (22, 21, 21)
_HASH_BITS: Final = 31
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SIGN: Final = 1 << 63

Range: TypeAlias = tuple[int, int]
Scalar: TypeAlias = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that filters ask of a description; the slot of a fact is its remainder by `SLOTS`.

    Both are sorted; every number is in 0..2^63 - 1. `superseded`: another version of the document
    is live since the time that `ordered` says.
    """

    stated: tuple[int, ...] = ()
    ordered: tuple[int, ...] = ()
    superseded: bool = False

    @property
    def digest(self) -> int:
        """A number in 0..2^63 - 1 that differs where facts differ; 0 if there are none."""
        if not self.stated:
            return 0
        packed = struct.pack(f"<{len(self.stated)}q", *self.stated)
        return _hash(packed, struct.pack(f"<{len(self.ordered)}q", *self.ordered))


NO_FACTS: Final = Facts()

# The names of fields whose values are compared by order; those of keys have a NUL.
CREATE_TIME: Final = "create_time"
LIVE_TIME: Final = "live_time"
SUPERSEDE_TIME: Final = "supersede_time"


def list_facts(
    document: str,
    title: str,
    metadata: JsonObject,
    created_at: datetime | None = None,
    *,
    live_at: datetime | None = None,
    superseded_at: datetime | None = None,
) -> Facts:
    """The facts of a version.

    `document` is its resource name, `created_at` None if it is not known. `live_at` and
    `superseded_at` are None for a version that is live, or may become so.
    """
    stated = {state_document(document.rpartition("/")[2])}
    if title:
        stated |= {state_title(title), state_title()}
    ordered: list[int] = []
    times = {CREATE_TIME: created_at, LIVE_TIME: live_at, SUPERSEDE_TIME: superseded_at}
    for name, time in times.items():
        if time:
            ordered += _place(name, time)
    for key, value in metadata.items():
        stated.add(state_presence(key))
        if isinstance(value, Sequence) and not isinstance(value, str):
            stated.update(state_element(key, one) for one in value if isinstance(one, Scalar))
        elif isinstance(value, Scalar):
            stated.add(state_value(key, value))
            ordered += _place_value(key, value)
    return Facts(tuple(sorted(stated)), tuple(sorted(ordered)), superseded_at is not None)


def state_document(document_id: str) -> int:
    """The document has this id."""
    return _state("document", "", document_id)


def state_title(title: str = "") -> int:
    """The document has this title; without one: any."""
    return _state("title", "", title)


def state_presence(key: str) -> int:
    """The metadata has this key."""
    return _state("key", key, "")


def state_value(key: str, value: Scalar) -> int:
    """The metadata has for the key this single value."""
    return _state("value", key, _write(value))


def state_element(key: str, value: Scalar) -> int:
    """The metadata has for the key a list with this value."""
    return _state("element", key, _write(value))


def name_values(key: str, kind: type) -> str:
    """The name of a key's values of a kind, float or datetime: a number is in no range of times."""
    return f"{kind.__name__}\0{key}"


def cover(name: str, lowest: int, highest: int) -> tuple[Range, ...]:
    """Ranges with one of the numbers of a value in `lowest`..`highest`, which are of `order`.

    `name` is `CREATE_TIME`, `LIVE_TIME`, `SUPERSEDE_TIME` or one of `name_values`.
    """
    return tuple(_cover(name, (), _split(lowest), _split(highest)))


def order(value: float | datetime) -> int:
    """64 bits in the order of numbers, or of times to the microsecond."""
    if isinstance(value, datetime):
        return _SIGN + (value - _EPOCH) // timedelta(microseconds=1)
    # Adding zero makes -0.0 the same as 0.0.
    (bits,) = struct.unpack(">Q", struct.pack(">d", float(value) + 0.0))
    return int(bits ^ (2 * _SIGN - 1) if bits & _SIGN else bits | _SIGN)


def _place_value(key: str, value: Scalar) -> Iterator[int]:
    """The three numbers of a number or of a text that is a time; none of another value."""
    given = read_time(value) if isinstance(value, str) else value
    if given is None or isinstance(given, bool):
        return
    kind = datetime if isinstance(given, datetime) else float
    yield from _place(name_values(key, kind), given)


def _place(name: str, value: float | datetime) -> Iterator[int]:
    digits = _split(order(value))
    for depth, digit in enumerate(digits):
        yield _base(name, digits[:depth]) + digit


def _split(ordered: int) -> tuple[int, ...]:
    _, middle, low = _DIGITS
    return (
        ordered >> (middle + low),
        ordered >> low & ((1 << middle) - 1),
        ordered & ((1 << low) - 1),
    )


def _cover(
    name: str, before: tuple[int, ...], lowest: tuple[int, ...], highest: tuple[int, ...]
) -> Iterator[Range]:
    """Ranges of what follows the digits `before`, between the rests of two values."""
    base, (first, *low), (last, *high) = _base(name, before), lowest, highest
    least, most = (0,) * len(low), tuple((1 << w) - 1 for w in _DIGITS[len(before) + 1 :])
    cut_first, cut_last = tuple(low) != least, tuple(high) != most
    if first == last and (cut_first or cut_last):
        yield from _cover(name, (*before, first), tuple(low), tuple(high))
        return
    if cut_first:
        yield from _cover(name, (*before, first), tuple(low), most)
    if cut_last:
        yield from _cover(name, (*before, last), least, tuple(high))
    if first + cut_first <= last - cut_last:
        yield base + first + cut_first, base + last - cut_last


def _base(name: str, digits: Sequence[int]) -> int:
    """Where the numbers of the digit after these begin."""
    hashed = _hash(name.encode(), struct.pack(f"<{len(digits)}q", *digits))
    return hashed >> (63 - _HASH_BITS) << _DIGITS[0]


def _state(kind: str, key: str, value: str) -> int:
    slot = _hash(kind.encode() if not key else b"", key.encode()) % SLOTS
    return _hash(f"{kind}\0{key}".encode(), value.encode()) // SLOTS * SLOTS + slot


def _write(value: Scalar) -> str:
    """A value with its type: 2020 is not "2020", and True is not 1."""
    match value:
        case bool():
            return f"b{value}"
        case str():
            return f"s{value}"
    return f"n{float(value) + 0.0!r}"


def _hash(first: bytes, second: bytes) -> int:
    """63 bits of the hash of a pair."""
    hashed = blake2b(first, digest_size=8, salt=len(first).to_bytes(8, "little"))
    hashed.update(second)
    return int.from_bytes(hashed.digest(), "little") >> 1

"""Metadata of documents as people write it: `key=text` and `key:=JSON`."""

import json
import math
from collections.abc import Mapping, Sequence

from aquifer.structs import INTEGER_MAX, JsonObject, JsonValue
from aquifer_cli.errors import EXIT_USAGE, CommandError

KINDS = "a text, a finite number, true, false, or a list of these"


def read_pairs(pairs: Sequence[str]) -> JsonObject:
    """The pairs of options: the value of `key=text` is a text, that of `key:=JSON` has its type.

    Raises:
        CommandError: METADATA_UNREADABLE.
    """
    return dict(_read_pair(pair) for pair in pairs)


def show_pairs(metadata: JsonObject) -> list[str]:
    """The pairs as `read_pairs` reads them."""
    return [
        f"{key}={value}" if isinstance(value, str) else f"{key}:={json.dumps(value)}"
        for key, value in sorted(metadata.items())
    ]


def check_values(metadata: Mapping[str, object]) -> JsonObject:
    """Metadata from JSON, if each value has one of the kinds that metadata can have.

    Raises:
        ValueError: says which has not.
    """
    return {key: _check_value(key, value) for key, value in metadata.items()}


def _read_pair(pair: str) -> tuple[str, JsonValue]:
    left, found, text = pair.partition("=")
    key = left.removesuffix(":")
    if not found or not key:
        raise _pair_error(f"{pair!r} is not KEY=TEXT")
    if key == left:
        return key, text
    try:
        return key, _check_value(key, json.loads(text))
    except (ValueError, RecursionError) as error:
        raise _pair_error(f"{pair!r}: {error}") from error


def _pair_error(detail: str) -> CommandError:
    return CommandError(
        "METADATA_UNREADABLE",
        detail,
        hint="write KEY=TEXT, or KEY:=JSON for a number, true, false or a list: year:=2020",
        exit_code=EXIT_USAGE,
    )


def _check_value(key: str, value: object) -> JsonValue:
    if isinstance(value, list):
        return [_check_scalar(key, one) for one in value]
    return _check_scalar(key, value)


def _check_scalar(key: str, value: object) -> JsonValue:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the value of {key!r} is not {KINDS}")
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise ValueError(f"an integer of {key!r} is above 2^53, where digits are lost; use a text")
    return value

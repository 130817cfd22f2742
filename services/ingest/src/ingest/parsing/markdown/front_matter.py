"""Front matter of Markdown: keys and values before the text, in YAML or TOML."""

import re
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

import yaml  # type: ignore[import-untyped]

# Longer blocks are no front matter that people write, and TOML takes quadratic time for some.
BLOCK_MAX_CHARS = 1 << 14
KEY_MAX_BLANKS = 2

_YAML_BLOCK = re.compile(
    r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_TOML_BLOCK = re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_EMPTY_LINE = re.compile(r"^[ \t]*\n", re.MULTILINE)
_KEY = re.compile(r"[a-z_][\w.-]*")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_KNOWN_KEYS = frozenset(
    "title layout date author authors tags categories category description lang slug draft id"  # noqa: SIM905
    " permalink keywords weight aliases version status summary created updated license".split()
)


class FrontMatter(NamedTuple):
    """The title is empty if it has none; the text begins at `end`."""

    title: str
    end: int


def read_front_matter(source: str) -> FrontMatter:
    r"""Reads the block at the beginning of a Markdown text with `\n` line ends.

    A block is front matter only if YAML or TOML reads it as keys and values. Between two rules
    with an empty line, prose like `Note: closed` counts only if its keys look like keys.
    """
    block = source[:BLOCK_MAX_CHARS]
    if found := _TOML_BLOCK.match(block):
        title = _read_toml(found[1])
    elif found := _YAML_BLOCK.match(block):
        title = _read_yaml(found[1])
    else:
        title = None
    if found is None or title is None:
        return FrontMatter("", 0)
    return FrontMatter(" ".join(title.split()), found.end())


def _read_toml(block: str) -> str | None:
    try:
        values = tomllib.loads(block)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    found = (value for key, value in values.items() if key.lower() == "title")
    return next((str(value) for value in found if isinstance(value, str | int | float)), "")


def _read_yaml(block: str) -> str | None:
    try:
        entries = _list_entries(block)
    except yaml.YAMLError:
        return None
    if not entries or any(key.count(" ") > KEY_MAX_BLANKS for key, _ in entries):
        return None
    if _EMPTY_LINE.search(block) and not _look_like_keys([key for key, _ in entries]):
        return None
    return next((value for key, value in entries if key.lower() == "title"), "")


def _look_like_keys(keys: list[str]) -> bool:
    return all(map(_KEY.fullmatch, keys)) or any(key.lower() in _KNOWN_KEYS for key in keys)


def _list_entries(block: str) -> list[tuple[str, str]]:
    """Lists the keys of the outermost mapping with their scalar values; none if it is no mapping.

    The events of the parser are read, and no objects are built: aliases stay small.
    """
    values = list(_list_values(block))
    return list(zip(values[::2], values[1::2], strict=True))


def _list_values(block: str) -> Iterator[str]:
    """Yields keys and values of the outermost mapping in turn; a value that is no scalar is ""."""
    anchors: dict[str, str] = {}
    depth = 0
    for event in yaml.parse(block, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            value = _read_scalar(event, anchors)
            if depth == 1:
                yield value
            elif depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return
            depth += isinstance(event, yaml.CollectionStartEvent)


def _read_scalar(event: yaml.NodeEvent, anchors: dict[str, str]) -> str:
    if isinstance(event, yaml.AliasEvent):
        return anchors.get(event.anchor or "", "")
    if not isinstance(event, yaml.ScalarEvent):
        return ""
    value: str = "" if event.style is None and event.value in _NULLS else event.value
    if event.anchor:
        anchors[event.anchor] = value
    return value

"""Changes of title, metadata and labels, as an update mask selects them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aquifer.structs import JsonObject
from chassis.base.errors import FieldViolation, InvalidInputError
from ingest.domain import TITLE_MAX_CHARS, Version, check_texts
from ingest.metadata import check_metadata

_FIELDS: Final = frozenset({"title", "metadata", "labels"})
_PATHS: Final = "`title`, `metadata`, `metadata.KEY`, `labels`, or `*` alone"
_SHOWN_CHARS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """New values; `keys` are set to those in `given`, or removed if they are not in it.

    `title` None: unchanged; empty: that of the text. `replaces`: no other pair stays. `labels`
    None: unchanged; none: those of the collection.
    """

    title: str | None
    labels: tuple[str, ...] | None = None
    given: JsonObject
    keys: frozenset[str]
    replaces: bool

    def apply(self, version: Version) -> tuple[str, JsonObject]:
        """Title and metadata of a version after these changes.

        Raises:
            InvalidInputError: METADATA_RANGE.
        """
        title = version.given_title if self.title is None else self.title
        if self.replaces:
            metadata = dict(self.given)
        else:
            kept = {key: value for key, value in version.metadata.items() if key not in self.keys}
            metadata = kept | {key: self.given[key] for key in self.keys if key in self.given}
        check_metadata(metadata)
        return title, metadata


def read_changes(
    paths: Sequence[str], *, title: str, metadata: JsonObject | None, labels: tuple[str, ...] = ()
) -> Changes:
    """The changes that a mask selects from new values; `metadata` None: not given.

    Without a mask everything that is given is changed.

    Raises:
        InvalidInputError: UPDATE_MASK, METADATA_RANGE.
    """
    chosen = _choose(paths, title=title, metadata=metadata, labels=labels)
    check_texts({"title": (title, TITLE_MAX_CHARS)})
    return Changes(
        title=title if "title" in chosen else None,
        labels=labels if "labels" in chosen else None,
        given=metadata or {},
        keys=frozenset(_read_key(path) for path in chosen - _FIELDS),
        replaces="metadata" in chosen,
    )


def _choose(
    paths: Sequence[str], *, title: str, metadata: JsonObject | None, labels: tuple[str, ...]
) -> set[str]:
    """The paths of a mask, without the two short forms."""
    if list(paths) == ["*"]:
        return {"title", "metadata"}
    given = {"title": bool(title), "metadata": metadata is not None, "labels": bool(labels)}
    return set(paths) or {field for field, is_given in given.items() if is_given}


def _read_key(path: str) -> str:
    """The key of `metadata.KEY`; one with a dot stands in backticks."""
    field, _, key = path.partition(".")
    if key.startswith("`") and key.endswith("`"):
        key = key[1:-1]
    elif "." in key:
        key = ""
    if field != "metadata" or not key:
        raise InvalidInputError(
            "UPDATE_MASK",
            f"an update mask cannot name {path[:_SHOWN_CHARS]!r}",
            fields=[FieldViolation("update_mask", _PATHS)],
            path=path[:_SHOWN_CHARS],
        )
    return key

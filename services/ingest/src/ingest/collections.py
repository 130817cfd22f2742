"""Collections: sets of documents, and the settings that an owner may give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError
from ingest.domain import State, is_collection
from ingest.steps import Step, order_steps

DESCRIPTION_MAX_CHARS: Final = 1_000
CHUNK_MIN_CHARS, CHUNK_MAX_CHARS = 100, 4_000
RETENTION_MIN_S, RETENTION_MAX_S = 60, 36_525 * 86_400
VERSION_RETENTION_MAX = 100
MASK: Final = (
    "description",
    "chunk_sizes",
    "retention",
    "version_retention",
    "steps",
    "access_labels",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """Settings of a collection; sizes of 0 are those of the service, a retention of 0 is none.

    `version_retention` is how many superseded versions of a document keep their bytes and text.
    `steps` are in the order in which they run. `access_labels` are those of documents without own
    ones, sorted.
    """

    description: str = ""
    target_chars: int = 0
    max_chars: int = 0
    retention_s: int = 0
    version_retention: int = 0
    steps: tuple[Step, ...] = ()
    access_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        violations = list(self._find_violations())
        if violations:
            raise InvalidInputError(
                "COLLECTION_RANGE", "a setting of the collection is out of range", fields=violations
            )

    @property
    def has_chunk_sizes(self) -> bool:
        """Whether its chunks have other lengths than those of the service."""
        return self.max_chars > 0

    def update(self, given: "CollectionSettings", paths: Sequence[str]) -> "CollectionSettings":
        """The settings with those of `given` that a mask names; an empty one or `*` names all.

        Raises:
            InvalidInputError: UPDATE_MASK.
        """
        chosen = MASK if _names_all(paths) else tuple(paths)
        for path in chosen:
            if path not in MASK:
                raise InvalidInputError(
                    "UPDATE_MASK",
                    f"an update mask cannot name {path[:100]!r}",
                    fields=[FieldViolation("update_mask", ", ".join(MASK) + ", or `*` alone")],
                    path=path[:100],
                )
        changed = self
        if "description" in chosen:
            changed = replace(changed, description=given.description)
        if "chunk_sizes" in chosen:
            changed = replace(changed, target_chars=given.target_chars, max_chars=given.max_chars)
        if "retention" in chosen:
            changed = replace(changed, retention_s=given.retention_s)
        if "version_retention" in chosen:
            changed = replace(changed, version_retention=given.version_retention)
        if "steps" in chosen:
            changed = replace(changed, steps=given.steps)
        if "access_labels" in chosen:
            changed = replace(changed, access_labels=given.access_labels)
        return changed

    def _find_violations(self) -> Sequence[FieldViolation]:
        checks = {
            "description": (
                len(self.description) <= DESCRIPTION_MAX_CHARS and "\x00" not in self.description,
                f"at most {DESCRIPTION_MAX_CHARS} characters, no NUL",
            ),
            "chunk_sizes": (
                (self.target_chars, self.max_chars) == (0, 0)
                or CHUNK_MIN_CHARS <= self.target_chars <= self.max_chars <= CHUNK_MAX_CHARS,
                f"{CHUNK_MIN_CHARS} <= target_chars <= max_chars <= {CHUNK_MAX_CHARS}",
            ),
            "retention": (
                self.retention_s == 0 or RETENTION_MIN_S <= self.retention_s <= RETENTION_MAX_S,
                f"{RETENTION_MIN_S} to {RETENTION_MAX_S} seconds",
            ),
            "version_retention": (
                0 <= self.version_retention <= VERSION_RETENTION_MAX,
                f"0 to {VERSION_RETENTION_MAX} versions",
            ),
        }
        return [FieldViolation(name, said) for name, (fits, said) in checks.items() if not fits]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection, and how many of its documents are in which state, DELETED ones left out.

    The times are None for a collection that was not created.
    """

    collection_id: str
    state_counts: Mapping[State, int] = field(default_factory=dict)
    settings: CollectionSettings = CollectionSettings()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def document_count(self) -> int:
        """Number of its documents, without deleted ones."""
        return sum(self.state_counts.values())


def names_setting(name: str, paths: Sequence[str]) -> bool:
    """Whether a mask names a setting."""
    return _names_all(paths) or name in paths


def _names_all(paths: Sequence[str]) -> bool:
    return list(paths) in ([], ["*"])


def read_steps(names: Sequence[str]) -> tuple[Step, ...]:
    """The steps with these names, in the order in which they run.

    Raises:
        InvalidInputError: COLLECTION_RANGE, a name is unknown or stands twice.
    """
    chosen = [step for step in Step if step in names]
    if len(chosen) != len(names):
        violation = FieldViolation("steps", f"each at most once: {', '.join(Step)}")
        raise InvalidInputError(
            "COLLECTION_RANGE", "a setting of the collection is out of range", fields=[violation]
        )
    return order_steps(chosen)


def read_collection_id(name: str, *, field_name: str = "name") -> str:
    """The id in a resource name `collections/{collection}`.

    Raises:
        InvalidInputError: COLLECTION_NAME.
    """
    collection_id = name.removeprefix("collections/")
    if collection_id == name or not is_collection(collection_id):
        shape = "collections/{collection}, with 1 to 128 of A-Za-z0-9._~-, the first no sign"
        violation = FieldViolation(field_name, shape)
        raise InvalidInputError(
            "COLLECTION_NAME", "not a valid collection name", fields=[violation]
        )
    return collection_id


def collection_of(document: str) -> str:
    """The collection id in the resource name of a document."""
    return document.split("/")[1]

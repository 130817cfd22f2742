"""What documents can be counted by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.base.filter_parser import read_metadata_field
from chassis.base.filters import Expression
from chassis.base.labels import Held
from query.filters.language import Field
from query.names import name_collections

FACETS_MAX: Final = 10
VALUES_MAX: Final = 100
_FIELDS: Final = (Field.COLLECTION, Field.LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetField:
    """A field whose values are counted: its name as it was asked, and the key if of metadata."""

    name: str
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """Asks for the most frequent values of fields, at most `limit` of each.

    Counts live documents that `held` may see, of the collections that `name_collections` names, for
    which `where` is true.
    """

    tenant: str
    held: Held
    collection: str
    collections: tuple[str, ...] = ()
    where: Expression | None
    fields: Sequence[FacetField]
    limit: int

    def __post_init__(self) -> None:
        name_collections(self.collection, self.collections)
        if not 0 < self.limit <= VALUES_MAX:
            raise InvalidInputError(
                "LIMIT_RANGE",
                f"limit must be in 1..{VALUES_MAX}",
                fields=[FieldViolation("limit", f"1 to {VALUES_MAX}")],
                max_limit=VALUES_MAX,
            )


def read_fields(names: Sequence[str]) -> Sequence[FacetField]:
    """The fields of these names.

    Raises:
        InvalidInputError: FACET_FIELD.
    """
    fields = [FacetField(name=name, key=_read_key(name)) for name in names]
    if not 0 < len(fields) <= FACETS_MAX or len(set(names)) < len(names):
        raise _refusal(f"1 to {FACETS_MAX} fields, each once")
    return fields


def _read_key(name: str) -> str | None:
    if name in _FIELDS:
        return None
    key = read_metadata_field(name)
    if key is None:
        raise _refusal(f'{", ".join(_FIELDS)}, metadata.KEY, or metadata."any key"')
    return key


def _refusal(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "FACET_FIELD",
        f"documents cannot be counted by these fields: give {detail}",
        fields=[FieldViolation("fields", detail)],
    )

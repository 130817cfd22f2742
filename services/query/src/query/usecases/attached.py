"""Where a question is searched in a conversation that documents are attached to."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from chassis.base.filters import All, AnyOf, Condition, Expression, Operator
from query.answer import Inquiry
from query.filters.language import Field
from query.names import COLLECTIONS_MAX, collection_of, name_collections

_PREFIX: Final = "collections/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Ids of collections, none for all, and what must be true besides, as in `Question`."""

    collections: tuple[str, ...]
    where: Expression | None


def find_scope(inquiry: Inquiry) -> Scope:
    """What an inquiry is searched in: its collections and its documents, or all without any.

    With documents, the collections are also those of the documents, and a condition says which
    passages are wanted. So words are as rare as in these collections; if they are more than a
    search may name, as in all.
    """
    names, where = name_collections(inquiry.collection, inquiry.collections), inquiry.where
    if inquiry.documents:
        given = _list_conditions(Field.COLLECTION, sorted(names))
        attached = _list_conditions(Field.DOCUMENT, inquiry.documents)
        either = AnyOf((*given, *attached))
        where = either if where is None else All((where, either))
        names |= {collection_of(one) for one in inquiry.documents}
    named = sorted(names) if len(names) <= COLLECTIONS_MAX else ()
    return Scope(collections=tuple(one.removeprefix(_PREFIX) for one in named), where=where)


def _list_conditions(field: Field, names: Iterable[str]) -> list[Condition]:
    return [Condition(field, Operator.EQUALS, name) for name in names]

"""Names of collections and documents, and their ids."""

import re
from collections.abc import Sequence
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError

COLLECTIONS_MAX: Final = 100
ATTACHED_MAX: Final = 100

RESOURCE_ID: Final = "[A-Za-z0-9][A-Za-z0-9._~-]{0,127}"
_COLLECTION_ID = re.compile(RESOURCE_ID)
_COLLECTION = re.compile(f"collections/{RESOURCE_ID}")
_DOCUMENT = re.compile(f"({_COLLECTION.pattern})/documents/{RESOURCE_ID}")


def check_collection(collection: str) -> None:
    """Check that a text is a resource name `collections/{collection}`."""
    if not _COLLECTION.fullmatch(collection):
        raise InvalidInputError(
            "COLLECTION_NAME", "use a name of the form collections/{collection}", name=collection
        )


def collection_of(document: str) -> str:
    """`collections/{collection}` of a document's resource name."""
    match = _DOCUMENT.fullmatch(document)
    if match is None:
        raise InvalidInputError(
            "DOCUMENT_NAME",
            "use a name of the form collections/{collection}/documents/{document}",
            name=document,
        )
    return match[1]


def check_collection_id(collection: str) -> None:
    """Check a collection id; empty means all collections."""
    if collection:
        _check_id(collection, "collection")


def name_collections(collection: str, collections: Sequence[str]) -> frozenset[str]:
    """The resource names for ids of a request: `collection`, unless it is empty, and the others.

    No name means all collections.

    Raises:
        InvalidInputError: COLLECTION_NAME; COLLECTIONS_COUNT, there are too many, or one twice.
    """
    check_collection_id(collection)
    for one in collections:
        _check_id(one, "collections")
    ids = [*collections, collection] if collection else collections
    if len(ids) > COLLECTIONS_MAX or len(set(ids)) < len(ids):
        detail = f"at most {COLLECTIONS_MAX} with `collection`, each once"
        raise InvalidInputError(
            "COLLECTIONS_COUNT",
            f"these cannot be the collections: give {detail}",
            fields=[FieldViolation("collections", detail)],
            max_collections=COLLECTIONS_MAX,
        )
    return frozenset(f"collections/{one}" for one in ids)


def check_attached(documents: Sequence[str]) -> None:
    """Checks the names of documents that are attached to a conversation.

    Raises:
        InvalidInputError: DOCUMENT_NAME; DOCUMENTS_COUNT, there are too many, or one twice.
    """
    for place, one in enumerate(documents):
        if not _DOCUMENT.fullmatch(one):
            detail = "use a name of the form collections/{collection}/documents/{document}"
            raise InvalidInputError(
                "DOCUMENT_NAME",
                f"not a document name: {detail}",
                fields=[FieldViolation(f"documents[{place}]", detail)],
            )
    if len(documents) > ATTACHED_MAX or len(set(documents)) < len(documents):
        detail = f"at most {ATTACHED_MAX}, each once"
        raise InvalidInputError(
            "DOCUMENTS_COUNT",
            f"these documents cannot be attached: give {detail}",
            fields=[FieldViolation("documents", detail)],
            max_documents=ATTACHED_MAX,
        )


def _check_id(collection: str, field: str) -> None:
    if not _COLLECTION_ID.fullmatch(collection):
        raise InvalidInputError(
            "COLLECTION_NAME",
            "not a collection id",
            fields=[FieldViolation(field, _COLLECTION_ID.pattern)],
        )

"""Resource names of documents, made from what people type and from file names."""

import re
from pathlib import PurePath

COLLECTION_DEFAULT = "default"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_NAME = re.compile(rf"collections/{_PART.pattern}/documents/{_PART.pattern}")


def document_name(collection: str, document: str) -> str:
    """Resource name of a document id in a collection."""
    return f"collections/{collection}/documents/{document}"


def from_argument(text: str, collection: str = COLLECTION_DEFAULT) -> str:
    """What a person typed as a document: a whole resource name, or an id in `collection`."""
    return text if _NAME.fullmatch(text) else document_name(collection, text)


def document_id(name: str) -> str:
    """Last part of a resource name."""
    return name.rsplit("/", 1)[-1]


def slug(text: str) -> str:
    """A document id made from a file name or a foreign id; readable, at most 128 characters."""
    cleaned = re.sub(r"[^A-Za-z0-9._~-]+", "-", text).lstrip("-._~")[:128].rstrip("-")
    return cleaned or "document"


def of_file(path: PurePath) -> str:
    """Document id of a file: its name."""
    return slug(path.name)

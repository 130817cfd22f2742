"""Resource names of documents, made from user input, paths and ids of other systems."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from aquifer_cli.errors import EXIT_USAGE, CommandError

COLLECTION_DEFAULT = "default"
FOLDER = "~"
REWRITTEN = "~~"
ID_CHARS = 128
_DIGEST_CHARS = 12
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_NAME = re.compile(rf"collections/{_PART.pattern}/documents/{_PART.pattern}")
# `~` separates folders, so the text itself must not contain it.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*")


def document_name(collection: str, document: str) -> str:
    """Resource name of a document id in a collection."""
    return f"collections/{collection}/documents/{document}"


def name_from_argument(text: str, collection: str = COLLECTION_DEFAULT) -> str:
    """The name for user input: a complete resource name, an id, or the path at upload.

    Raises:
        CommandError: DOCUMENT_NAME.
    """
    if _NAME.fullmatch(text):
        return text
    if _PART.fullmatch(text):
        return document_name(collection, text)
    # Text that starts like a complete name was meant to be one.
    if text and not text.startswith("collections/"):
        return document_name(collection, id_from_path(text))
    raise CommandError(
        "DOCUMENT_NAME",
        f"{text!r} is not a document name",
        hint="a name is collections/COLLECTION/documents/DOCUMENT; `aquifer documents` lists them",
        exit_code=EXIT_USAGE,
    )


def check_collection(text: str) -> str:
    """Checks and returns a collection id.

    Raises:
        CommandError: COLLECTION_NAME.
    """
    if not _PART.fullmatch(text):
        raise CommandError(
            "COLLECTION_NAME",
            f"{text!r} is not a collection id",
            hint="use 1 to 128 of A-Z a-z 0-9 . _ ~ - and start with a letter or a digit",
            exit_code=EXIT_USAGE,
        )
    return text


def check_collections(given: Iterable[str]) -> list[str]:
    """Checks and returns collection ids; empty ones are left out.

    Raises:
        CommandError: COLLECTION_NAME.
    """
    return [check_collection(one) for one in given if one]


def document_id(name: str) -> str:
    """Last part of a resource name."""
    return name.rsplit("/", 1)[-1]


def collection_id(name: str) -> str:
    """Collection id of the resource name of a collection."""
    return name.removeprefix("collections/")


def id_from_path(path: str) -> str:
    """A document id for a path whose parts are joined by `/`.

    A valid path stays readable, with `~` between its parts; see `_rewrite` for others.
    """
    whole = unicodedata.normalize("NFC", path)
    if _PLAIN_PATH.fullmatch(whole) and len(whole) <= ID_CHARS:
        return whole.replace("/", FOLDER)
    return _rewrite(whole)


def id_from_foreign(foreign: str) -> str:
    """A document id for an id of another system: the same id if it is valid."""
    whole = unicodedata.normalize("NFC", foreign)
    return whole if _PART.fullmatch(whole) and REWRITTEN not in whole else _rewrite(whole)


def id_from_content(file_name: str, sha256: str) -> str:
    """A document id for a file and its content: another content of the same name differs."""
    return _add_digest(unicodedata.normalize("NFC", file_name), sha256)


def _rewrite(text: str) -> str:
    """The readable part of a text, then `~~` and a digest, so that different texts differ.

    The id depends on this text alone. Equivalent Unicode forms of a text get the same id.
    """
    return _add_digest(text, hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest())


def _add_digest(text: str, digest: str) -> str:
    digest = digest[:_DIGEST_CHARS]
    readable = FOLDER.join(filter(None, map(_clean, text.split("/"))))
    room = ID_CHARS - len(REWRITTEN) - len(digest)
    return f"{readable[:room].rstrip('-._~') or 'document'}{REWRITTEN}{digest}"


def _clean(part: str) -> str:
    """Letters without diacritics; everything else that a name must not contain becomes one `-`."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", part) if not unicodedata.combining(c))
    return re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-._")

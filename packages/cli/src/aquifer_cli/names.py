"""Resource names of documents, made from what people type, from paths and from foreign ids."""

import hashlib
import re
import unicodedata

from aquifer_cli.errors import EXIT_USAGE, CommandError

COLLECTION_DEFAULT = "default"
FOLDER = "~"
REWRITTEN = "~~"
ID_CHARS = 128
_DIGEST_CHARS = 12
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_NAME = re.compile(rf"collections/{_PART.pattern}/documents/{_PART.pattern}")
# `~` stands for the border between folders, so it may not come from the text itself.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*")


def document_name(collection: str, document: str) -> str:
    """Resource name of a document id in a collection."""
    return f"collections/{collection}/documents/{document}"


def from_argument(text: str, collection: str = COLLECTION_DEFAULT) -> str:
    """What a person typed as a document: a whole resource name, an id, or the path it was sent as.

    Raises:
        CommandError: DOCUMENT_NAME.
    """
    if _NAME.fullmatch(text):
        return text
    if _PART.fullmatch(text):
        return document_name(collection, text)
    # What begins like a whole name and is none was meant to be one.
    if text and not text.startswith("collections/"):
        return document_name(collection, of_path(text))
    raise CommandError(
        "DOCUMENT_NAME",
        f"{text!r} is no document's name",
        hint="a name is collections/COLLECTION/documents/DOCUMENT; `aquifer documents` lists them",
        exit_code=EXIT_USAGE,
    )


def collection(text: str) -> str:
    """A collection id as it was given.

    Raises:
        CommandError: COLLECTION_NAME.
    """
    if not _PART.fullmatch(text):
        raise CommandError(
            "COLLECTION_NAME",
            f"{text!r} is no collection's id",
            hint="1 to 128 of A-Z a-z 0-9 . _ ~ - and first a letter or a digit",
            exit_code=EXIT_USAGE,
        )
    return text


def document_id(name: str) -> str:
    """Last part of a resource name."""
    return name.rsplit("/", 1)[-1]


def of_path(path: str) -> str:
    """A document id for a path whose parts are joined by `/`.

    A path that fits stays readable, with `~` between its parts; see `_rewritten` for any other.
    """
    whole = unicodedata.normalize("NFC", path)
    if _PLAIN_PATH.fullmatch(whole) and len(whole) <= ID_CHARS:
        return whole.replace("/", FOLDER)
    return _rewritten(whole)


def of_id(foreign: str) -> str:
    """A document id for an id of somebody else's: itself where it can be one."""
    whole = unicodedata.normalize("NFC", foreign)
    return whole if _PART.fullmatch(whole) and REWRITTEN not in whole else _rewritten(whole)


def _rewritten(text: str) -> str:
    """What can be read of a text, then `~~` and a digest of it: other texts get other ids.

    The id never depends on what else is named. Two Unicode spellings of one text are one text.
    """
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    readable = FOLDER.join(filter(None, map(_cleaned, text.split("/"))))
    room = ID_CHARS - len(REWRITTEN) - len(digest)
    return f"{readable[:room].rstrip('-._~') or 'document'}{REWRITTEN}{digest}"


def _cleaned(part: str) -> str:
    """Letters without their marks, everything else that a name may not hold as one `-`."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", part) if not unicodedata.combining(c))
    return re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-._")

"""Keys of objects, and what a write returns; the same for every store."""

import hashlib
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import DataLossError, InvalidInputError, NotFoundError

KEY_DEPTH: Final = 3
# Short enough for the name of its temporary file, which may have 255 bytes.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9%_~-][A-Za-z0-9%._~-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Size and checksum of a written object; `sha256` in lower-case hex."""

    size_bytes: int
    sha256: str


def make_key(tenant: str, document: str) -> str:
    """Makes the key of a new object: it contains the time but no document name."""
    folder = hashlib.sha256(document.encode()).hexdigest()
    return f"{tenant}/{folder}/{round(time.time() * 1_000):013d}-{uuid.uuid4().hex}"


def key_age_s(key: str) -> float:
    """Age in seconds of the object with this key; 0 for a key of another format."""
    came = key.rpartition("/")[2].partition("-")[0]
    return time.time() - int(came) / 1_000 if came.isdecimal() else 0.0


def split_key(key: str, depths: Sequence[int] = (KEY_DEPTH,)) -> Sequence[str]:
    """The parts of a key `<tenant>/<document>/<version>`, or of a prefix of one of these depths.

    A part has at most 200 letters, digits and `%._~-`, and does not begin with a dot.

    Raises:
        InvalidInputError: OBJECT_KEY_INVALID.
    """
    parts = key.split("/")
    if len(parts) not in depths or not all(map(_SEGMENT.fullmatch, parts)):
        raise InvalidInputError("OBJECT_KEY_INVALID", "not a key of this store", key=key[:256])
    return parts


class Count:
    """Counts and sums up the bytes of an object while it is written."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def add(self, piece: bytes) -> None:
        """Counts a piece.

        Raises:
            InvalidInputError: DOCUMENT_TOO_LARGE, more than `max_bytes` in all.
        """
        self._size_bytes += len(piece)
        if self._size_bytes > self._max_bytes:
            raise InvalidInputError(
                "DOCUMENT_TOO_LARGE",
                f"more than {self._max_bytes} bytes",
                limit_bytes=self._max_bytes,
            )
        self._digest.update(piece)

    @property
    def stored(self) -> Stored:
        """Size and checksum of all pieces."""
        return Stored(size_bytes=self._size_bytes, sha256=self._digest.hexdigest())


def check_content(content: bytes, key: str, sha256: str) -> bytes:
    """The bytes of an object, if they match their checksum.

    Raises:
        DataLossError: OBJECT_CORRUPT.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataLossError(
            "OBJECT_CORRUPT",
            "the stored bytes do not match their checksum; upload the document again",
            key=key,
        )
    return content


def missing_error(key: str) -> NotFoundError:
    """The store has no object under a key."""
    return NotFoundError(
        "OBJECT_MISSING", "the object is missing; upload the document again", key=key
    )

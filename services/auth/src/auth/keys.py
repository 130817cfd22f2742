"""The text of an API key, and the proof of its secret that is stored instead."""

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from chassis.base.errors import FailedPreconditionError

PREFIX = "aqf"
KEY_ID_CHARS = 16
# 43 digits of base 62 hold 256 bits.
SECRET_CHARS = 43
CHECKSUM_CHARS = 6
PEPPER_MIN_CHARS = 32
PEPPER_MAX_CHARS = 256

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KEY_ID = re.compile(rf"[0-9A-Za-z]{{{KEY_ID_CHARS}}}")
_KEY = re.compile(
    rf"{PREFIX}_([0-9A-Za-z]{{{KEY_ID_CHARS}}})_([0-9A-Za-z]{{{SECRET_CHARS}}})"
    rf"_([0-9A-Za-z]{{{CHECKSUM_CHARS}}})"
)
_PEPPER = re.compile(
    rf"(?:(?P<version>[0-9]{{1,4}}):)?"
    rf"(?P<pepper>[^\s,:]{{{PEPPER_MIN_CHARS},{PEPPER_MAX_CHARS}}})"
)


@dataclass(frozen=True, slots=True)
class KeyText:
    """A complete API key; only `reveal` shows the secret."""

    key_id: str
    secret: str = field(repr=False)

    def reveal(self) -> str:
        """`aqf_<key id>_<secret>_<checksum>`, for its owner only."""
        body = f"{PREFIX}_{self.key_id}_{self.secret}"
        return f"{body}_{_checksum(body)}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The key in `text`, or None if form or checksum are wrong."""
        found = _KEY.fullmatch(text)
        if found is None:
            return None
        key = cls(found[1], found[2])
        return key if key.reveal() == text else None


def is_key_id(text: str) -> bool:
    """True if the text is a valid key id."""
    return _KEY_ID.fullmatch(text) is not None


def new_key() -> KeyText:
    """A new key from the system's random generator: 256 bits of secret."""
    return KeyText(_random(KEY_ID_CHARS), _random(SECRET_CHARS))


def _random(chars: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(chars))


def _checksum(body: str) -> str:
    """CRC-32 in base 62: helps scanners to recognise leaked keys; no security."""
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


@dataclass(frozen=True, slots=True)
class Proof:
    """What is stored of a secret: 32 bytes and the version of the pepper."""

    pepper_version: int
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Peppers:
    """Secrets that are not in the database; without them its proofs cannot be attacked.

    The highest version is used for new proofs, each version to check its own.
    """

    by_version: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `<version>:<pepper>[,<version>:<pepper>...]`; the default version is 1.

        Raises:
            FailedPreconditionError: PEPPER_INVALID.
        """
        found = [_PEPPER.fullmatch(part.strip()) for part in text.split(",")]
        peppers = {int(one["version"] or 1): one["pepper"].encode() for one in found if one}
        if len(peppers) < len(found):
            raise FailedPreconditionError(
                "PEPPER_INVALID",
                "a pepper must be `<version>:"
                f"<{PEPPER_MIN_CHARS} to {PEPPER_MAX_CHARS} characters>`"
                "; separate several by commas, each version once",
            )
        return cls(peppers)

    def proof(self, key: KeyText) -> Proof:
        """The proof to store for a new key."""
        version = max(self.by_version)
        return Proof(version, _digest(self.by_version[version], key))

    def confirm(self, key: KeyText, stored: Proof | None) -> bool:
        """True if `stored` is the proof of this key; takes as long if there is none."""
        known = stored is not None and stored.pepper_version in self.by_version
        version = stored.pepper_version if stored and known else max(self.by_version)
        digest = _digest(self.by_version[version], key)
        expected = stored.digest if stored and known else bytes(len(digest))
        return hmac.compare_digest(digest, expected) and known


def _digest(pepper: bytes, key: KeyText) -> bytes:
    """Includes the key id, so a proof copied to another row is invalid there."""
    return hmac.digest(pepper, f"{key.key_id}_{key.secret}".encode(), "sha256")

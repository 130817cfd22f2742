"""Encrypts short secrets that have to be stored: AES-GCM with one key of the settings."""

import base64
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Sealer:
    """What is sealed for a place, for example a document and its version, opens only for it."""

    def __init__(self, key: str) -> None:
        """Takes 32 bytes in base64.

        Raises:
            ValueError: they are not.
        """
        self._cipher = AESGCM(_decode(key))

    def seal(self, secret: str, *place: str) -> bytes:
        """The secret, encrypted; different each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), _join(place))

    def open(self, sealed: bytes, *place: str) -> str:
        """The secret.

        Raises:
            ValueError: it was sealed with another key or for another place, or was changed.
        """
        nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, encrypted, _join(place)).decode()
        # What is too short for a nonce is a ValueError of its own.
        except (InvalidTag, ValueError) as error:
            raise ValueError("it was sealed with another key, or for another place") from error


def _decode(key: str) -> bytes:
    try:
        found = base64.b64decode(key, validate=True)
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise ValueError(f"a key must be {KEY_BYTES} bytes in base64")
    return found


def _join(place: tuple[str, ...]) -> bytes:
    return "\x1f".join(place).encode()

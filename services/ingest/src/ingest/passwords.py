"""Seals the passwords of documents, which are stored until the document is parsed."""

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

from chassis.base.errors import DataLossError, FailedPreconditionError
from ingest.usecases import ports

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class AesPasswords(ports.Passwords):
    """AES-GCM with one key; what is sealed for a version can be opened for that version only."""

    def __init__(self, key: str) -> None:
        """Takes the key in base64; without one, every password is refused.

        Raises:
            FailedPreconditionError: PASSWORD_KEY_INVALID.
        """
        self._cipher = AESGCM(_decode_key(key)) if key else None

    @override
    def check(self) -> None:
        if self._cipher is None:
            raise FailedPreconditionError(
                "PASSWORDS_OFF",
                "this service keeps no passwords; set AQUIFER_PASSWORD_KEY, or remove the password"
                " from the file",
            )

    @override
    def seal(self, tenant: str, document: str, number: int, password: str) -> bytes:
        assert self._cipher is not None, "the upload was checked"
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(
            nonce, password.encode(), _place(tenant, document, number)
        )

    @override
    def open(self, tenant: str, document: str, number: int, sealed: bytes) -> str:
        nonce, secret = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        if self._cipher is None:
            raise _lost_error()
        try:
            return self._cipher.decrypt(nonce, secret, _place(tenant, document, number)).decode()
        except (InvalidTag, ValueError) as error:
            raise _lost_error() from error


def _decode_key(key: str) -> bytes:
    try:
        found = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY_BYTES:
        raise FailedPreconditionError(
            "PASSWORD_KEY_INVALID", f"AQUIFER_PASSWORD_KEY must be {KEY_BYTES} bytes in base64"
        )
    return found


def _place(tenant: str, document: str, number: int) -> bytes:
    return "\x1f".join((tenant, document, str(number))).encode()


def _lost_error() -> DataLossError:
    return DataLossError(
        "PASSWORD_LOST",
        "AQUIFER_PASSWORD_KEY has changed since the upload; upload the document again",
    )

"""Seals the passwords of documents, which are stored until the document is parsed."""

from typing_extensions import override

from chassis.base.errors import DataLossError, FailedPreconditionError
from chassis.base.sealing import KEY_BYTES, Sealer
from ingest.usecases import ports


class AesPasswords(ports.Passwords):
    """Seals with one key; what is sealed for a version can be opened for that version only."""

    def __init__(self, key: str) -> None:
        """Takes the key in base64; without one, every password is refused.

        Raises:
            FailedPreconditionError: PASSWORD_KEY_INVALID.
        """
        try:
            self._sealer = Sealer(key) if key else None
        except ValueError as error:
            raise FailedPreconditionError(
                "PASSWORD_KEY_INVALID", f"AQUIFER_PASSWORD_KEY must be {KEY_BYTES} bytes in base64"
            ) from error

    @override
    def check(self) -> None:
        if self._sealer is None:
            raise FailedPreconditionError(
                "PASSWORDS_OFF",
                "this service keeps no passwords; set AQUIFER_PASSWORD_KEY, or remove the password"
                " from the file",
            )

    @override
    def seal(self, tenant: str, document: str, number: int, password: str) -> bytes:
        assert self._sealer is not None, "the upload was checked"
        return self._sealer.seal(password, tenant, document, str(number))

    @override
    def open(self, tenant: str, document: str, number: int, sealed: bytes) -> str:
        if self._sealer is None:
            raise _lost_error()
        try:
            return self._sealer.open(sealed, tenant, document, str(number))
        except ValueError as error:
            raise _lost_error() from error


def _lost_error() -> DataLossError:
    return DataLossError(
        "PASSWORD_LOST",
        "AQUIFER_PASSWORD_KEY has changed since the upload; upload the document again",
    )

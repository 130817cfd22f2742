"""Opens Word, PowerPoint and Excel files that need a password, also those of Excel 97 to 2003."""

import struct
from io import BytesIO
from types import SimpleNamespace
from typing import Final
from xml.parsers.expat import ExpatError

import msoffcrypto  # type: ignore[import-untyped]
from msoffcrypto.exceptions import (  # type: ignore[import-untyped]
    DecryptionError,
    FileFormatError,
    InvalidKeyError,
    ParseError,
)
from msoffcrypto.format import xls97  # type: ignore[import-untyped]
from msoffcrypto.format.ooxml import OOXMLFile  # type: ignore[import-untyped]

from ingest.parsing.detect import ENCRYPTED_STREAM, OLE_SIGNATURE
from ingest.parsing.failure import ParseFailure, RefusalError

# Excel opens workbooks with it without asking: those that are only protected from changes have it.
DEFAULT_PASSWORD: Final = "VelvetSweatshop"  # noqa: S105  (known to everybody)
# Office writes 100,000. The library allows a hundred times more: 10 s of processor time.
ROUNDS_MAX: Final = 1_000_000

_DAMAGED: Final = (
    *(DecryptionError, FileFormatError, ParseError, struct.error, ExpatError),
    *(OSError, ValueError, LookupError, AssertionError, TypeError),
)

# The library writes a workbook to a file in between, which the jail forbids.
xls97.tempfile = SimpleNamespace(TemporaryFile=BytesIO)


def decrypt(data: bytes, password: str) -> bytes:
    """The file without its encryption; the same bytes if it has none.

    Raises:
        RefusalError: `DOCUMENT_ENCRYPTED`, `PASSWORD_WRONG` or `DOCUMENT_DAMAGED`.
    """
    if not data.startswith(OLE_SIGNATURE):
        return data
    if ENCRYPTED_STREAM not in data and not _is_encrypted_workbook(data):
        return data
    try:
        file = _open(data, password)
        opened = BytesIO()
        file.decrypt(opened)
    except _DAMAGED as error:
        # The message could quote the document.
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED,
            f"the encrypted file cannot be read: {type(error).__name__}",
        ) from error
    return opened.getvalue()


def _is_encrypted_workbook(data: bytes) -> bool:
    """Whether a file is a workbook of Excel 97 to 2003 that needs a password."""
    try:
        file = msoffcrypto.OfficeFile(BytesIO(data))
        return isinstance(file, xls97.Xls97File) and bool(file.is_encrypted())
    except _DAMAGED:
        return False  # the reader decides whether it is damaged


def _open(data: bytes, password: str) -> OOXMLFile | xls97.Xls97File:
    try:
        file = msoffcrypto.OfficeFile(BytesIO(data))
        if getattr(file, "type", "") == "agile" and file.info["spinValue"] > ROUNDS_MAX:
            raise _method_error()
        options = {"verify_password": True} if isinstance(file, OOXMLFile) else {}
        file.load_key(password=password or DEFAULT_PASSWORD, **options)
    except InvalidKeyError as error:
        if password:
            raise RefusalError(
                ParseFailure.PASSWORD_WRONG,
                "the password does not open the file; upload again with the right one",
            ) from error
        raise RefusalError(
            ParseFailure.DOCUMENT_ENCRYPTED,
            "the file needs a password; upload again with it, or remove it from the file",
        ) from error
    except DecryptionError as error:
        raise _method_error() from error
    return file


def _method_error() -> RefusalError:
    return RefusalError(
        ParseFailure.DOCUMENT_ENCRYPTED,
        "the file is encrypted in a way that cannot be opened; remove that and upload again",
    )

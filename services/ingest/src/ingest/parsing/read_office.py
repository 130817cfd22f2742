"""Reads office files, e-books and Outlook messages, which xberg converts to Markdown."""

import asyncio
import zipfile
from io import BytesIO
from typing import Final

import xberg
from xberg import ExtractedDocument
from xberg.options import ExtractInput, ExtractionConfig, SecurityLimits

from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.decrypt_office import decrypt
from ingest.parsing.detect import OLE_SIGNATURE, find_by_stream
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.markdown import read_markdown
from ingest.parsing.reading import Reading, check_length

# The library's own default of 100,000 refuses tables that people have.
TABLE_CELLS_MAX: Final = 10_000_000
THREADS_MAX: Final = 64
UNPACKED_MAX_BYTES: Final = 256 << 20


def read(data: bytes, limit_chars: int, password: str = "") -> Reading:
    """Reads one file; headings, lists, tables and formulas become lines as those of Markdown.

    Raises:
        RefusalError: `DOCUMENT_ENCRYPTED`, `PASSWORD_WRONG`, `DOCUMENT_DAMAGED` or
            `PARSER_OUTPUT_LIMIT`.
    """
    data = decrypt(data, password)
    if _is_encrypted(data):
        raise RefusalError(
            ParseFailure.DOCUMENT_ENCRYPTED, "the file needs a password; remove it and upload again"
        )
    found = _convert(data, _find_hint(data))
    check_length(len(found.content), limit_chars)
    title = " ".join((found.metadata.title or "").split())
    reading = read_markdown.read_body(found.content, title, limit_chars)
    return reading._replace(notes=_note_attachments(len(found.children or ())))


def _note_attachments(number: int) -> tuple[Note, ...]:
    if not number:
        return ()
    return (Note(NoteCode.ATTACHMENTS_LEFT_OUT, f"{render_count(number, 'attachment')} left out"),)


def _find_hint(data: bytes) -> str:
    """The media type of an OLE file, which the library does not always recognise by its bytes."""
    return (find_by_stream(data) or "") if data.startswith(OLE_SIGNATURE) else ""


def _is_encrypted(data: bytes) -> bool:
    """Whether members of a packed file are encrypted; e-books and OpenDocument say so inside."""
    if not data.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(BytesIO(data)) as packed:
            return any(
                member.flag_bits & 1 or member.filename == "META-INF/encryption.xml"
                for member in packed.infolist()
            ) or _states_encryption(packed)
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False  # the library decides whether it is damaged


def _states_encryption(packed: zipfile.ZipFile) -> bool:
    name = "META-INF/manifest.xml"
    if name not in packed.namelist() or packed.getinfo(name).file_size > 1 << 20:
        return False
    return b"encryption-data" in packed.read(name)


def _convert(data: bytes, media_type: str) -> ExtractedDocument:
    config = ExtractionConfig(
        use_cache=False,
        disable_ocr=True,
        enable_quality_processing=False,
        output_format="markdown",
        security_limits=SecurityLimits(
            max_table_cells=TABLE_CELLS_MAX, max_archive_size=UNPACKED_MAX_BYTES
        ),
    )
    source = ExtractInput(kind="bytes", bytes=data, mime_type=media_type or None)
    try:
        return asyncio.run(xberg.extract(source, config)).results[0]
    except xberg.SecurityError as error:
        raise _limit_error() from error
    except (xberg.XbergError, RuntimeError, ValueError) as error:
        # The message could quote the document.
        if "Security limit" in str(error) or "Security violation" in str(error):
            raise _limit_error() from error
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, f"the file cannot be read: {type(error).__name__}"
        ) from error


def _limit_error() -> RefusalError:
    return RefusalError(
        ParseFailure.PARSER_OUTPUT_LIMIT, "the file unpacks or nests beyond the parser's limits"
    )

"""Detects the format of bytes; the declared type and the file name are only hints."""

import mimetypes
import re

from chassis.base.errors import InvalidInputError
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure

SNIFFED_BYTES = 1024

DECLARED = {
    "text/plain": MediaType.TEXT,
    "text/markdown": MediaType.MARKDOWN,
    "text/x-markdown": MediaType.MARKDOWN,
    "text/html": MediaType.HTML,
    "application/xhtml+xml": MediaType.HTML,
    "application/pdf": MediaType.PDF,
    "application/x-pdf": MediaType.PDF,
}
UNDECLARED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdown", ".mkd")

FOREIGN_SIGNATURES = {
    b"PK\x03\x04": "application/zip",
    b"PK\x05\x06": "application/zip",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "application/x-ole-storage",
    b"{\\rtf": "application/rtf",
    b"%!PS": "application/postscript",
    b"\x1f\x8b": "application/gzip",
    b"BZh": "application/x-bzip2",
    b"\xfd7zXZ\x00": "application/x-xz",
    b"7z\xbc\xaf\x27\x1c": "application/x-7z-compressed",
    b"\x89PNG\r\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"\x7fELF": "application/x-executable",
    b"SQLite format 3\x00": "application/vnd.sqlite3",
}

_MARK_OR_SPACE = b"\xef\xbb\xbf\xff\xfe \t\r\n\f"
_HTML_START = re.compile(
    rb"(?>\s+|<!--(?:(?!-->).)*-->|<\?xml[^>]*\?>)*<(?:!doctype\s+html|html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
# The table compiled into Python: the machine's own mime.types would make refusals differ by host.
_NAMES = mimetypes.MimeTypes()


def detect(data: bytes, *, media_type: str, file_name: str) -> MediaType:
    """Detects the format in which to parse `data`.

    Raises:
        InvalidInputError: `MEDIA_TYPE_UNSUPPORTED` if the declared or detected format is not
            supported, `MEDIA_TYPE_MISMATCH` if the bytes are not of the declared format.
    """
    declared = _declared_type(media_type, file_name)
    found = _detect_type(data, declared)
    # Without a signature the bytes may be text of any format except PDF.
    if found is None and declared is not MediaType.PDF:
        return declared or MediaType.TEXT
    if isinstance(found, MediaType) and declared in (None, found):
        return found
    if declared is None:
        raise _unsupported_error(found or "unknown")
    raise InvalidInputError(
        ParseFailure.MEDIA_TYPE_MISMATCH,
        f"declared as {declared}, but it is {found or 'something else'}; correct the media type",
        declared=declared,
        found=found or "none",
    )


def charset(media_type: str) -> str:
    """The `charset` parameter of a media type; empty if there is none."""
    found = re.search(r";\s*charset\s*=\s*\"?([\w.:-]{1,40})", media_type, re.IGNORECASE)
    return found[1] if found else ""


def _declared_type(media_type: str, file_name: str) -> MediaType | None:
    named = media_type.partition(";")[0].strip().lower()
    if named in UNDECLARED:
        if file_name.lower().endswith(MARKDOWN_SUFFIXES):
            return MediaType.MARKDOWN
        named = _NAMES.guess_type(file_name.rpartition("/")[2], strict=False)[0] or ""
    if named and named not in DECLARED:
        raise _unsupported_error(named)
    return DECLARED.get(named)


def _detect_type(data: bytes, declared: MediaType | None) -> MediaType | str | None:
    """A supported format, the name of an unsupported one, or None without a signature."""
    for signature, name in FOREIGN_SIGNATURES.items():
        if data.startswith(signature):
            return name
    # Without NULs the same pattern also matches UTF-16 and UTF-32.
    head = data[:SNIFFED_BYTES].replace(b"\x00", b"").lstrip(_MARK_OR_SPACE)
    if head.startswith(b"%PDF-") or (declared is MediaType.PDF and b"%PDF-" in head):
        return MediaType.PDF
    return MediaType.HTML if _HTML_START.match(head) else None


def _unsupported_error(name: str) -> InvalidInputError:
    return InvalidInputError(
        ParseFailure.MEDIA_TYPE_UNSUPPORTED,
        f"{name} is not accepted; send one of {', '.join(MediaType)}",
        media_type=name,
    )

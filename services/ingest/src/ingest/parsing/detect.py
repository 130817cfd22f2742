"""Detects the format of bytes; the declared type and the file name are only hints."""

import mimetypes
import re

from chassis.base.errors import InvalidInputError
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure
from ingest.parsing.formats import FORMATS, find_by_suffix, find_media_type

SNIFFED_BYTES = 1024

UNDECLARED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
# Types that name only the container of other formats.
CONTAINERS = frozenset(
    {"application/zip", "application/x-zip-compressed", "application/x-ole-storage"}
)
# Types under which files of another format are often sent; the file name tells them.
SENT_AS = {
    MediaType.XLS: (MediaType.CSV, MediaType.TSV),
    MediaType.EML: (MediaType.MHTML,),
}
# What is read when the bytes begin as HTML: it is also text, Markdown may begin with it, and XML
# that does so is XHTML.
MAY_BE_HTML = {
    MediaType.TEXT: MediaType.TEXT,
    MediaType.MARKDOWN: MediaType.MARKDOWN,
    MediaType.XML: MediaType.HTML,
}

# Bytes at an offset that no format of text has there.
SIGNATURES = (
    (0, b"%!PS", "application/postscript"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (257, b"ustar", "application/x-tar"),
    (0, b"\x89PNG\r\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"BM", "image/bmp"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypavif", "image/avif"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
ARCHIVES = frozenset(
    "application/" + name
    for name in (
        *("zip", "x-zip-compressed", "gzip", "x-gzip", "x-bzip2", "x-xz", "zstd", "x-compress"),
        *("x-tar", "x-gtar", "x-7z-compressed", "vnd.rar", "x-rar-compressed", "java-archive"),
    )
)
# Names of members that a ZIP file of the format contains, in its directory at the end.
ZIP_MEMBERS = {
    b"word/document": MediaType.DOCX,
    b"ppt/presentation": MediaType.PPTX,
    b"xl/workbook": MediaType.XLSX,
}
# Which of these an encrypted file is, its bytes do not tell.
ENCRYPTABLE = tuple(ZIP_MEMBERS.values())
# Types that a ZIP file of the format states in its first member.
ZIP_TYPES = (MediaType.ODT, MediaType.ODS, MediaType.ODP, MediaType.EPUB)
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Names of streams in an OLE file, which are in UTF-16.
MESSAGE_STREAM = "__properties_version1.0"
ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
OLE_STREAMS = {MESSAGE_STREAM: MediaType.MSG, "Workbook": MediaType.XLS, "Book": MediaType.XLS}

_MARK_OR_SPACE = b"\xef\xbb\xbf\xff\xfe \t\r\n\f"
_HTML_START = re.compile(
    rb"(?>\s+|<!--(?:(?!-->).)*-->|<\?xml[^>]*\?>)*<(?:!doctype\s+html|html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_PDF_OBJECT = re.compile(rb"\d\s+obj\b|startxref|%%EOF")
# The table compiled into Python: the machine's own mime.types would make refusals differ by host.
_NAMES = mimetypes.MimeTypes()


def detect(data: bytes, *, media_type: str, file_name: str) -> MediaType:
    """Detects the format in which to parse `data`.

    Raises:
        InvalidInputError: `MEDIA_TYPE_UNSUPPORTED` if the declared or detected format is not
            supported, `NEEDS_OCR` if it is a picture, `MEDIA_TYPE_MISMATCH` if the bytes are not of
            the declared format, `DOCUMENT_ENCRYPTED` for an office file that needs a password and
            does not tell its format by its type or name.
    """
    if _find_name(media_type) in CONTAINERS and data.startswith((*ZIP_SIGNATURES, OLE_SIGNATURE)):
        media_type = ""
    declared = find_declared(media_type, file_name)
    found = _detect_type(data, declared)
    if found is None and (declared is None or _may_lack_signature(declared)):
        return declared or MediaType.TEXT
    if found is MediaType.HTML and declared in MAY_BE_HTML:
        return MAY_BE_HTML[declared]
    if isinstance(found, MediaType) and declared in (None, found):
        return found
    if declared is None:
        raise _unsupported_error(found or "unknown")
    raise InvalidInputError(
        ParseFailure.MEDIA_TYPE_MISMATCH,
        f"declared as {declared}, but it is {found or 'something else'};"
        f" {_find_advice(found) if found else 'correct the media type'}",
        declared=declared,
        found=found or "none",
    )


def charset(media_type: str) -> str:
    """The `charset` parameter of a media type; empty if there is none."""
    found = re.search(r";\s*charset\s*=\s*\"?([\w.:-]{1,40})", media_type, re.IGNORECASE)
    return found[1] if found else ""


def find_declared(media_type: str, file_name: str) -> MediaType | None:
    """The format that the hints tell; None if they tell none.

    Raises:
        InvalidInputError: `MEDIA_TYPE_UNSUPPORTED`, or `NEEDS_OCR` for a picture.
    """
    declared = _find_declared(_find_name(media_type), file_name)
    if declared in SENT_AS and (meant := find_by_suffix(file_name)) in SENT_AS[declared]:
        return meant
    return declared


def _find_name(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _find_declared(named: str, file_name: str) -> MediaType | None:
    if named in UNDECLARED:
        if (found := find_by_suffix(file_name)) is not None:
            return found
        guessed, packing = _NAMES.guess_type(file_name.rpartition("/")[2], strict=False)
        named = "" if packing else guessed or ""
    if named in UNDECLARED:
        return None
    if (found := find_media_type(named)) is None:
        raise _unsupported_error(named)
    return found


def _may_lack_signature(declared: MediaType) -> bool:
    return FORMATS[declared].in_text or declared in (MediaType.EML, MediaType.MHTML)


def _detect_type(data: bytes, declared: MediaType | None) -> MediaType | str | None:
    """A supported format, the name of an unsupported one, or None without a signature."""
    if data.startswith(ZIP_SIGNATURES):
        return _detect_zip(data)
    if data.startswith(OLE_SIGNATURE):
        return _detect_ole(data, declared)
    # Without NULs the same pattern also matches UTF-16 and UTF-32.
    head = data[:SNIFFED_BYTES].replace(b"\x00", b"").lstrip(_MARK_OR_SPACE)
    if head.startswith(b"{\\rtf"):
        return MediaType.RTF
    if _is_pdf(data, head, declared):
        return MediaType.PDF
    if _HTML_START.match(head):
        return MediaType.HTML
    return None if _reads_as_text(data) else _find_signature(data)


def _find_signature(data: bytes) -> MediaType | str | None:
    signed = (name for at, sign, name in SIGNATURES if data.startswith(sign, at))
    found = next(signed, None)
    return MediaType(found) if found in FORMATS else found


def _detect_zip(data: bytes) -> MediaType | str:
    if data[30:38] == b"mimetype":
        stated = next((kind for kind in ZIP_TYPES if data[38:].startswith(kind.encode())), None)
        return stated or "application/zip"
    found = (kind for member, kind in ZIP_MEMBERS.items() if member in data)
    return next(found, "application/zip")


def _detect_ole(data: bytes, declared: MediaType | None) -> MediaType | str:
    if ENCRYPTED_STREAM in data:
        if declared in ENCRYPTABLE:
            return declared
        raise InvalidInputError(
            ParseFailure.DOCUMENT_ENCRYPTED,
            "the office file is encrypted; upload again with its password, and with its media type"
            " or a file name such as report.docx",
        )
    return find_by_stream(data) or "application/x-ole-storage"


def find_by_stream(data: bytes) -> MediaType | None:
    """The format of an OLE file by the names of its streams."""
    streams = OLE_STREAMS.items()
    return next((kind for name, kind in streams if name.encode("utf-16-le") in data), None)


def _is_pdf(data: bytes, head: bytes, declared: MediaType | None) -> bool:
    if declared is MediaType.PDF:
        return b"%PDF-" in head
    return head.startswith(b"%PDF-") and (declared is None or bool(_PDF_OBJECT.search(data)))


def _reads_as_text(data: bytes) -> bool:
    """Whether the start has no bytes that only binary formats have."""
    return not re.search(rb"[\x00-\x06\x0e-\x1a\x7f]", data[:SNIFFED_BYTES])


def _unsupported_error(name: str) -> InvalidInputError:
    is_picture = name.startswith("image/")
    return InvalidInputError(
        ParseFailure.NEEDS_OCR if is_picture else ParseFailure.MEDIA_TYPE_UNSUPPORTED,
        f"{name} is not accepted; {_find_advice(name)}",
        media_type=name,
    )


def _find_advice(name: str) -> str:
    """What to do with a file of another format than was declared, or of none that is accepted."""
    if name in ARCHIVES:
        return "unpack it, and send each file in it as a document of its own"
    if name in FORMATS:
        return "correct the media type"
    if name.startswith("image/"):
        return "convert it to PNG, JPEG or TIFF, which OCR reads if it is on here; or send its text"
    return f"send one of {', '.join(MediaType)}"

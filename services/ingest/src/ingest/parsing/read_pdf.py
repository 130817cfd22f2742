"""Converts PDF to text, page by page; runs in the child."""

import codecs
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pypdf
from pypdf import _cmap
from pypdf._encryption import AlgV5, PasswordType
from pypdf.errors import FileNotDecryptedError, LimitReachedError, PdfReadError

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.reading import Reading, check_length

# Encodings of ISO 32000 table 116 that the library lacks; it would read them as UTF-16 and return
# wrong characters. `jis_x_0208` is defined below.
CMAPS = {
    "GBKp-EUC": "gbk",
    "B5pc": "big5",
    "HKscs-B5": "big5hkscs",
    "83pv-RKSJ": "cp932",
    "90msp-RKSJ": "cp932",
    "90pv-RKSJ": "cp932",
    "Add-RKSJ": "cp932",
    "Ext-RKSJ": "cp932",
    "EUC": "euc_jp",
    "KSC-EUC": "euc_kr",
    "KSCpc-EUC": "euc_kr",
    "KSCms-UHC": "cp949",
    "KSCms-UHC-HW": "cp949",
    "UniKS-UTF16": "utf-16-be",
    "UniJIS2004-UTF16": "utf-16-be",
}
JIS_X_0208 = "jis_x_0208"
AES_256_REVISION = 5

# Titles that name a tool or a file, not the document.
_NO_TITLE = re.compile(
    r"\(?(?:untitled|anonymous|unspecified|title|document\d*)\)?|microsoft (?:word|powerpoint)\b.*"
    r"|\S*\.(?:pdf|docx?|pptx?|txt|rtf|indd|qxd|ps|dvi|tex)",
    re.IGNORECASE,
)
_HYPHENATED = re.compile(r"(?<![^\W\d_])([^\W\d_]++)-\n([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]++(?:-[^\W\d_]++)*+")
_SPACE_RUN = re.compile(r"(?<! ) {2,}+")


def read(data: bytes, limit_chars: int) -> Reading:
    """Read the text of every page in drawing order; pages of images give empty strings.

    Raises:
        RefusalError: `DOCUMENT_ENCRYPTED`, `DOCUMENT_DAMAGED` or `PARSER_OUTPUT_LIMIT`. A page
            that cannot be read fails the document, so that it is never indexed in part.
    """
    repairs = Counter[str]()
    _count_repairs(repairs)
    _add_cmaps()
    try:
        reader = _open(data)
        texts = _rejoin(list(_read_pages(reader, limit_chars)))
        return Reading(_read_title(reader), texts, repairs.total())
    except FileNotDecryptedError as error:
        raise RefusalError(
            ParseFailure.DOCUMENT_ENCRYPTED, "PDF: needs a password; remove it and upload again"
        ) from error
    except LimitReachedError as error:
        raise RefusalError(
            ParseFailure.PARSER_OUTPUT_LIMIT, "PDF: unpacks or nests beyond the parser's limits"
        ) from error
    except (RefusalError, MemoryError, ImportError, OSError):
        raise
    except Exception as error:
        # The library may raise any error for a broken file.
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, f"PDF: {_describe_position(error)}"
        ) from error


def _count_repairs(repairs: Counter[str]) -> None:
    """Count the library's warnings but do not log them: they could quote the document."""

    def count(record: logging.LogRecord) -> bool:
        repairs[record.name] += 1
        return False

    handler = logging.Handler(logging.WARNING)
    handler.addFilter(count)
    library = logging.getLogger("pypdf")
    library.addHandler(handler)
    library.propagate = False


def _open(data: bytes) -> pypdf.PdfReader:
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
    except FileNotDecryptedError:
        raise
    except PdfReadError:
        # Without a pointer to the object table the library gives up; with a wrong one it rebuilds
        # the table from the objects.
        reader = pypdf.PdfReader(io.BytesIO(data + b"\nstartxref\n0\n%%EOF\n"))
    if reader.is_encrypted and not _is_open_without_password(reader):
        raise RefusalError(
            ParseFailure.DOCUMENT_ENCRYPTED, "PDF: needs a password; remove it and upload again"
        )
    return reader


def _is_open_without_password(reader: pypdf.PdfReader) -> bool:
    """Whether the empty user password opens it; an empty owner password does not count."""
    opened = reader.decrypt("")
    rules: Any = reader.trailer["/Encrypt"].get_object()
    if opened is not PasswordType.OWNER_PASSWORD or rules["/R"] < AES_256_REVISION:
        return opened is not PasswordType.NOT_DECRYPTED
    user, user_key = (rules[name].original_bytes for name in ("/U", "/UE"))
    return bool(AlgV5.verify_user_password(rules["/R"], b"", user, user_key))


def _read_pages(reader: pypdf.PdfReader, limit_chars: int) -> Iterator[str]:
    size_chars = 0
    for page in reader.pages:
        text = page.extract_text()
        size_chars += len(text)
        check_length(size_chars, limit_chars)
        yield _SPACE_RUN.sub(" ", text)


def _rejoin(texts: list[str]) -> list[str]:
    """Undo hyphenation at line ends; spellings elsewhere in the document decide doubtful cases."""
    words = Counter(word for text in texts for word in _WORD.findall(text))

    def join(match: re.Match[str]) -> str:
        head, tail = match.groups()
        if not tail[0].islower():
            return match[0]
        # Each half is count once for this very place.
        compound = f"{head}-{tail}" in words or (words[head] > 1 and words[tail] > 1)
        return f"{head}-{tail}" if compound and f"{head}{tail}" not in words else f"{head}{tail}"

    return [_HYPHENATED.sub(join, text) for text in texts]


def _read_title(reader: pypdf.PdfReader) -> str:
    title = (reader.metadata.title if reader.metadata else None) or ""
    return "" if _NO_TITLE.fullmatch(title.strip()) else title


def _describe_position(error: Exception) -> str:
    """Class and code position of an error; its message could quote the document."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


def _add_cmaps() -> None:
    codecs.register(_find_jis_codec)
    for writing in "HV":
        table = {f"/{name}-{writing}": codec for name, codec in CMAPS.items()}
        _cmap._predefined_cmap.update(table, **{f"/{writing}": JIS_X_0208})  # noqa: SLF001


def _find_jis_codec(name: str) -> codecs.CodecInfo | None:
    """The 7-bit form of JIS X 0208, which differs from EUC-JP only in the high bits."""
    if name != JIS_X_0208:
        return None

    def decode(data: Any, errors: str = "strict", /) -> tuple[str, int]:
        return bytes(byte | 0x80 for byte in data).decode("euc_jp", errors), len(data)

    return codecs.CodecInfo(codecs.getencoder("ascii"), decode, name=JIS_X_0208)

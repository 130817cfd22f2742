"""Parts of a mail or of a saved web page, by Python's email package, and their texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.text.charset import find_codec, find_declared_charset
from ingest.parsing.text.decode import Decoded, decode, decode_unicode

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


def parse(data: bytes) -> Message:
    """Parses the parts; a file in UTF-16 is read as if it were in UTF-8."""
    if b"\x00" in data and (decoded := decode_unicode(data)) is not None:
        data = decoded.text.encode()
    return message_from_bytes(data)


@contextmanager
def refuse_bad_headers() -> Iterator[None]:
    """Refuses a file at whose headers the package stops, in whatever way it does."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, "the headers of the file cannot be read"
        ) from error


def find_root(message: Message) -> Message | None:
    """The part that a group of parts starts with: the named one, or else the first HTML."""
    pages = [part for part in message.walk() if part.get_content_type() in HTML_TYPES]
    start = message.get_param("start")
    named = (page for page in pages if start and page["Content-ID"] == start)
    return next(named, pages[0] if pages else None)


def decode_part(part: Message) -> Decoded:
    """The text of a part that contains text, and what had to be guessed or repaired.

    Raises:
        InvalidInputError: `TEXT_UNDECODABLE`.
    """
    data = unpack(part)
    charset = part.get_content_charset() or ""
    if not charset and part.get_content_type() in HTML_TYPES:
        charset = find_declared_charset(data)
    return decode(data, charset=charset)


def unpack(part: Message) -> bytes:
    """The bytes of a part as they were before it was packed into the file."""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def read_header(message: Message, name: str) -> str:
    """The text of a header in one line; empty if it is missing."""
    values = (str(value) for key, value in message.raw_items() if key.lower() == name.lower())
    raw = next(values, "")
    # Bytes above ASCII stand in it as surrogates.
    return decode_words(raw.encode("ascii", "surrogateescape").decode("utf-8", "replace"))


def decode_words(text: str) -> str:
    """Decodes the words of a header that name their encoding (RFC 2047)."""
    try:
        words = decode_header(text)
    except HeaderParseError:
        words = [(text, None)]
    return " ".join("".join(_decode_word(word, charset) for word, charset in words).split())


def _decode_word(word: bytes | str, charset: str | None) -> str:
    if isinstance(word, str):
        return word
    # The package's own encoding for what stands between encoded words.
    codec = find_codec(charset) or "utf-8" if charset else "raw-unicode-escape"
    return word.decode(codec, "replace")

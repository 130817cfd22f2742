"""Reads saved web pages (MHTML): the page itself, without its pictures and frames."""

from email import message_from_bytes
from email.message import Message

from ingest.parsing import read_html
from ingest.parsing.charset import find_declared_charset
from ingest.parsing.decode import decode
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.reading import Reading

PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads the page that the file says it starts with, or else its first one.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if no part is HTML; or as `read_html.read`.
        InvalidInputError: `TEXT_UNDECODABLE`.
    """
    try:
        source, charset = _unpack_page(message_from_bytes(data))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # The library stops in many ways at parameters of headers that contradict each other.
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, "the headers of the file cannot be read"
        ) from error
    if source is None:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED,
            "not a saved page: no part of the file is HTML; send mail as message/rfc822",
        )
    text = decode(source, charset=charset or find_declared_charset(source))
    return read_html.read(text.encode(), limit_chars)


def _unpack_page(message: Message) -> tuple[bytes | None, str]:
    """The bytes of the page, none if there is no page, and the charset that its header names."""
    page = _find_page(message)
    source = page.get_payload(decode=True) if page else None
    if page is None or not isinstance(source, bytes):
        return None, ""
    return source, page.get_content_charset() or ""


def _find_page(message: Message) -> Message | None:
    pages = [part for part in message.walk() if part.get_content_type() in PAGE_TYPES]
    start = message.get_param("start")
    named = (page for page in pages if start and page["Content-ID"] == start)
    return next(named, pages[0] if pages else None)

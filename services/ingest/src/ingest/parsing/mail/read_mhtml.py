"""Reads saved web pages (MHTML): the page itself, without its pictures and frames."""

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html import read_html
from ingest.parsing.mail.parts import decode_part, find_root, parse, refuse_bad_headers
from ingest.parsing.reading import Reading


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads the page that the file says it starts with, or else its first one.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if no part is HTML; or as `read_html.read`.
        InvalidInputError: `TEXT_UNDECODABLE`.
    """
    with refuse_bad_headers():
        page = find_root(parse(data))
        decoded = decode_part(page) if page else None
    if decoded is None:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED,
            "not a saved page: no part of the file is HTML; send mail as message/rfc822",
        )
    return read_html.read(decoded.text.encode(), limit_chars).add_notes(decoded.notes)

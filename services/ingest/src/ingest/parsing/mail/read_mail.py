"""Reads mail (RFC 5322): its headers, its text, and the names and texts of what is attached."""

from email.message import Message

from chassis.base.errors import InvalidInputError
from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html import read_html
from ingest.parsing.mail.parts import (
    HTML_TYPES,
    decode_part,
    decode_words,
    find_root,
    parse,
    read_header,
    refuse_bad_headers,
    unpack,
)
from ingest.parsing.reading import Reading, check_length

HEADERS = ("Subject", "From", "To", "Cc", "Date")
# Mails in mails, and groups of parts in others.
DEPTH_MAX = 50
SEALED_TYPES = frozenset(
    {"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"}
)


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads one mail; its subject is its title.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is no mail or nested too deeply,
            `DOCUMENT_ENCRYPTED`, or `PARSER_OUTPUT_LIMIT`.
        InvalidInputError: `TEXT_UNDECODABLE`.
    """
    with refuse_bad_headers():
        message = parse(data)
        if not any(name in message for name in (*HEADERS, "MIME-Version", "Content-Type")):
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED,
                "not a mail: it has no headers; send text as text/plain",
            )
        if message.get_content_type() in SEALED_TYPES:
            raise RefusalError(
                ParseFailure.DOCUMENT_ENCRYPTED,
                "the mail is encrypted, or signed so that its text is packed; send its plain text",
            )
        mail = _Mail(limit_chars)
        mail.write_message(message, 1)
        title = read_header(message, "Subject")
    return Reading(title, ["\n\n".join(mail.blocks)], mail.list_notes(), is_marked=True)


class _Mail:
    """Collects the texts of one mail."""

    def __init__(self, limit_chars: int) -> None:
        self.blocks: list[str] = []
        self._notes: list[Note] = []
        self._left_out = 0
        self._limit_chars = limit_chars
        self._size_chars = 0

    def list_notes(self) -> tuple[Note, ...]:
        """What was guessed or repaired in the texts, and the attachments that are not read."""
        if not self._left_out:
            return tuple(self._notes)
        said = f"{render_count(self._left_out, 'attachment')} left out"
        return (*self._notes, Note(NoteCode.ATTACHMENTS_LEFT_OUT, said))

    def write_message(self, message: Message, depth: int) -> None:
        """Write the headers of a message, its text, and then what is attached."""
        headers = ((name, read_header(message, name)) for name in HEADERS)
        self._add("\n".join(f"{name}: {text}" for name, text in headers if text))
        attached: list[Message] = []
        self._write_part(message, attached, depth)
        for part in attached:
            self._write_attached(part, depth)

    def _write_part(self, part: Message, attached: list[Message], depth: int) -> None:
        if depth > DEPTH_MAX:
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED, f"mail: parts are nested more than {DEPTH_MAX} deep"
            )
        kind = part.get_content_type()
        children = _list_parts(part)
        if part.get_content_disposition() == "attachment" or part.get_filename():
            attached.append(part)
        elif kind == "multipart/alternative":
            self._write_best(children, attached, depth)
        elif kind == "multipart/related" and (page := find_root(part)):
            self._write_part(page, attached, depth + 1)
            attached += [one for one in children if one is not page and one.get_filename()]
        elif part.get_content_maintype() == "multipart":
            for child in children:
                self._write_part(child, attached, depth + 1)
        elif kind == "message/rfc822":
            attached.append(part)
        elif kind in HTML_TYPES or part.get_content_maintype() in ("text", "message"):
            self._add(self._read_text(part))

    def _write_best(self, parts: list[Message], attached: list[Message], depth: int) -> None:
        """Write the last alternative that has a text: senders put the best one last."""
        for part in reversed(parts):
            before = len(self.blocks)
            self._write_part(part, attached, depth + 1)
            if len(self.blocks) > before:
                return

    def _write_attached(self, part: Message, depth: int) -> None:
        name = " ".join(decode_words(part.get_filename() or "").split())
        self._add(f"Attachment: {name or part.get_content_type()}")
        if part.get_content_type() == "message/rfc822":
            for message in _list_parts(part):
                self.write_message(message, depth + 1)
        elif part.get_content_maintype() == "text":
            try:
                self._add(self._read_text(part))
            except InvalidInputError:
                self._left_out += 1  # its name is listed, as that of one that is no text
        else:
            self._left_out += 1

    def _read_text(self, part: Message) -> str:
        if part.is_multipart():  # reports on the delivery are groups of headers
            return "\n\n".join(str(one).strip() for one in _list_parts(part))
        if not unpack(part).strip():
            return ""
        text, notes = decode_part(part)
        self._notes += notes
        if part.get_content_type() not in HTML_TYPES:
            return text
        return read_html.read_part(text.encode(), "", self._limit_chars).texts[0]

    def _add(self, text: str) -> None:
        if text.strip():
            self.blocks.append(text.strip("\r\n"))
            self._size_chars += len(text)
            check_length(self._size_chars, self._limit_chars)


def _list_parts(part: Message) -> list[Message]:
    parts = part.get_payload()
    return [one for one in parts if isinstance(one, Message)] if isinstance(parts, list) else []

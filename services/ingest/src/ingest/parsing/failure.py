"""Why a document can not become text. Imported by the child as well: nothing heavy here."""

from enum import StrEnum


class ParseFailure(StrEnum):
    """Closed list of reasons; each is final for these bytes, a retry changes nothing."""

    EMPTY_DOCUMENT = "EMPTY_DOCUMENT"
    DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"
    MEDIA_TYPE_UNSUPPORTED = "MEDIA_TYPE_UNSUPPORTED"
    MEDIA_TYPE_MISMATCH = "MEDIA_TYPE_MISMATCH"
    TEXT_UNDECODABLE = "TEXT_UNDECODABLE"
    DOCUMENT_ENCRYPTED = "DOCUMENT_ENCRYPTED"
    DOCUMENT_DAMAGED = "DOCUMENT_DAMAGED"
    NO_TEXT = "NO_TEXT"
    PARSER_MEMORY_LIMIT = "PARSER_MEMORY_LIMIT"
    PARSER_TIME_LIMIT = "PARSER_TIME_LIMIT"
    PARSER_OUTPUT_LIMIT = "PARSER_OUTPUT_LIMIT"
    PARSER_CRASHED = "PARSER_CRASHED"


class RefusalError(Exception):
    """A reader's verdict inside the child; crosses the pipe as its two fields.

    `detail` is one sentence for a developer and holds no document text.
    """

    def __init__(self, failure: ParseFailure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail

"""Reasons why a document cannot be parsed. The child imports this module, so keep it small."""

from enum import StrEnum


class ParseFailure(StrEnum):
    """All reasons; each is final for these bytes, so a retry does not help."""

    EMPTY_DOCUMENT = "EMPTY_DOCUMENT"
    DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"
    MEDIA_TYPE_UNSUPPORTED = "MEDIA_TYPE_UNSUPPORTED"
    MEDIA_TYPE_MISMATCH = "MEDIA_TYPE_MISMATCH"
    TEXT_UNDECODABLE = "TEXT_UNDECODABLE"
    DOCUMENT_ENCRYPTED = "DOCUMENT_ENCRYPTED"
    PASSWORD_WRONG = "PASSWORD_WRONG"  # noqa: S105  (a reason)
    DOCUMENT_DAMAGED = "DOCUMENT_DAMAGED"
    NEEDS_OCR = "NEEDS_OCR"
    OCR_UNCERTAIN = "OCR_UNCERTAIN"
    NO_TEXT = "NO_TEXT"
    PARSER_MEMORY_LIMIT = "PARSER_MEMORY_LIMIT"
    PARSER_TIME_LIMIT = "PARSER_TIME_LIMIT"
    PARSER_OUTPUT_LIMIT = "PARSER_OUTPUT_LIMIT"
    PARSER_CRASHED = "PARSER_CRASHED"


class RefusalError(Exception):
    """A refusal by a reader in the child, which sends its two fields to the parent.

    `detail` is one sentence for a developer and contains no document text.
    """

    def __init__(self, failure: ParseFailure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail

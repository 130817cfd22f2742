"""How large a document may be, by what its upload says of its format."""

from dataclasses import dataclass

from chassis.base.errors import InvalidInputError
from ingest.parsing.detect import find_declared
from ingest.parsing.failure import ParseFailure
from ingest.parsing.formats import FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimits:
    """`text_bytes` is the limit of formats that are text, `upload_bytes` that of all others."""

    upload_bytes: int
    text_bytes: int

    def find(self, media_type: str, file_name: str) -> int:
        """The limit of a document, in bytes; that of any format if the hints tell none."""
        try:
            declared = find_declared(media_type, file_name)
        except InvalidInputError:
            declared = None  # the parser refuses it, with the reason
        is_text = declared is not None and FORMATS[declared].in_text
        return min(self.text_bytes, self.upload_bytes) if is_text else self.upload_bytes

    def check(self, size_bytes: int, media_type: str, file_name: str) -> None:
        """Check a size that an upload declares, before its bytes are read.

        Raises:
            InvalidInputError: `DOCUMENT_TOO_LARGE`.
        """
        limit_bytes = self.find(media_type, file_name)
        if size_bytes > limit_bytes:
            raise InvalidInputError(
                ParseFailure.DOCUMENT_TOO_LARGE,
                f"the document has {size_bytes} bytes; this format allows {limit_bytes}; split it",
                size_bytes=size_bytes,
                limit_bytes=limit_bytes,
            )

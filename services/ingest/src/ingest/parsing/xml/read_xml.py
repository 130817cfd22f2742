"""Reads XML of any vocabulary; runs in the child."""

from ingest.parsing.reading import Reading
from ingest.parsing.xml.text import XmlText, find_title
from ingest.parsing.xml.tree import parse


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads a document in UTF-8; comments and instructions to programs are no text.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is no XML, declares entities or is nested too deeply,
            or `PARSER_OUTPUT_LIMIT`.
    """
    root = parse(data)
    return Reading(find_title(root), [XmlText(root, limit_chars).collect()], is_marked=True)

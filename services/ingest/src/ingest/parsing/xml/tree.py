"""Parses XML into a tree with expat, which reads nothing but the document."""

from html.entities import name2codepoint
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ingest.parsing.failure import ParseFailure, RefusalError

WHOLE: Final = True  # what is parsed is not a part of more

_PREDEFINED: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
# Stands for the external DTD of every document, which is never fetched.
_CHARACTERS: Final = "".join(
    f'<!ENTITY {name} "&#{code};">'
    for name, code in name2codepoint.items()
    if name not in _PREDEFINED
)


def parse(data: bytes) -> Element:
    """Parses XML in UTF-8; the named characters of HTML are known, others stay as `&name;`.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is no XML, or declares entities of its own.
    """
    builder = TreeBuilder()
    # What the document declares as its encoding was read when it was decoded.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity
    parser.SkippedEntityHandler = lambda name, _: builder.data(f"&{name};")
    parser.UseForeignDTD()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_ALWAYS)

    def declare_characters(context: str, *_: object) -> int:
        inner = parser.ExternalEntityParserCreate(context)
        inner.EntityDeclHandler = None
        inner.Parse(_CHARACTERS, WHOLE)
        return 1

    parser.ExternalEntityRefHandler = declare_characters
    try:
        parser.Parse(data.lstrip(b" \t\r\n") if data[:1].isspace() else data, WHOLE)
    except expat.ExpatError as error:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED,
            f"not XML at line {error.lineno}, column {error.offset + 1}:"
            f" {expat.ErrorString(error.code)}; correct it, or send it as text/plain",
        ) from error
    return builder.close()


def _refuse_entity(*_: object) -> None:
    raise RefusalError(
        ParseFailure.DOCUMENT_DAMAGED,
        "XML: the document declares entities, which are not expanded; write out what they stand"
        " for, as xmllint --noent does",
    )

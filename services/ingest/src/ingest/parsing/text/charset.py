"""Encodings that a document or its sender declares, by the label table of the WHATWG."""

import codecs
import re

import webencodings  # type: ignore[import-untyped]

# The prescan of the standard looks at 1,024 bytes; pages in use declare later, after scripts.
DECLARATION_BYTES = 64 * 1024

# Labels of the table that cannot be decoded or stand for no encoding.
_UNUSABLE = frozenset({"replacement", "x-user-defined"})
# Encodings that ASCII bytes can never be in: a declaration that can be read as ASCII is wrong.
_WIDE = frozenset({"utf-16le", "utf-16be"})
# Python's codecs for text in bytes; the others escape, compress or encode names.
_OLDER_CODECS = re.compile(r"cp\d|iso|koi8|mac|euc|shift|big5|gb|johab|hz|ptcp|kz1048|tis|hp")
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_LABEL = rb"\s*=\s*[\"']?\s*([\w.:+-]{1,40})"
_META_CHARSET = re.compile(rb"<meta\b[^>]{0,512}?charset" + _LABEL, re.IGNORECASE)
_XML_ENCODING = re.compile(rb"\s*<\?xml\b[^>]{0,256}?encoding" + _LABEL, re.IGNORECASE)


def find_codec(label: str) -> str:
    """Finds Python's codec for a label as browsers read it; empty for an unknown label.

    A label means the largest encoding that is in use under that name: `gb2312` is GB 18030,
    `shift_jis` is Windows-31J, `iso-8859-1` is Windows-1252.
    """
    encoding = webencodings.lookup(label)
    if encoding is None:
        return _find_older_codec(label)
    if encoding.name in _UNUSABLE:
        return ""
    return "gb18030" if encoding.name == "gbk" else str(encoding.codec_info.name)


def find_label(codec: str) -> str:
    """The usual name of a Python codec: that of the WHATWG if its table has one."""
    encoding = webencodings.lookup(codec)
    return codec.replace("_", "-") if encoding is None else str(encoding.name)


def _find_older_codec(label: str) -> str:
    """Finds an encoding of older systems by its name outside the web, as `cp850` or `IBM437`."""
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return ""
    return name if _OLDER_CODECS.match(name) else ""


def find_declared_charset(data: bytes) -> str:
    """Finds the label that an HTML or XML document declares at its start; empty if none."""
    head = data[:DECLARATION_BYTES]
    found = _XML_ENCODING.match(head) or _META_CHARSET.search(_COMMENT.sub(b"", head))
    label = found[1].decode("ascii", "replace") if found else ""
    encoding = webencodings.lookup(label)
    return "utf-8" if encoding is not None and encoding.name in _WIDE else label

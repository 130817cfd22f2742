"""Reads Jupyter notebooks, format 4 and 3: texts, code and the texts of its outputs, in order."""

import json
import re
from collections.abc import Iterator
from typing import Any

from ingest.parsing.data.json_values import depth_error, syntax_error
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html import read_html
from ingest.parsing.markdown import read_markdown
from ingest.parsing.reading import Reading, check_length

FENCE = "```"
# Formats of an output, the best first; pictures and programs are none of them.
OUTPUT_TYPES = ("text/markdown", "text/html", "text/plain", "text/latex", "application/json")
# What the outputs of format 3 call theirs.
OUTPUT_KEYS = {"text/html": "html", "text/plain": "text", "text/latex": "latex"}

_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
# How Python shows an object that has no text of its own, as <Figure size 640x480 with 1 Axes>.
_OBJECT = re.compile(r"\[?<[^<>\n]*>\]?")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads a notebook in UTF-8. Code stands between fences that name its language.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is no notebook or nested too deeply, or
            `PARSER_OUTPUT_LIMIT`.
    """
    notebook = _parse(data)
    texts = _Texts(notebook, limit_chars)
    blocks, size_chars = [], 0
    for block in texts.list_blocks():
        blocks.append(block)
        size_chars += len(block)
        check_length(size_chars, limit_chars)
    return read_html.build_reading(texts.title, "\n\n".join(blocks))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        # Numbers are not read, and long ones would be refused.
        notebook = json.loads(data.decode(), strict=False, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        raise syntax_error(error) from error
    except RecursionError as error:
        raise depth_error() from error
    if not isinstance(notebook, dict) or not {"cells", "worksheets"} & notebook.keys():
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED,
            "not a notebook: the JSON has no cells; send it as application/json",
        )
    return notebook


class _Texts:
    """The texts of a notebook; after all have been listed, `title` is its first heading."""

    def __init__(self, notebook: dict[str, Any], limit_chars: int) -> None:
        self._limit_chars = limit_chars
        sheets = _list_objects(notebook.get("worksheets")) or [notebook]
        self._cells = [cell for sheet in sheets for cell in _list_objects(sheet.get("cells"))]
        metadata = _get_object(notebook, "metadata")
        self.title = " ".join(_join(metadata.get("title")).split())
        self._language = _join(
            _get_object(metadata, "kernelspec").get("language")
            or _get_object(metadata, "language_info").get("name")
        )

    def list_blocks(self) -> Iterator[str]:
        for cell in self._cells:
            for block in self._read_cell(cell):
                if block.strip():
                    yield block.strip("\n")

    def _read_cell(self, cell: dict[str, Any]) -> Iterator[str]:
        source = _join(cell.get("source") or cell.get("input"))
        match cell.get("cell_type"):
            case "code":
                yield _fence(source, _join(cell.get("language")) or self._language)
                for output in _list_objects(cell.get("outputs")):
                    yield self._read_output(output)
            case "markdown":
                yield self._read_markdown(source)
            case "heading":
                yield self._read_markdown(f"# {source}")
            case _:
                metadata = _get_object(cell, "metadata")
                kind = _join(metadata.get("raw_mimetype") or metadata.get("format"))
                yield self._read_as(kind, source)

    def _read_output(self, output: dict[str, Any]) -> str:
        match output.get("output_type"):
            case "stream":
                return show_terminal(_join(output.get("text")))
            case "error" | "pyerr":
                trace = _join(output.get("traceback"), separator="\n")
                error = f"{_join(output.get('ename'))}: {_join(output.get('evalue'))}"
                return show_terminal(trace or error)
            case _:
                return self._read_result(output)

    def _read_result(self, output: dict[str, Any]) -> str:
        """Reads the best text of an output that exists in several formats."""
        data = _get_object(output, "data") or {
            kind: output[key] for kind, key in OUTPUT_KEYS.items() if key in output
        }
        for kind in OUTPUT_TYPES:
            text = self._read_as(kind, _join(data.get(kind)))
            if text.strip() and not _OBJECT.fullmatch(text.strip()):
                return text
        return ""

    def _read_as(self, media_type: str, source: str) -> str:
        if media_type == "text/markdown":
            return self._read_markdown(source)
        if media_type == "text/html":
            page = f"<body>{source}</body>".encode(errors="replace")
            return read_html.read_part(page, "", self._limit_chars).texts[0]
        return show_terminal(source)

    def _read_markdown(self, source: str) -> str:
        reading = read_markdown.read_body(source, "", self._limit_chars)
        self.title = self.title or reading.title
        return reading.texts[0]


def show_terminal(text: str) -> str:
    """The text that a terminal shows: no codes for colours, and the last state of each line."""
    text = _TERMINAL_CODES.sub("", text).replace("\r\n", "\n")
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _fence(source: str, language: str) -> str:
    if not source.strip():
        return ""
    fence = FENCE
    while fence in source:
        fence += "`"
    return f"{fence}{' '.join(language.split())}\n{source.rstrip()}\n{fence}"


def _join(value: object, *, separator: str = "") -> str:
    """A text, which may be written as a list of lines; empty for other values."""
    if isinstance(value, list):
        text = separator.join(line for line in value if isinstance(line, str))
    elif isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = value if isinstance(value, str) else ""
    return _SURROGATE.sub("\ufffd", text)


def _get_object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _list_objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []

"""Parses one document into clean text and chunks, then exits; see `ingest.parsing.jail.jailed`.

`python -I -m ingest.parsing.jail.child FORMAT MEMORY CPU_S FILES OUTPUT PARENT [FOLDER LANGUAGES]`;
FORMAT is any format that the reader of the document reads, which is that for OCR if the data of its
engine is given. Standard input and output are one socket. The child
sends a report of its sandbox as soon as it is ready, reads a `Task` and the document up to end of
file, and sends the reply of `ingest.parsing.jail.reply`. Each frame is a 4-byte big-endian length
and that many bytes of JSON. The parent does not trust what it reads.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Protocol, cast

from chassis.base.errors import InvalidInputError
from ingest.chunking import ChunkSettings, chunk
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.formats import FORMATS
from ingest.parsing.jail import sandbox
from ingest.parsing.jail.assemble import assemble
from ingest.parsing.jail.reply import build_frames, failure_frame
from ingest.parsing.jail.task import Task
from ingest.parsing.ocr.data import OcrData
from ingest.parsing.reading import Reading

# Needs a library of the system, which cannot be loaded after the jail is sealed.
from ingest.parsing.steps.near_duplicates import sign
from ingest.parsing.text.charset import find_declared_charset
from ingest.parsing.text.decode import decode
from ingest.parsing.text.encoding import load_statistics
from ingest.steps import CHANGES_TEXT, Step


class Reader(Protocol):
    """A module that reads a format; one with threads has `THREADS_MAX`, and starts them late."""

    def read(self, data: bytes, limit_chars: int, /, **options: object) -> Reading:
        """Reads a document to at most `limit_chars`, or raises `RefusalError`.

        `options` are `password` for a format that takes one, and `ocr` for OCR, an `OcrData`.
        """
        ...


STDIN, STDOUT = 0, 1


def encode_frame(message: object) -> bytes:
    body = json.dumps(message, ensure_ascii=False).encode()
    return len(body).to_bytes(4) + body


def build_reply(
    media_type: MediaType,
    task: Task,
    data: bytes,
    output_bytes: int,
    ocr: OcrData | None = None,
) -> Iterator[bytes]:
    """Yields the frames of the parsed and cut document, or one with the failure.

    A failure may also come after other frames, which are then invalid.
    """
    try:
        yield from _build_frames(media_type, task, data, output_bytes, ocr)
    except MemoryError:
        yield encode_frame(
            failure_frame(ParseFailure.PARSER_MEMORY_LIMIT, "parsing needs more memory")
        )
    except RecursionError:
        yield encode_frame(failure_frame(ParseFailure.DOCUMENT_DAMAGED, "nested too deeply"))
    except RefusalError as refused:
        yield encode_frame(failure_frame(refused.failure, refused.detail))
    except InvalidInputError as refused:
        yield encode_frame(failure_frame(refused.reason, refused.detail))


def _build_frames(
    media_type: MediaType, task: Task, data: bytes, output_bytes: int, ocr: OcrData | None
) -> Iterator[bytes]:
    reading = _read(media_type, task, data, output_bytes, ocr)
    steps = [Step(name) for name in task.steps]
    parsed = assemble(reading, media_type, [step for step in steps if step in CHANGES_TEXT])
    if Step.NEAR_DUPLICATES in steps:
        parsed = replace(parsed, signature=sign(parsed.text))
    settings = ChunkSettings(target_chars=task.target_chars, max_chars=task.max_chars)
    left_bytes = output_bytes
    for message in build_frames(parsed, chunk(parsed, settings)):
        frame = encode_frame(message)
        left_bytes -= len(frame)
        if left_bytes < 0:
            raise RefusalError(
                ParseFailure.PARSER_OUTPUT_LIMIT, f"more than {output_bytes} bytes of text"
            )
        yield frame


def _read(
    media_type: MediaType, task: Task, data: bytes, limit_chars: int, ocr: OcrData | None
) -> Reading:
    form = FORMATS[media_type]
    options: dict[str, object] = {"password": task.password} if form.takes_password else {}
    if ocr:
        return _load_reader(form.ocr_reader).read(data, limit_chars, ocr=ocr, **options)
    if not form.in_text:
        return _load_reader(form.reader).read(data, limit_chars, **options)
    declared = task.charset or (find_declared_charset(data) if form.declares_charset else "")
    text, notes = decode(data, charset=declared)
    if not form.reader:
        return Reading("", [text], notes)
    return _load_reader(form.reader).read(text.encode(), limit_chars).add_notes(notes)


def _load_reader(name: str) -> Reader:
    """Loads the reader of one format, without the libraries of others."""
    return cast(Reader, import_module(f"ingest.parsing.{name}"))


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]


def main(media_format: str, *arguments: str) -> None:
    memory_bytes, cpu_s, open_files, output_bytes, parent = map(int, arguments[:5])
    ocr = OcrData(*arguments[5:]) if arguments[5:] else None
    report = sandbox.enter(sandbox.Bounds(memory_bytes, cpu_s, open_files), parent)
    media_type = MediaType[media_format.upper()]
    form = FORMATS[media_type]
    # Load all libraries now: nothing can be loaded after the jail is sealed.
    name = form.ocr_reader if ocr else form.reader
    reader = _load_reader(name) if name else None
    if form.in_text:
        load_statistics()
    report |= sandbox.seal(*([ocr.folder] if ocr else []))
    # Threads inherit the seal because they start after it.
    threads = getattr(reader, "THREADS_MAX", 0)
    _write_all(encode_frame(report | sandbox.limit_processes(threads, report)))
    with os.fdopen(STDIN, "rb", closefd=False) as source:
        task = Task(**json.loads(source.read(int.from_bytes(source.read(4)))))
        data = source.read()
    sandbox.bound_time(task.cpu_s)
    for frame in build_reply(media_type, task, data, output_bytes, ocr):
        _write_all(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])

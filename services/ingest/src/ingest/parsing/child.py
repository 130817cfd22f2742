"""One document from bytes to raw text, then exit; started by `ingest.parsing.jailed`.

`python -I -m ingest.parsing.child FORMAT MEMORY CPU_S FILES OUTPUT PARENT`. Standard input and
output are one socket. Out goes a jail report as soon as the child is ready, in comes the document
up to end of file, out goes the reply. Each frame is a 4-byte big-endian length and as much JSON.
What the parent reads here it does not trust.
"""

import json
import os
import sys
from collections.abc import Callable

from ingest.parsing import jail
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.reading import Reading

Reader = Callable[[bytes, int], Reading]

STDIN, STDOUT = 0, 1


def frame(message: object) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4) + body


def _refused(failure: ParseFailure, detail: str) -> bytes:
    return frame({"failure": failure, "detail": detail})


def _reply(read: Reader, data: bytes, output_bytes: int) -> bytes:
    out_of_memory = _refused(ParseFailure.PARSER_MEMORY_LIMIT, "parsing needs more memory")
    try:
        reply = frame(read(data, output_bytes)._asdict())
    except MemoryError:
        return out_of_memory
    except RecursionError:
        return _refused(ParseFailure.DOCUMENT_DAMAGED, "nested too deeply")
    except RefusalError as refusal:
        return _refused(refusal.failure, refusal.detail)
    if len(reply) > output_bytes:
        return _refused(ParseFailure.PARSER_OUTPUT_LIMIT, f"more than {output_bytes} bytes of text")
    return reply


def _reader(media_format: str) -> Reader:
    """The reader of one format; the others' libraries are never loaded."""
    if media_format == "pdf":
        from ingest.parsing import read_pdf  # noqa: PLC0415

        return read_pdf.read
    if media_format == "markdown":
        from ingest.parsing import read_markdown  # noqa: PLC0415

        return read_markdown.read
    from ingest.parsing import read_html  # noqa: PLC0415

    return read_html.read


def _read_all() -> bytes:
    with os.fdopen(STDIN, "rb", closefd=False) as source:
        return source.read()


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]


def main(media_format: str, *numbers: str) -> None:
    memory_bytes, cpu_s, open_files, output_bytes, parent = map(int, numbers)
    report = jail.enter(jail.Bounds(memory_bytes, cpu_s, open_files), parent)
    read = _reader(media_format)
    _write_all(frame(report | jail.seal()))
    _write_all(_reply(read, _read_all(), output_bytes))


if __name__ == "__main__":
    main(*sys.argv[1:])

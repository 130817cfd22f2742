"""Sources of uploads: files and folders, and the lines of a JSONL file."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aquifer.ingest.v1.ingest_service_pb2 import UploadHeader
from aquifer.structs import JsonObject, to_struct
from aquifer_cli import archives, names
from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.jsonl import Line, line_error, read_lines
from aquifer_cli.metadata import check_values

FILE_NAME_CHARS = 255
TITLE_CHARS = 512
METADATA_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document to send: its origin, its header, and how to open its bytes.

    Args:
        path: shown in output; a line of a file is `file:line`.
        header: the first message of the upload.
        open: raises OSError if the bytes cannot be read.
        file: the file that it is read from; None for a line of a file.
        described: whether an upload of the same bytes is worth it for other title and metadata.
        skipped: reason if it is not sent at all; otherwise empty.
        notes: changes made to the input.
    """

    path: str
    header: UploadHeader
    open: Callable[[], BinaryIO]
    file: Path | None = None
    described: bool = True
    skipped: str = ""
    notes: tuple[str, ...] = ()


def find_files(
    paths: Sequence[Path],
    collection: str,
    metadata: JsonObject | None = None,
    *,
    labels: Sequence[str] = (),
    password: str = "",
    space: Path | None = None,
) -> list[Item]:
    """All given files and all files below given folders, each once, all described alike.

    Hidden files, links to folders and special files below a folder are skipped. A file that cannot
    be read becomes an item whose `open` raises. With `space`, a folder, archives are unpacked there
    and stand for the files in them.

    Raises:
        CommandError: PATH_UNKNOWN, NOT_A_FILE, NO_FILES; DOCUMENT_TWICE when two files would be
            one document. Nothing has been sent then.
    """
    names.check_collection(collection)
    items: dict[str, tuple[Path, Item]] = {}
    for path in paths:
        for found in _find(path) if space is None else _unpack(_find(path), space):
            item = _file_item(found, collection, password)
            item.header.metadata.update(metadata or {})
            item.header.labels.extend(labels)
            first, known = items.setdefault(item.header.document, (found.file, item))
            if known is not item and os.path.realpath(first) != os.path.realpath(found.file):
                raise CommandError(
                    "DOCUMENT_TWICE",
                    f"{known.path} and {item.path} would both be {item.header.document}",
                    hint="upload the folder that contains both, or each into its own --collection",
                    exit_code=EXIT_USAGE,
                )
    if not items:
        named = ", ".join(map(display_path, paths))
        raise CommandError("NO_FILES", f"no files to upload in {named}", exit_code=EXIT_USAGE)
    return [item for _, item in items.values()]


def display_path(path: str | os.PathLike[str]) -> str:
    """A path as text for output; bytes that are not UTF-8 become `\ufffd`."""
    return os.fsencode(path).decode(errors="replace")


class _Found(NamedTuple):
    """A file, its path inside the given folder, and the error if it cannot be read.

    `shown` is where it is for the user, if it is a copy.
    """

    file: Path
    inside: str
    error: OSError | None = None
    shown: str = ""


def _unpack(found: Iterable[_Found], space: Path) -> Iterator[_Found]:
    """Puts the files of an archive in its place; one that cannot be unpacked whole is an error."""
    for one in found:
        if one.error or not archives.is_archive(one.file):
            yield one
            continue
        try:
            folder = archives.unpack(one.file, space)
        except OSError as error:
            yield one._replace(error=error)
            continue
        for member in _walk(folder):
            shown = f"{display_path(one.file)}/{member.inside}"
            yield member._replace(inside=f"{one.inside}/{member.inside}", shown=shown)


def _find(path: Path) -> Iterator[_Found]:
    if path.is_file():
        yield _Found(path, path.name)
    elif path.is_dir():
        yield from _walk(path)
    elif path.exists():
        raise CommandError(
            "NOT_A_FILE", f"{display_path(path)} is not a regular file", exit_code=EXIT_USAGE
        )
    else:
        detail = f"{display_path(path)} does not exist"
        raise CommandError("PATH_UNKNOWN", detail, exit_code=EXIT_USAGE)


def _walk(top: Path) -> Iterator[_Found]:
    refused: list[OSError] = []
    for folder, below, here in os.walk(top, onerror=refused.append):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(here):
            file = Path(folder, name)
            # A broken link is not a file, but the user should see why.
            if not name.startswith(".") and (file.is_file() or not file.exists()):
                yield _Found(file, file.relative_to(top).as_posix())
    for error in refused:
        file = Path(str(error.filename))
        yield _Found(file, file.relative_to(top).as_posix(), error)


def _file_item(found: _Found, collection: str, password: str) -> Item:
    def open_file() -> BinaryIO:
        if found.error is not None:
            raise found.error
        return found.file.open("rb")

    return Item(
        path=found.shown or display_path(found.file),
        header=UploadHeader(
            document=names.document_name(collection, names.id_from_path(found.inside)),
            file_name=display_path(found.file.name)[-FILE_NAME_CHARS:],
            password=password,
        ),
        open=open_file,
        file=found.file,
    )


def read_documents(file: Path, collection: str, labels: Sequence[str] = ()) -> list[Item]:
    """One document per line: `_id`, `title`, `text`, optional `metadata` (an object).

    All get the same labels.

    If lines have the same `_id`, the last one is used and the others are skipped.

    Raises:
        CommandError: FILE_UNREADABLE, LINE_UNREADABLE with the lines, NO_FILES; nothing has been
            sent then.
    """
    names.check_collection(collection)
    items = read_lines(file, lambda line: _line_item(line, collection, labels))
    if not items:
        raise CommandError("NO_FILES", f"{display_path(file)} has no lines", exit_code=EXIT_USAGE)
    last = {item.header.document: item.path for item in items}
    return [
        item
        if last[item.header.document] == item.path
        else replace(
            item,
            skipped="ID_REPEATED",
            notes=(f"{last[item.header.document]} has the same _id and is used",),
        )
        for item in items
    ]


def _line_item(line: Line, collection: str, labels: Sequence[str]) -> Item:
    row = line.row
    identifier, text = line.text("_id"), line.text("text")
    title = str(row.get("title") or "")
    given = row.get("metadata") or {}
    if not isinstance(given, dict):
        raise line_error(line.where, '"metadata" is not an object')
    try:
        metadata, notes = _shorten(check_values(given))
    except ValueError as error:
        raise line_error(line.where, str(error)) from error
    document = names.id_from_foreign(identifier)
    if document != identifier:
        notes.append(f"_id {identifier!r} is not valid in a name and was changed")
    content = (f"{title}\n\n{text}" if title and not text.startswith(title) else text).encode()
    return Item(
        path=line.where,
        header=UploadHeader(
            document=names.document_name(collection, document),
            file_name="document.txt",
            media_type="text/plain",
            title=title[:TITLE_CHARS],
            metadata=to_struct(metadata),
            labels=labels,
        ),
        open=partial(BytesIO, content),
        notes=tuple(notes),
    )


def _shorten(given: JsonObject) -> tuple[JsonObject, list[str]]:
    """Pairs with texts of at most `METADATA_CHARS`, and notes on those that were longer."""
    texts = {
        key: value
        for key, value in given.items()
        if isinstance(value, str) and len(value) > METADATA_CHARS
    }
    notes = [
        f"metadata {key!r} was shortened from {len(value):,} to {METADATA_CHARS} characters"
        for key, value in texts.items()
    ]
    return {**given, **{key: value[:METADATA_CHARS] for key, value in texts.items()}}, notes

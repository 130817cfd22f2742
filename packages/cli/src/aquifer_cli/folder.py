"""The files of a folder that is kept in step: which are complete, and what has changed.

A file is complete if it has not changed for `SETTLE_S`. One that changes while it is read is not
sent.
"""

import os
import stat
import time
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path

from aquifer.ingest.v1.ingest_service_pb2 import UploadHeader
from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.sources import Item, display_path, find_files

SETTLE_S = 2.0
SOURCE = "sync.source"
SOURCE_CHARS = 512

Stamp = tuple[int, int, int]
"""Size, and the times of the last change of content and of the entry, in nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of a folder at a time.

    Args:
        items: by document.
        stamps: of those that could be looked at, by document.
        whole: whether all folders inside could be read, so that what is not here does not exist.
        seen_at: when they were looked at, in seconds since 1970.
        took_s: how long that took.
    """

    items: dict[str, Item]
    stamps: dict[str, Stamp]
    whole: bool
    seen_at: float
    took_s: float

    def list_unsettled(self, before: "Files | None" = None) -> set[str]:
        """Documents whose file may still be written.

        One that is the same as `SETTLE_S` ago, when `before` was looked at, is not, whatever its
        times say.
        """
        last_ns = (self.seen_at - SETTLE_S) * 1e9
        return {
            document
            for document, stamp in self.stamps.items()
            if stamp[1] > last_ns and (before is None or before.stamps.get(document) != stamp)
        }


def look(folder: Path, collection: str, source: str) -> Files:
    """The files of a folder as documents of a collection, as `aquifer upload` names them.

    Raises:
        CommandError: NOT_A_FOLDER, PATH_UNKNOWN, NO_FILES, DOCUMENT_TWICE.
    """
    if folder.exists() and not folder.is_dir():
        detail = f"{display_path(folder)} is not a folder"
        raise CommandError("NOT_A_FOLDER", detail, exit_code=EXIT_USAGE)
    seen_at = time.time()
    items: dict[str, Item] = {}
    stamps: dict[str, Stamp] = {}
    whole = True
    for item in find_files([folder], collection):
        document, file = item.header.document, item.file
        assert file is not None, "it is read from a file"
        items[document] = item
        if (stamp := _find_stamp(file)) is not None:
            stamps[document] = stamp
            items[document] = _make_careful(item, file, stamp, source)
        elif file.is_dir():
            whole = False
    took_s = time.time() - seen_at
    return Files(items=items, stamps=stamps, whole=whole, seen_at=seen_at, took_s=took_s)


def check_source(source: str) -> str:
    """Checks and returns the name of a folder in the metadata of its documents.

    Raises:
        CommandError: SOURCE_NAME.
    """
    if not 1 <= len(source) <= SOURCE_CHARS or "\x00" in source:
        raise CommandError(
            "SOURCE_NAME",
            f"the name of the folder must have 1 to {SOURCE_CHARS} characters, not {len(source):,}",
            hint="choose one with --source",
            exit_code=EXIT_USAGE,
        )
    return source


def _find_stamp(file: Path) -> Stamp | None:
    """None if it cannot be looked at, or is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return _stamp_of(found) if stat.S_ISREG(found.st_mode) else None


def _stamp_of(found: os.stat_result) -> Stamp:
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _make_careful(item: Item, file: Path, stamp: Stamp, source: str) -> Item:
    header = UploadHeader()
    header.CopyFrom(item.header)
    header.metadata[SOURCE] = source
    # What people have set on a document stays while its file does not change.
    return replace(item, header=header, open=partial(_WatchedFile, file, stamp), described=False)


class _WatchedFile(BufferedReader):
    """A file whose end is only reached if it is still the one that was looked at."""

    def __init__(self, file: Path, stamp: Stamp) -> None:
        super().__init__(FileIO(file))
        self._stamp = stamp

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[explicit-override]
        data = super().read(size)
        if size is None or size < 0 or not data:
            self._check()
        return data

    def _check(self) -> None:
        if _stamp_of(os.fstat(self.fileno())) != self._stamp:
            raise OSError("it is still being written; the same command sends it later")

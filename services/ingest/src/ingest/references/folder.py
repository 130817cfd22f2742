"""Reads files that upstream systems place in one folder; does not follow links."""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Final
from urllib.parse import unquote, urlsplit

from chassis.base.errors import InvalidInputError, NotFoundError, UnavailableError

PIECE_BYTES: Final = 256 * 1024
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Do not wait for a writer: a named pipe in the folder would block a thread forever.
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL: Final = frozenset({errno.ENXIO, errno.ENODEV})
# Resources that this process lacks; says nothing about the file.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DropsFolder:
    """Reads `file:///...` below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self, uri: str) -> Sequence[str]:
        """The names from the root down to the file; opens nothing.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
        """
        try:
            address = urlsplit(uri)
        except ValueError as error:
            raise _forbidden_error("not a file:/// URI") from error
        local = address.scheme == "file" and address.netloc in ("", "localhost")
        path = PurePosixPath(unquote(address.path))
        root = next((r for r in self._roots() if path.is_relative_to(r)), None)
        if not local or root is None or address.query or address.fragment:
            raise _forbidden_error("refer to a file below the drops folder, by a file:/// URI")
        parts = path.relative_to(root).parts
        if not parts or ".." in parts or any("\x00" in part for part in parts):
            raise _forbidden_error("refer to a file below the drops folder, by a file:/// URI")
        return parts

    async def read(self, uri: str) -> AsyncGenerator[bytes]:
        """The bytes of a file, piece by piece.

        Raises:
            InvalidInputError: REFERENCE_FORBIDDEN.
            NotFoundError: REFERENCE_MISSING, or not readable for this service.
            UnavailableError: DROPS_UNAVAILABLE, the folder itself is missing.
        """
        parts = self.check(uri)
        file = _File()
        try:
            with _translate_errors():
                await asyncio.to_thread(file.open, self._root, parts)
            while piece := await self._read_piece(file):
                yield piece
        finally:
            # Close the file even if the call is cancelled now.
            await asyncio.shield(asyncio.to_thread(file.close))

    async def _read_piece(self, file: "_File") -> bytes:
        with _translate_errors():
            return await asyncio.to_thread(file.read)

    def _roots(self) -> Iterator[Path]:
        """The root as configured, and resolved."""
        yield self._root
        yield self._root.resolve()


class _File:
    """A descriptor with a lock: a cancelled caller cannot close it while a thread reads it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._descriptor: int | None = None
        self._closed = False

    def open(self, root: Path, parts: Sequence[str]) -> None:
        with self._lock:
            if self._closed:
                return
            folder = _open_root(root)
            try:
                for name in parts[:-1]:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                self._descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
            finally:
                os.close(folder)
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise _special_file_error()

    def read(self) -> bytes:
        with self._lock:
            return b"" if self._descriptor is None else os.read(self._descriptor, PIECE_BYTES)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _open_root(root: Path) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(
            "DROPS_UNAVAILABLE", "the drops folder is missing; check AQUIFER_DROPS_DIR"
        ) from error


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translates OS errors; an unreadable file is refused, because a retry would delay others."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _forbidden_error("links are not followed") from error
        if error.errno in _SPECIAL:
            raise _special_file_error() from error
        if error.errno in _EXHAUSTED:
            raise UnavailableError(
                "DROPS_UNAVAILABLE", "this process is out of descriptors or memory"
            ) from error
        raise NotFoundError(
            "REFERENCE_MISSING", "the referenced file is missing or not readable"
        ) from error


def _special_file_error() -> InvalidInputError:
    return _forbidden_error("only regular files can be referred to")


def _forbidden_error(detail: str) -> InvalidInputError:
    return InvalidInputError("REFERENCE_FORBIDDEN", detail)

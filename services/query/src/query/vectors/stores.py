"""The data folder of the vector process: one store for each embedding profile.

* `.lock`: locked by the process that serves the folder
* `<profile>/store.json`: the id of the store, and its number of points when it was closed
* `<profile>/shard/`: the engine's own files
* `.new/`: a store that is being created; removed at start
* `.damaged/<profile>/`: the last damaged store of a profile, kept for analysis
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

from prometheus_client import Gauge

from chassis.base.errors import (
    FailedPreconditionError,
    InvalidInputError,
    OverloadedError,
    ServiceError,
)
from chassis.base.metrics import REGISTRY
from query.retrieval.vector_store import Quantization, StoreInfo, check_profile
from query.vectors.shard import ENGINE, LAYOUT, Shard
from query.vectors.shard_errors import store_missing_error

log = logging.getLogger(__name__)

STORES_MAX: Final = 8
DIMENSIONS_MAX: Final = 4_096
LOADS_MAX: Final = 3
FREE_MIN_BYTES: Final = 256 * 2**20

POINTS: Final = Gauge(
    "aquifer_vector_points",
    "Points of all tenants in the vector process, by embedding profile.",
    ("profile",),
    registry=REGISTRY,
)


class DataInUseError(Exception):
    """Another process serves the folder."""


class StoreDamagedError(Exception):
    """The files on disk differ from the store that was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Contents of `store.json`.

    `layout` is that of its points (`LAYOUT`).

    `points` is the number of points when the store was closed, None while it is open. It reveals
    damage: the engine opens some damaged files without an error, but with fewer points. `loads`
    counts attempts to open it that did not finish, because damage can also crash the process.
    `quantization` is that of its vectors; all stores from before it was recorded have 4 bits.
    """

    store_id: str
    dimensions: int
    layout: int
    points: int | None
    loads: int
    quantization: Quantization = Quantization.TURBO4


@dataclass(slots=True)
class _Open:
    shard: Shard
    record: Record


class Stores:
    """The open stores. Only `get` and `info` may be called during another call.

    `quantization` is for stores that are created.
    """

    def __init__(
        self,
        folder: Path,
        new_id: Callable[[], UUID],
        quantization: Quantization = Quantization.TURBO4,
    ) -> None:
        self._quantization = quantization
        self._folder = folder
        self._new_id = new_id
        self._open: dict[str, _Open] = {}

    def load(self) -> None:
        """Open every store of the folder; set aside what is damaged."""
        shutil.rmtree(self._folder / ".new", ignore_errors=True)
        for path in sorted(self._folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                try:
                    self._open[path.name] = self._load_one(path)
                except StoreDamagedError as error:
                    log.exception("store.damaged", extra={"profile": path.name})
                    self.check_space()  # on a full disk a good store cannot be opened either
                    self._set_aside(path, error)

    def prepare(self, profile: str, dimensions: int) -> StoreInfo:
        """Describe a store; creates it if it is missing."""
        check_profile(profile)
        if not 0 < dimensions <= DIMENSIONS_MAX:
            raise InvalidInputError(
                "DIMENSIONS_RANGE", f"dimensions must be in 1..{DIMENSIONS_MAX}", given=dimensions
            )
        if profile not in self._open:
            self._create(profile, dimensions)
        info = self.info(profile)
        if info.dimensions != dimensions:
            raise FailedPreconditionError(
                "DIMENSIONS_DIFFER",
                f"the store of {profile} holds vectors of {info.dimensions} dimensions",
                profile=profile,
                dimensions=info.dimensions,
            )
        return info

    def get(self, profile: str) -> Shard:
        """The store of a profile; raises FailedPreconditionError STORE_MISSING without one."""
        return self._get(profile).shard

    def info(self, profile: str) -> StoreInfo:
        found = self._get(profile)
        return StoreInfo(
            store_id=UUID(found.record.store_id),
            points=found.shard.count_points(),
            dimensions=found.record.dimensions,
            engine=ENGINE,
        )

    def drop(self, profile: str) -> None:
        """Remove a store from memory and disk; does nothing if there is none."""
        check_profile(profile)
        if (found := self._open.pop(profile, None)) is not None:
            found.shard.close()
            shutil.rmtree(self._folder / profile)
            with suppress(KeyError):
                POINTS.remove(profile)
            log.info("store.dropped", extra={"profile": profile})

    def check_space(self) -> None:
        """Refuse writes on a nearly full disk: the engine maps files and would crash later."""
        free = shutil.disk_usage(self._folder).free
        if free < FREE_MIN_BYTES:
            raise OverloadedError(
                "DISK_FULL",
                "the disk of the vector store is full; free space",
                retry_after_s=30,
                free=free,
            )

    def flush(self, *, least: int = 1) -> None:
        """Flush the stores with at least so many changes; blocks the interpreter meanwhile."""
        for found in self._open.values():
            if found.shard.unflushed >= least:
                found.shard.flush()

    def export_points(self) -> None:
        """Set the metric of the stores' points."""
        for profile, found in self._open.items():
            POINTS.labels(profile).set(found.shard.count_points())

    def compact(self) -> None:
        """Free the space of removed points; blocks the interpreter, so never while serving."""
        for profile, found in self._open.items():
            found.shard.compact()
            log.info("store.compacted", extra={"profile": profile})

    def close(self) -> None:
        """Close every store and record its number of points."""
        for profile, found in self._open.items():
            points = found.shard.count_points()
            found.shard.flush()
            found.shard.close()
            _write_record(self._folder / profile, replace(found.record, points=points))
        self._open.clear()

    def _get(self, profile: str) -> _Open:
        found = self._open.get(profile)
        if found is None:
            raise store_missing_error()
        return found

    def _load_one(self, path: Path) -> _Open:
        record = _read_record(path)
        if record.layout != LAYOUT:
            raise StoreDamagedError("another version of Aquifer wrote it")
        if record.loads >= LOADS_MAX:
            raise StoreDamagedError(f"{record.loads} attempts to open it ended the process")
        _write_record(path, replace(record, loads=record.loads + 1))
        try:
            shard = Shard.load(path / "shard", record.dimensions)
            points = shard.count_points()
        except ServiceError as error:
            raise StoreDamagedError("the engine cannot read it") from error
        if record.points is not None and points != record.points:
            shard.close()
            raise StoreDamagedError(f"it held {record.points} points and now holds {points}")
        record = replace(record, loads=0, points=None)
        _write_record(path, record)
        log.info(
            "store.opened",
            extra={"profile": path.name, "points": points, "quantization": record.quantization},
        )
        if record.quantization != self._quantization:
            log.warning(
                "store.quantization_kept",
                extra={
                    "profile": path.name,
                    "kept": record.quantization,
                    "for_new_stores": self._quantization,
                },
            )
        return _Open(shard, record)

    def _create(self, profile: str, dimensions: int) -> None:
        if len(self._open) >= STORES_MAX:
            raise OverloadedError(
                "STORES_FULL",
                f"there can be at most {STORES_MAX} profiles; drop one",
                max_stores=STORES_MAX,
            )
        self.check_space()
        # Created elsewhere and renamed, so that an existing store is always complete.
        draft = self._folder / ".new" / profile
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "shard").mkdir(parents=True)
        Shard.create(draft / "shard", dimensions, self._quantization).close()
        record = Record(
            store_id=str(self._new_id()),
            dimensions=dimensions,
            layout=LAYOUT,
            points=0,
            loads=0,
            quantization=self._quantization,
        )
        _write_record(draft, record)
        draft.rename(self._folder / profile)
        _sync(self._folder)
        log.info("store.created", extra={"profile": profile, "store_id": record.store_id})
        self._open[profile] = self._load_one(self._folder / profile)

    def _set_aside(self, path: Path, why: StoreDamagedError) -> None:
        aside = self._folder / ".damaged" / path.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        path.rename(aside)
        log.error(
            "store.set_aside",
            extra={"profile": path.name, "moved_to": str(aside), "reason": str(why)},
        )


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder for this process until the process ends, even by a crash.

    Raises:
        DataInUseError: another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataInUseError(f"another process serves {folder}") from error
        yield


def _read_record(path: Path) -> Record:
    try:
        record = Record(**json.loads((path / "store.json").read_text()))
        UUID(record.store_id)
        record = replace(record, quantization=Quantization(record.quantization))
    except (OSError, ValueError, TypeError) as error:
        raise StoreDamagedError("store.json cannot be read") from error
    return record


def _write_record(path: Path, record: Record) -> None:
    draft = path / "store.json.new"
    with draft.open("w") as file:
        json.dump(asdict(record), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path / "store.json")
    _sync(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

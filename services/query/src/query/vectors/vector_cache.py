"""Dense vectors kept at hand: the engine gives one out as a list of floats, which is slow."""

import threading
from collections.abc import Sequence

import numpy as np

from query.domain import Matrix, Vector

Key = tuple[str, str]


class VectorCache:
    """Vectors by tenant and point id, in one block of memory; the oldest make room for new ones.

    Vectors enter when they are written, and when they were read from the engine because they were
    missing. Several threads may use it.
    """

    def __init__(self, dimensions: int, max_bytes: int) -> None:
        # Pages of it that were never written take no memory.
        self._rows: Matrix = np.empty((max_bytes // (4 * dimensions), dimensions), dtype="<f4")
        self._places: dict[Key, int] = {}
        self._free: list[int] = []
        self._used = 0
        self._writes = 0
        self._lock = threading.Lock()

    @property
    def writes(self) -> int:
        """A number that every write changes; to be read before the engine is."""
        return self._writes

    def get(self, tenant: str, point_ids: Sequence[str]) -> tuple[Matrix, list[int]]:
        """A row for each id, and the numbers of the rows that are not known and hold anything."""
        with self._lock:
            places = [self._places.get((tenant, point_id), -1) for point_id in point_ids]
            found: Matrix = self._rows[places]
        return found, [row for row, place in enumerate(places) if place < 0]

    def forget(self, tenant: str, point_ids: Sequence[str]) -> None:
        """Before a write: what is known of these points is about to be wrong."""
        with self._lock:
            self._writes += 1
            for point_id in point_ids:
                if (place := self._places.pop((tenant, point_id), None)) is not None:
                    self._free.append(place)

    def put(self, tenant: str, vectors: Sequence[tuple[str, Vector]]) -> None:
        """After a write: keep what was written."""
        with self._lock:
            self._writes += 1
            self._keep(tenant, vectors)

    def put_if_unchanged(
        self, tenant: str, vectors: Sequence[tuple[str, Vector]], *, writes: int
    ) -> None:
        """Keep what was read, unless something was written since `writes` was looked up."""
        with self._lock:
            if writes == self._writes:
                self._keep(tenant, vectors)

    def _keep(self, tenant: str, vectors: Sequence[tuple[str, Vector]]) -> None:
        for point_id, vector in vectors[-len(self._rows) :]:
            place = self._places.pop((tenant, point_id), None)
            if place is None:
                place = self._take_row()
            self._rows[place] = vector
            self._places[tenant, point_id] = place

    def _take_row(self) -> int:
        if self._free:
            return self._free.pop()
        if self._used < len(self._rows):
            self._used += 1
            return self._used - 1
        return self._places.pop(next(iter(self._places)))

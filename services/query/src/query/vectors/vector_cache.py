"""A cache of dense vectors: the engine returns them as lists of floats, which is slow."""

import threading
from collections.abc import Sequence

import numpy as np

from query.domain import Matrix, Vector

Key = tuple[str, str]


class VectorCache:
    """Vectors by tenant and point id, in one block of memory; the oldest are dropped if it is full.

    Vectors are added when they are written, and when a missing one was read from the engine.
    Several threads may use it.
    """

    def __init__(self, dimensions: int, max_bytes: int) -> None:
        # Pages that were never written take no memory.
        self._rows: Matrix = np.empty((max_bytes // (4 * dimensions), dimensions), dtype="<f4")
        self._places: dict[Key, int] = {}
        self._free: list[int] = []
        self._used = 0
        self._writes = 0
        self._lock = threading.Lock()

    @property
    def writes(self) -> int:
        """A counter of writes; to be read before the engine is."""
        return self._writes

    def get(self, tenant: str, point_ids: Sequence[str]) -> tuple[Matrix, list[int]]:
        """A row for each id, and the indexes of unknown rows, which have arbitrary values."""
        with self._lock:
            places = [self._places.get((tenant, point_id), -1) for point_id in point_ids]
            found: Matrix = self._rows[places]
        return found, [row for row, place in enumerate(places) if place < 0]

    def forget(self, tenant: str, point_ids: Sequence[str]) -> None:
        """Remove points; to be called before they are written."""
        with self._lock:
            self._writes += 1
            for point_id in point_ids:
                if (place := self._places.pop((tenant, point_id), None)) is not None:
                    self._free.append(place)

    def put(self, tenant: str, vectors: Sequence[tuple[str, Vector]]) -> None:
        """Add written points; to be called after the write."""
        with self._lock:
            self._writes += 1
            self._keep(tenant, vectors)

    def put_if_unchanged(
        self, tenant: str, vectors: Sequence[tuple[str, Vector]], *, writes: int
    ) -> None:
        """Add points that were read, unless something was written since `writes` was read."""
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

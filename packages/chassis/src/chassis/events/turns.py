"""Whose event leaves next: tenants share in proportion to their weights (start-time fair queueing).

Every event starts at a point of virtual time; the lowest start leaves first. The events of a tenant
start 1/weight apart. A tenant that comes back starts where the others are: it has saved nothing up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Columns(NamedTuple):
    """What a statement needs to compute starts: tenants that differ from a newcomer of weight 1."""

    tenants: Sequence[str]
    starts: Sequence[float]
    weights: Sequence[float]
    level: float


@dataclass(slots=True)
class Turns:
    """The turns of the tenants in one queue; `level` is the start of the latest event that left.

    Only tenants that are ahead of `level` are kept, until nobody waits.
    """

    weights: Mapping[str, float]
    level: float = 0.0
    _ahead: dict[str, float] = field(default_factory=dict)

    def columns(self) -> Columns:
        """Where the next event of each tenant starts; tenants left out start at `level`."""
        tenants = [*{**self._ahead, **self.weights}]
        return Columns(
            tenants=tenants,
            starts=[self._ahead.get(tenant, self.level) for tenant in tenants],
            weights=[self.weights.get(tenant, 1.0) for tenant in tenants],
            level=self.level,
        )

    def leave(self, released: Sequence[tuple[str, float]], *, emptied: bool) -> None:
        """Records the tenants of events that left, with their starts; `emptied`: nobody waits."""
        for tenant, start in released:
            self.level = max(self.level, start)
            self._ahead[tenant] = start + 1.0 / self.weights.get(tenant, 1.0)
        self._ahead = {
            name: start for name, start in self._ahead.items() if start > self.level and not emptied
        }

"""Recently accepted versions, kept in memory until their event arrives."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ingest.domain import State, Version

KEPT_MAX: Final = 1_024

Key = tuple[str, str, int]


@dataclass(slots=True)
class FreshVersions:
    """Saves most database reads before parsing.

    What to parse, and how, never changes. The state may have changed, so an update must check it.
    """

    _kept: OrderedDict[Key, Version] = field(default_factory=OrderedDict)

    def put(self, version: Version) -> None:
        """Store a version; the oldest one is dropped if there are too many."""
        if version.state is State.ACCEPTED:
            self._kept[version.tenant, version.document, version.number] = version
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def take(self, tenant: str, document: str, number: int) -> Version | None:
        """Remove and return a version; None if it is not stored."""
        return self._kept.pop((tenant, document, number), None)

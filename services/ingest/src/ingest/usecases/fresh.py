"""Versions accepted a moment ago, kept to be at hand when their own event comes around."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ingest.domain import State, Version

KEPT_MAX: Final = 1_024

Key = tuple[str, str, int]


@dataclass(slots=True)
class FreshVersions:
    """Saves most reads before parsing; whoever acts on one must still compare-and-set its state.

    What is parsed, and how, is taken from here, and that never changes.
    """

    _kept: OrderedDict[Key, Version] = field(default_factory=OrderedDict)

    def put(self, version: Version) -> None:
        """Keep a version; the one kept longest makes room."""
        if version.state is State.ACCEPTED:
            self._kept[version.tenant, version.document, version.number] = version
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def take(self, tenant: str, document: str, number: int) -> Version | None:
        """The version, which is forgotten here."""
        return self._kept.pop((tenant, document, number), None)

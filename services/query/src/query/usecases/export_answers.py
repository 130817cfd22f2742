"""Reads the records of answers one after the other."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from query.usecases.exchanges import Exchanges, Place, Record, Wanted

# Records come with whole passages; so many are in memory.
PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class ExportAnswers:
    """Reads page by page, each in a transaction of its own: a slow reader holds none open."""

    exchanges: Exchanges

    async def run(self, wanted: Wanted, after: Place | None) -> AsyncGenerator[Record, None]:
        """The records after a position, in the order of their storing."""
        place = after
        while True:
            page = await self.exchanges.list_page(wanted, place, PAGE)
            for one in page:
                yield one
            if len(page) < PAGE:
                return
            place = page[-1].place

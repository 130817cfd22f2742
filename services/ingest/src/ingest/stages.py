"""Unfinished documents by state, for the status of the service."""

from collections.abc import Sequence

from chassis.process.ops import Stage
from ingest.usecases.ports import Sweeper


async def list_stages(sweeper: Sweeper) -> Sequence[Stage]:
    """The backlog of each state and tenant."""
    return [
        Stage(
            name=backlog.state,
            tenant=backlog.tenant,
            documents=backlog.documents,
            oldest_age_s=backlog.oldest_age_s,
        )
        for backlog in await sweeper.count_backlog()
    ]

"""One stack and one journal for the campaign and for the checker's own test."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.campaign import Campaign, running_campaign


@pytest.fixture(scope="session")
def campaign() -> Iterator[Campaign]:
    """A campaign on a fresh stack; its seed is `AQUIFER_FAULT_SEED`, 1 by default."""
    with running_campaign(int(os.environ.get("AQUIFER_FAULT_SEED", "1"))) as campaign:
        yield campaign

"""Fixtures for all tests, and which of them run in the same process."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["testkit.fixtures"]

# A slow machine is no finding; the rest is hypothesis' own choice, which differs under CI.
settings.register_profile(
    "untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

ROOT = Path(__file__).parent
# The tests of such a folder share one running stack.
WITH_A_STACK = (ROOT / "tests/e2e", ROOT / "tests/faults")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, the tests of a file run in one of them, as do those of a stack."""
    for item in items:
        folder = item.path.parent
        together = folder if folder in WITH_A_STACK else item.path
        item.add_marker(pytest.mark.xdist_group(str(together.relative_to(ROOT))))

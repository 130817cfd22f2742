"""Fixtures for all tests, and which of them run in the same process."""

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["testkit.fixtures"]

# A slow machine is no finding; the rest is hypothesis' own choice, which differs under CI.
settings.register_profile(
    "untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

# They start the whole stack, and two of them at once would take each other's cores.
WITH_A_STACK = ("tests/e2e/", "tests/faults/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, one runs all tests with a stack; other files run in any of them."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        together = "stack" if file.startswith(WITH_A_STACK) else file
        item.add_marker(pytest.mark.xdist_group(together))

"""Says at the end of the run which servers were not available and so not tested."""

import pytest

ABSENT = pytest.StashKey[list[str]]()


@pytest.fixture
def say_absent(request):
    """Notes a server that could not be tested on."""
    return request.config.stash.setdefault(ABSENT, []).append


def pytest_terminal_summary(terminalreporter, config):
    for note in config.stash.get(ABSENT, []):
        terminalreporter.write_line(f"NOT RUN on a container: {note}", yellow=True, bold=True)

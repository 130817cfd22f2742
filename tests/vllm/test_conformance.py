"""The suite of all generators, for vLLM in this process and for its server."""

import pytest

from services.inference.tests.integration.test_generator_conformance import *  # noqa: F403

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest.fixture
def generator(model):
    return model

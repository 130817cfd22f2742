"""A model that vLLM is told to run while inference runs already."""

import asyncio
from pathlib import Path

import psutil
import pytest

from inference.domain import ModelKind
from inference.engine_settings import EngineSettings
from inference.engines.opener import Opener
from inference.generation import Finish
from inference.model_definition import ModelDefinition
from inference.ports import Generator
from services.inference.tests.generations import ask
from tests.vllm.conftest import ARGUMENTS

pytestmark = pytest.mark.timeout(600)


def definition(folder: Path) -> ModelDefinition:
    engine = EngineSettings(engine="vllm", name="loaded", model=folder.name, arguments=ARGUMENTS)
    return ModelDefinition(name="loaded", kind=ModelKind.GENERATE, engines=[engine])


def children() -> set[int]:
    """Those of engines that run.

    Python's own, which looks after shared memory, stays as long as we do.
    """
    running = [
        one
        for one in psutil.Process().children(recursive=True)
        if one.status() != psutil.STATUS_ZOMBIE
    ]
    return {one.pid for one in running if "resource_tracker" not in " ".join(one.cmdline())}


async def wait_until_gone(before: set[int]) -> None:
    """vLLM kills an engine that takes too long to end; the system needs a moment to remove it."""
    async with asyncio.timeout(10):
        while children() - before:
            await asyncio.sleep(0.05)


async def test_a_loaded_model_answers_and_leaves_no_process_when_it_is_closed(model_folder):
    before = children()
    opener = Opener(str(model_folder.parent), "")
    async with opener.open(definition(model_folder)) as model:
        assert isinstance(model, Generator)
        steps = [step async for step in model.generate(ask("How deep is the well?"))]
        assert isinstance(steps[-1], Finish)
        assert steps[-1].usage.output_tokens > 0
        assert model.card.name == "loaded"
        assert children() - before
    await wait_until_gone(before)


async def test_a_model_that_is_unloaded_while_it_starts_leaves_no_process(model_folder):
    before = children()
    opener = Opener(str(model_folder.parent), "")

    async def load() -> None:
        async with opener.open(definition(model_folder)):
            pytest.fail("it was stopped before it was open")

    task = asyncio.create_task(load())
    while not children() - before:
        assert not task.done()
        await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until_gone(before)

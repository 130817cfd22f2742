"""The life of an engine: its start is told in the log, its death to callers, and it ends ours."""

import asyncio
import logging
from pathlib import Path

import psutil
import pytest

from chassis.base.errors import UnavailableError
from inference.engine_settings import EngineSettings
from inference.engines.vllm.model import open_models
from services.inference.tests.generations import ask
from tests.vllm.conftest import ARGUMENTS, until

pytestmark = pytest.mark.timeout(600)


def find_engine() -> psutil.Process:
    """The process that vLLM started last: that of the engine of this test."""
    children = psutil.Process().children(recursive=True)
    engines = [one for one in children if "EngineCore" in one.name()]
    return max(engines, key=psutil.Process.create_time)


async def test_a_dead_engine_is_told_to_callers_and_ends_the_process(
    model_folder: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "inference")
    settings = EngineSettings(engine="vllm", model=str(model_folder), arguments=ARGUMENTS)
    async with open_models(settings) as [model]:
        [ready] = [one for one in caplog.records if one.message == "engine.ready"]
        assert (ready.model, ready.device) == ("tiny", model.card.device)
        assert 0 < ready.took_s < 240
        watching = asyncio.ensure_future(model.watch())
        steps = model.generate(ask("Hello.", max_output_tokens=900))
        await anext(steps)
        find_engine().kill()
        with pytest.raises(UnavailableError) as failed:
            async for _ in steps:
                pass
        assert failed.value.reason == "ENGINE_FAILED"
        await until(watching.done, limit_s=60)
        with pytest.raises(UnavailableError):
            await watching
        with pytest.raises(UnavailableError) as refused:
            await anext(model.generate(ask("Hello.")))
        assert refused.value.reason == "ENGINE_FAILED"

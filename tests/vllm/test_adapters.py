"""LoRA adapters: models of their own names, in the engine of their base model."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file

from chassis.base.errors import FailedPreconditionError
from inference.engine_settings import EngineSettings
from inference.engines.registry import open_engine
from inference.engines.vllm import adapters
from inference.engines.vllm.model import open_models
from inference.generation import Finish, Sampling
from inference.ports import Watched
from services.inference.tests.generations import ask, said
from tests.vllm.conftest import ARGUMENTS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

WIDTH = 128


def make_adapter(folder: Path, seed: int, width: int = WIDTH) -> Path:
    """Writes an adapter with random weights, large enough to change every answer."""
    folder.mkdir()
    noise = torch.Generator().manual_seed(seed)
    part = "base_model.model.model.layers.{}.self_attn.o_proj.lora_{}.weight"
    weights = {}
    for layer in (0, 1):
        weights[part.format(layer, "A")] = torch.randn(4, width, generator=noise)
        weights[part.format(layer, "B")] = torch.randn(width, 4, generator=noise)
    save_file(weights, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 64, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> AsyncIterator:
    """A model with two adapters, by their names."""
    folder = tmp_path_factory.mktemp("adapters")
    settings = EngineSettings(
        engine="vllm",
        model=str(model_folder),
        arguments=ARGUMENTS,
        adapters={
            "wells": str(make_adapter(folder / "wells", seed=1)),
            "ships": str(make_adapter(folder / "ships", seed=2)),
        },
    )
    async with open_engine(settings, otlp_endpoint="") as opened:
        yield {model.card.name: model for model in opened}


async def read(model) -> list:
    sampling = Sampling(temperature=1.0, seed=3)
    request = ask("Hello.", max_output_tokens=24, sampling=sampling)
    async with aclosing(model.generate(request)) as steps:
        return [step async for step in steps]


async def test_each_adapter_writes_its_own_text(models):
    texts = {name: said(await read(model)) for name, model in models.items()}
    assert set(texts) == {"tiny", "wells", "ships"}
    assert len(set(texts.values())) == 3
    assert {name: said(await read(model)) for name, model in models.items()} == texts


async def test_the_card_of_an_adapter_tells_its_base(models):
    base, adapter = models["tiny"].card, models["wells"].card
    assert "tiny" in adapter.description
    assert adapter.capabilities == base.capabilities
    assert adapter.context_tokens == base.context_tokens
    assert await models["wells"].count(["a well"]) == await models["tiny"].count(["a well"])


async def test_the_engine_is_watched_once(models):
    assert [name for name, model in models.items() if isinstance(model, Watched)] == ["tiny"]


async def test_an_adapter_of_another_model_is_refused(models, tmp_path):
    folder = make_adapter(tmp_path / "wide", seed=3, width=2 * WIDTH)
    engine = models["tiny"]._engine
    # An adapter that is loaded is not read again.
    await engine.remove_lora(1)
    with pytest.raises(FailedPreconditionError, match="wide") as refused:
        await adapters.load(engine, {"wide": str(folder)})
    assert refused.value.reason == "ENGINE_NOT_STARTED"
    assert isinstance((await read(models["tiny"]))[-1], Finish)


@pytest.mark.parametrize("config", [None, "no JSON", "{}", '{"r": 0}', '{"r": 4096}'])
async def test_a_folder_without_an_adapter_is_refused_before_the_start(
    model_folder, tmp_path, config
):
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(config)
    settings = EngineSettings(
        engine="vllm", model=str(model_folder), adapters={"wells": str(tmp_path)}
    )
    with pytest.raises(FailedPreconditionError, match="wells") as refused:
        async with open_models(settings):
            pass
    assert refused.value.reason == "ENGINE_ARGUMENTS"

"""Settings of engines that contradict themselves are refused."""

import pytest
from pydantic import ValidationError

from inference.engine_settings import EngineSettings

SERVER = {"engine": "openai", "url": "http://host:8000/v1"}
OURS = {"engine": "vllm", "model": "/models/tiny"}


@pytest.mark.parametrize(
    "more",
    [{"tool_parser": "hermes"}, {"reasoning_parser": "qwen3"}, {"adapters": {"wells": "/wells"}}],
)
def test_only_vllm_has_parsers_and_adapters(more):
    assert EngineSettings(**OURS, **more)
    with pytest.raises(ValidationError, match=next(iter(more))):
        EngineSettings(**SERVER, **more)


@pytest.mark.parametrize("adapters", [{"tiny": "/wells"}, {"": "/wells"}, {"wells": ""}])
def test_an_adapter_has_a_folder_and_a_name_of_its_own(adapters):
    with pytest.raises(ValidationError, match="adapter"):
        EngineSettings(**OURS, adapters=adapters)


@pytest.mark.parametrize(
    ("settings", "name"),
    [(OURS, "tiny"), ({**OURS, "name": "chat"}, "chat"), ({**OURS, "model": "Org/Tiny/"}, "Tiny")],
)
def test_a_model_has_the_last_part_of_its_name(settings, name):
    assert EngineSettings(**settings).public_name == name

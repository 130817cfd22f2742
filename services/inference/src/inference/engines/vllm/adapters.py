"""LoRA adapters: models of their own names, which share the engine of their base model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from vllm.config.lora import MaxLoRARanks
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM

from chassis.base.errors import FailedPreconditionError


def find_arguments(adapters: Mapping[str, str]) -> Mapping[str, Any]:
    """The arguments of an engine that has room for all of these adapters.

    Raises:
        FailedPreconditionError: ENGINE_ARGUMENTS, one is not there, or none of vLLM's.
    """
    if not adapters:
        return {}
    highest = max(_read_rank(name, Path(folder)) for name, folder in adapters.items())
    rank = min(known for known in get_args(MaxLoRARanks) if known >= highest)
    return {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": rank}


async def load(engine: AsyncLLM, adapters: Mapping[str, str]) -> Sequence[LoRARequest]:
    """Loads all of them, so that a bad one ends the start and not a call.

    Raises:
        FailedPreconditionError: ENGINE_NOT_STARTED, one does not fit the model.
    """
    requests = _to_requests(adapters)
    for request in requests:
        try:
            await engine.add_lora(request)
        # The engine tells what the loading raised as an error of no type.
        except Exception as error:
            why = " ".join(str(error).split())[:500]
            raise FailedPreconditionError(
                "ENGINE_NOT_STARTED",
                f"the adapter {request.lora_name} does not fit its model: {why}",
                adapter=request.lora_name,
            ) from error
    return requests


def _to_requests(adapters: Mapping[str, str]) -> Sequence[LoRARequest]:
    return [
        LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(Path(folder).resolve()))
        for number, (name, folder) in enumerate(adapters.items(), start=1)
    ]


def _read_rank(name: str, folder: Path) -> int:
    try:
        rank = int(json.loads((folder / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FailedPreconditionError(
            "ENGINE_ARGUMENTS",
            f"the adapter {name} has no adapter_config.json with a rank in {str(folder)!r}:"
            f" {error!r}; correct `adapters`",
            adapter=name,
        ) from error
    highest = max(get_args(MaxLoRARanks))
    if not 0 < rank <= highest:
        raise FailedPreconditionError(
            "ENGINE_ARGUMENTS",
            f"the adapter {name} has the rank {rank}; vLLM runs 1 to {highest}",
            adapter=name,
            rank=rank,
        )
    return rank

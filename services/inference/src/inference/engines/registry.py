"""The engines that write answers, by the name in the settings. A new one is a function more."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from chassis.base.errors import FailedPreconditionError
from inference.engine_settings import EngineSettings
from inference.ports import Generator

Opened = AbstractAsyncContextManager[Generator]


def _open_openai(settings: EngineSettings, otlp_endpoint: str) -> Opened:  # noqa: ARG001
    from inference.engines.openai.model import open_model  # noqa: PLC0415

    return open_model(
        settings.url,
        name=settings.name,
        model=settings.model,
        api_key=settings.key,
        concurrency=settings.concurrency,
        send_priority=settings.priority,
    )


def _open_vllm(settings: EngineSettings, otlp_endpoint: str) -> Opened:
    try:
        from inference.engines.vllm.model import open_model  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            "ENGINE_NOT_INSTALLED",
            f"the engine vllm needs vLLM beside inference: {error};"
            " services/inference/README.md tells how to install it",
        ) from error
    return open_model(
        settings.model,
        name=settings.name,
        arguments=settings.arguments,
        concurrency=settings.concurrency,
        otlp_endpoint=otlp_endpoint,
    )


ENGINES: dict[str, Callable[[EngineSettings, str], Opened]] = {
    "openai": _open_openai,
    "vllm": _open_vllm,
}


def open_engine(settings: EngineSettings, *, otlp_endpoint: str) -> Opened:
    """Opens an engine; its module is imported only now.

    Raises:
        FailedPreconditionError: ENGINE_NOT_INSTALLED; when it is entered ENGINE_NOT_READY,
            ENGINE_ARGUMENTS, ENGINE_NOT_STARTED.
    """
    return ENGINES[settings.engine](settings, otlp_endpoint)

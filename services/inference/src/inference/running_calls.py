"""Counts the calls of each model, so that one is closed when its last call has ended."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from chassis.base.errors import UnavailableError
from inference.ports import Model


@dataclass(slots=True)
class _Calls:
    running: int = 0
    is_cut: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class RunningCalls:
    """The calls of all models of a process."""

    _calls: dict[int, _Calls] = field(default_factory=dict, init=False)

    @contextmanager
    def of(self, model: Model) -> Iterator[None]:
        """Around a call of a model.

        Raises:
            UnavailableError: MODEL_UNLOADED, it was closed before the call had ended.
        """
        calls = self._calls.setdefault(id(model), _Calls())
        calls.running += 1
        try:
            yield
        except Exception as error:
            if calls.is_cut:
                raise UnavailableError(
                    "MODEL_UNLOADED", "the model was unloaded during the call; ask another model"
                ) from error
            raise
        finally:
            calls.running -= 1
            if not calls.running:
                calls.idle.set()
                del self._calls[id(model)]

    async def wait_until_none(self, model: Model, limit_s: float) -> None:
        """Waits until no call of a model runs; after the limit, those that fail are told why."""
        calls = self._calls.get(id(model))
        if calls is None:
            return
        try:
            async with asyncio.timeout(limit_s):
                await calls.idle.wait()
        except TimeoutError:
            calls.is_cut = True

"""Opens and closes the models that are loaded while inference runs, as their definitions say."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from chassis.base.errors import ServiceError, UnavailableError
from inference.catalogue import Catalogue, LoadedModel
from inference.model_definition import ModelDefinition
from inference.ports import DefinitionStore, Model, Watched

log = logging.getLogger(__name__)

OpenModel = Callable[[ModelDefinition], AbstractAsyncContextManager[Model]]

# Between two attempts to open a model.
AGAIN_S: Final = (1.0, 60.0)
# A model that is unloaded or replaced waits so long for its calls.
CALLS_S: Final = 20.0
STARTING: Final = "models that were loaded are not open yet"


class _Keeper:
    """Keeps one model open: opens it again when it fails or dies."""

    def __init__(self, loaded: LoadedModel, catalogue: Catalogue, open_model: OpenModel) -> None:
        self.loaded = loaded
        self.tried = asyncio.Event()
        self.again = asyncio.Event()
        self._catalogue = catalogue
        self._open = open_model

    async def run(self, opened: Callable[[], None]) -> None:
        """Runs until it is cancelled, and then waits for the model's calls.

        `opened` is called whenever the model is open.
        """
        wait_s = AGAIN_S[0]
        while True:
            try:
                async with self._open(self.loaded.definition) as model:
                    self.loaded.model, self.loaded.problem = model, ""
                    wait_s = AGAIN_S[0]
                    self.tried.set()
                    opened()
                    await self._hold(model)
            except ServiceError as error:
                self._note(f"{error.reason}: {error.detail}")
            # A definition must not be able to end the process, which would read it again.
            except Exception as error:
                log.exception("model.open_failed")
                self._note(f"{type(error).__name__}, see the log of inference")
            self.tried.set()
            await self._wait(wait_s)
            wait_s = min(2 * wait_s, AGAIN_S[1])

    async def _hold(self, model: Model) -> None:
        try:
            if isinstance(model, Watched):
                await model.watch()
            else:
                await asyncio.Event().wait()
        finally:
            self.loaded.model = None
            await self._catalogue.calls.wait_until_none(model, CALLS_S)

    def _note(self, problem: str) -> None:
        self.loaded.problem = problem
        log.warning(
            "model.not_open", extra={"model": self.loaded.definition.name, "problem": problem}
        )

    async def _wait(self, seconds: float) -> None:
        self.again.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.again.wait()
        except TimeoutError:
            return


class ModelLoader:
    """Follows the definitions in the store, which all replicas share."""

    def __init__(self, store: DefinitionStore, catalogue: Catalogue, open_model: OpenModel) -> None:
        self._store = store
        self._catalogue = catalogue
        self._open = open_model
        self._keepers: dict[str, tuple[_Keeper, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._applying = asyncio.Lock()
        self._is_applied = False
        self._is_started = False

    async def run(self) -> None:
        """Applies every change of the store; when it is cancelled it closes all models."""
        try:
            async for _ in self._store.watch():
                try:
                    await self.refresh()
                except UnavailableError as error:
                    log.warning("model.definitions_not_read", extra={"error": error.detail})
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def probe(self) -> str:
        """Why this process is not ready: until each model was tried once after the start."""
        keepers = [keeper for keeper, _ in self._keepers.values()]
        if not self._is_started and self._is_applied:
            self._is_started = all(keeper.tried.is_set() for keeper in keepers)
        return "" if self._is_started else STARTING

    async def refresh(self) -> None:
        """Reads the definitions and applies them.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """
        async with self._applying:
            wanted = await self._store.read()
            models = {
                name: one
                for name, one in wanted.models.items()
                # The settings of this process came to have it after it was loaded.
                if not self._catalogue.is_fixed(name)
            }
            for name in self._keepers.keys() - models.keys():
                self._end(name)
            for name, definition in models.items():
                known = self._catalogue.loaded.get(name)
                if known is None or known.definition != definition:
                    self._begin(definition, known)
            self._catalogue.aliases = wanted.aliases
            self._catalogue.problems = wanted.problems
            self._is_applied = True

    async def try_now(self, name: str, within_s: float) -> None:
        """Waits until a model was tried, without the pause after a failure, within a limit."""
        if name not in self._keepers:
            return  # it was unloaded meanwhile
        keeper, _ = self._keepers[name]
        if keeper.loaded.problem:
            keeper.tried.clear()
            keeper.again.set()
        try:
            async with asyncio.timeout(within_s):
                await keeper.tried.wait()
        except TimeoutError:
            return

    def _begin(self, definition: ModelDefinition, before: LoadedModel | None) -> None:
        loaded = LoadedModel(definition, before=before)
        replaced = self._keepers.get(definition.name)
        keeper = _Keeper(loaded, self._catalogue, self._open)

        def end_replaced() -> None:
            if replaced:
                replaced[1].cancel()

        def on_open() -> None:
            loaded.before = None
            end_replaced()
            log.info("model.open", extra={"model": definition.name})

        async def keep() -> None:
            try:
                await keeper.run(on_open)
            finally:
                # It may end before it has taken the place of the other one.
                end_replaced()

        task = asyncio.get_running_loop().create_task(keep())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._catalogue.loaded[definition.name] = loaded
        self._keepers[definition.name] = keeper, task

    def _end(self, name: str) -> None:
        _, task = self._keepers.pop(name)
        self._catalogue.loaded.pop(name)
        task.cancel()
        log.info("model.unloaded", extra={"model": name})

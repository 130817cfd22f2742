"""Loads and unloads models, and gives them further names."""

from dataclasses import dataclass
from typing import Final

from chassis.base.errors import (
    FailedPreconditionError,
    NotFoundError,
    OverloadedError,
)
from inference.catalogue import Catalogue, ListedModel
from inference.domain import ModelKind
from inference.model_definition import DEFAULT, ModelDefinition, check_name, invalid
from inference.model_loader import ModelLoader
from inference.ports import DefinitionStore

MODELS_MAX: Final = 64
ALIASES_MAX: Final = 256
# How long a caller waits for a model to be open.
OPEN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Adds a model, or replaces one that was loaded."""

    catalogue: Catalogue
    store: DefinitionStore
    loader: ModelLoader
    model_folder: str

    async def run(self, definition: ModelDefinition) -> ListedModel:
        """The model, as it is once it was tried.

        Raises:
            FailedPreconditionError: MODEL_FIXED, MODEL_FOLDER_OFF, CREDENTIALS_OFF.
            OverloadedError: MODELS_FULL, STREAM_FULL.
            UnavailableError: BUS_UNAVAILABLE.
        """
        name = definition.name
        await self.loader.refresh()
        _check_not_fixed(self.catalogue, name)
        if not self.model_folder and any(one.engine == "vllm" for one in definition.engines):
            raise FailedPreconditionError(
                "MODEL_FOLDER_OFF",
                "this service runs no further models itself; set AQUIFER_MODEL_FOLDER of inference"
                " to the folder that has them",
            )
        known = self.catalogue.loaded.keys() | self.catalogue.problems.keys()
        if name not in known and len(known) >= MODELS_MAX:
            raise OverloadedError(
                "MODELS_FULL", f"{MODELS_MAX} models are loaded already; unload one"
            )
        await self.store.write(definition)
        await self.loader.refresh()
        await self.loader.try_now(name, OPEN_S)
        return self.catalogue.get(name)


@dataclass(frozen=True, slots=True)
class UnloadModel:
    """Removes a loaded model."""

    catalogue: Catalogue
    store: DefinitionStore
    loader: ModelLoader

    async def run(self, name: str, *, force: bool) -> None:
        """Remove it, and its aliases.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            FailedPreconditionError: MODEL_FIXED, FORCE_REQUIRED.
            UnavailableError: BUS_UNAVAILABLE.
            OverloadedError: STREAM_FULL.
        """
        await self.loader.refresh()
        _check_not_fixed(self.catalogue, name)
        loaded = self.catalogue.loaded.get(name)
        if loaded is None and name not in self.catalogue.problems:
            raise _unknown(name)
        if loaded and loaded.definition.kind is ModelKind.EMBED and not force:
            raise FailedPreconditionError(
                "FORCE_REQUIRED",
                f"passages with vectors under {name!r} cannot be searched without it; see"
                " `aquifer profiles list`, and set `force` if it is not in use",
            )
        for alias, target in self.catalogue.aliases.items():
            if target == name:
                await self.store.remove_alias(alias)
        await self.store.remove(name)
        await self.loader.refresh()


@dataclass(frozen=True, slots=True)
class SetAlias:
    """Gives a model a further name."""

    catalogue: Catalogue
    store: DefinitionStore
    loader: ModelLoader

    async def run(self, alias: str, name: str) -> None:
        """Point the alias to the model.

        Raises:
            InvalidInputError: ALIAS_INVALID.
            NotFoundError: MODEL_UNKNOWN.
            OverloadedError: MODELS_FULL, STREAM_FULL.
            UnavailableError: BUS_UNAVAILABLE.
        """
        check_name("alias", alias, "ALIAS_INVALID")
        await self.loader.refresh()
        models = {one.name: one for one in self.catalogue.list()}
        if alias in models:
            raise invalid("alias", "is the name of a model", "ALIAS_INVALID")
        if name not in models:
            raise _unknown(name)
        card = models[name].card
        if card and card.kind is ModelKind.EMBED:
            raise invalid("model", "embeds, and a profile has one name", "ALIAS_INVALID")
        if card and alias == DEFAULT and card.kind is not ModelKind.GENERATE:
            raise invalid("model", "writes no answers", "ALIAS_INVALID")
        known = self.catalogue.aliases
        if alias not in known and len(known) >= ALIASES_MAX:
            raise OverloadedError(
                "MODELS_FULL", f"there are {ALIASES_MAX} aliases already; delete one"
            )
        await self.store.write_alias(alias, name)
        await self.loader.refresh()


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    """Removes a further name."""

    catalogue: Catalogue
    store: DefinitionStore
    loader: ModelLoader

    async def run(self, alias: str) -> None:
        """Remove it.

        Raises:
            NotFoundError: ALIAS_UNKNOWN.
            UnavailableError: BUS_UNAVAILABLE.
            OverloadedError: STREAM_FULL.
        """
        await self.loader.refresh()
        if alias not in self.catalogue.aliases:
            raise NotFoundError("ALIAS_UNKNOWN", f"{alias!r} is no alias", alias=alias)
        await self.store.remove_alias(alias)
        await self.loader.refresh()


def _check_not_fixed(catalogue: Catalogue, name: str) -> None:
    if catalogue.is_fixed(name):
        raise FailedPreconditionError(
            "MODEL_FIXED",
            f"{name!r} is from the settings of inference, which this does not change; use another"
            " name, or change the settings",
            model=name,
        )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError("MODEL_UNKNOWN", f"no model {name!r} is loaded here", model=name)

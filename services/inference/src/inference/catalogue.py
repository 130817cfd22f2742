"""Finds models by name, and checks that they can do what a request asks for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chassis.base.errors import InvalidInputError, NotFoundError
from inference.domain import Capability
from inference.generation import Generation
from inference.ports import Generator, Reranker, TokenCounter


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models of a process that do more than embed; the first one is the default.

    What a model can do is what its card says; it then implements the port for it.
    """

    models: Sequence[Generator]

    def find(self, name: str) -> Generator:
        """The model with this name; empty: the default.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
        """
        for model in self.models:
            if name in ("", model.card.name):
                return model
        raise NotFoundError("MODEL_UNKNOWN", f"no model {name!r} is served here", model=name)

    def find_generator(self, request: Generation) -> Generator:
        """The model that a request names, if it can do everything that the request needs.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING.
        """
        model = self.find(request.model)
        for capability in _needs(request):
            self._check(model, capability)
        return model

    def find_reranker(self, name: str) -> Reranker:
        """The model with this name; empty: the first that can rerank.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING.
        """
        model = self._find_with(name, Capability.RERANK)
        assert isinstance(model, Reranker), f"{model.card.name} says that it can rerank"
        return model

    def find_counter(self, name: str) -> TokenCounter:
        """The model with this name; empty: the default generator.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING.
        """
        model = self.find(name)
        self._check(model, Capability.COUNT_TOKENS)
        assert isinstance(model, TokenCounter), f"{model.card.name} says that it counts tokens"
        return model

    def _find_with(self, name: str, capability: Capability) -> Generator:
        """The model with this name; empty: the first that has the capability."""
        able = (one for one in self.models if capability in one.card.capabilities)
        model = self.find(name) if name else next(able, self.models[0])
        self._check(model, capability)
        return model

    def _check(self, model: Generator, capability: Capability) -> None:
        if capability not in model.card.capabilities:
            raise InvalidInputError(
                "CAPABILITY_MISSING",
                f"the model {model.card.name!r} cannot do this: {capability.value};"
                " ListModels tells what each model can do",
                model=model.card.name,
                capability=capability.value,
            )


def _needs(request: Generation) -> Iterator[Capability]:
    yield Capability.GENERATE
    if request.tools:
        yield Capability.TOOLS
    if request.output is not None:
        yield Capability.STRUCTURED_OUTPUT

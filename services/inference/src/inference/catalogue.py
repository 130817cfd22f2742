"""Finds models by name, and checks that they can do what a request asks for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chassis.base.errors import InvalidInputError, NotFoundError
from inference.domain import Capability, ModelCard
from inference.generation import Generation
from inference.ports import Embedder, Generator, Model, Reranker, TokenCounter


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models of a process, the default of each kind first.

    What a model can do is what its card says; it then implements the port for it.
    """

    models: Sequence[Model]

    @property
    def cards(self) -> Sequence[ModelCard]:
        """Of all models, in their order."""
        return [model.card for model in self.models]

    def find(self, name: str) -> Model:
        """The model with this name; empty: the default generator.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
        """
        if not name:
            return next(self._with(Capability.GENERATE))
        for model in self.models:
            if model.card.name == name:
                return model
        raise _unknown(name)

    def find_embedder(self, profile: str) -> Embedder:
        """The model that embeds under a profile.

        Raises:
            NotFoundError: PROFILE_UNKNOWN.
        """
        for model in self.models:
            if isinstance(model, Embedder) and model.profile.name == profile:
                return model
        raise NotFoundError(
            "PROFILE_UNKNOWN", f"no embedding profile {profile!r} is served here", profile=profile
        )

    def find_generator(self, request: Generation) -> Generator:
        """The model that a request names, if it can do everything that the request needs.

        Raises:
            NotFoundError: MODEL_UNKNOWN, or it writes no answers.
            InvalidInputError: CAPABILITY_MISSING.
        """
        model = self.find(request.model)
        if not isinstance(model, Generator):
            raise _unknown(request.model)
        for capability in _needs(request):
            self._check(model, capability)
        return model

    def find_reranker(self, name: str) -> Reranker:
        """The model with this name; empty: the first that can rerank.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING.
        """
        model = self.find(name) if name else next(self._with(Capability.RERANK), self.models[0])
        self._check(model, Capability.RERANK)
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

    def _with(self, capability: Capability) -> Iterator[Model]:
        return (one for one in self.models if capability in one.card.capabilities)

    def _check(self, model: Model, capability: Capability) -> None:
        if capability not in model.card.capabilities:
            raise InvalidInputError(
                "CAPABILITY_MISSING",
                f"the model {model.card.name!r} cannot do this: {capability.value};"
                " ListModels tells what each model can do",
                model=model.card.name,
                capability=capability.value,
            )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError("MODEL_UNKNOWN", f"no model {name!r} is served here", model=name)


def _needs(request: Generation) -> Iterator[Capability]:
    if request.tools:
        yield Capability.TOOLS
    if request.output is not None:
        yield Capability.STRUCTURED_OUTPUT

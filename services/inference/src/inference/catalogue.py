"""Finds models by name, and checks that they can do what a request asks for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chassis.base.errors import InvalidInputError, NotFoundError, UnavailableError
from inference.domain import Capability, ModelCard, ModelKind, ModelServer, ModelState
from inference.generation import Generation
from inference.model_definition import DEFAULT, ModelDefinition
from inference.ports import Embedder, Generator, Model, Remote, Reranker, TokenCounter
from inference.running_calls import RunningCalls

# Of a model that is not open yet: opening one takes from milliseconds to minutes.
RETRY_S = 2.0
_ORDER = (ModelKind.EMBED, ModelKind.GENERATE, ModelKind.RERANK)


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A model that was loaded while the process runs.

    `model` is None until it is open; `before` is then the one it replaces. `problem` says why it
    could not be opened.
    """

    definition: ModelDefinition
    model: Model | None = None
    before: "LoadedModel | None" = None
    problem: str = ""

    @property
    def current(self) -> Model | None:
        """The open model of this name."""
        return self.model or (self.before.current if self.before else None)

    @property
    def card(self) -> ModelCard:
        """That of the open model, with what the definition tells."""
        known = self.definition
        card = self.current.card if self.current else _unopened_card(known)
        return replace(
            card,
            description=known.description or card.description,
            licence=known.licence or card.licence,
            revision=known.revision or card.revision,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model as callers see it; see `Model` of `inference_service.proto`.

    `card` is None if the definition of a loaded model cannot be read.
    """

    name: str
    card: ModelCard | None
    state: ModelState
    problem: str = ""
    aliases: Sequence[str] = ()
    servers: Sequence[ModelServer] = ()
    loaded: bool = False


@dataclass(slots=True)
class Catalogue:
    """The models of a process.

    What a model can do is what its card says; it then implements the port for it.

    Attributes:
        fixed: those of the settings, the default of each kind first.
        loaded: those that were loaded while the process runs, by name.
        aliases: further names, and the names of the models they stand for.
        problems: what is wrong with loaded models whose definition cannot be used, by name.
        calls: the calls that run.
    """

    fixed: Sequence[Model]
    loaded: dict[str, LoadedModel] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    calls: RunningCalls = field(default_factory=RunningCalls)

    def list(self) -> Sequence[ListedModel]:
        """All models, the default of each kind first."""
        fixed = [self._list_model(model, model.card) for model in self.fixed]
        loaded = [self._list_loaded(one) for one in self.loaded.values()]
        broken = [
            ListedModel(name=name, card=None, state=ModelState.FAILED, problem=problem, loaded=True)
            for name, problem in self.problems.items()
        ]
        return sorted((*fixed, *loaded, *broken), key=self._place)

    def get(self, name: str) -> ListedModel:
        """One model by its name, or by an alias.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
        """
        listed = {one.name: one for one in self.list()}
        for candidate in (name, self.aliases.get(name, "")):
            if candidate in listed:
                return listed[candidate]
        raise _unknown(name)

    def is_fixed(self, name: str) -> bool:
        """Whether a model of the settings has this name."""
        return any(model.card.name == name for model in self.fixed)

    def find(self, name: str) -> Model:
        """The model with this name; empty: the default generator.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            UnavailableError: MODEL_NOT_READY.
        """
        for candidate in (name, self.aliases.get(name or DEFAULT, "")):
            if (found := self._find(candidate)) is not None:
                return found
        if name:
            raise _unknown(name)
        return next(self._fixed_with(Capability.GENERATE))

    def find_embedder(self, profile: str) -> Embedder:
        """The model that embeds under a profile.

        Raises:
            NotFoundError: PROFILE_UNKNOWN.
            UnavailableError: MODEL_NOT_READY.
        """
        for model in self.fixed:
            if isinstance(model, Embedder) and model.profile.name == profile:
                return model
        if profile in self.problems:
            raise _not_ready(profile, self.problems[profile])
        if (loaded := self.loaded.get(profile)) is not None:
            model = _opened(loaded)
            if isinstance(model, Embedder):
                return model
        raise NotFoundError(
            "PROFILE_UNKNOWN", f"no embedding profile {profile!r} is served here", profile=profile
        )

    def find_generator(self, request: Generation) -> Generator:
        """The model that a request names, if it can do everything that the request needs.

        Raises:
            NotFoundError: MODEL_UNKNOWN, or it writes no answers.
            InvalidInputError: CAPABILITY_MISSING.
            UnavailableError: MODEL_NOT_READY.
        """
        model = self.find(request.model)
        if not isinstance(model, Generator):
            raise _unknown(request.model)
        for capability in _needs(request):
            _check(model, capability)
        return model

    def find_reranker(self, name: str) -> Reranker:
        """The model with this name; empty: the first that can rerank.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING.
            UnavailableError: MODEL_NOT_READY.
        """
        first = next(self._fixed_with(Capability.RERANK), self.fixed[0])
        model = self.find(name) if name else first
        _check(model, Capability.RERANK)
        assert isinstance(model, Reranker), f"{model.card.name} says that it can rerank"
        return model

    def find_counter(self, name: str) -> TokenCounter:
        """The model with this name; empty: the default generator.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING.
            UnavailableError: MODEL_NOT_READY.
        """
        model = self.find(name)
        _check(model, Capability.COUNT_TOKENS)
        assert isinstance(model, TokenCounter), f"{model.card.name} says that it counts tokens"
        return model

    def card_of(self, model: Model) -> ModelCard:
        """Its card, with what the definition of a loaded model tells."""
        for loaded in self.loaded.values():
            if loaded.current is model:
                return loaded.card
        return model.card

    def _find(self, name: str) -> Model | None:
        for model in self.fixed:
            if model.card.name == name:
                return model
        if name in self.problems:
            raise _not_ready(name, self.problems[name])
        loaded = self.loaded.get(name)
        return _opened(loaded) if loaded else None

    def _fixed_with(self, capability: Capability) -> Iterator[Model]:
        return (one for one in self.fixed if capability in one.card.capabilities)

    def _list_loaded(self, loaded: LoadedModel) -> ListedModel:
        if (model := loaded.current) is not None:
            listed = self._list_model(model, loaded.card)
            return replace(listed, loaded=True, problem=loaded.problem or listed.problem)
        return ListedModel(
            name=loaded.definition.name,
            card=loaded.card,
            state=ModelState.FAILED if loaded.problem else ModelState.LOADING,
            problem=loaded.problem,
            aliases=self._aliases_of(loaded.definition.name),
            loaded=True,
        )

    def _list_model(self, model: Model, card: ModelCard) -> ListedModel:
        servers = model.servers if isinstance(model, Remote) else ()
        is_away = bool(servers) and not any(server.healthy for server in servers)
        return ListedModel(
            name=card.name,
            card=card,
            state=ModelState.UNREACHABLE if is_away else ModelState.READY,
            problem="the latest call of each of its servers failed" if is_away else "",
            aliases=self._aliases_of(card.name),
            servers=servers,
        )

    def _aliases_of(self, name: str) -> Sequence[str]:
        return sorted(alias for alias, target in self.aliases.items() if target == name)

    def _place(self, one: ListedModel) -> tuple[int, bool]:
        kind = _ORDER.index(one.card.kind) if one.card else len(_ORDER)
        return kind, DEFAULT not in one.aliases


def _opened(loaded: LoadedModel) -> Model:
    if (model := loaded.current) is None:
        raise _not_ready(loaded.definition.name, loaded.problem or "it is being loaded")
    return model


def _unopened_card(definition: ModelDefinition) -> ModelCard:
    return ModelCard(
        name=definition.name,
        kind=definition.kind,
        engine=definition.engines[0].engine,
        generative=definition.kind is ModelKind.GENERATE,
        description="",
    )


def _check(model: Model, capability: Capability) -> None:
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


def _not_ready(name: str, why: str) -> UnavailableError:
    return UnavailableError(
        "MODEL_NOT_READY",
        f"the model {name!r} cannot be used yet: {why}",
        retry_after_s=RETRY_S,
        model=name,
    )


def _needs(request: Generation) -> Iterator[Capability]:
    if request.tools:
        yield Capability.TOOLS
    if request.output is not None:
        yield Capability.STRUCTURED_OUTPUT

"""The definitions of loaded models, in a stream of the broker that keeps the last of each name."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js.errors import APIError
from pydantic import BaseModel, SecretStr, ValidationError
from typing_extensions import override

from chassis.base.errors import FailedPreconditionError, InvalidInputError, OverloadedError
from chassis.base.sealing import KEY_BYTES, Sealer
from chassis.events.bus import STREAM_FULL, Bus, translate_errors
from chassis.events.last_messages import read_last
from chassis.events.topology import state_stream, state_subject
from inference.domain import ModelKind
from inference.engine_settings import ModelSettings
from inference.model_definition import SETTINGS, Definitions, ModelDefinition
from inference.ports import DefinitionStore

log = logging.getLogger(__name__)

SERVICE: Final = "inference"
STREAM: Final = state_stream(SERVICE)
LIMIT_S: Final = 5.0
# A notification can be lost, for example while the connection is away.
READ_AGAIN_S: Final = 30.0
# The broker may send a notification before the stream has what it is about.
STORED_S: Final = 1.0
_MODELS: Final = "models"
_ALIASES: Final = "aliases"


class _Content(BaseModel):
    """A definition as it is stored; keys in `engines` are sealed."""

    kind: ModelKind
    description: str
    licence: str
    revision: str
    engines: list[dict[str, Any]]


class StoredDefinitions(DefinitionStore):
    """See `DefinitionStore`.

    Args:
        bus: the broker.
        key: encrypts keys of servers, 32 bytes in base64; empty: definitions have none.

    Raises:
        FailedPreconditionError: CREDENTIAL_KEY_INVALID.
    """

    def __init__(self, bus: Bus, key: str) -> None:
        self._bus = bus
        try:
            self._sealer = Sealer(key) if key else None
        except ValueError as error:
            raise FailedPreconditionError(
                "CREDENTIAL_KEY_INVALID",
                f"AQUIFER_CREDENTIAL_KEY must be {KEY_BYTES} bytes in base64",
            ) from error

    @override
    async def read(self) -> Definitions:
        with translate_errors():
            stored = await read_last(
                self._bus, STREAM, [state_subject(SERVICE, ">")], limit_s=LIMIT_S
            )
        models: dict[str, ModelDefinition] = {}
        aliases: dict[str, str] = {}
        problems: dict[str, str] = {}
        for kind, name, content in _list_stored(stored):
            try:
                if kind == _ALIASES:
                    aliases[name] = content.decode()
                else:
                    models[name] = self._read_model(name, content)
            except (ValueError, InvalidInputError) as error:
                problems[name] = _explain(error)
        return Definitions(models=models, aliases=aliases, problems=problems)

    @override
    async def write(self, definition: ModelDefinition) -> None:
        content = _Content(
            kind=definition.kind,
            description=definition.description,
            licence=definition.licence,
            revision=definition.revision,
            engines=[self._to_json(definition.name, engine) for engine in definition.engines],
        )
        await self._publish(_subject(_MODELS, definition.name), content.model_dump_json().encode())

    @override
    async def remove(self, name: str) -> None:
        await self._remove(_subject(_MODELS, name))

    @override
    async def write_alias(self, alias: str, model: str) -> None:
        await self._publish(_subject(_ALIASES, alias), model.encode())

    @override
    async def remove_alias(self, alias: str) -> None:
        await self._remove(_subject(_ALIASES, alias))

    @override
    async def watch(self) -> AsyncIterator[None]:
        changed = asyncio.Event()

        async def notice(_: Msg) -> None:
            changed.set()

        await self._bus.subscribe(state_subject(SERVICE, ">"), notice)
        self._bus.on_reconnected.append(changed.set)
        pause_s = READ_AGAIN_S
        while True:
            changed.clear()
            yield
            try:
                async with asyncio.timeout(pause_s):
                    await changed.wait()
                pause_s = STORED_S
            except TimeoutError:
                pause_s = READ_AGAIN_S

    async def _publish(self, subject: str, content: bytes) -> None:
        with translate_errors():
            try:
                await self._bus.jetstream.publish(subject, content, timeout=LIMIT_S, stream=STREAM)
            except APIError as error:
                if error.err_code in STREAM_FULL:
                    raise OverloadedError(
                        "STREAM_FULL", f"stream {STREAM} is full; unload models"
                    ) from error
                raise

    async def _remove(self, subject: str) -> None:
        """Removes a subject; the empty message tells the other replicas."""
        await self._publish(subject, b"")
        with translate_errors():
            await self._bus.jetstream.purge_stream(STREAM, subject=subject)

    def _to_json(self, name: str, engine: ModelSettings) -> dict[str, Any]:
        written = engine.model_dump(exclude_defaults=True)
        if engine.key:
            written["sealed_key"] = base64.b64encode(self._seal(name, engine)).decode()
        return written

    def _seal(self, name: str, engine: ModelSettings) -> bytes:
        if self._sealer is None:
            raise FailedPreconditionError(
                "CREDENTIALS_OFF",
                "this service keeps no keys; set AQUIFER_CREDENTIAL_KEY of inference, or list the"
                " engine in its settings",
            )
        # A key must not open for another server: somebody could have changed the URL.
        return self._sealer.seal(engine.key, name, engine.url)

    def _read_model(self, name: str, content: bytes) -> ModelDefinition:
        read = _Content.model_validate_json(content)
        return ModelDefinition(
            name=name,
            kind=read.kind,
            engines=[self._read_engine(name, read.kind, engine) for engine in read.engines],
            description=read.description,
            licence=read.licence,
            revision=read.revision,
        )

    def _read_engine(self, name: str, kind: ModelKind, content: Mapping[str, Any]) -> ModelSettings:
        known = dict(content)
        if sealed := known.pop("sealed_key", ""):
            if self._sealer is None:
                raise ValueError("AQUIFER_CREDENTIAL_KEY is not set, and its server has a key")
            key = self._sealer.open(base64.b64decode(sealed), name, str(known.get("url", "")))
            known["api_key"] = SecretStr(key)
        return SETTINGS[kind].model_validate(known)


def _subject(kind: str, name: str) -> str:
    # A name may have dots, which separate the parts of a subject.
    return state_subject(SERVICE, kind, name.encode().hex())


def _list_stored(stored: Mapping[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Kind, name and content of what is not removed; a later release may store other kinds."""
    for subject, content in stored.items():
        kind, name = subject.split(".")[-2:]
        if content and kind in {_MODELS, _ALIASES}:
            try:
                yield kind, bytes.fromhex(name).decode(), content
            except ValueError:
                log.warning("model.subject_unknown", extra={"subject": subject})


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        why = "; ".join(one["msg"] for one in error.errors(include_input=False))
    else:
        why = str(error)
    return f"its definition cannot be used ({why}); load it again, or unload it"

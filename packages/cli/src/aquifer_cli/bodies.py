"""Decodes the body of an event for people and programs, without the text of documents."""

import base64
import importlib
import json
import pkgutil
import re
from collections.abc import Mapping

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

# Fields with the text of a document, or what was made of it. A test compares with the contract.
HIDDEN = frozenset({"content", "lines", "text", "title", "vectors"})
_EVENT = re.compile(r"(?P<package>aquifer\.[a-z]+\.v[0-9]+)\.[A-Za-z]+")
_JSON = ("application/json", "application/cloudevents+json")


def decode(event_type: str, headers: Mapping[str, str], payload: bytes, *, content: bool) -> object:
    """The body as JSON data; None if it cannot be decoded. `content`: with the document's text."""
    media_type = next((v for k, v in headers.items() if k.lower() == "content-type"), "")
    try:
        if media_type.partition(";")[0].strip().lower() in _JSON:
            data: object = json.loads(payload)
        else:
            kind = find_class(event_type)
            if kind is None:
                return None
            data = json_format.MessageToDict(
                kind.FromString(payload), preserving_proto_field_name=True
            )
    except (DecodeError, ValueError, RecursionError):
        return None
    return data if content else _hide(data)


def find_class(event_type: str) -> type[Message] | None:
    """The class of an event; None if the installed contract has no such event."""
    match = _EVENT.fullmatch(event_type)
    try:
        folder = importlib.import_module(match["package"]) if match else None
    except ModuleNotFoundError:
        return None
    if folder is None:
        return None
    for module in pkgutil.iter_modules(folder.__path__):
        if module.name.endswith("_events_pb2"):
            importlib.import_module(f"{folder.__name__}.{module.name}")
    try:
        return message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(event_type)
        )
    except KeyError:
        return None


def encode_raw(payload: bytes) -> str:
    """Undecodable bytes for programs, as base64."""
    return base64.b64encode(payload).decode()


def _hide(data: object) -> object:
    """Replaces the text of documents by its length."""
    match data:
        case dict():
            return {
                name: f"<{len(value)} characters>"
                if name in HIDDEN and isinstance(value, str)
                else _hide(value)
                for name, value in data.items()
            }
        case list():
            return [_hide(value) for value in data]
    return data

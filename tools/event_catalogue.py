"""Writes docs/events.md from the contract: `python -m tools.event_catalogue`.

Delivery is computed as the services compute it; descriptions are the comments of the proto files,
which only the compiler provides.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from aquifer.bus.v1.event_options_pb2 import STREAM_CLASS_UPLOADS, StreamClass
from chassis.events import topology

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/events.md"
INTRO = """# Events

Generated from [`protos/`](../protos/aquifer) by `just events`; a test fails when this page is out
of date. For tools, the same as an AsyncAPI document: [`asyncapi.yaml`](asyncapi.yaml). How long
each class of stream keeps its events:
[`event_options.proto`](../protos/aquifer/bus/v1/event_options.proto). Upstream systems of a tenant
may publish the public events of class UPLOADS and receive the other public events; the required
headers are in [upload-events](upload-events.md). "Every process" receives an event on core NATS.

| event | class | publisher | consumers | public |
|---|---|---|---|---|"""

Comments = Mapping[str, str]


def comments(protos: Path) -> Comments:
    """The comments of messages, fields, services and methods below a folder, by full name."""
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    standard = resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as folder, resources.as_file(standard) as included:
        out = Path(folder) / "set"
        options = ["--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", f"-I{protos}", f"-I{included}", *options, *files]):
            raise SystemExit("protoc refused the protos")
        found = FileDescriptorSet.FromString(out.read_bytes())
    return {name: text for file in found.file for name, text in _commented(file)}


def _commented(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for place in file.source_code_info.location:
        # Numbers lead from the file to what is commented: 4 is a message, 2 a field of it; 6 is a
        # service, 2 a method of it.
        match list(place.path):
            case [4, message]:
                name = file.message_type[message].name
            case [4, message, 2, field]:
                of = file.message_type[message]
                name = f"{of.name}.{of.field[field].name}"
            case [6, service]:
                name = file.service[service].name
            case [6, service, 2, method]:
                called = file.service[service]
                name = f"{called.name}.{called.method[method].name}"
            case _:
                continue
        yield f"{file.package}.{name}", place.leading_comments


def catalogue(protos: Path) -> str:
    """The whole page."""
    said, events = comments(protos), topology.events()
    lines = [INTRO, *(_row(event) for event in events)]
    for message in (*events, *_parts()):
        paragraph = " ".join(said[message.full_name].partition("\n\n")[0].split())
        how = _travels(message) if message in events else "Part of events."
        lines += [f"\n## {message.name}\n", f"{paragraph}\n", f"{how}\n"]
        lines += ["| field | type | |", "|---|---|---|"]
        for field in message.fields:
            text = " ".join(said[f"{message.full_name}.{field.name}"].split())
            lines.append(f"| `{field.name}` = {field.number} | {_type(field)} | {text} |")
    return "\n".join(lines) + "\n"


def _row(event: Descriptor) -> str:
    options = topology.options(event)
    upload = options.stream_class == STREAM_CLASS_UPLOADS
    publisher = "upstream systems" if upload else topology.publisher(event)
    heard = ["every process"] * options.broadcast + list(options.consumers)
    link, public = f"[{event.name}](#{event.name.lower()})", "yes" if options.public else ""
    return f"| {link} | {_class(event)} | {publisher} | {', '.join(heard)} | {public} |"


def _travels(event: Descriptor) -> str:
    subject, stream = topology.subject(event, "<tenant>"), topology.stream_name(event)
    services = topology.options(event).consumers
    durables = [f"`{topology.durable_of(event, service).name}`" for service in services]
    return f"Subject `{subject}`, stream `{stream}`, durables: {', '.join(durables) or 'none'}."


def _class(event: Descriptor) -> str:
    return StreamClass.Name(topology.options(event).stream_class).removeprefix("STREAM_CLASS_")


def _parts() -> list[Descriptor]:
    """Messages of ours inside events that are no events themselves, once each."""
    inner = [field.message_type for event in topology.events() for field in event.fields]
    ours = [one for one in inner if one and one.file.package.startswith("aquifer.")]
    plain = [one for one in ours if not one.GetOptions().map_entry]
    return list(dict.fromkeys(one for one in plain if one not in topology.events()))


def _type(field: FieldDescriptor) -> str:
    kind = field.message_type
    if kind and kind.GetOptions().map_entry:
        return f"map of {_type(kind.fields[0])} to {_type(kind.fields[1])}"
    name = kind.name if kind else Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"repeated {name}" if field.is_repeated else name


if __name__ == "__main__":
    PAGE.write_text(catalogue(ROOT / "protos"))
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is up to date\n")

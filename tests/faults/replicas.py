"""A second process of each service: same broker, database and vector process, other ports."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from typing_extensions import override

from aquifer.services import NAMES, address_variable
from aquifer_cli import endpoints as found
from aquifer_cli.endpoints import Endpoints
from stack.ports import LOOPBACK, free_ports
from stack.processes import Command
from stack.programs import Service, make_python_command
from stack.up import Stack

SUFFIX = "-2"


class Replica(Service):
    """Another process of a service that runs already."""

    def __init__(self, first: Service, *, port: int, environment: Mapping[str, str]) -> None:
        super().__init__(
            f"{first.name}{SUFFIX}",
            port=port,
            environment={**first._environment, **environment},
            folder=first._folder,
            guardian=first.guardian,
            log=first.log.with_name(f"{first.name}{SUFFIX}.log"),
        )
        self.module = first.name

    @override
    def command(self) -> Command:
        environment = {**self._environment, "AQUIFER_LISTEN": self.address}
        return make_python_command(
            self.module, "serve", folder=self._folder, log=self.log, environment=environment
        )


def service_of(part: str) -> str:
    """The service a part is a replica of; other parts are themselves."""
    return part.removesuffix(SUFFIX)


@contextmanager
def running_replicas(stack: Stack) -> Iterator[Endpoints]:
    """Adds a second process of each service to the parts; yields where these are.

    The second ones call each other, so that each way between two services exists twice.
    """
    ports = [f"{LOOPBACK}:{port}" for port in free_ports(2 * len(NAMES))]
    addresses = dict(zip(NAMES, ports[: len(NAMES)], strict=True))
    metrics = dict(zip(NAMES, ports[len(NAMES) :], strict=True))
    siblings = {address_variable(name): address for name, address in addresses.items()}
    with ExitStack() as held:
        replicas = []
        for name in NAMES:
            first = stack.parts[name]
            assert isinstance(first, Service)
            environment = {**siblings, "AQUIFER_METRICS_LISTEN": metrics[name]}
            port = int(addresses[name].rpartition(":")[2])
            replicas.append(Replica(first, port=port, environment=environment))
            held.callback(replicas[-1].stop)
        with ThreadPoolExecutor(len(replicas)) as pool:
            list(pool.map(Replica.start, replicas))
        stack.parts.update({replica.name: replica for replica in replicas})
        yield replace(found.find(stack.data.path), services=addresses)

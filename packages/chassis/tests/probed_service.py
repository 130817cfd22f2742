"""A service that does nothing, for test_probes: files in a folder tell it to start, hang and end.

`python probed_service.py FOLDER`, with the settings of a service.
"""

import asyncio
import json
import sys
import time
from functools import partial
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aquifer.auth.v1.auth_service_pb2 import ListRevocationsResponse
from chassis.base.settings import ServiceSettings
from chassis.process import lifecycle
from chassis.process.authority import Authority
from chassis.process.process import Process

NAME = "auth"


async def build(process: Process, folder: Path) -> None:
    while not is_told(folder / "start"):
        block(folder / "hang")
        await asyncio.sleep(0.02)
    process.authority = Authority(
        keys=one_key, revocations=no_revocations, credentials=process.authority.credentials
    )

    async def probe() -> str:
        return "store does not answer" if is_told(folder / "away") else ""

    async def hang() -> None:
        while True:
            block(folder / "hang")
            await asyncio.sleep(0.02)

    process.add_probe(probe)
    process.add_loop(hang)
    process.stack.push_async_callback(wait_for, folder / "close")


async def one_key() -> str:
    public = Ed25519PrivateKey.generate().public_key()
    key = jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)
    return json.dumps({"keys": [{**key, "kid": "k", "alg": "EdDSA", "use": "sig"}]})


async def no_revocations(after: int) -> ListRevocationsResponse:
    return ListRevocationsResponse(latest_sequence=after)


def is_told(file: Path) -> bool:
    return file.exists()


def block(file: Path) -> None:
    """Blocks the event loop while there is a file."""
    while is_told(file):
        time.sleep(0.02)


async def wait_for(file: Path) -> None:
    while not is_told(file):
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    settings = ServiceSettings.model_validate({})
    sys.exit(lifecycle.run(NAME, settings, partial(build, folder=Path(sys.argv[1])), {}))

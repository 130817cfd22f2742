"""The server images for the tests of the adapters, and why one is not available."""

import gc
import os
import warnings
from dataclasses import dataclass

import docker
from docker.errors import DockerException, ImageNotFound
from requests.exceptions import RequestException

ENGINE_S = 5
PULL_S = 300


@dataclass(frozen=True)
class Image:
    """An image by its default name and the variable that names another, or, empty, none."""

    name: str
    variable: str

    @property
    def reference(self) -> str:
        return os.environ.get(self.variable, self.name)


# The images of deploy/compose.yaml.
NATS = Image("nats:2.14-alpine", "AQUIFER_NATS_IMAGE")
POSTGRES = Image("postgres:17-bookworm", "AQUIFER_POSTGRES_IMAGE")
QDRANT = Image("qdrant/qdrant:v1.20.0", "AQUIFER_QDRANT_IMAGE")


def why_absent(image: Image) -> str:
    """Why no container of this image can be had; empty when it is available."""
    if not image.reference:
        return f"{image.variable} is empty"
    with warnings.catch_warnings():
        # The client leaves the socket of a failed connection to the collector, which complains.
        warnings.simplefilter("ignore", ResourceWarning)
        reason = _why_refused(image.reference)
        gc.collect()
    return reason


def _why_refused(reference: str) -> str:
    try:
        client = docker.from_env(timeout=ENGINE_S)
    except (DockerException, RequestException) as error:
        return f"no container engine answers ({error})"
    client.close()
    client = docker.from_env(timeout=PULL_S)
    try:
        client.images.get(reference)
    except ImageNotFound:
        return _why_not_pulled(client, reference)
    finally:
        client.close()
    return ""


def _why_not_pulled(client: docker.DockerClient, reference: str) -> str:
    try:
        client.images.pull(reference)
    except (DockerException, RequestException) as error:
        return f"{reference} can not be pulled: {error}"
    return ""

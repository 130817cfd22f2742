"""References to objects, against a real S3 server."""

import os
import time
import uuid
from contextlib import aclosing

import obstore
import pytest

from chassis.base.errors import FailedPreconditionError, ServiceError
from ingest.buckets import Bucket, open_bucket
from ingest.domain import Reference
from ingest.references.bucket import BucketReader
from ingest.references.origins import Origins
from ingest.references.reader import ReferenceReader, open_references
from services.ingest.tests.s3_server import make_bucket
from stack.ports import free_ports

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def bucket(s3: dict[str, str]) -> Bucket:
    name = f"scans-{uuid.uuid4().hex}"
    make_bucket(s3, name)
    return open_bucket(name)


async def fetch(references: ReferenceReader, uri: str, size_bytes: int = len(CONTENT)) -> bytes:
    reference = Reference(uri=uri, sha256="0" * 64, size_bytes=size_bytes)
    async with aclosing(references.read(reference)) as pieces:
        return b"".join([piece async for piece in pieces])


async def fail(references: ReferenceReader, uri: str, size_bytes: int = len(CONTENT)) -> str:
    with pytest.raises(ServiceError) as refusal:
        await fetch(references, uri, size_bytes)
    return refusal.value.reason


@pytest.mark.parametrize("key", ["a.pdf", "2026/ä b%20+c.pdf"])
async def test_an_object_is_read(bucket, key):
    obstore.put(bucket.store, key, CONTENT)
    references = open_references(None, f"s3://{bucket.name}", "")
    assert await fetch(references, f"s3://{bucket.name}/{key}") == CONTENT


async def test_no_more_is_read_than_the_reference_says(bucket):
    obstore.put(bucket.store, "a", CONTENT)
    references = open_references(None, f"s3://{bucket.name}", "")
    uri = f"s3://{bucket.name}/a"
    assert await fail(references, uri, len(CONTENT) - 1) == "REFERENCE_MISMATCH"


async def test_what_is_missing_has_a_reason(bucket):
    references = open_references(None, f"s3://{bucket.name} s3://no-such-bucket", "")
    assert await fail(references, f"s3://{bucket.name}/none") == "REFERENCE_MISSING"
    assert await fail(references, "s3://no-such-bucket/none") == "REFERENCE_MISSING"


@pytest.mark.parametrize("key", ["../other/a", "a/../../b", "/a", "a//b"])
async def test_a_key_leads_to_no_other_bucket(bucket, key):
    references = open_references(None, f"s3://{bucket.name}", "")
    reason = await fail(references, f"s3://{bucket.name}/{key}")
    assert reason in {"REFERENCE_FORBIDDEN", "REFERENCE_MISSING"}


async def test_a_server_that_is_away_has_a_reason_in_bounded_time(s3, monkeypatch):
    [nobody] = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody}")
    origins = Origins.parse("s3://scans")
    reader = BucketReader(origins, {"scans": open_bucket("scans")}, time_limit_s=2.0)
    began = time.monotonic()
    assert await fail(ReferenceReader({"s3": reader}), "s3://scans/a") == "REFERENCE_UNAVAILABLE"
    assert time.monotonic() - began < 10


def test_a_wrong_variable_is_named_at_the_start(monkeypatch):
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "perhaps")
    with pytest.raises(FailedPreconditionError) as refusal:
        open_bucket("scans")
    assert refusal.value.reason == "BUCKET_INVALID"

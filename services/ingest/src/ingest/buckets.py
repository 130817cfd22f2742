"""S3 buckets; address of the server and credentials come from the usual variables AWS_*.

Calls of the library block and run in threads: its asynchronous calls can abort a process that ends
while they are answered.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, ParamSpec, TypeVar

from obstore.exceptions import BaseError
from obstore.store import S3Store

from chassis.base.errors import FailedPreconditionError

CONNECT_TIMEOUT: Final = timedelta(seconds=5)
READ_TIMEOUT: Final = timedelta(seconds=15)
REQUEST_TIMEOUT: Final = timedelta(seconds=120)
RETRY_TIMEOUT: Final = timedelta(seconds=10)
RETRIES_MAX: Final = 2
THREADS: Final = 16

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3 bucket, or what is below a prefix in it, with threads of its own."""

    name: str
    store: S3Store
    threads: ThreadPoolExecutor

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking call of the library; its errors are raised as they are."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, partial(call, *args, **kwargs))


def open_bucket(name: str, prefix: str = "") -> Bucket:
    """Opens a bucket without connecting to it; every request has a time limit.

    Raises:
        FailedPreconditionError: BUCKET_INVALID, a variable AWS_* is wrong.
    """
    try:
        store = S3Store(
            name,
            prefix=prefix or None,
            client_options={
                # Whether to encrypt is the decision of whoever sets the address.
                "allow_http": True,
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": READ_TIMEOUT,
                "timeout": REQUEST_TIMEOUT,
            },
            retry_config={"max_retries": RETRIES_MAX, "retry_timeout": RETRY_TIMEOUT},
        )
    except (BaseError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise FailedPreconditionError(
            "BUCKET_INVALID", f"the bucket {name} cannot be opened; check AWS_*: {cause}"
        ) from error
    return Bucket(name, store, ThreadPoolExecutor(THREADS, thread_name_prefix=f"s3-{name}"))

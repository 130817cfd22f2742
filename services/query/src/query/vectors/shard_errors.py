"""Translates errors of the embedded engine."""

from collections.abc import Iterator
from contextlib import contextmanager

from chassis.base.errors import FailedPreconditionError, UnavailableError


class EngineBrokenError(UnavailableError):
    """The engine's state in memory is no longer reliable; the process must end."""


def store_missing_error() -> FailedPreconditionError:
    """The error for a profile without a store."""
    return FailedPreconditionError("STORE_MISSING", "no store for this embedding profile")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translates the engine's errors: a bare `Exception`, or a panic that is not an `Exception`."""
    try:
        yield
    except Exception as error:
        raise UnavailableError("VECTORS_FAILED", "the vector engine failed") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise EngineBrokenError("VECTORS_BROKEN", "the vector engine panicked") from error

"""The libraries that only `aquifer eval` needs."""

from importlib.util import find_spec

from aquifer_cli.errors import EXIT_USAGE, CommandError

LIBRARIES = ("ir_measures", "matplotlib", "numpy", "scipy")


def require_libraries() -> None:
    """Checks that the libraries are installed, before anything is sent.

    Raises:
        CommandError: EXTRA_MISSING.
    """
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise CommandError(
            "EXTRA_MISSING",
            f"`aquifer eval` needs libraries that are not installed: {', '.join(missing)}",
            hint="pip install 'aquifer-cli[eval]'",
            exit_code=EXIT_USAGE,
        )

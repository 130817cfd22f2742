"""Times as people write them."""

from datetime import UTC, datetime

from aquifer_cli.errors import EXIT_USAGE, CommandError


def parse_time(text: str) -> datetime:
    """A time in ISO 8601, as one in UTC; it is in UTC without a zone.

    Raises:
        CommandError: TIME_UNREADABLE.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise CommandError(
            "TIME_UNREADABLE",
            f"{text!r} is not a time",
            hint="write 2026-01-31 or 2026-01-31T12:00:00Z",
            exit_code=EXIT_USAGE,
        ) from error

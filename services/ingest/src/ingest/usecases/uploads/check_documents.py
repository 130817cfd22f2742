"""Says which uploads would change something, before their bytes are sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.base.errors import FieldViolation, InvalidInputError
from ingest.checks import Check, Checked
from ingest.domain import SHA256, check_name
from ingest.usecases.work import Begin

CHECKS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDocuments:
    begin: Begin

    async def run(self, tenant: str, checks: Sequence[Check]) -> Sequence[Checked]:
        """The documents as they are now, in the order of the checks.

        Raises:
            InvalidInputError: CHECK_COUNT, DOCUMENT_NAME, SHA256_INVALID.
        """
        _check_input(checks)
        async with self.begin(tenant) as work:
            return await work.checks.compare(checks)


def _check_input(checks: Sequence[Check]) -> None:
    if not 1 <= len(checks) <= CHECKS_MAX:
        detail = f"send 1 to {CHECKS_MAX} documents in a call"
        raise InvalidInputError(
            "CHECK_COUNT",
            detail,
            fields=[FieldViolation("documents", detail)],
            documents=len(checks),
            max_documents=CHECKS_MAX,
        )
    for number, check in enumerate(checks):
        check_name(check.name, field=f"documents[{number}].document")
        if not SHA256.fullmatch(check.sha256):
            detail = "sha256 must be 64 characters of lower-case hex"
            violation = FieldViolation(f"documents[{number}].sha256", detail)
            raise InvalidInputError("SHA256_INVALID", detail, fields=[violation])

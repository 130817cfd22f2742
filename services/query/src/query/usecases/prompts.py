"""The interface of stored prompts."""

from collections.abc import Sequence
from typing import Protocol

from query.prompt import Content, PromptVersion, Reference


class Prompts(Protocol):
    """Prompts of tenants, and the built-in one for reading; raises as `Ledger` does."""

    async def create(
        self, tenant: str, prompt_id: str, content: Content, creator: str
    ) -> PromptVersion:
        """Create a prompt; one that exists with this content is returned.

        Raises:
            AlreadyExistsError: PROMPT_EXISTS.
            FailedPreconditionError: PROMPTS_FULL.
        """

    async def update(
        self, tenant: str, prompt_id: str, content: Content, creator: str, expected_version: int
    ) -> PromptVersion:
        """Add a version, unless the newest one has this content; `expected_version` 0: any.

        Raises:
            NotFoundError: PROMPT_UNKNOWN.
            ConflictError: PROMPT_CHANGED.
            FailedPreconditionError: PROMPT_FULL.
        """

    async def delete(self, tenant: str, prompt_id: str) -> None:
        """Delete a prompt with its versions.

        Raises:
            NotFoundError: PROMPT_UNKNOWN.
        """

    async def find(self, tenant: str, reference: Reference) -> PromptVersion:
        """The version that a reference means.

        Raises:
            NotFoundError: PROMPT_UNKNOWN.
        """

    async def list_page(self, tenant: str, after: str, limit: int) -> Sequence[PromptVersion]:
        """The newest versions of at most `limit` prompts after an id, in the order of the ids."""

    async def list_versions(
        self, tenant: str, prompt_id: str, before: int, limit: int
    ) -> Sequence[PromptVersion]:
        """At most `limit` versions below a number, newest first; 0: from the newest on.

        Raises:
            NotFoundError: PROMPT_UNKNOWN.
        """

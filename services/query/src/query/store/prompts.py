"""Prompts and their versions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from chassis.base.errors import AlreadyExistsError, ConflictError, FailedPreconditionError
from chassis.base.postgres import Transaction
from chassis.events.work import GuardedTransactions
from query.prompt import (
    DEFAULT,
    IDS_MAX,
    PROMPTS_MAX,
    VERSIONS_MAX,
    Content,
    PromptVersion,
    Reference,
    unknown_prompt_error,
)
from query.usecases.prompts import Prompts

_RESERVE: Final = """
INSERT INTO prompts (tenant_id, prompt_id) VALUES (%(tenant)s, %(prompt_id)s)
ON CONFLICT DO NOTHING
"""

_LOCK: Final = """
SELECT newest_version, live FROM prompts
WHERE tenant_id = %(tenant)s AND prompt_id = %(prompt_id)s FOR UPDATE
"""

# The row that was just reserved is one of the ids.
_HAS_ROOM: Final = """
SELECT (SELECT count(*) FROM (SELECT FROM prompts WHERE tenant_id = %(tenant)s
                              LIMIT %(ids)s + 1) AS known) <= %(ids)s
    AND (SELECT count(*) FROM (SELECT FROM prompts WHERE tenant_id = %(tenant)s AND live
                               LIMIT %(most)s) AS known) < %(most)s AS has_room
"""

_ADD_VERSION: Final = """
WITH added AS (
    INSERT INTO prompt_versions (tenant_id, prompt_id, version, template, description, creator)
    VALUES (%(tenant)s, %(prompt_id)s, %(version)s, %(template)s, %(description)s, %(creator)s)
    RETURNING *
), noted AS (
    UPDATE prompts SET newest_version = %(version)s, live = true
    WHERE tenant_id = %(tenant)s AND prompt_id = %(prompt_id)s
)
SELECT * FROM added
"""

_COUNT_VERSIONS: Final = """
SELECT count(*) AS versions FROM prompt_versions
WHERE tenant_id = %(tenant)s AND prompt_id = %(prompt_id)s
"""

_DELETE_VERSIONS: Final = """
DELETE FROM prompt_versions WHERE tenant_id = %(tenant)s AND prompt_id = %(prompt_id)s
"""

_NOTE_DELETION: Final = """
UPDATE prompts SET live = false WHERE tenant_id = %(tenant)s AND prompt_id = %(prompt_id)s
"""

_FIND: Final = """
SELECT one.* FROM prompts AS known
JOIN prompt_versions AS one USING (tenant_id, prompt_id)
WHERE known.tenant_id = %(tenant)s AND known.prompt_id = %(prompt_id)s
    AND one.version = coalesce(nullif(%(version)s, 0), known.newest_version)
"""

_LIST: Final = """
SELECT one.* FROM prompts AS known
JOIN prompt_versions AS one ON one.tenant_id = known.tenant_id
    AND one.prompt_id = known.prompt_id AND one.version = known.newest_version
WHERE known.tenant_id = %(tenant)s AND known.prompt_id > %(after)s AND known.live
ORDER BY known.prompt_id LIMIT %(limit)s
"""

_LIST_VERSIONS: Final = """
SELECT * FROM prompt_versions
WHERE tenant_id = %(tenant)s AND prompt_id = %(prompt_id)s
    AND (%(before)s = 0 OR version < %(before)s)
ORDER BY version DESC LIMIT %(limit)s
"""


class PostgresPrompts(Prompts):
    """See `Prompts`."""

    def __init__(self, transactions: GuardedTransactions) -> None:
        self._transactions = transactions

    @override
    async def create(
        self, tenant: str, prompt_id: str, content: Content, creator: str
    ) -> PromptVersion:
        names = _names(tenant, prompt_id)
        async with self._transactions.begin(tenant) as work:
            await work.tx.execute(_RESERVE, names)
            row = await (await work.tx.execute(_LOCK, names)).fetchone()
            assert row is not None, "it is reserved"
            if row["live"]:
                newest = await _find(work.tx, names)
                if newest.content == content:
                    return newest
                raise AlreadyExistsError(
                    "PROMPT_EXISTS",
                    "there is a prompt with this name and other content; update it",
                    version=newest.version,
                )
            await _check_room(work.tx, tenant)
            return await _add(work.tx, names, row["newest_version"] + 1, content, creator)

    @override
    async def update(
        self, tenant: str, prompt_id: str, content: Content, creator: str, expected_version: int
    ) -> PromptVersion:
        names = _names(tenant, prompt_id)
        async with self._transactions.begin(tenant) as work:
            await work.tx.execute(_LOCK, names)
            newest = await _find(work.tx, names)
            # First, so that a repeat of a call whose answer was lost succeeds.
            if newest.content == content:
                return newest
            if expected_version not in (0, newest.version):
                raise ConflictError(
                    "PROMPT_CHANGED",
                    f"the newest version is {newest.version}, not {expected_version}; read it"
                    " again",
                    version=newest.version,
                    expected_version=expected_version,
                )
            row = await (await work.tx.execute(_COUNT_VERSIONS, names)).fetchone()
            assert row is not None, "a count has one row"
            if row["versions"] >= VERSIONS_MAX:
                raise FailedPreconditionError(
                    "PROMPT_FULL",
                    f"the prompt has {VERSIONS_MAX} versions; create another one",
                    max_versions=VERSIONS_MAX,
                )
            return await _add(work.tx, names, newest.version + 1, content, creator)

    @override
    async def delete(self, tenant: str, prompt_id: str) -> None:
        names = _names(tenant, prompt_id)
        async with self._transactions.begin(tenant) as work:
            row = await (await work.tx.execute(_LOCK, names)).fetchone()
            if row is None or not row["live"]:
                raise unknown_prompt_error()
            await work.tx.execute(_DELETE_VERSIONS, names)
            await work.tx.execute(_NOTE_DELETION, names)

    @override
    async def find(self, tenant: str, reference: Reference) -> PromptVersion:
        if reference.prompt_id == DEFAULT.prompt_id:
            if reference.version not in (0, DEFAULT.version):
                raise unknown_prompt_error()
            return DEFAULT
        async with self._transactions.database.transaction(tenant) as tx:
            return await _find(tx, _names(tenant, reference.prompt_id), reference.version)

    @override
    async def list_page(self, tenant: str, after: str, limit: int) -> Sequence[PromptVersion]:
        values = {"tenant": tenant, "after": after, "limit": limit}
        async with self._transactions.database.transaction(tenant) as tx:
            rows = await (await tx.execute(_LIST, values)).fetchall()
        found = [_version(row) for row in rows]
        if after < DEFAULT.prompt_id:
            found.append(DEFAULT)
        return sorted(found, key=lambda one: one.prompt_id)[:limit]

    @override
    async def list_versions(
        self, tenant: str, prompt_id: str, before: int, limit: int
    ) -> Sequence[PromptVersion]:
        if prompt_id == DEFAULT.prompt_id:
            return [] if before else [DEFAULT]
        names = _names(tenant, prompt_id)
        async with self._transactions.database.transaction(tenant) as tx:
            await _find(tx, names)
            values = {**names, "before": before, "limit": limit}
            rows = await (await tx.execute(_LIST_VERSIONS, values)).fetchall()
        return [_version(row) for row in rows]


def _names(tenant: str, prompt_id: str) -> dict[str, Any]:
    return {"tenant": tenant, "prompt_id": prompt_id}


async def _find(tx: Transaction, names: Mapping[str, Any], version: int = 0) -> PromptVersion:
    row = await (await tx.execute(_FIND, {**names, "version": version})).fetchone()
    if row is None:
        raise unknown_prompt_error()
    return _version(row)


async def _check_room(tx: Transaction, tenant: str) -> None:
    values = {"tenant": tenant, "ids": IDS_MAX, "most": PROMPTS_MAX}
    row = await (await tx.execute(_HAS_ROOM, values)).fetchone()
    assert row is not None, "it has no table"
    if not row["has_room"]:
        raise FailedPreconditionError(
            "PROMPTS_FULL",
            f"the tenant has {PROMPTS_MAX} prompts, or has used {IDS_MAX} ids; delete some, and use"
            " the ids of deleted ones again",
            max_prompts=PROMPTS_MAX,
            max_ids=IDS_MAX,
        )


async def _add(
    tx: Transaction, names: Mapping[str, Any], version: int, content: Content, creator: str
) -> PromptVersion:
    values = {
        **names,
        "version": version,
        "template": content.template,
        "description": content.description,
        "creator": creator,
    }
    row = await (await tx.execute(_ADD_VERSION, values)).fetchone()
    assert row is not None, "it was just added"
    return _version(row)


def _version(row: Mapping[str, Any]) -> PromptVersion:
    return PromptVersion(
        prompt_id=row["prompt_id"],
        version=row["version"],
        content=Content(template=row["template"], description=row["description"]),
        creator=row["creator"],
        created_at=row["created_at"],
    )

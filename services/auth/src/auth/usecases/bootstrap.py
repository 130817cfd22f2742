"""Create the first tenant and keys of a platform."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auth.domain import INTERNAL, SCOPES, SYSTEM_TENANT, Actor, Tenant, make_lasting_key
from auth.keys import KeyText, Peppers
from auth.usecases.api_keys import add_key
from auth.usecases.ports import Bootstrap, Clock, Registry
from auth.usecases.service_keys import SERVICE_SCOPES, SERVICES
from auth.usecases.tenants import add_tenant
from chassis.base.errors import AlreadyExistsError, FailedPreconditionError, InvalidInputError

OPERATOR_SCOPES = tuple(scope for scope in SCOPES if scope != INTERNAL)

ALREADY_FOUNDED = "ALREADY_FOUNDED"

_BOOTSTRAP = Actor(
    tenant_id=SYSTEM_TENANT, principal="bootstrap", key_id="", scopes=frozenset(SCOPES)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstKeys:
    """The first keys of the platform; their texts are not stored anywhere else."""

    tenant_id: str
    operator: KeyText
    services: Mapping[str, KeyText]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapPlatform:
    """Creates the first tenant, its operator's key and the services' keys in one transaction.

    `keep` gets the keys before the commit; if it raises, nothing is created.

    Raises:
        FailedPreconditionError: ALREADY_FOUNDED, keys exist.
        InvalidInputError: TENANT_INVALID, DISPLAY_NAME_INVALID, TENANT_RESERVED.
        AlreadyExistsError: TENANT_EXISTS.
    """

    registry: Registry
    peppers: Peppers
    clock: Clock
    new_key: Callable[[], KeyText]

    async def run(
        self, tenant_id: str, display_name: str, keep: Callable[[FirstKeys], None]
    ) -> None:
        now = self.clock()
        tenant = Tenant(tenant_id=tenant_id, display_name=display_name, create_time=now)
        system = Tenant(tenant_id=SYSTEM_TENANT, display_name="Aquifer", create_time=now)
        if tenant_id == SYSTEM_TENANT:
            raise InvalidInputError(
                "TENANT_RESERVED", "this id is reserved for the services; choose another"
            )
        async with self.registry.begin_bootstrap() as bootstrap:
            if await bootstrap.has_keys():
                raise FailedPreconditionError(
                    ALREADY_FOUNDED, "keys exist already; create more with CreateApiKey"
                )
            services = await self._create(
                bootstrap, system, dict.fromkeys(SERVICES, SERVICE_SCOPES)
            )
            operator = await self._create(bootstrap, tenant, {"operator": OPERATOR_SCOPES})
            keep(FirstKeys(tenant_id=tenant_id, operator=operator["operator"], services=services))

    async def _create(
        self, bootstrap: Bootstrap, tenant: Tenant, wanted: Mapping[str, tuple[str, ...]]
    ) -> dict[str, KeyText]:
        """Creates a tenant and a key for each name, with the given scopes."""
        records = await bootstrap.switch_to(tenant.tenant_id)
        if not await add_tenant(records, _BOOTSTRAP, tenant):
            raise AlreadyExistsError(
                "TENANT_EXISTS", "another tenant has this id; choose another id"
            )
        texts = {}
        for name, scopes in wanted.items():
            text = texts[name] = self.new_key()
            key = make_lasting_key(
                text.key_id, tenant.tenant_id, name=name, scopes=scopes, now=tenant.create_time
            )
            await add_key(records, _BOOTSTRAP, key, self.peppers.proof(text), request_id="")
        return texts

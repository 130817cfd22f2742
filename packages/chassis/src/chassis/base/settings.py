"""The settings of every service, read once in `__main__` from variables AQUIFER_*."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ProcessSettings(BaseSettings):
    """Settings of every process."""

    model_config = SettingsConfigDict(
        env_prefix="AQUIFER_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    metrics_listen: str = Field(
        "",
        description="host:port of /metrics, /startupz, /readyz and /livez; empty: none of them",
    )
    otlp_endpoint: str = Field("", description="OTLP/gRPC collector; empty: spans are dropped")
    trace_sample_ratio: float = Field(1.0, ge=0, le=1)
    drain_s: float = Field(20.0, gt=0, description="time limit to finish running work at shutdown")


class ServiceSettings(ProcessSettings):
    """Settings to reach the other services and the bus."""

    listen: str = Field("127.0.0.1:0", description="host:port of the gRPC server")
    nats_url: str = Field(description="for example nats://127.0.0.1:4222")
    nats_user: str = Field(description="NATS user with the permissions of this service")
    nats_password: SecretStr
    auth_address: str = Field(description="host:port of auth, for its public keys and revocations")
    service_key: SecretStr = Field(
        SecretStr(""), description="API key of this service, scope internal; auth has none"
    )


class DatabaseSettings(BaseSettings):
    """Settings of a service with its own tables."""

    model_config = SettingsConfigDict(
        env_prefix="AQUIFER_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    postgres_dsn: SecretStr
    postgres_pool_size: int = Field(8, ge=1, le=64)

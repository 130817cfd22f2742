"""The knobs every service has; read once, in `__main__`, from variables named AQUIFER_*."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ProcessSettings(BaseSettings):
    """What every process has, whatever it serves."""

    model_config = SettingsConfigDict(
        env_prefix="AQUIFER_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    metrics_listen: str = Field("", description="host:port of /metrics; empty: not served")
    otlp_endpoint: str = Field("", description="OTLP/gRPC collector; empty: spans go nowhere")
    trace_sample_ratio: float = Field(1.0, ge=0, le=1)
    drain_s: float = Field(20.0, gt=0, description="bound on finishing what is in flight")


class ServiceSettings(ProcessSettings):
    """What a process needs to reach the others."""

    listen: str = Field("127.0.0.1:0", description="host:port of the gRPC door")
    nats_url: str = Field(description="for example nats://127.0.0.1:4222")
    nats_user: str = Field(description="NATS user with this service's grants")
    nats_password: SecretStr
    auth_address: str = Field(description="host:port of auth, for its public keys and revocations")
    service_key: SecretStr = Field(
        SecretStr(""), description="API key of this service, scope internal; auth itself has none"
    )


class DatabaseSettings(BaseSettings):
    """How a service that owns tables reaches them."""

    model_config = SettingsConfigDict(
        env_prefix="AQUIFER_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    postgres_dsn: SecretStr
    postgres_pool_size: int = Field(8, ge=1, le=64)

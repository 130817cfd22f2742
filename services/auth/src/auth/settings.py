"""Settings of auth, read once from variables named AQUIFER_*."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.base.settings import DatabaseSettings, ServiceSettings


class PepperSettings(DatabaseSettings):
    """Settings to create and check keys."""

    # A rejected value is often a secret in the wrong variable.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

    auth_pepper: SecretStr = Field(
        description="<version>:<secret>, several separated by commas; the highest is for new keys"
    )


class Settings(ServiceSettings, PepperSettings):
    """Settings of `serve`."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    auth_address: str = Field("", description="not used: auth needs no call")
    auth_signing_key: SecretStr = Field(
        description="PEM of Ed25519 private keys: the first signs, all are published"
    )

"""Settings of query, read once from variables named AQUIFER_*."""

from pydantic import Field, SecretStr, field_validator

from chassis.base.settings import DatabaseSettings, ServiceSettings
from query.checks.settings import DEFAULT, GUARDS_MAX, AnyGuard, check_names
from query.retrieval.vector_store import Quantization


class Settings(ServiceSettings, DatabaseSettings):
    """Settings of `serve`."""

    inference_address: str = Field(description="host:port of inference")
    vectors: str = Field(
        description="unix:/path of the embedded engine, or http(s)://host:port of a Qdrant server"
    )
    vectors_grpc_port: int = Field(6334, description="gRPC port of a Qdrant server")
    vectors_api_key: SecretStr | None = Field(None, description="API key of a Qdrant server")
    vectors_quantization: Quantization = Field(
        Quantization.NONE,
        description="codes of vectors in new collections of a Qdrant server: none, turbo4, turbo2",
    )
    embedding_profile: str = Field(
        "minilm-l6-v2", description="live embedding profile of a new database; later flips decide"
    )
    embedding_dimensions: int = Field(384, ge=1, le=4_096)
    rewrite_model: str = Field(
        "",
        max_length=256,
        description="model that rewrites questions which lean on earlier ones; empty: a rule"
        " adds the words of those",
    )
    question_vectors: int = Field(
        2_048, ge=0, le=1_000_000, description="vectors of questions to remember in this process"
    )
    reconcile_s: float = Field(15.0, gt=0, description="pause between checks of the vector store")
    inbox_retention_s: float = Field(
        35 * 86_400.0, gt=0, description="age of an inbox row; above the age of any event"
    )
    answer_retention_days: int = Field(
        0, ge=0, le=36_500, description="days until answers and idle conversations go; 0: never"
    )
    history_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days for which superseded versions stay, for searches with as_of; 0: none",
    )
    repair_s: float = Field(
        300.0, gt=0, description="pause between comparisons of points with passages, by count"
    )
    guardrails: list[AnyGuard] = Field(
        default=list(DEFAULT),
        max_length=GUARDS_MAX,
        description="JSON list of checks of questions, passages and answers; [] for none",
    )

    @field_validator("guardrails")
    @classmethod
    def _check_guardrails(cls, guardrails: list[AnyGuard]) -> list[AnyGuard]:
        check_names(guardrails)
        return guardrails

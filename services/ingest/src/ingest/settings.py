"""The knobs of ingest, read once from variables named AQUIFER_*."""

from pathlib import Path

from pydantic import Field

from chassis.base.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """What `serve` needs."""

    query_address: str = Field(description="host:port of query, which hides what is deleted")
    objects_dir: Path = Field(description="folder of the uploaded bytes")
    drops_dir: Path | None = Field(
        None, description="folder whose files upload events may refer to; none: no references"
    )
    upload_max_bytes: int = Field(64 << 20, ge=1, description="bound of one upload")
    backlog_max: int = Field(10_000, ge=1, description="unfinished documents of one tenant")
    watchers_max: int = Field(
        768, ge=2, le=1_000, description="watch calls open at a time; half of them for one tenant"
    )
    parser_children: int = Field(
        2, ge=1, le=64, description="jailed parsers at work for one tenant; twice as many for all"
    )
    reconcile_s: float = Field(15.0, gt=0, description="pause between looks for lost work")
    step_due_s: float = Field(60.0, gt=0, description="silence after which a step is doubted")
    step_due_max_s: float = Field(600.0, gt=0, description="bound of that wait as it doubles")
    step_deadline_s: float = Field(86_400.0, gt=0, description="after that a step has failed")
    sweep_s: float = Field(3_600.0, gt=0, description="pause between sweeps of what has aged out")
    orphan_age_s: float = Field(
        3_600.0, ge=900, description="age of an object without a version; above any upload's time"
    )
    inbox_retention_s: float = Field(
        35 * 86_400.0, gt=0, description="age of an inbox row; above the age of any event"
    )
    request_retention_s: float = Field(
        3 * 86_400.0, ge=86_400, description="age of a gRPC request id"
    )

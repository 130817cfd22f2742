"""Settings of ingest, read once from variables named AQUIFER_*."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from chassis.base.settings import DatabaseSettings, ServiceSettings


class TenantLimits(BaseModel, frozen=True, extra="forbid"):
    """What differs for a tenant: its share when tenants compete, and its limits."""

    weight: float = Field(1.0, ge=0.01, le=100)
    documents: int | None = Field(None, ge=1)
    bytes: int | None = Field(None, ge=1)


class Settings(ServiceSettings, DatabaseSettings):
    """Settings of `serve`."""

    query_address: str = Field(description="host:port of query, which hides what is deleted")
    objects_url: str = Field(description="folder of the uploaded bytes, or s3://bucket/prefix")
    drops_dir: Path | None = Field(
        None,
        description="folder that upload events may refer to by file:///; none: file:/// is off",
    )
    reference_origins: str = Field(
        "",
        description="web servers and buckets that upload events may refer to, separated by commas:"
        " https://host, http://host:port, https://*.example.com, s3://bucket",
    )
    reference_private_hosts: str = Field(
        "", description="hosts of these whose address may be private, separated by commas"
    )
    upload_max_bytes: int = Field(64 << 20, ge=1, description="maximum size of one upload")
    text_max_bytes: int = Field(
        16 << 20, ge=1, description="maximum size of an upload in a format that is text"
    )
    upload_sessions_max: int = Field(
        64, ge=1, description="unfinished uploads in several calls of one tenant"
    )
    upload_sessions_max_bytes: int = Field(
        1 << 30, ge=1, description="size of these uploads together, as declared"
    )
    upload_expiry_s: float = Field(
        86_400.0, ge=60, description="time after which such an upload expires if nothing is added"
    )
    password_key: SecretStr = Field(
        SecretStr(""),
        description="32 bytes in base64, which seal the passwords of documents until these are"
        " parsed; the same for all replicas; none: uploads with a password are refused",
    )
    implicit_collections: bool = Field(
        default=True, description="whether uploads may go into collections that were not created"
    )
    backlog_max: int = Field(10_000, ge=1, description="unfinished documents of one tenant")
    backlog_max_bytes: int = Field(
        16 << 30, ge=1, description="bytes of the unfinished documents of one tenant"
    )
    tenant_limits: dict[str, TenantLimits] = Field(
        {},
        description='JSON of the tenants that differ: {"acme": {"weight": 4, "documents": 50000,'
        ' "bytes": 1000000000}}; each value is optional, weight 1 is that of the others',
    )
    watchers_max: int = Field(
        2_048, ge=2, le=3_000, description="watch calls open at a time; half of them for one tenant"
    )
    parser_children: int = Field(
        2, ge=1, le=64, description="parser processes at work for one tenant; twice as many for all"
    )
    ocr_languages: str = Field(
        "",
        description="languages to read pictures and scans in, as codes of tesseract: eng+deu; none:"
        " they are refused with NEEDS_OCR",
    )
    ocr_data_dir: Path = Field(
        Path("/usr/share/tesseract-ocr/5/tessdata"),
        description="folder of tesseract's language data, LANGUAGE.traineddata",
    )
    reconcile_s: float = Field(15.0, gt=0, description="pause between searches for lost work")
    step_due_s: float = Field(60.0, gt=0, description="time after which a step is overdue")
    step_due_max_s: float = Field(600.0, gt=0, description="maximum of that time as it doubles")
    step_deadline_s: float = Field(86_400.0, gt=0, description="time after which a step fails")
    sweep_s: float = Field(3_600.0, gt=0, description="pause between removals of old data")
    orphan_age_s: float = Field(
        3_600.0, ge=900, description="age at which an unused object is removed; above upload time"
    )
    inbox_retention_s: float = Field(
        35 * 86_400.0, gt=0, description="age at which inbox rows are removed; above any event's"
    )
    request_retention_s: float = Field(
        3 * 86_400.0, ge=86_400, description="age at which gRPC request ids are removed"
    )

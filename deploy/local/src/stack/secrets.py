"""Passwords and keys of a data folder, created once, in a file that only its owner can read."""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.base.errors import DataLossError
from stack.private_files import write_private

PASSWORD_BYTES = 32
KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The secrets of the parts of one data folder.

    Attributes:
        nats: password of each NATS user.
        postgres: password of each PostgreSQL role.
        auth_pepper: 32 random bytes, base64; keys of API callers are hashed with it.
        auth_signing_key: Ed25519 private key, PEM (PKCS 8).
        password_key: 32 random bytes, base64; ingest seals the passwords of documents with it. A
            file of an earlier release has none.
        credential_key: 32 random bytes, base64; inference encrypts the keys of servers with it. A
            file of an earlier release has none.
    """

    nats: Mapping[str, str] = field(repr=False)
    postgres: Mapping[str, str] = field(repr=False)
    auth_pepper: str = field(repr=False)
    auth_signing_key: str = field(repr=False)
    password_key: str = field(default="", repr=False)
    credential_key: str = field(default="", repr=False)


def load(path: Path, *, nats: Iterable[str], postgres: Iterable[str]) -> Secrets:
    """The secrets in `path`; missing ones, or the whole file, are created and stored.

    Raises:
        DataLossError: SECRETS_UNREADABLE, the file exists but does not contain secrets.
    """
    known = _read(path) if path.exists() else None
    complete = Secrets(
        nats=_passwords(nats, known.nats if known else {}),
        postgres=_passwords(postgres, known.postgres if known else {}),
        auth_pepper=known.auth_pepper if known else _key(),
        auth_signing_key=known.auth_signing_key if known else _signing_key(),
        password_key=(known.password_key if known else "") or _key(),
        credential_key=(known.credential_key if known else "") or _key(),
    )
    if complete != known:
        write_private(path, json.dumps(asdict(complete), indent=1))
    return complete


def _read(path: Path) -> Secrets:
    try:
        return Secrets(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise DataLossError(
            "SECRETS_UNREADABLE",
            f"{path} does not contain the secrets of a stack; restore it from a backup",
            path=path,
        ) from error


def _passwords(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    missing = {name: secrets.token_urlsafe(PASSWORD_BYTES) for name in names if name not in known}
    return {**known, **missing}


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _signing_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode()
    )

"""Failures of commands, and how they are reported to people and programs."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141


class OutputError(Exception):
    """A result could not be written, for example to a full disk."""


class CommandError(Exception):
    """A failure with its reason, what is wrong and what to do next.

    `retry_s` is the time to wait that the service gave, 0 if none. `of_key`: the key is the cause,
    whichever service reported it.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        hint: str = "",
        exit_code: int = EXIT_FAILED,
        retry_s: float = 0.0,
        of_key: bool = False,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code
        self.retry_s = retry_s
        self.of_key = of_key

    def as_json(self) -> dict[str, object]:
        """The failure for programs."""
        return {"error": {"reason": self.reason, "detail": self.detail, "hint": self.hint}}


HINTS = {
    "KEY_INVALID": "check the key in AQUIFER_API_KEY or in the data folder's endpoints.json",
    "KEY_EXPIRED": "ask an operator for a new key",
    "KEY_REVOKED": "ask an operator for a new key",
    "DOCUMENT_UNKNOWN": "`aquifer documents` lists the existing documents",
    "TEXT_PENDING": "`aquifer status DOCUMENT` shows the state; try again in a moment",
    "TEXT_MISSING": "`aquifer status DOCUMENT` shows the state and which version searches find",
    "BYTES_REMOVED": "`aquifer versions DOCUMENT` shows which versions have their bytes",
    "VERSION_UNKNOWN": "`aquifer versions DOCUMENT` lists the versions",
    "VERSION_NOT_LIVE": "`aquifer versions DOCUMENT` shows which version is live",
    "DOCUMENT_PINNED": "`aquifer unpin DOCUMENT` lets it take uploads again",
    "PAGE_RANGE": "leave --page out, or read a part by --range START:END",
    "HIDE_PENDING": "the delete continues by itself; `aquifer documents` shows when it is done",
    "BACKLOG_FULL": "wait until the backlog is smaller: `aquifer status`",
    "VECTORS_REBUILDING": "the index is being rebuilt; try again in a moment",
    "UPLOADS_FULL": "uploads that nobody continues expire a day after their last change",
    "CHECKSUM_MISMATCH": "the file changed while it was sent; the same command sends it again",
    "KEY_UNKNOWN": "`aquifer keys list` shows the keys of a tenant",
    "DISPLAY_NAME_INVALID": "choose 1 to 128 characters that say what it is for",
    "SCOPE_UNKNOWN": "`aquifer keys create --help` lists the scopes",
    "SCOPE_EXCEEDED": "leave the scope out, or use a key that has it",
    "TENANT_EXISTS": "`aquifer tenants list` shows the tenants",
    "TENANT_UNKNOWN": "`aquifer tenants list` shows the tenants; another tenant than that of your "
    "key needs the scope tenants.admin",
    "TENANT_INVALID": "use 1 to 63 of a-z 0-9 and -",
    "TENANT_OWN": "`aquifer tenants list` shows the tenants",
    "TENANT_RESERVED": "`aquifer tenants list` shows the tenants",
    "TENANT_SUSPENDED": "an operator ends it by `aquifer tenants resume`",
    "SCOPE_MISSING": "ask an operator for a key with that scope",
    "CONVERSATION_UNKNOWN": "`aquifer conversations list` shows those of your key",
    "CONVERSATION_FULL": "leave --conversation out to start another",
    "CONVERSATIONS_FULL": "`aquifer conversations delete` removes one",
    "DOCUMENTS_COUNT": "`aquifer chat --no-attached` detaches those that were attached before",
    "PROMPT_UNKNOWN": "`aquifer prompts list` shows them; `--prompt` names another",
    "PROMPT_CHANGED": "`aquifer prompts get` shows the newest version",
    "UNAVAILABLE": "check that `aquifer up` is running; `aquifer status` shows all services",
    "DEADLINE_EXCEEDED": "`aquifer status` shows which service is slow",
    "CALL_CUT": "try again",
}
# What grpc.aio says when a call ends while the client still writes: the real reason is lost
# (grpc issue 36066).
_LOST_REASON = "Internal error from Core"
_NO_SERVER = re.compile(r"failed to connect to all addresses.*?ipv[46]:(?P<address>\S+?): ")


def from_rpc(error: "grpc.aio.AioRpcError") -> CommandError:
    """Reads the rich status of a failed call."""
    # A command that makes no call, `--help` among them, pays for none of this.
    import grpc  # noqa: PLC0415
    from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # noqa: PLC0415
    from grpc_status import rpc_status  # noqa: PLC0415

    code = error.code()
    # A cancellation of our own is no RPC error: this one is a service that stops.
    cancelled = code is grpc.StatusCode.CANCELLED
    if cancelled or (code is grpc.StatusCode.INTERNAL and error.details() == _LOST_REASON):
        detail = "the service ended the call while the client was still sending"
        return CommandError("CALL_CUT", detail, hint=HINTS["CALL_CUT"])
    reason, retry_s = code.name, 0.0
    fields: list[str] = []
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stub knows sync calls only
    for detail in status.details if status else ():
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            said = error.details() or ""
            violations = [v for v in bad.field_violations if v.description not in said]
            fields = [f"{v.field}: {v.description}" for v in violations]
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToMilliseconds() / 1000
    unavailable = code is grpc.StatusCode.UNAVAILABLE
    hint = HINTS.get(reason, "")
    if not hint and retry_s:
        hint = f"try again in {retry_s:g} s"
    if not hint and unavailable:
        hint = HINTS["UNAVAILABLE"]
    return CommandError(
        reason,
        "; ".join([_explain(error.details() or code.name.lower()), *fields]),
        hint=hint,
        exit_code=EXIT_UNAVAILABLE if unavailable else EXIT_FAILED,
        retry_s=retry_s,
        of_key=code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED},
    )


def _explain(details: str) -> str:
    nobody = _NO_SERVER.match(details)
    return f"no server answers at {nobody['address']}" if nobody else details


def interrupted_error(detail: str, hint: str = "") -> CommandError:
    """Ctrl-C, and what it left."""
    return CommandError("INTERRUPTED", detail, hint=hint, exit_code=EXIT_INTERRUPTED)

"""What a command can fail with, and how a person and a machine are told."""

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3


class CommandError(Exception):
    """A failure with its reason code, what happened and what to do next."""

    def __init__(
        self, reason: str, detail: str, *, hint: str = "", exit_code: int = EXIT_FAILED
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code

    def as_json(self) -> dict[str, object]:
        """The failure for machines."""
        return {"error": {"reason": self.reason, "detail": self.detail, "hint": self.hint}}


HINTS = {
    "KEY_INVALID": "check the key in AQUIFER_API_KEY or in the data folder's endpoints.json",
    "KEY_EXPIRED": "ask an operator for a new key",
    "KEY_REVOKED": "ask an operator for a new key",
    "DOCUMENT_UNKNOWN": "`aquifer documents` lists what there is",
    "HIDE_PENDING": "the delete goes on by itself; `aquifer documents` shows when it is done",
    "BACKLOG_FULL": "wait until the backlog is smaller: `aquifer status`",
    "VECTORS_REBUILDING": "the index is being rebuilt; try again in a moment",
}


def from_rpc(error: grpc.aio.AioRpcError) -> CommandError:
    """Reads the rich status of a failed call."""
    code = error.code()
    reason, hint = code.name, ""
    retry_s = 0.0
    fields: list[str] = []
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stub knows sync calls only
    for detail in status.details if status else ():
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields = [f"{v.field}: {v.description}" for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToMilliseconds() / 1000
    hint = HINTS.get(reason, "")
    if not hint and code is grpc.StatusCode.UNAVAILABLE:
        hint = "is `aquifer up` running? `aquifer status` shows every part"
    if retry_s and not hint:
        hint = f"try again in {retry_s:g} s"
    detail_text = "; ".join([error.details() or code.name.lower(), *fields])
    unavailable = code is grpc.StatusCode.UNAVAILABLE
    return CommandError(
        reason, detail_text, hint=hint, exit_code=EXIT_UNAVAILABLE if unavailable else EXIT_FAILED
    )

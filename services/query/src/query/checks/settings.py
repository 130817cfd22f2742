"""The guardrails as settings name them, and the checks behind them."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from query.checks.by_model import Judge, ModelCheck
from query.checks.length import LengthCheck
from query.checks.patterns import PatternCheck, compile_pattern
from query.checks.personal_data import PersonalDataCheck
from query.checks.prompt_injection import PromptInjectionCheck
from query.guardrail import Action, Stage
from query.usecases.guardrails import Check, Guard, Guardrails

GUARDS_MAX: Final = 32

Pattern = Annotated[str, Field(min_length=1, max_length=1_000)]


class GuardSettings(BaseModel):
    """What every guardrail has. `on_failure`: what happens to the text when the check fails.

    By default a text passes a check that only records, and no other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    action: Literal["block", "redact", "record"]
    on_failure: Literal["open", "closed", ""] = ""
    deadline_s: float = Field(default=5.0, gt=0, le=60)

    @property
    def closed(self) -> bool:
        """Whether no text passes when the check fails."""
        return self.on_failure == "closed" or (not self.on_failure and self.action != "record")


class LengthSettings(GuardSettings):
    """Questions that are longer than `max_chars`."""

    kind: Literal["length"]
    on: Literal["input"]
    action: Literal["block", "record"]
    max_chars: int = Field(ge=1, le=4_000)

    def open(self, judge: Judge) -> Check:  # noqa: ARG002
        """The check."""
        return LengthCheck(max_chars=self.max_chars)


class Spanned(GuardSettings):
    """What finds parts of a text. Passages are cited verbatim, so none is redacted."""

    on: Literal["input", "output", "passages"]

    @model_validator(mode="after")
    def _check_action(self) -> Self:
        if self.on == "passages" and self.action == "redact":
            raise ValueError("passages are cited verbatim: use block, which leaves them out")
        return self


class PatternSettings(Spanned):
    """What one of the patterns matches, in the syntax of RE2."""

    kind: Literal["pattern"]
    patterns: list[Pattern] = Field(min_length=1, max_length=32)

    @field_validator("patterns")
    @classmethod
    def _check_patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            compile_pattern(pattern)
        return patterns

    def open(self, judge: Judge) -> Check:  # noqa: ARG002
        """The check."""
        return PatternCheck(self.patterns)


class PersonalDataSettings(Spanned):
    """E-mail addresses, IBANs, numbers of payment cards."""

    kind: Literal["personal_data"]
    types: list[Literal["EMAIL", "IBAN", "CREDIT_CARD"]] = Field(
        default=["EMAIL", "IBAN", "CREDIT_CARD"], min_length=1
    )

    def open(self, judge: Judge) -> Check:  # noqa: ARG002
        """The check."""
        return PersonalDataCheck(self.types)


class PromptInjectionSettings(GuardSettings):
    """Text that reads like orders to a model."""

    kind: Literal["prompt_injection"]
    on: Literal["input", "passages"]
    action: Literal["block", "record"]

    def open(self, judge: Judge) -> Check:  # noqa: ARG002
        """The check."""
        return PromptInjectionCheck()


class ModelSettings(GuardSettings):
    """Texts about which a model says yes to `question`; `model` is one of inference."""

    kind: Literal["model"]
    on: Literal["input", "output"]
    action: Literal["block", "record"]
    question: str = Field(min_length=1, max_length=4_000)
    model: str = Field(default="", max_length=256)

    def open(self, judge: Judge) -> Check:
        """The check."""
        return ModelCheck(judge=judge, question=self.question, model=self.model)


AnyGuard = Annotated[
    LengthSettings
    | PatternSettings
    | PersonalDataSettings
    | PromptInjectionSettings
    | ModelSettings,
    Field(discriminator="kind"),
]

# They only tell; what they find is often harmless, and what is not is often not found.
DEFAULT: Final[Sequence[AnyGuard]] = (
    PromptInjectionSettings(
        name="question-injection", kind="prompt_injection", on="input", action="record"
    ),
    PromptInjectionSettings(
        name="passage-injection", kind="prompt_injection", on="passages", action="record"
    ),
)


def check_names(guards: Sequence[AnyGuard]) -> None:
    """Checks that the names of guardrails differ: verdicts name them.

    Raises:
        ValueError: two have the same.
    """
    names = [one.name for one in guards]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two guardrails are called {', '.join(sorted(twice))}")


def open_guardrails(guards: Sequence[AnyGuard], judge: Judge) -> Guardrails:
    """The guardrails; those of kind `model` ask the judge."""
    return Guardrails(
        [
            Guard(
                name=one.name,
                check=one.open(judge),
                stage=Stage(one.on),
                action=Action(one.action),
                closed=one.closed,
                deadline_s=one.deadline_s,
                whole=isinstance(one, ModelSettings),
            )
            for one in guards
        ]
    )

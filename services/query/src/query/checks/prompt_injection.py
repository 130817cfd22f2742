"""Finds text that reads like orders to a model. It finds common forms, and is no boundary."""

import unicodedata
from collections.abc import Sequence
from typing import Final

import regex  # type: ignore[import-untyped]
from typing_extensions import override

from query.checks.patterns import compile_pattern
from query.guardrail import Finding
from query.usecases.guardrails import Check

# Signs of no width, as they are put between the letters of words.
_INVISIBLE: Final = regex.compile(r"\p{Cf}+")
_OLD: Final = "previous|prior|above|earlier|preceding|foregoing|your|all|any|these|those"
_ORDERS: Final = "instructions?|prompts?|rules?|messages?|directions?|guidelines?|directives?"
_GIVEN: Final = "above|before|so far|you (?:have|were|got)"
_DROP: Final = "ignore|disregard|forget|override|bypass"
_PATTERNS: Final = (
    rf"\b(?:{_DROP})\b.{{0,40}}\b(?:{_ORDERS})\b.{{0,20}}\b(?:{_GIVEN})\b",
    rf"\b(?:{_DROP})\b.{{0,40}}\b(?:{_OLD})\b.{{0,40}}\b(?:{_ORDERS})\b",
    r"\b(?:reveal|show|print|repeat|output|display|tell|give)\b.{0,40}\bsystem prompt\b",
    r"\b(?:reveal|print|repeat|output)\b.{0,40}\b(?:initial|hidden|your) (?:instructions|prompt)",
    r"\b(?:new|updated|real) (?:system )?(?:instructions|rules|prompt)\s*:",
    r"\byou are (?:now|no longer)\b",
    r"\b(?:ignoriere?|vergiss|missachte)\b.{0,60}\b(?:anweisung|regel|vorgabe|instruktion)",
    r"\b(?:ignorez?|oubliez?)\b.{0,60}\b(?:instructions?|consignes?|r[eè]gles?)\b",
    r"\b(?:ignora|olvida|descarta)\b.{0,60}\b(?:instrucciones|reglas|istruzioni|regole)\b",
    r"(?:忽略|无视|無視).{0,20}(?:指令|指示|说明|說明|规则|規則)",
    r"</?\s*(?:passages?|system|assistant|user|instructions?)\b[^>]{0,80}>",
    r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>",
    # A picture is loaded when the answer is shown, and its address can carry what was read.
    r"!\[[^\]\n]*\]\(\s*<?https?://[^)\s]*[?&=#]",
)


class PromptInjectionCheck(Check):
    """See `Check`; a text is found as a whole, as signs inside of words are looked through."""

    def __init__(self) -> None:
        self._pattern = compile_pattern(f"(?is){'|'.join(f'(?:{one})' for one in _PATTERNS)}")

    @override
    async def inspect(self, text: str) -> Sequence[Finding]:
        plain = text if text.isascii() else _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
        if not self._pattern.search(plain):
            return ()
        return [Finding(start=0, end=len(text), kind="PROMPT_INJECTION")]

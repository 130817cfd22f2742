"""Recognises pages that show nothing before their scripts run."""

import re

SHELL_MAX_CHARS = 400
SHELL_DETAIL = (
    "the page shows its text only after its scripts ran; open it in a browser, save the complete"
    " page, and upload that"
)

_WAITING = re.compile(
    r"(?:(?:the )?(?:page|content|app|application|site|data) (?:is )?)?"
    r"(?:(?:now )?loading|please wait|one moment(?: please)?|just a moment|redirecting"
    r"|initiali[sz]ing|starting(?: up)?"
    r"|bitte warten|wird geladen|lädt|laden|chargement(?: en cours)?"
    r"|veuillez patienter"
    r"|cargando|carregando|caricamento(?: in corso)?|загрузка|подождите"
    r"|読み込み中|加载中|正在加载|載入中|로딩 ?중?)"
    r"(?:,? (?:please wait|(?:the |your )?(?:page|content|app|application|site|data)))?"
    r"(?: \d+ ?%)?"
)
_ASKS_FOR_SCRIPTS = re.compile(
    r"java ?-?script|enable scripts|scripts? (?:is|are) (?:disabled|blocked|required)"
    r"|(?:your|this) browser (?:is|does)|ihr browser|votre navigateur|включите|браузер",
    re.IGNORECASE,
)
_SIGNS = re.compile(r"[^\w%]+")
_REQUEST_MAX_CHARS = 200


def is_empty_shell(text: str, title: str) -> bool:
    """Whether all lines only say that the text will come, or repeat the title."""
    if len(text) > SHELL_MAX_CHARS:
        return False
    lines = [line for line in text.splitlines() if _fold(line)]
    waiting = [line for line in lines if _only_waits(line)]
    return bool(waiting) and all(_only_waits(line) or _fold(line) == _fold(title) for line in lines)


def _only_waits(line: str) -> bool:
    return _WAITING.fullmatch(_fold(line)) is not None or (
        len(line) <= _REQUEST_MAX_CHARS and _ASKS_FOR_SCRIPTS.search(line) is not None
    )


def _fold(line: str) -> str:
    return " ".join(_SIGNS.sub(" ", line.casefold()).split())

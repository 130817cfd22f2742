"""Finds dates, so that `7 March 2024` is also found as `2024-03-07`."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

import regex  # type: ignore[import-untyped]

_MONTHS: Final[Mapping[str, int]] = {
    name: number
    for names in (
        "january february march april may june july august september october november december",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "jänner feber mär apr mai jun jul aug sept okt nov dez",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        (
            "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre"
            " dicembre"
        ),
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    )
    for number, name in enumerate(names.split(), start=1)
}
_NAME: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.|er|º)?"
_FORMS: Final = [
    regex.compile(form, regex.IGNORECASE)
    for form in (
        r"\b(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})\b",
        # The day is first in most countries; where it is the month, the number is often no month.
        r"\b(?P<day>\d{1,2})[./](?P<month>\d{1,2})[./](?P<year>\d{4})\b",
        r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})\b",
        rf"\b{_DAY}\s+(?:de\s+|of\s+)?(?P<name>{_NAME})\.?,?\s+(?:de\s+)?(?P<year>\d{{4}})\b",
        rf"\b(?P<name>{_NAME})\.?\s+{_DAY},?\s+(?P<year>\d{{4}})\b",
        r"(?P<year>\d{4})\s*[年년]\s*(?P<month>\d{1,2})\s*[月월]\s*(?P<day>\d{1,2})\s*[日일]",
    )
]
_YEAR: Final = regex.compile(r"\d{4}")


def find_dates(text: str) -> Iterator[str]:
    """The dates of a text as `YYYY-MM-DD`; one that can be read in two ways gives both."""
    if not _YEAR.search(text):
        return
    for form in _FORMS:
        for found in form.finditer(text):
            parts = found.groupdict()
            month = _MONTHS[parts["name"].lower()] if parts.get("name") else int(parts["month"])
            try:
                yield date(int(parts["year"]), month, int(parts["day"])).isoformat()
            except ValueError:  # such as month 13
                continue

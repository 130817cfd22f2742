"""Which words in angle brackets of a Markdown text are HTML; all others are text.

`List<Order>` and `https://<tenant>.example.org` name no HTML element. `a<b and c>d` names one, but
gives it attributes that HTML does not have, and `List<A>` never closes it.
"""

import re
from collections import Counter
from html import escape

from markdown_it.token import Token

_VOID = "area base br col embed hr img input link meta param source track wbr"
_INLINE = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark meter nobr"
    " output progress q rb rt ruby s samp small span strike strong sub sup time tt u var"
)
# Without an end tag, all that follows would not be text of the page.
_SWALLOWING = "iframe noembed noframes plaintext script select style template textarea title xmp"
_OTHERS = (
    "address applet article aside audio blockquote body button canvas caption center colgroup"
    " datalist dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2 h3 h4"
    " h5 h6 head header hgroup html legend li listing main map marquee math menu nav noscript"
    " object ol optgroup option p picture pre rp rtc search section slot summary svg table tbody"
    " td tfoot th thead tr ul video"
)
VOID, INLINE, SWALLOWING = (frozenset(names.split()) for names in (_VOID, _INLINE, _SWALLOWING))
ELEMENTS = VOID | INLINE | SWALLOWING | frozenset(_OTHERS.split())
FOREIGN = frozenset({"svg", "math"})
SWITCHES = frozenset(
    "allowfullscreen async autofocus autoplay border checked compact controls default defer"  # noqa: SIM905
    " disabled download hidden inert ismap itemscope loop multiple muted noshade novalidate nowrap"
    " open playsinline readonly required reversed selected".split()
)

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:_.-]*)([^<>]*)>")
_BLOCK_PART = re.compile(
    r"(?P<kept><!--.*?(?:-->|\Z)|<!doctype[^>]*>|<(?P<raw>script|style)\b.*?(?:</(?P=raw)[^>]*>|\Z))"
    r"|(?P<tag></?[A-Za-z][^\s<>/]*(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>)"
    r"|(?P<text><)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"([^\s=/\"'<>]+)(\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"']+))?")


class TagFilter:
    """Turns tags of no HTML element into text, in document order: a drawing has its own names."""

    def __init__(self) -> None:
        self._open_foreign = 0
        self._ends: Counter[str] = Counter()
        self._is_block = False

    def filter_block(self, source: str) -> str:
        """Escapes what is no HTML in an HTML block."""
        if source.lstrip().startswith(("<?", "<![")):
            return f"<pre>{escape(source, quote=False)}</pre>"
        self._is_block = True
        self._ends = Counter(name.lower() for name in re.findall(r"</([A-Za-z]+)", source))
        return _BLOCK_PART.sub(self._filter_part, source)

    def filter_line(self, tokens: list[Token]) -> None:
        """Makes text of the tags in a line that are no HTML."""
        tags = [token for token in tokens if token.type == "html_inline"]
        if not tags:
            return
        self._is_block = False
        self._ends = Counter(
            found[2].lower() for token in tags if (found := _TAG.match(token.content)) and found[1]
        )
        before = ""
        for token in tokens:
            if token.type == "html_inline" and not self._is_html(token.content, before):
                token.type = "text"
            before = token.content[-1:]

    def _filter_part(self, part: re.Match[str]) -> str:
        if part["kept"] is not None:
            return part[0]
        if part["tag"] is None:
            return "&lt;"
        before = part.string[part.start() - 1 : part.start()] if part.start() else ""
        return part[0] if self._is_html(part[0], before) else escape(part[0], quote=False)

    def _is_html(self, source: str, before: str) -> bool:
        if source.startswith("<!--") or source[:9].lower() == "<!doctype":
            return True
        tag = re.match(r"<(/?)([A-Za-z][^\s<>/]*)", source)
        if tag is None:
            return False
        name, ends = tag[2].lower(), bool(tag[1])
        if name in FOREIGN:
            self._open_foreign = max(0, self._open_foreign + (-1 if ends else 1))
            return True
        if self._open_foreign:
            return True
        if name not in ELEMENTS:
            return False
        return ends or self._begins_element(name, tag[2], source[tag.end() : -1], before)

    def _begins_element(self, name: str, written: str, rest: str, before: str) -> bool:
        attributes = _ATTRIBUTE.findall(rest)
        if not all(
            value or key.lower() in SWITCHES or key.lower().startswith(("data-", "aria-"))
            for key, value in attributes
        ):
            return False
        if name in VOID:
            return True
        if self._ends[name] > 0:
            self._ends[name] -= 1
            return True
        if name in SWALLOWING or (before.isalnum() and written[0].isupper()):
            return False
        # The end of an element that begins in a block of HTML may stand in a later one.
        return self._is_block or name not in INLINE or any(value for _, value in attributes)

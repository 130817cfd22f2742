"""Which parts of a page are left out: what is no text of the page, or belongs to the site.

Kept is what a reader of the page can reach, also by a click: closed details and dialogs, tabs, and
blocks that are hidden until a script shows them. Left out are

* scripts, styles, templates, and what is for machines only;
* navigation and footers of the site (`nav`, the roles of menus, lists of six and more links to
  the page in other languages, and a `footer` outside of articles and sections), and dialogs that
  ask for consent to cookies;
* words inside a line that are hidden (sort keys, anchors), unless they are four or more, and icons;
* numbers of code lines, and the second copy of a formula.

Text that stands in for what a program cannot show (`noscript`, `object`, `canvas`, `audio`,
`video`) is kept, unless it only asks for scripts or another browser.
"""

import re
from collections.abc import Mapping

from selectolax.lexbor import LexborNode

from ingest.parsing.html.elements import BLOCKS, read_style

Attributes = Mapping[str, str | None]

NEVER_TEXT = frozenset(
    "script style head base link meta noembed frame embed applet param source track rp datalist"  # noqa: SIM905
    " symbol defs metadata".split()
)
SUBSTITUTES = frozenset({"noscript", "object", "canvas", "audio", "video"})
SITE_ROLES = frozenset({"navigation", "search", "menu", "menubar", "toolbar"})
OWNERS_OF_FOOTERS = frozenset({"article", "blockquote", "section", "main"})
HIDDEN_WORDS_MIN = 4
LANGUAGES_MIN = 6
REQUEST_MAX_CHARS = 400

_ICONS = re.compile(r"(?:^|\s)(?:material-(?:icons|symbols)\S*|glyphicon\S*)")
_ARIA_ICONS = re.compile(r"(?:^|[\s_-])(?:icons?|fa|fas|far|fab|bi|emoji-icon)(?:$|[\s_-])")
_COPIES_OF_FORMULAS = frozenset(
    {"katex-html", "MathJax_Preview", "MathJax", "MathJax_SVG", "MJX_Assistive_MathML"}
)
_GUTTERS = frozenset(
    "linenos lineno linenumber gutter line-numbers-rows hljs-ln-numbers rouge-gutter"  # noqa: SIM905
    " blob-num headerlink".split()
)
_CONSENT = re.compile(
    r"(?:cookie|gdpr|ccpa|consent)[\w-]*(?:banner|bar\b|dialog|modal|popup|pop-up|overlay|notice"
    r"|wall|prompt|message|layer|law|policy-info|consent)"
    r"|(?:banner|dialog|modal|popup|overlay|notice)[\w-]*(?:cookie|gdpr|ccpa|consent)"
    r"|onetrust-|didomi-|usercentrics-|cybotcookiebot|cmplz-|qc-cmp2|sp_message_container"
    r"|cc-window"
)
_CONSENT_HINT = re.compile(
    r"cookie|consent|gdpr|ccpa|onetrust|didomi|usercentrics|cmplz|qc-cmp|sp_message|cc-window"
)
_CONSENT_WORDS = re.compile(r"cookie|gdpr|ccpa")
_NO_DIALOGS = frozenset({"html", "body", "main", "article", "h1", "p", "a", "span", "li"})
_ASKS_FOR_PROGRAM = re.compile(
    r"java ?-?script|\bjs\b|\bscripts?\b|browser|navigat(?:eur|or)|\benable\b|plug-?in|flash"
    r"|aktivier|unterstütz|support|habilit|включит|браузер|有効|启用|浏览器|ブラウザ",
    re.IGNORECASE,
)


def belongs_to_site(tag: str, *, owned_footer: bool) -> bool:
    """Whether an element of this name is no part of the page's own text."""
    return tag == "nav" or (tag == "footer" and not owned_footer)


def is_left_out(tag: str, attributes: Attributes) -> bool:
    """Whether the attributes name a menu of the site or a dialog for cookies."""
    role = (attributes.get("role") or "").lower()
    return role in SITE_ROLES or _asks_for_consent(tag, role, attributes)


def lists_languages(items: LexborNode) -> bool:
    """Whether a list begins with links to the page in many other languages."""
    count, item = 0, items.child
    while item is not None and count < LANGUAGES_MIN:
        if item.is_element_node:
            link = item.child
            if link is None or link.tag != "a" or "hreflang" not in link.attributes:
                return False
            count += 1
        item = item.next
    return count == LANGUAGES_MIN


def is_decoration(tag: str, attributes: Attributes) -> bool:
    """Whether the classes name an icon, a number of a code line or a copy of a formula."""
    classes = attributes.get("class")
    if not classes:
        return False
    names = classes.split()
    if not _GUTTERS.isdisjoint(names) or _ICONS.search(classes):
        return True
    if tag in {"span", "div"} and not _COPIES_OF_FORMULAS.isdisjoint(names):
        return True
    hidden = attributes.get("aria-hidden") == "true"
    return hidden and tag not in BLOCKS and _ARIA_ICONS.search(classes.lower()) is not None


def is_hidden(attributes: Attributes) -> bool:
    """Whether nobody sees the element before a script shows it."""
    if "hidden" in attributes:
        return True
    style = attributes.get("style")
    if not style or ("none" not in style.lower() and "hidden" not in style.lower()):
        return False
    declarations = read_style(style)
    return declarations.get("display") == "none" or declarations.get("visibility") == "hidden"


def says_enough(node: LexborNode) -> bool:
    """Whether a hidden part of a line is text: it has some words, a block or a formula."""
    words = 0
    for each in node.traverse(include_text=True):
        if each.is_text_node:
            words += len((each.text_content or "").split())
        elif each.tag in BLOCKS or each.tag == "math":
            return True
        if words >= HIDDEN_WORDS_MIN:
            return True
    return False


def asks_for_program(text: str) -> bool:
    """Whether a substitute only asks for scripts or another browser."""
    return len(text) <= REQUEST_MAX_CHARS and _ASKS_FOR_PROGRAM.search(text) is not None


def _asks_for_consent(tag: str, role: str, attributes: Attributes) -> bool:
    if tag in _NO_DIALOGS:
        return False
    named = " ".join(attributes.get(name) or "" for name in ("id", "class", "aria-label")).lower()
    if not _CONSENT_HINT.search(named):
        return False
    is_dialog = tag == "dialog" or role in {"dialog", "alertdialog"} or "aria-modal" in attributes
    return _CONSENT.search(named) is not None or (
        is_dialog and _CONSENT_WORDS.search(named) is not None
    )

"""How a browser lays out the elements of HTML, as far as lines of text show it."""

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
LISTS = frozenset({"ul", "ol", "menu", "dir"})
CELLS = frozenset({"td", "th"})
PARAGRAPHS = (
    HEADINGS
    | LISTS
    | frozenset(
        "p dl table pre listing xmp plaintext blockquote figure section article main header"  # noqa: SIM905
        " footer aside hr fieldset details dialog address form search hgroup nav frameset".split()
    )
)
LINES = frozenset(
    "div li dt dd tr caption figcaption summary legend center body option optgroup noscript"  # noqa: SIM905
    " noframes iframe object canvas".split()
)
BLOCKS = PARAGRAPHS | LINES | CELLS
VERBATIM = frozenset({"pre", "listing", "xmp", "plaintext", "textarea"})
# Boxes within a line: words on both sides of their edges are separate words.
BOXES = frozenset(
    "button select input textarea img svg math output meter progress video audio area".split()  # noqa: SIM905
)
# Elements whose content is one line of text, so that an element in them is a part of it.
HOLDERS_OF_TEXT = HEADINGS | frozenset(
    "p span a b i u em strong small code label dt summary button q cite td th li".split()  # noqa: SIM905
)

BLOCK_DISPLAYS = frozenset(
    {"block", "flex", "grid", "table", "list-item", "table-row", "flow-root"}
)
BOX_DISPLAYS = frozenset({"inline-block", "inline-flex", "inline-grid", "table-cell"})


def read_style(style: str) -> dict[str, str]:
    """Reads the declarations of a `style` attribute; the last one of a name counts."""
    declarations = (each.partition(":") for each in style.lower().split(";"))
    return {
        name.strip(): value.replace("!important", "").strip() for name, _, value in declarations
    }

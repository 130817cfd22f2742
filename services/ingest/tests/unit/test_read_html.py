"""The reader of HTML, called without its process: exact text of every kind of page part."""

import pytest

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.html.read_html import read
from ingest.parsing.text.clean import clean

from .growth import assert_linear

LIMIT = 1 << 26


def read_text(markup: str) -> str:
    return clean(read(markup.encode(), LIMIT).texts[0])


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        # alternative text
        ('<p>Map: <img alt="Two bridges">.</p>', "Map: Two bridges."),
        ('<img alt="Left"><img alt="Right">', "Left Right"),
        ('<img alt="Quay"><noscript><img alt="Quay">Open daily.</noscript>', "Quay\nOpen daily."),
        ('<input type="image" alt="Send"><img alt="">', "Send"),
        # formulas
        (
            (
                '<p>So <math><mi>y</mi><annotation encoding="application/x-tex">y_1</annotation>'
                "</math> holds.</p>"
            ),
            "So y_1 holds.",
        ),
        ('<math alttext="{\\displaystyle a^2}"><mi>a</mi></math>', "a^2"),
        (
            "<math><mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mn>2</mn></mfrac></math>",
            "(a+1)/2",
        ),
        ('<p><script type="math/tex">k*m</script> is nine', "k*m is nine"),
        (
            "<math><msqrt><mn>9</mn></msqrt><msubsup><mi>a</mi><mn>1</mn><mn>2</mn></msubsup></math>",
            "√(9)a_1^2",
        ),
        (
            (
                '<span class="katex"><math><annotation encoding="TeX">q</annotation></math>'
                '<span class="katex-html" aria-hidden="true">q</span></span>'
            ),
            "q",
        ),
        # buttons and fields
        ("<h3><button>Who may enter?</button></h3><p>Crew.</p>", "Who may enter?\n\nCrew."),
        ("<button>Save</button><button>Print</button>", "Save Print"),
        ("<details><summary>Costs</summary>Ten kroner.</details>", "Costs\nTen kroner."),
        ("<select><option>Red<option>Blue</select>", "Red\nBlue"),
        ('<label>Name</label> <input value="Ada"><input type="hidden" value="k">', "Name Ada"),
        # links
        ('<p>See <a hreflang="nl">the Dutch act</a>.</p>', "See the Dutch act."),
        ('<a hreflang="it">Versione italiana</a>', "Versione italiana"),
        ("<ul>\n" + '<li><a hreflang="x">Lang</a></li>\n' * 6 + "</ul>Text", "Text"),
        # hidden until a script or a click
        ("<p>A.</p><div hidden><p>The second tab.</p></div>", "A.\n\nThe second tab."),
        ('<body aria-hidden="true"><p>Under a dialog.</p>', "Under a dialog."),
        ('<p style="visibility: hidden">Shown later.</p>', "Shown later."),
        (
            '<p>Start <span style="display:none">and all the rest of it.</span>',
            "Start and all the rest of it.",
        ),
        ('<p><span style="display:none">0042</span>Forty-two</p>', "Forty-two"),
        ('<td><span aria-hidden="true">✓</span></td>', "✓"),
        ('<i class="material-icons">menu</i>Boats', "Boats"),
        # left out
        ("<nav>Home</nav><p>Text</p><footer>Imprint</footer>", "Text"),
        ("<article>A<footer>Source</footer></article>", "A\n\nSource"),
        ('<div id="cookie-banner">We use cookies</div><p>Text</p>', "Text"),
        ('<div role="dialog" aria-label="Cookies">OK?</div><dialog>Fee: 3</dialog>', "Fee: 3"),
        ('<body class="cookie-bar-open"><p>All of it</p>', "All of it"),
        ("<template><p>no</p></template><script>no</script><style>no</style>yes", "yes"),
        ('<table><tr><td class="linenos">12</td><td>code</td></table>', "code"),
        # substitutes
        ("<p>A</p><noscript>Please enable JavaScript.</noscript>", "A"),
        ("<p>A</p><noscript>Fare: 2 euro.</noscript>", "A\n\nFare: 2 euro."),
        ("<object>Plan of pier one</object>", "Plan of pier one"),
        ("<video>Your browser has no video.</video>x", "x"),
        # raised and lowered signs
        ("<p>9 m<sup>3</sup> and 10<sup>-6</sup> s</p>", "9 m^3 and 10^-6 s"),
        ("<p>x<sup>n + 1</sup>, 1<sup>st</sup></p>", "x^(n + 1), 1st"),
        ('<p>In 1987<sup><a href="#n7">7</a></sup> it rose.</p>', "In 1987[7] it rose."),
        ("<p><sup>1</sup>See there.</p>", "1 See there."),
        ("<p>CO<sub>2</sub>, T<sub>max</sub>, log<sub>2</sub>8</p>", "CO2, T_max, log2 8"),
        # words do not weld
        ("<my-line>One</my-line><my-line>Two</my-line>", "One\nTwo"),
        ("<p>A <my-term>lock</my-term>, open</p>", "A lock, open"),
        ('<b style="display: block">One</b><b style="display: block">Two</b>', "One\nTwo"),
        ('<i style="display:inline-block">One</i><i>Two</i>', "One Two"),
        ("<h1>Big<br>Small</h1>", "Big\nSmall"),
        # tables
        (
            "<table><tr><td rowspan=2>Ems<td>1<tr><td>2</table>",
            "Ems | 1\nEms | 2",
        ),
        ("<table><tr><td>1<td rowspan=0>z<tr><td>2<tr><td>3</table>", "1 | z\n2 | z\n3 | z"),
        ("<table><tr><td colspan=2>A<td>B<tr><td><td>c<td>d</table>", "A | | B\n| c | d"),
        (
            "<table><tr><td><div>Out<table><tr><td>a<td>b<tr><td>c<td>d</table></div><td>x</table>",
            "Out\n\na | b\nc | d\n\nx",
        ),
        (
            "<table><tr><th>Kit<th>Holds<tr><td>S<td><ul><li>rope<li>hook</ul></table>",
            "Kit | Holds\nS | - rope - hook",
        ),
        ("<table><tr><th>Ports<tr><td><ul><li>Ems<li>Elbe</ul></table>", "Ports\n\n- Ems\n- Elbe"),
        # frames and inner documents
        ("<frameset><frame><noframes><p>Open <b>late</b></noframes></frameset>", "Open late"),
        ('<iframe srcdoc="&lt;p&gt;Inside&lt;/p&gt;"></iframe>', "Inside"),
        ("<body><div><template shadowrootmode=open>Shown</template></div>", "Shown"),
        # drawings
        (
            "<svg><title>Pump</title><text>Inlet</text><text>Outlet</text></svg>",
            "Pump\nInlet\nOutlet",
        ),
        ("<svg><style>a{}</style><desc>Two tanks</desc><symbol>no</symbol></svg>", "Two tanks"),
        # East Asian readings
        ("<ruby>東<rt>とう</rt>京<rt>きょう</rt></ruby>駅", "東京(とうきょう)駅"),
        ("<ruby>水<rp>(</rp><rt>みず</rt><rp>)</rp></ruby>", "水(みず)"),
        # lists
        ("<ul><li>a<ul><li>b</ul><li>c</ul>", "- a\n  - b\n- c"),
        ('<ol type="i" start="4"><li>x<li value="9">y</ol>', "iv. x\nix. y"),
        ('<ol type="A"><li>x<ol reversed start="2"><li>y<li>z</ol></ol>', "A. x\n  2. y\n  1. z"),
        # code
        ("<pre>if x:\n    y<br>z</pre>", "if x:\n    y\nz"),
        ('<div style="white-space: pre">a\n  b</div>', "a\n  b"),
        ("<table><tr><td>1<td><pre>p\n  q</pre></table>", "1\n\np\n  q"),
        # XHTML
        (
            (
                '<?xml version="1.0"?><html><head><title/><script src="a"/></head>'
                "<body><p>1 <![CDATA[< 2]]></p></body></html>"
            ),
            "1 < 2",
        ),
        (
            '<html xmlns="http://www.w3.org/1999/xhtml"><body><iframe src="x"/>kept</body></html>',
            "kept",
        ),
        ("<p>He said <q>stop</q>.</p>", "He said “stop”."),
    ],
)
def test_page_becomes_this_text(markup, expected):
    assert read_text(markup) == expected


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("<title>Locks &amp; weirs</title><p>x", "Locks & weirs"),
        ("<svg><title>Arrow</title></svg><h1>Weir <b>two</b></h1>", "Weir two"),
        ("<noscript><img></noscript><title>After an image</title><p>x", "After an image"),
        ("<p>none", ""),
    ],
)
def test_title_is_the_title_of_the_page(markup, title):
    assert read(markup.encode(), LIMIT).title == title


@pytest.mark.parametrize(
    "markup",
    [
        "<title>Shop</title><div id=app>Loading...</div><script></script>",
        "<h1>Shop</h1><title>Shop</title><p>Please wait…</p>",
        "<noscript>You need to enable JavaScript.</noscript><script src=x></script>",
        "<p>This site requires JavaScript to work.</p>",
        "<title>Shop</title><div class=spinner></div><script></script>",
        "<nav><a>Home</a></nav><p role=status>Wird geladen</p>",
    ],
)
def test_page_that_is_empty_without_its_scripts_is_refused(markup):
    with pytest.raises(RefusalError, match="scripts") as refusal:
        read(markup.encode(), LIMIT)
    assert refusal.value.failure is ParseFailure.NO_TEXT


@pytest.mark.parametrize(
    "markup", ["<p>Loading dock: ring twice.</p>", "<p>Loading</p><p>The ferry is late.</p>"]
)
def test_page_that_speaks_of_loading_is_read(markup):
    assert "Loading" in read_text(markup)


def test_deep_page_is_read_and_a_deeper_one_refused():
    assert read_text("<div>" * 10_000 + "the end") == "the end"
    with pytest.raises(RefusalError, match="nested") as refusal:
        read(b"<div>" * 100_000 + b"the end", LIMIT)
    assert refusal.value.failure is ParseFailure.DOCUMENT_DAMAGED


def test_documents_in_each_other_are_refused_not_cut_short():
    with pytest.raises(RefusalError, match="documents in each other"):
        read(b"<body>" + b"<template shadowrootmode=open>" * 20 + b"x", LIMIT)


def test_drawing_with_many_shapes_is_not_deep():
    assert read_text("<svg>" + '<path d="M0"/>' * 20_000 + "</svg>x") == "x"


@pytest.mark.parametrize(
    "part",
    [
        "<tr><td>a<td>b",
        "<span hidden>a",
        "<footer>x</footer>",
        "x<sup>2</sup>",
        "<ruby>a<rt>b</ruby>",
        "<x-a>a</x-a>",
        "<noscript>a</noscript>",
        '<img alt="a b">',
        "<li>a",
    ],
)
def test_repeated_parts_are_read_in_linear_time(part):
    assert_linear(
        lambda data: read(data, LIMIT), lambda size: b"<table>" + part.encode() * size, 10_000
    )


def test_attribute_without_end_is_read_in_linear_time():
    assert_linear(
        lambda data: read(data, LIMIT),
        lambda size: b'<p class="' + b"cookie-" * size + b'" style="' + b"a:b;" * size + b'">x',
        100_000,
    )

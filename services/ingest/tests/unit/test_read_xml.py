"""The reader of XML, called without its process: exact text for data, documents and feeds."""

import pytest

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.outline_marks import HEADING_MARKS, TABLE_MARK
from ingest.parsing.text.clean import clean
from ingest.parsing.xml.read_xml import read
from ingest.parsing.xml.text import DEPTH_MAX

from .growth import assert_linear

LIMIT = 1 << 26


def read_text(source: str) -> str:
    return clean(read(source.encode(), LIMIT).texts[0])


def find_refusal(source: str, limit: int = LIMIT) -> RefusalError:
    with pytest.raises(RefusalError) as refusal:
        read(source.encode(), limit)
    return refusal.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # values
        ("<pump><name>North</name><kW>4.250</kW><on/></pump>", "name: North\nkW: 4.250"),
        (
            '<pumps><pump id="P1"><name>N</name></pump><pump id="P2"><name>S</name></pump></pumps>',
            "pump id: P1\nname: N\n\npump id: P2\nname: S",
        ),
        (
            '<a><power unit="kW">4</power><at town="Ulm" x=""/></a>',
            "power unit: kW\npower: 4\nat town: Ulm",
        ),
        (
            '<p:a xmlns:p="urn:x" xml:lang="en" xsi:type="z"><p:b p:c="1">2</p:b></p:a>',
            "b c: 1\nb: 2",
        ),
        ("<a><b>one\n   two</b></a>", "b: one two"),
        # names of documents count only in documents
        (
            '<catalog><book id="b1"><title>Weirs</title><row>3</row></book></catalog>',
            "book id: b1\ntitle: Weirs\nrow: 3",
        ),
        ("<note><to>Tove</to><body>Hello</body></note>", "to: Tove\nbody: Hello"),
        # characters
        ("<a><![CDATA[if (a < b && c > d)]]></a>", "a: if (a < b && c > d)"),
        ("<a>x<!-- not this -->y<?nor this?>z</a>", "a: xyz"),
        ("<a>&lt;b&gt; &#233; &#x1F600; &amp;</a>", "a: <b> é 😀 &"),
        ("<a>caf&eacute;&nbsp;1</a>", "a: café 1"),
        ('<!DOCTYPE a SYSTEM "x.dtd"><a b="&eacute;">&own; word</a>', "a b: é\na: &own; word"),
        ('\n <?xml version="1.0" encoding="koi8-r"?><a>й</a>', "a: й"),
        # text with elements in it
        ("<p>The <b>north</b> <i>pump</i>, <c><d>old</d></c>.</p>", "The north pump, old."),
        ("<msg>one<br/>two</msg>", "one\ntwo"),
        (
            "<msg>Dial <phone no='12'/> or <b c='3'>go</b>.</msg>",
            "Dial (phone no: 12) or (b c: 3) go.",
        ),
        ("<topic><p>See <xref href='a.dita'>this</xref></p></topic>", "See this"),
        # documents
        (
            """<article id='a'><title>Weir</title><section role='x'><title>Gate</title>
            <para>Open the <emphasis>left</emphasis> gate.</para></section></article>""",
            "Weir\n\nGate\n\nOpen the left gate.",
        ),
        (
            "<topic><body><p>Text<fn>The old one.</fn> goes on.</p></body></topic>",
            "Text (The old one.) goes on.",
        ),
        (
            "<topic><ul><li>one</li><li><p>two</p><ul><li>inner</li></ul></li></ul></topic>",
            "- one\n- two\n  - inner",
        ),
        ("<topic><codeblock>if a:\n    stop()\n</codeblock></topic>", "if a:\n    stop()"),
        (
            """<section><table><thead><row><entry>part</entry><entry>torque</entry></row></thead>
            <tbody><row><entry><para>bolt</para></entry><entry/><entry>12</entry></row></tbody>
            </table></section>""",
            "part | torque\nbolt | | 12",
        ),
        ("<topic><p>one <note>two</note> three</p></topic>", "one\n\ntwo\n\nthree"),
        (
            "<topic><image><alt>Weir</alt></image><fig alt='Gate'/></topic>",
            "alt: Weir\n\nfig alt: Gate",
        ),
        (
            "<TEI><text><body><lg><l>First</l><l>Second</l></lg></body></text></TEI>",
            "First\nSecond",
        ),
        # feeds
        (
            """<rss><channel><title>News</title><item><title>Flood</title><link>http://a/</link>
            <description><![CDATA[<p>The <b>Iller</b> rose.</p><ul><li>fast</ul>]]></description>
            </item></channel></rss>""",
            "News\n\nFlood\n\nlink: http://a/\n\nThe Iller rose.\n\n- fast",
        ),
        ("<feed><entry><summary>1 &lt; 2</summary></entry></feed>", "1 < 2"),
        # drawings
        (
            """<svg><style>.a{}</style><title>Plan</title><path d='M0'/>
            <text x='1'>North <tspan>pier</tspan></text></svg>""",
            "title: Plan\n\nNorth pier",
        ),
    ],
)
def test_elements_become_lines(source, expected):
    assert read_text(source) == expected


def test_headings_and_names_of_columns_are_marked():
    table = "<table><thead><row><entry>a</entry><entry>b</entry></row></thead><tbody><row/></tbody>"
    source = f"<article><title>A</title><sec><title>B</title>{table}</table></sec></article>"
    text = read(source.encode(), LIMIT).texts[0]
    assert text == f"{HEADING_MARKS[1]}A\n\n{HEADING_MARKS[2]}B\n\n{TABLE_MARK}a | b"


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("<article><title>The\n weir</title></article>", "The weir"),
        ("<article><info><title>Weir</title></info></article>", "Weir"),
        ("<rss><channel><title>News</title><item><title>No</title></item></channel></rss>", "News"),
        ("<catalog><book><title>No</title></book></catalog>", ""),
    ],
)
def test_title_of_the_outermost_element_is_the_title(source, title):
    assert read(source.encode(), LIMIT).title == title


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("plain words", "line 1, column 1"),
        ("<a>\n<b></a>", "line 2, column 6"),
        ("<a>\nfish & chips</a>", "line 2, column 7"),
        ("<a/>\n<b/>", "line 2, column 1"),
        ("<a", "line 1"),
    ],
)
def test_text_that_is_no_xml_is_refused_with_its_place(source, place):
    refusal = find_refusal(source)
    assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
    assert place in refusal.detail
    assert "text/plain" in refusal.detail


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "declaration",
    [
        f'<!ENTITY e0 "boom">{BOMB}',
        '<!ENTITY e9 "one">',
        '<!ENTITY e9 SYSTEM "file:///etc/passwd">',
        '<!ENTITY % p SYSTEM "http://127.0.0.1/x.dtd"> %p;',
        '<!ENTITY nbsp "one">',
    ],
    ids=["bomb", "internal", "external", "parameter", "of HTML"],
)
def test_document_that_declares_entities_is_refused(declaration):
    refusal = find_refusal(f"<!DOCTYPE a [{declaration}]><a>&e9;</a>")
    assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
    assert "entities" in refusal.detail


@pytest.mark.parametrize("begin", ["<a>", "<a>x", "<topic><li>"])
def test_deep_nesting_is_refused(begin):
    for depth in (DEPTH_MAX + 1, 100_000):
        ends = "</a>" if begin.startswith("<a>") else "</li></topic>"
        refusal = find_refusal(begin * depth + "x" + ends * depth)
        assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
        assert "nested" in refusal.detail


def test_text_past_the_limit_is_refused():
    repeated = f'<!DOCTYPE a [<!ATTLIST b c CDATA "{"x" * 1_000}">]><a>{"<b/>" * 1_000}</a>'
    assert find_refusal(repeated, 100_000).failure is ParseFailure.PARSER_OUTPUT_LIMIT


@pytest.mark.parametrize(
    "make",
    [
        lambda size: "<a>" + "<b>x</b>" * (size // 8) + "</a>",
        lambda size: "<a>x" + "<b/>" * (size // 4) + "</a>",
        lambda size: "<a>" + "&eacute; " * (size // 9) + "</a>",
        lambda size: "<a " + " ".join(f'b{n}="1"' for n in range(size // 10)) + "/>",
        lambda size: "<topic>" + "<li>x</li>" * (size // 10) + "</topic>",
    ],
    ids=["values", "empty", "characters", "attributes", "list"],
)
def test_work_grows_as_the_document(make):
    assert_linear(lambda source: read(source.encode(), LIMIT), make, 1 << 19)

"""Names of elements that make up documents, in DocBook, DITA, TEI, JATS, RSS and Atom."""


def _split(names: str) -> frozenset[str]:
    return frozenset(names.split())


# The outermost element of a document.
DOCUMENTS = _split(
    "book article set part chapter preface appendix glossary section refentry"
    " topic concept task reference troubleshooting glossentry tei rss rdf feed"
)
FEEDS = _split("rss rdf feed")
# Parts of a document that hold its title.
TITLE_HOLDERS = _split(
    "channel info articleinfo bookinfo front metadata head prolog article-meta title-group"
)
HEADINGS = _split("title subtitle article-title heading head bridgehead")
LIST_ITEMS = _split("listitem list-item li sli step")
ROWS = _split("row tr strow sthead")
VERBATIM = _split(
    "pre codeblock programlisting screen literallayout listing verbatim msgblock code-block"
)
# Parts that follow each other without a blank line.
LINES = _split("tgroup thead tbody tfoot l")
NOTES = _split("footnote fn")
LINE_BREAKS = _split("br lb")

_SECTIONS = _split(
    "sect1 sect2 sect3 sect4 sect5 simplesect refsect1 refsect2 refsection abstract back body sec"
    " conbody taskbody refbody bodydiv div div1 div2 div3 div4 channel item entry"
)
_BLOCKS = _split(
    "p para simpara formalpara ab shortdesc note tip warning caution important danger sidebar"
    " example informalexample figure informalfigure fig caption blockquote epigraph disp-quote lg"
    " cmd steps prereq postreq itemizedlist orderedlist simplelist variablelist varlistentry list"
    " ul ol dl dlentry dt dd sl def-list def-item table informaltable simpletable td th stentry"
    " titleabbrev"
)
# Parts that also stand in lines of text.
_WORDS = _split("term quote def info context result stepresult description summary content encoded")
BLOCKS = (_SECTIONS | _BLOCKS | HEADINGS | LIST_ITEMS | ROWS | VERBATIM) - {"title"}
# Their names and attributes are no text.
PARTS = DOCUMENTS | TITLE_HOLDERS | BLOCKS | _WORDS | LINES | NOTES | {"title", "text"}
# Attributes of parts that are text.
TEXT_ATTRIBUTES = _split("alt label summary")

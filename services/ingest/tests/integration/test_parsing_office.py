"""Office files, e-books and mail, in the jailed child; every file is written by the test."""

import zipfile
from email.message import EmailMessage
from io import BytesIO

import pytest

from chassis.base.errors import InvalidInputError
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SLIDE = "http://schemas.openxmlformats.org/presentationml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def pack(members: dict[str, str]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            stored = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            target.writestr(name, content, stored)
    return packed.getvalue()


def relations(**targets: str) -> str:
    links = "".join(
        f'<Relationship Id="{name}" Type="{LINKS}/{target.split("|")[0]}"'
        f' Target="{target.split("|")[1]}"/>'
        for name, target in targets.items()
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{links}</Relationships>'


def content_types(**parts: str) -> str:
    overrides = "".join(
        f'<Override PartName="/{part.split("|")[0]}" ContentType="{part.split("|")[1]}"/>'
        for part in parts.values()
    )
    return (
        f'<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )


def docx(body: str, **members: str) -> bytes:
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    return pack(
        {
            "[Content_Types].xml": content_types(document=f"word/document.xml|{main}"),
            "_rels/.rels": relations(r1="officeDocument|word/document.xml"),
            "word/document.xml": (
                f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
            ),
            **members,
        }
    )


def paragraph(text: str, style: str = "") -> str:
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t>{text}</w:t></w:r></w:p>"


def table(*rows: tuple[str, ...]) -> str:
    cells = ("".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"


def xlsx(rows: list[list[str]]) -> bytes:
    main = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    lines = "".join(
        f'<row r="{number}">'
        + "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row)
        + "</row>"
        for number, row in enumerate(rows, 1)
    )
    return pack(
        {
            "[Content_Types].xml": content_types(
                book=f"xl/workbook.xml|{main}.sheet.main+xml",
                sheet=f"xl/worksheets/sheet1.xml|{main}.worksheet+xml",
            ),
            "_rels/.rels": relations(r1="officeDocument|xl/workbook.xml"),
            "xl/_rels/workbook.xml.rels": relations(r1="worksheet|worksheets/sheet1.xml"),
            "xl/workbook.xml": (
                f'<workbook xmlns="{SHEET}" xmlns:r="{LINKS}"><sheets>'
                '<sheet name="Pumps" sheetId="1" r:id="r1"/></sheets></workbook>'
            ),
            "xl/worksheets/sheet1.xml": (
                f'<worksheet xmlns="{SHEET}"><sheetData>{lines}</sheetData></worksheet>'
            ),
        }
    )


def pptx(*texts: str) -> bytes:
    main = "application/vnd.openxmlformats-officedocument.presentationml"
    shapes = "".join(
        f"<p:sp><p:nvSpPr><p:cNvPr id='{number}' name='t'/><p:cNvSpPr/><p:nvPr/></p:nvSpPr>"
        "<p:spPr/>"
        f"<p:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        for number, text in enumerate(texts, 2)
    )
    return pack(
        {
            "[Content_Types].xml": content_types(
                show=f"ppt/presentation.xml|{main}.presentation.main+xml",
                slide=f"ppt/slides/slide1.xml|{main}.slide+xml",
            ),
            "_rels/.rels": relations(r1="officeDocument|ppt/presentation.xml"),
            "ppt/_rels/presentation.xml.rels": relations(r1="slide|slides/slide1.xml"),
            "ppt/presentation.xml": (
                f'<p:presentation xmlns:p="{SLIDE}" xmlns:r="{LINKS}"><p:sldIdLst>'
                '<p:sldId id="256" r:id="r1"/></p:sldIdLst></p:presentation>'
            ),
            "ppt/slides/slide1.xml": (
                f'<p:sld xmlns:p="{SLIDE}" xmlns:a="{DRAWING}"><p:cSld><p:spTree>{shapes}'
                "</p:spTree></p:cSld></p:sld>"
            ),
        }
    )


def odt(body: str, manifest: str = "") -> bytes:
    office = "urn:oasis:names:tc:opendocument:xmlns"
    return pack(
        {
            "mimetype": MediaType.ODT,
            "content.xml": (
                f'<o:document-content xmlns:o="{office}:office:1.0" xmlns:text="{office}:text:1.0"'
                f' xmlns:table="{office}:table:1.0"><o:body><o:text>{body}</o:text></o:body>'
                "</o:document-content>"
            ),
            "META-INF/manifest.xml": (
                f'<m:manifest xmlns:m="{office}:manifest:1.0">{manifest}</m:manifest>'
            ),
        }
    )


def epub(title: str, chapter: str) -> bytes:
    return pack(
        {
            "mimetype": MediaType.EPUB,
            "META-INF/container.xml": (
                '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
                '<rootfiles><rootfile full-path="book.opf"'
                ' media-type="application/oebps-package+xml"/></rootfiles></container>'
            ),
            "book.opf": (
                '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata'
                f' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title>'
                '</metadata><manifest><item id="a" href="a.xhtml"'
                ' media-type="application/xhtml+xml"/></manifest>'
                '<spine><itemref idref="a"/></spine></package>'
            ),
            "a.xhtml": (
                f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{chapter}</body></html>'
            ),
        }
    )


def mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Größe der Pumpe"
    message["From"] = "Ada <ada@example.org>"
    message["To"] = "bob@example.org"
    message.set_content("Die Pumpe hat 4 kW.\n\nGrüße\n")
    return bytes(message)


@pytest.mark.parametrize(
    ("data", "file_name", "media_type", "lines"),
    [
        (
            docx(
                paragraph("Pump manual", "Heading1")
                + paragraph("Close the valve first &amp; wait.")
                + table(("part", "torque"), ("bolt", "12 Nm"))
            ),
            "manual.docx",
            MediaType.DOCX,
            ["Pump manual", "Close the valve first & wait.", "part | torque", "bolt | 12 Nm"],
        ),
        (
            docx(paragraph("水泵每年检查一次。") + paragraph("שלום עולם")),
            "",
            MediaType.DOCX,
            ["水泵每年检查一次。", "שלום עולם"],
        ),
        (
            xlsx([["pump", "kW"], ["north", "4.25"], ["south", "1,000"]]),
            "pumps.xlsx",
            MediaType.XLSX,
            ["Pumps", "pump | kW", "north | 4.25", "south | 1,000"],
        ),
        (
            pptx("Harbour plan", "The crane opens in May."),
            "plan.pptx",
            MediaType.PPTX,
            ["Harbour plan", "The crane opens in May."],
        ),
        (
            odt("<text:h>Lock</text:h><text:p>Two gates, one chamber.</text:p>"),
            "",
            MediaType.ODT,
            ["Lock", "Two gates, one chamber."],
        ),
        (
            rb"{\rtf1\ansi\ansicpg1252 The caf\'e9 opens at nine.\par Second line.}",
            "note.rtf",
            MediaType.RTF,
            ["The café opens at nine.", "Second line."],
        ),
        (
            epub("River book", "<h1>Spring</h1><p>The river rises in March.</p>"),
            "",
            MediaType.EPUB,
            ["River book", "Spring", "The river rises in March."],
        ),
        (
            mail(),
            "letter.eml",
            MediaType.EML,
            ["Subject: Größe der Pumpe", "Die Pumpe hat 4 kW.", "Grüße"],
        ),
    ],
)
async def test_file_becomes_readable_lines(parser, data, file_name, media_type, lines):
    document = await parser(data, media_type="", file_name=file_name)
    assert document.media_type is media_type
    found = [line.lstrip("#*- ") for line in document.text.splitlines()]
    assert [line for line in found if line in lines] == lines


async def test_title_of_the_file_is_the_title_of_the_document(parser):
    document = await parser(epub("River book", "<p>It rises.</p>"), media_type="", file_name="")
    assert document.title == "River book"


async def test_keys_between_two_rules_are_text(parser):
    chapter = "<hr/><p>title: Lost and found</p><hr/><p>Ask at the gate.</p>"
    document = await parser(epub("River book", chapter), media_type="", file_name="")
    assert "title: Lost and found" in document.text
    assert document.title == "River book"


async def test_large_table_is_complete(parser):
    rows = [
        [f"row {number}", *(f"{number}-{column}" for column in range(12))]
        for number in range(9_000)
    ]
    document = await parser(xlsx(rows), media_type="", file_name="")
    assert document.text.count("row ") == len(rows)
    assert document.text.count("-11") >= len(rows)


BOMB = docx(paragraph("x" * (64 << 20)))
MANY = pack({"word/document.xml": "<x/>"} | {f"m{number}": "" for number in range(20_000)})


def entity_bomb() -> bytes:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    declaration = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "boom">{levels}]>'
    text = paragraph("&e9;")
    body = f'{declaration}<w:document xmlns:w="{WORD}"><w:body>{text}</w:body></w:document>'
    return docx("", **{"word/document.xml": body})


def external_entity() -> bytes:
    body = (
        '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        f'<w:document xmlns:w="{WORD}"><w:body>{paragraph("start &e; end")}</w:body></w:document>'
    )
    return docx("", **{"word/document.xml": body})


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (BOMB, {ParseFailure.PARSER_OUTPUT_LIMIT}),
        (MANY, {ParseFailure.PARSER_OUTPUT_LIMIT, ParseFailure.DOCUMENT_DAMAGED}),
        (entity_bomb(), {ParseFailure.DOCUMENT_DAMAGED, ParseFailure.NO_TEXT}),
        (docx(paragraph("cut"))[:-200], {ParseFailure.DOCUMENT_DAMAGED}),
        (odt("", manifest="<m:encryption-data/>"), {ParseFailure.DOCUMENT_ENCRYPTED}),
        (docx(""), {ParseFailure.NO_TEXT}),
    ],
    ids=["bomb", "many members", "entities", "cut off", "encrypted", "empty"],
)
async def test_hostile_or_damaged_file_is_refused_with_its_reason(parser, data, reasons):
    with pytest.raises(InvalidInputError) as refusal:
        await parser(data, media_type="", file_name="")
    assert refusal.value.reason in reasons


async def test_external_entity_is_never_read(parser):
    try:
        text = (await parser(external_entity(), media_type="", file_name="")).text
    except InvalidInputError as refusal:
        text = refusal.detail
    assert "root:" not in text

"""What the PDF reader makes of small files: each test writes its own."""

import io

import pypdf
import pytest

from ingest.notes import NoteCode
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.outline_marks import take_marks
from ingest.parsing.pdf.read_pdf import read

LIMIT = 1 << 20
LATIN = "/Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding"


def write_pdf(content, *, page="", catalog="", resources="", objects=(), font=LATIN):
    """A file of one page; `objects` are numbered from 10."""
    if isinstance(content, str):
        content = content.encode("latin-1")
    bodies = {
        1: f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
        2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        3: (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
            f" /Resources << /Font << /F1 5 0 R >> {resources} >> {page} >>"
        ).encode(),
        4: b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        5: f"<< {font} >>".encode(),
    }
    bodies |= {number: body.encode() for number, body in enumerate(objects, 10)}
    out, places = b"%PDF-1.7\n", {}
    for number, body in bodies.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n"
    for number, place in places.items():
        out += b"%d 1\n%010d 00000 n \n" % (number, place)
    return out + b"trailer << /Size 99 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start


def show(*lines, size=12):
    """Text placed on the page: x, y and what stands there, drawn in this order."""
    placed = " ".join(f"1 0 0 1 {x} {y} Tm ({text}) Tj" for x, y, text in lines)
    return f"BT /F1 {size} Tf {placed} ET"


def letters_font(text):
    """A font whose glyph numbers from 1 stand for the letters of a text, and its objects."""
    pairs = "\n".join(f"<{n:04x}> <{ord(sign):04x}>" for n, sign in enumerate(text, 1))
    table = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /T def"
        f" 1 begincodespacerange <0000> <ffff> endcodespacerange {len(text)} beginbfchar\n{pairs}\n"
        "endbfchar endcmap end end"
    )
    font = (
        "/Type /Font /Subtype /Type0 /BaseFont /Own /Encoding /Identity-H"
        " /DescendantFonts [10 0 R] /ToUnicode 11 0 R"
    )
    objects = (
        (
            "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Own /DW 600 /CIDSystemInfo"
            " << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>"
        ),
        f"<< /Length {len(table)} >>\nstream\n{table}\nendstream",
    )
    return {"font": font, "objects": objects}


def place_letters(places):
    """Glyphs placed one by one: place and glyph number, in the order of drawing."""
    placed = " ".join(f"1 0 0 1 {x} 700 Tm <{glyph:04x}> Tj" for x, glyph in places)
    return f"BT /F1 12 Tf {placed} ET"


def text_of(data):
    [text] = read(data, LIMIT).texts
    return take_marks(text).text


def refusal_of(data):
    with pytest.raises(RefusalError) as refusal:
        read(data, LIMIT)
    return refusal.value.failure


def raise_sign(before, sign, after, rise=4):
    return (
        f"BT /F1 12 Tf 72 700 Td ({before}) Tj /F1 7 Tf {rise} Ts ({sign}) Tj"
        f" /F1 12 Tf 0 Ts ({after}) Tj ET"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (raise_sign("It weighs 3 x 10", "24", " kg in all."), "It weighs 3 x 10^24 kg in all."),
        (raise_sign("Founded in 1871", "2", ", closed."), "Founded in 1871^2, closed."),
        (raise_sign("an area of 40 m", "2", ""), "an area of 40 m^2"),
        (raise_sign("CO", "2", " and water", rise=-3), "CO2 and water"),
        (raise_sign("101", "2", " is five", rise=-3), "101_2 is five"),
        (raise_sign("", "7", "See the report."), "7See the report."),
    ],
)
def test_raised_and_lowered_signs_stay_apart_from_numbers(content, text):
    assert text_of(write_pdf(content)) == text


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("The har-", "bour is closed."), "The harbour is closed."),
        (("The har- ", "bour is closed."), "The harbour is closed."),
        (("The har-", " bour is closed."), "The harbour is closed."),
        (("soft har\\255", "bour wall"), "soft harbour wall"),
        (("a well-", "known and well-known place"), "a well-known and well-known place"),
        (("Tours of Baden-", "Baden"), "Tours of Baden-\nBaden"),
        (("a - b", "c"), "a - b\nc"),
    ],
)
def test_words_broken_at_line_ends_are_rejoined(lines, text):
    data = write_pdf(show(*((72, 700 - 14 * n, line) for n, line in enumerate(lines))))
    assert text_of(data) == text


@pytest.mark.parametrize("hyphen", ["\u2010", "\u00ad"])
def test_other_hyphens_break_words_too(hyphen):
    letters = "abc" + hyphen
    content = "BT /F1 12 Tf 72 700 Td <000100020004> Tj 0 -14 Td <00030001> Tj ET"
    assert text_of(write_pdf(content, **letters_font(letters))) == "abca"


def form(*fields, content):
    numbers = " ".join(f"{number} 0 R" for number in range(10, 10 + len(fields)))
    return write_pdf(
        content,
        page=f"/Annots [{numbers}]",
        catalog=f"/AcroForm << /Fields [{numbers}] >>",
        objects=[
            *(f"<< /Type /Annot /Subtype /Widget {field} >>" for field in fields),
            "<< /Type /XObject /Subtype /Form /BBox [0 0 12 12] /Length 0 >>\nstream\n\nendstream",
        ],
    )


def test_values_of_text_fields_stand_beside_their_labels():
    data = form(
        "/FT /Tx /T (a) /V (Ada Winter) /Rect [150 696 300 712]",
        "/FT /Tx /T (b) /V (12 Mill Lane\\nOld Town) /Rect [150 640 300 670]",
        "/FT /Tx /Ff 8192 /T (c) /V (secret) /Rect [150 600 300 616]",
        "/FT /Tx /F 2 /T (d) /V (hidden) /Rect [150 580 300 596]",
        content=show((72, 700, "Name:"), (72, 680, "Address:")),
    )
    assert text_of(data) == "Name: Ada Winter\nAddress:\n12 Mill Lane\nOld Town"


def test_choices_and_checked_boxes_are_read():
    data = form(
        "/FT /Ch /Ff 131072 /T (a) /V (s) /Opt [[(s) (Small boat)] [(l) (Large boat)]]"
        " /Rect [150 696 300 712]",
        "/FT /Btn /T (b) /V /Yes /AS /Yes /Rect [150 676 162 688]"
        " /AP << /N << /Yes 13 0 R /Off 13 0 R >> >>",
        "/FT /Btn /T (c) /V /Off /AS /Off /Rect [150 656 162 668]"
        " /AP << /N << /Yes 13 0 R /Off 13 0 R >> >>",
        content=show((72, 700, "Size:"), (170, 678, "with crew"), (170, 658, "with fuel")),
    )
    assert text_of(data) == "Size: Small boat\n[x] with crew\nwith fuel"


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("/Subtype /FreeText /Contents (Paid on 3 May)", "The bill.\n\nPaid on 3 May"),
        ("/Subtype /Stamp /Contents (Approved)", "The bill.\n\nApproved"),
        ("/Subtype /FreeText /F 2 /Contents (never shown)", "The bill."),
        ("/Subtype /Link /Contents (where it leads)", "The bill."),
    ],
)
def test_text_laid_over_the_page_follows_it(annotation, text):
    data = write_pdf(
        show((72, 700, "The bill.")),
        page="/Annots [10 0 R]",
        objects=[f"<< /Type /Annot {annotation} /Rect [300 600 500 640] >>"],
    )
    assert text_of(data) == text


def test_a_stamp_whose_text_is_only_drawn_is_read():
    drawn = show((5, 5, "Received"))
    data = write_pdf(
        show((72, 700, "The bill.")),
        page="/Annots [10 0 R 12 0 R]",
        objects=[
            "<< /Type /Annot /Subtype /Stamp /AP << /N 11 0 R >> /Rect [300 600 400 640] >>",
            (
                "<< /Type /XObject /Subtype /Form /BBox [0 0 100 40]"
                f" /Resources << /Font << /F1 5 0 R >> >> /Length {len(drawn)} >>"
                f"\nstream\n{drawn}\nendstream"
            ),
            "<< /Type /Annot /Subtype /Link /AP << /N 11 0 R >> /Rect [300 500 400 540] >>",
        ],
    )
    assert text_of(data) == "The bill.\n\nReceived"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "(a di) Tj /Span << /ActualText (ffi) >> BDC (#) Tj EMC (cult road) Tj",
            "a difficult road",
        ),
        ("/Span << /ActualText (Tea) >> BDC (7) Tj (E) Tj (A) Tj EMC ( for two) Tj", "Tea for two"),
    ],
)
def test_actual_text_replaces_what_it_stands_for(content, text):
    assert text_of(write_pdf(f"BT /F1 12 Tf 72 700 Td {content} ET")) == text


def test_actual_text_of_a_glyph_nobody_drew_is_read():
    content = (
        "BT /F1 12 Tf 72 700 Td <0001> Tj /Span << /ActualText (fl) >> BDC <0063> Tj EMC"
        " <00020003> Tj ET"
    )
    assert text_of(write_pdf(content, **letters_font("aow"))) == "aflow"


HEBREW = "\u05e9\u05dc\u05d5\u05dd 0123456789()"


def glyphs(text):
    return [HEBREW.index(sign) + 1 for sign in text]


def test_letters_placed_from_right_to_left_are_read_in_order():
    places = [(300 - 7 * n, glyph) for n, glyph in enumerate(glyphs("\u05e9\u05dc\u05d5\u05dd"))]
    data = write_pdf(place_letters(places), **letters_font(HEBREW))
    assert text_of(data) == "\u05e9\u05dc\u05d5\u05dd"


@pytest.mark.parametrize("is_singly", [True, False])
def test_numbers_keep_their_order_in_text_from_right_to_left(is_singly):
    shown = glyphs("\u05dc\u05e9 375 \u05dd\u05d5\u05dc\u05e9")
    if is_singly:
        places = [(200 + 7.2 * n, glyph) for n, glyph in enumerate(shown)]
        content = place_letters(places[::-1])
    else:
        content = f"BT /F1 12 Tf 72 700 Td <{''.join(f'{glyph:04x}' for glyph in shown)}> Tj ET"
    assert text_of(write_pdf(content, **letters_font(HEBREW))) == (
        "\u05e9\u05dc\u05d5\u05dd 375 \u05e9\u05dc"
    )


LEFT = (
    "The pump house was built by the",
    "river in the last dry year and",
    "has not been painted since.",
)
RIGHT = (
    "Two engines of the same make are",
    "kept under a roof of tin, which",
    "the storm has spared so far.",
)


@pytest.mark.parametrize("is_across", [True, False])
def test_columns_of_prose_are_read_one_after_the_other(is_across):
    left = [(72, 700 - 14 * n, line) for n, line in enumerate(LEFT)]
    right = [(320, 700 - 14 * n, line) for n, line in enumerate(RIGHT)]
    pairs = zip(left, right, strict=True)
    lines = [line for pair in pairs for line in pair] if is_across else right + left
    data = write_pdf(
        show((72, 730, "Notes on the pump house of the lower river, with two engines"), *lines)
    )
    assert text_of(data) == (
        "Notes on the pump house of the lower river, with two engines\n\n"
        + "\n".join(LEFT)
        + "\n\n"
        + "\n".join(RIGHT)
    )


def test_columns_on_other_baselines_are_read_one_after_the_other():
    left = [(72, 700 - 14 * n, line) for n, line in enumerate(LEFT)]
    right = [(320, 693 - 14 * n, line) for n, line in enumerate(RIGHT)]
    assert text_of(write_pdf(show(*left, *right))) == "\n".join(LEFT) + "\n\n" + "\n".join(RIGHT)


ROWS = (
    ("Tree", "Height", "Age"),
    ("Oak", "30 m", "400"),
    ("Elm", "25 m", "150"),
    ("Fir", "40 m", "80"),
)


@pytest.mark.parametrize("is_by_column", [True, False])
def test_tables_are_read_row_by_row(is_by_column):
    cells = [
        (72 + 120 * column, 700 - 14 * row, text)
        for row, texts in enumerate(ROWS)
        for column, text in enumerate(texts)
    ]
    if is_by_column:
        cells.sort(key=lambda cell: cell[0])
    assert text_of(write_pdf(show(*cells))) == (
        "Tree Height Age\nOak 30 m 400\nElm 25 m 150\nFir 40 m 80"
    )


def test_a_larger_gap_begins_a_paragraph():
    data = write_pdf(
        show((72, 700, "One."), (72, 686, "Two."), (72, 650, "Three."), (72, 636, "Four."))
    )
    assert text_of(data) == "One.\nTwo.\n\nThree.\nFour."


@pytest.mark.parametrize(
    ("rotation", "matrix"),
    [(90, "0 1 -1 0 100 100"), (180, "-1 0 0 -1 500 100"), (270, "0 -1 1 0 100 600")],
)
def test_turned_pages_are_read_as_they_stand(rotation, matrix):
    content = f"BT /F1 12 Tf {matrix} Tm (The first line) Tj 0 -14 Td (and the second.) Tj ET"
    data = write_pdf(content, page=f"/Rotate {rotation}")
    assert text_of(data) == "The first line\nand the second."


@pytest.mark.parametrize("matrix", ["0 1 -1 0 560 100", "0.7071 0.7071 -0.7071 0.7071 200 200"])
def test_turned_lines_follow_the_page(matrix):
    content = f"BT /F1 12 Tf {matrix} Tm (Copy of the archive) Tj ET " + show(
        (72, 700, "The deed.")
    )
    assert text_of(write_pdf(content)) == "The deed.\n\nCopy of the archive"


LAYERS = (
    "<< /Type /OCG /Name (Notes) >>",
    "<< /Type /OCG /Name (Plan) >>",
    "<< /Type /OCMD /OCGs [10 0 R] /P /AllOn >>",
)


def layered(properties, settings):
    return write_pdf(
        f"/OC /L BDC {show((72, 700, 'On a layer.'))} EMC {show((72, 680, 'On the page.'))}",
        resources=f"/Properties << /L {properties} >>",
        catalog=f"/OCProperties << /OCGs [10 0 R 11 0 R] /D << {settings} >> >>",
        objects=LAYERS,
    )


@pytest.mark.parametrize(
    ("properties", "settings", "is_shown"),
    [
        ("10 0 R", "/OFF [10 0 R]", False),
        ("10 0 R", "/OFF [11 0 R]", True),
        ("10 0 R", "/BaseState /OFF /ON [11 0 R]", False),
        ("12 0 R", "/OFF [10 0 R]", False),
        ("12 0 R", "", True),
    ],
)
def test_layers_that_are_off_are_left_out(properties, settings, is_shown):
    expected = "On a layer.\nOn the page." if is_shown else "On the page."
    assert text_of(layered(properties, settings)) == expected


def test_a_form_on_a_layer_that_is_off_is_left_out():
    drawn = show((10, 10, "Inside of the form"))
    data = write_pdf(
        f"/OC /L BDC /X Do EMC {show((72, 680, 'On the page.'))}",
        resources="/Properties << /L 10 0 R >> /XObject << /X 11 0 R >>",
        catalog="/OCProperties << /OCGs [10 0 R] /D << /OFF [10 0 R] >> >>",
        objects=[
            LAYERS[0],
            (
                "<< /Type /XObject /Subtype /Form /BBox [0 0 200 40]"
                f" /Resources << /Font << /F1 5 0 R >> >> /Length {len(drawn)} >>"
                f"\nstream\n{drawn}\nendstream"
            ),
        ],
    )
    assert text_of(data) == "On the page."


@pytest.mark.parametrize(
    ("page", "place"), [("", (72, 900)), ("", (-300, 700)), ("/CropBox [0 400 612 792]", (72, 100))]
)
def test_text_beyond_the_edges_is_left_out(page, place):
    data = write_pdf(show((72, 700, "On paper."), (*place, "Not on paper.")), page=page)
    assert text_of(data) == "On paper."


def test_invisible_text_over_an_image_is_kept():
    assert text_of(write_pdf(f"3 Tr {show((72, 700, 'Read from a scan.'))}")) == "Read from a scan."


NUMBERED = {
    "font": LATIN.replace(
        "/WinAnsiEncoding", "<< /Type /Encoding /Differences [65 /g1 /g2 /g3] >>"
    ),
}
NO_LETTERS = {
    "font": "/Type /Font /Subtype /Type0 /BaseFont /Own /Encoding /Identity-H"
    " /DescendantFonts [10 0 R]",
    "objects": letters_font("a")["objects"],
}


@pytest.mark.parametrize(
    "data",
    [
        write_pdf("BT /F1 12 Tf 72 700 Td (ABCABC) Tj ET", **NUMBERED),
        write_pdf("BT /F1 12 Tf 72 700 Td <0037004b0048000300570048005b0057> Tj ET", **NO_LETTERS),
        write_pdf(
            "BT /F1 12 Tf 72 700 Td <000100020003> Tj ET", **letters_font("\ue001\ue002\ue003")
        ),
        write_pdf("BT /F1 12 Tf 72 700 Td <000100020003> Tj ET", **letters_font("\x81\x82\ufffd")),
        write_pdf("0 0 m 99 99 l S"),
        write_pdf(""),
    ],
    ids=["glyph names", "no letters", "private use", "controls", "drawing", "blank"],
)
def test_pages_without_letters_need_ocr(data):
    assert refusal_of(data) == ParseFailure.NEEDS_OCR


def test_a_few_unknown_signs_leave_the_page_readable():
    letters = "\ue001abcdefg"
    content = "BT /F1 12 Tf 72 700 Td <00010002000300040005000600070008> Tj ET"
    reading = read(write_pdf(content, **letters_font(letters)), LIMIT)
    assert [take_marks(text).text for text in reading.texts] == ["abcdefg"]
    detail = "1 sign left out, because their fonts do not tell the letters"
    assert reading.notes == ((NoteCode.SIGNS_LEFT_OUT, detail),)


def test_text_beyond_the_limit_is_refused():
    with pytest.raises(RefusalError) as refusal:
        read(write_pdf(show((72, 700, "a" * 200))), 100)
    assert refusal.value.failure is ParseFailure.PARSER_OUTPUT_LIMIT


@pytest.mark.parametrize(("password", "is_open"), [("", True), ("secret", False)])
def test_only_a_file_that_asks_for_a_password_is_refused(password, is_open):
    writer = pypdf.PdfWriter(io.BytesIO(write_pdf(show((72, 700, "Locked.")))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-128")
    out = io.BytesIO()
    writer.write(out)
    if is_open:
        assert text_of(out.getvalue()) == "Locked."
    else:
        assert refusal_of(out.getvalue()) == ParseFailure.DOCUMENT_ENCRYPTED


def test_layers_of_a_file_without_an_object_table_are_known():
    data = layered("10 0 R", "/OFF [10 0 R]")
    assert text_of(data[: data.index(b"xref")] + b"trailer << /Root 1 0 R >>") == "On the page."


def test_a_file_with_broken_layers_is_refused():
    data = layered("10 0 R", "/OFF [10 0 R]").replace(b"/OFF [10 0 R]", b"/OFF (10 0 R)")
    assert refusal_of(data) == ParseFailure.DOCUMENT_DAMAGED


@pytest.mark.parametrize("data", [b"%PDF-1.7\nnothing", write_pdf("").replace(b"/Page ", b"/Pag ")])
def test_a_broken_file_is_refused(data):
    assert refusal_of(data) in (ParseFailure.DOCUMENT_DAMAGED, ParseFailure.NEEDS_OCR)

"""Detection, decoding and cleaning: everything that happens before a chunk is cut."""
# ruff: noqa: RUF001 (text of many scripts is the subject)

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from ingest.notes import NoteCode
from ingest.parsing.detect import charset, detect
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure
from ingest.parsing.text.charset import find_declared_charset
from ingest.parsing.text.clean import MARKS_MAX, clean, clean_title
from ingest.parsing.text.decode import Decoded, decode

from .growth import assert_linear

PDF = b"%PDF-1.7\n1 0 obj"
HTML = b"<!DOCTYPE html><title>t</title>"
PLAIN = b"plain words"
PLAIN_SUFFIXES = ("py", "sh", "js", "css", "tex", "go", "rs", "sql", "log", "yaml")
ZIP = b"PK\x03\x04rest"
DOCX = ZIP + b"word/document.xml"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("data", "media_type", "file_name", "expected"),
    [
        (PLAIN, "", "", MediaType.TEXT),
        (PLAIN, "application/octet-stream", "README", MediaType.TEXT),
        (PLAIN, "text/plain; charset=utf-8", "table.csv", MediaType.TEXT),
        (PLAIN, "", "notes.MD", MediaType.MARKDOWN),
        (PLAIN, "text/x-markdown", "", MediaType.MARKDOWN),
        (PLAIN, "TEXT/HTML", "", MediaType.HTML),
        (b"<p>a fragment</p>", "", "page.htm", MediaType.HTML),
        (HTML, "", "", MediaType.HTML),
        (b"\n<!-- saved --> <HTML lang=en>", "", "", MediaType.HTML),
        (b'<?xml version="1.0"?><!doctype html>', "application/xhtml+xml", "", MediaType.HTML),
        ("\ufeff<html>".encode("utf-16"), "", "", MediaType.HTML),
        (PDF, "", "", MediaType.PDF),
        (b"junk before\n" + PDF, "application/pdf", "", MediaType.PDF),
        (b"about the %PDF- mark", "text/plain", "", MediaType.TEXT),
        (b"<html-like prose> is text", "", "", MediaType.TEXT),
        (HTML, "text/plain", "", MediaType.TEXT),
        (HTML, "", "readme.md", MediaType.MARKDOWN),
        (b"GIF89a was the second edition of the format.", "", "", MediaType.TEXT),
        (b"BZhang wrote the first line.", "", "", MediaType.TEXT),
        (b"%PDF-1.4 is the first line of such a file.", "", "notes.txt", MediaType.TEXT),
        (PLAIN, "", "table.CSV", MediaType.CSV),
        (PLAIN, "text/csv; header=present", "", MediaType.CSV),
        (PLAIN, "application/csv", "", MediaType.CSV),
        (PLAIN, "application/vnd.ms-excel", "table.csv", MediaType.CSV),
        (PLAIN, "application/vnd.ms-excel", "table.tsv", MediaType.TSV),
        (PLAIN, "", "table.tab", MediaType.TSV),
        (PLAIN, "application/json", "", MediaType.JSON),
        (PLAIN, "application/geo+json", "", MediaType.JSON),
        (PLAIN, "", "package.json", MediaType.JSON),
        (PLAIN, "text/xml", "", MediaType.XML),
        (PLAIN, "application/rss+xml; charset=utf-8", "", MediaType.XML),
        (PLAIN, "", "feed.atom", MediaType.XML),
        (PLAIN, "", "drawing.svg", MediaType.XML),
        (b'<?xml version="1.0"?><html>', "application/xml", "", MediaType.HTML),
        (PLAIN, "", "study.ipynb", MediaType.NOTEBOOK),
        (PLAIN, "application/x-ipynb+json", "", MediaType.NOTEBOOK),
        (PLAIN, "application/x-ndjson", "", MediaType.JSONL),
        (PLAIN, "", "rows.jsonl", MediaType.JSONL),
        (PLAIN, "text/plain", "rows.jsonl", MediaType.TEXT),
        *((PLAIN, "", f"x.{suffix}", MediaType.TEXT) for suffix in PLAIN_SUFFIXES),
        (b"{\\rtf1 text}", "", "", MediaType.RTF),
        (PLAIN, "", "mail.eml", MediaType.EML),
        (PLAIN, "", "page.mhtml", MediaType.MHTML),
        (PLAIN, "message/rfc822", "page.mht", MediaType.MHTML),
        (PLAIN, "application/x-mimearchive", "", MediaType.MHTML),
        (DOCX, "", "", MediaType.DOCX),
        (DOCX, "application/zip", "report.docx", MediaType.DOCX),
        (ZIP + b"xl/workbook.bin", "", "", MediaType.XLSX),
        (ZIP[:4] + bytes(26) + b"mimetypeapplication/epub+zip", "", "", MediaType.EPUB),
        (OLE + "Workbook".encode("utf-16-le"), "", "", MediaType.XLS),
    ],
)
def test_format_is_read_from_the_bytes_and_the_hint_settles_the_rest(
    data, media_type, file_name, expected
):
    assert detect(data, media_type=media_type, file_name=file_name) is expected


@pytest.mark.parametrize(
    ("data", "media_type", "file_name", "reason"),
    [
        (ZIP, "", "", ParseFailure.MEDIA_TYPE_UNSUPPORTED),
        (ZIP, "", "report.docx", ParseFailure.MEDIA_TYPE_MISMATCH),
        (DOCX, "", "slides.pptx", ParseFailure.MEDIA_TYPE_MISMATCH),
        (PLAIN, "application/zip", "", ParseFailure.MEDIA_TYPE_UNSUPPORTED),
        (PLAIN, "", "film.mp4", ParseFailure.MEDIA_TYPE_UNSUPPORTED),
        (PLAIN, "", "report.docx", ParseFailure.MEDIA_TYPE_MISMATCH),
        (PLAIN, "application/vnd.ms-excel", "notes.txt", ParseFailure.MEDIA_TYPE_MISMATCH),
        (b"GIF89a\x10\x00\x10\x00\xf7\x00\x00", "", "", ParseFailure.NEEDS_OCR),
        (b"%!PS-Adobe\x04", "text/plain", "", ParseFailure.MEDIA_TYPE_MISMATCH),
        (OLE + b"nothing known", "", "", ParseFailure.MEDIA_TYPE_UNSUPPORTED),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "", "", ParseFailure.DOCUMENT_ENCRYPTED),
        (ZIP, "application/pdf", "", ParseFailure.MEDIA_TYPE_MISMATCH),
        (ZIP, "", "innocent.txt", ParseFailure.MEDIA_TYPE_MISMATCH),
        (PDF, "text/html", "", ParseFailure.MEDIA_TYPE_MISMATCH),
        (PDF, "", "notes.md", ParseFailure.MEDIA_TYPE_MISMATCH),
        (HTML, "application/pdf", "", ParseFailure.MEDIA_TYPE_MISMATCH),
        (HTML, "", "table.csv", ParseFailure.MEDIA_TYPE_MISMATCH),
        (HTML, "application/json", "", ParseFailure.MEDIA_TYPE_MISMATCH),
        (PLAIN, "application/pdf", "", ParseFailure.MEDIA_TYPE_MISMATCH),
    ],
)
def test_bytes_that_are_not_what_was_declared_are_refused(data, media_type, file_name, reason):
    with pytest.raises(InvalidInputError) as refusal:
        detect(data, media_type=media_type, file_name=file_name)
    assert refusal.value.reason == reason


def test_media_type_parameters_name_a_charset():
    assert charset('text/plain; format=flowed; charset="ISO-8859-1"') == "ISO-8859-1"
    assert charset("text/plain") == ""


RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. Широкая электрификация."
JAPANESE = "これは日本語の文章です。東京は日本の首都です。"
FRENCH = "L’entretien de la chaudière est effectué chaque année ; à défaut, la garantie cesse."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain ascii", "ascii"),
        (RUSSIAN, "utf-8"),
        (RUSSIAN, "utf-8-sig"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        ("Každé čerpadlo musí být před začátkem sezony zkontrolováno a opraveno.", "cp1250"),
        ("Każda pompa musi być sprawdzona przed rozpoczęciem sezonu grzewczego.", "iso8859_2"),
        (FRENCH, "cp1252"),
        ("## Schlüssel\n\nDer Schlüssel für die Pumpe hängt über der Tür.", "latin_1"),
        ("Türkçe bir metin: ığüşöç İstanbul güzel bir şehir", "cp1254"),
        (JAPANESE, "cp932"),
        (JAPANESE, "iso2022_jp"),
        ("这是一个中文文档。北京是中国的首都。我们喜欢学习语言。", "gbk"),
        ("이것은 한국어 문서입니다. 서울은 대한민국의 수도입니다.", "euc_kr"),
        *((FRENCH, encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be")),
        *((FRENCH, encoding) for encoding in ("utf-32", "utf-32-le", "utf-32-be")),
        ("这是 一个\n中文 文档", "utf-16-be"),
    ],
)  # fmt: skip
def test_encoding_is_found_without_a_hint(text, encoding):
    assert decode(text.encode(encoding), charset="").text == text


@pytest.mark.parametrize("hint", ["euc_jp", "EUC-JP"])
def test_charset_hint_settles_what_statistics_can_not(hint):
    assert decode(JAPANESE.encode("euc_jp"), charset=hint).text == JAPANESE


@pytest.mark.parametrize(
    "hint", ["utf-16", "latin-1", "zlib", "unicode_escape", "punycode", "nonsense", "é", "\x00"]
)
def test_wrong_or_dangerous_charset_hint_is_overruled(hint):
    assert decode(RUSSIAN.encode(), charset=hint).text == RUSSIAN


def test_latin_1_hint_means_its_superset_as_on_the_web():
    assert decode(b"\x93quoted\x94 caf\xe9", charset="iso-8859-1").text == "“quoted” café"


def test_bytes_outside_ascii_far_into_a_file_are_decoded():
    text = "plain line of ascii\n" * 20_000 + f"{FRENCH}\n" + "more ascii\n" * 1000
    assert decode(text.encode("cp1252"), charset="").text == text


MIXED = {
    "gbk": "每台水泵Pump在季节7开始之前必须abc进行检查。检查a结果写入记录本并送交"
    "办公室bc。如果故障危及d生命，必须立即关闭设备并通知值班负责人。",
    "cp932": "すべてのPumpポンプは季節が7始まる前にabc点検しなければxなりません。"
    "結果は記録簿にy書き込みます。",
}


@pytest.mark.parametrize("encoding", MIXED)
@pytest.mark.parametrize("phase", range(6))
def test_sample_of_a_long_line_may_end_inside_a_character(encoding, phase):
    sentence = MIXED[encoding]
    text = sentence[phase:] + 1_500 * sentence
    assert decode(text.encode(encoding), charset="").text == text


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 4,
        b"\x00\x01\x02\x03" * 100,
        b"\xef\xbb\xbf\xff\xff broken mark",
        b"\xff\xfe\x00\xd8\x00\xd8",
        b"\x07" * 50 + b"bell",
    ],
)
def test_bytes_that_are_no_text_are_refused(data):
    with pytest.raises(InvalidInputError) as refusal:
        decode(data, charset="")
    assert refusal.value.reason == ParseFailure.TEXT_UNDECODABLE


@given(st.binary(max_size=400))
@example(b"\x80\xc2\x80\xc2\x80")
def test_decoding_any_bytes_ends_in_text_or_a_typed_refusal(data):
    found, reason = Decoded(""), ""
    try:
        found = decode(data, charset="")
    except InvalidInputError as refusal:
        reason = refusal.reason
    assert reason in ("", ParseFailure.TEXT_UNDECODABLE)
    is_repaired = NoteCode.TEXT_REPAIRED in [note.code for note in found.notes]
    assert "\ufffd" not in found.text or is_repaired or "\ufffd".encode() in data


def test_long_line_without_newline_is_sampled_in_linear_time():
    def work(half: bytes) -> None:
        french = FRENCH.encode("cp1252")
        text = decode(half + french + half, charset="").text
        assert text.endswith(FRENCH + "a" * len(half))

    assert_linear(work, lambda size: b"a" * size, 8_000_000)


@pytest.mark.parametrize(
    ("data", "charset", "codes"),
    [
        (RUSSIAN.encode(), "", []),
        (RUSSIAN.encode(), "windows-1251", []),
        (RUSSIAN.encode("cp1251"), "windows-1251", []),
        (b"\xff\xfe" + RUSSIAN.encode("utf-16-le"), "", []),
        ("Water".encode("utf-16-le"), "", ["ENCODING_DETECTED"]),
        (RUSSIAN.encode("cp1251"), "", ["ENCODING_DETECTED"]),
        (RUSSIAN.encode("cp1251"), "utf-8", ["CHARSET_IGNORED", "ENCODING_DETECTED"]),
        (RUSSIAN.encode("cp1251"), "no-such", ["CHARSET_IGNORED", "ENCODING_DETECTED"]),
        (RUSSIAN.encode() + b"\xff", "", ["TEXT_REPAIRED"]),
        (RUSSIAN.encode() + b"\xff", "utf-8", ["TEXT_REPAIRED"]),
        (JAPANESE.encode() + b"\xff", "euc-jp", ["CHARSET_IGNORED", "TEXT_REPAIRED"]),
    ],
)
def test_what_was_guessed_or_repaired_is_noted(data, charset, codes):
    assert [note.code for note in decode(data, charset=charset).notes] == codes


def test_notes_name_the_encoding_and_count_the_damage():
    [note] = decode(RUSSIAN.encode("cp1251"), charset="").notes
    assert re.fullmatch(
        r"read as windows-1251, confidence [01]\.\d\d(, confirmed by a second library)?",
        note.detail,
    )
    [note] = decode(b"\xff".join([RUSSIAN.encode()] * 3), charset="").notes
    assert note.detail == "2 damaged places became U+FFFD; the rest is UTF-8"
    [note, _] = decode(RUSSIAN.encode("cp1251"), charset="sjis").notes
    assert note.detail == "the declared encoding was ignored: the bytes are not cp932"


SHORT_TEXTS = [
    (text, encoding)
    for text in ("Ключ", "契約", "naïve", "Größe", "żółw", "Łódź, ul. Żółwia 7", "12 £")
    for encoding in ("cp1250", "cp1251", "cp1252", "cp932", "cp850")
    if text.encode(encoding, "ignore").decode(encoding) == text
]


@pytest.mark.parametrize(("text", "encoding"), SHORT_TEXTS)
def test_short_text_is_refused_unless_its_encoding_is_declared(text, encoding):
    with pytest.raises(InvalidInputError) as refusal:
        decode(text.encode(encoding), charset="")
    assert refusal.value.reason == ParseFailure.TEXT_UNDECODABLE
    assert decode(text.encode(encoding), charset=encoding).text == text


@pytest.mark.parametrize("text", [RUSSIAN, JAPANESE, FRENCH])
def test_damaged_bytes_in_utf8_change_no_other_character(text):
    half = text[: len(text) // 2]
    assert decode(half.encode() + b"\xff" + text.encode(), charset="").text == f"{half}\ufffd{text}"
    cut = text[-1].encode() + "é".encode()[:1]
    assert decode(text.encode() + cut, charset="utf-8").text == f"{text}{text[-1]}\ufffd"


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("gb2312", "gb18030", "①龍𠮷"),
        ("GB_2312-80", "gbk", "镕基"),
        ("shift_jis", "cp932", "①㈱髙"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("iso-8859-9", "cp1254", "“İzmir” €"),
        ("latin1", "cp1252", "“quoted” café €"),
        ("tis-620", "cp874", "ราคา…"),
        ("iso-8859-8-i", "iso8859_8", "שלום"),
        ("x-mac-cyrillic", "mac_cyrillic", "Ключ"),
        ("dos-874", "cp874", "ราคา"),
        ("big5", "big5hkscs", "設備嘅"),
    ],
)
def test_label_means_what_browsers_make_of_it(label, codec, text):
    assert decode(text.encode(codec), charset=label).text == text


def test_windows_text_under_the_name_of_its_iso_relative_loses_no_sign():
    # In ISO 8859-2 these quotation marks would be invisible control characters.
    text = "„Każda pompa” musi być sprawdzona przed rozpoczęciem sezonu grzewczego, i żółta też."
    assert decode(text.encode("cp1250"), charset="iso-8859-2").text == text


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b'<html><meta charset="shift_jis">', "shift_jis"),
        (
            b"<META http-equiv=content-type content='text/html; CHARSET=windows-1251'>",
            "windows-1251",
        ),
        (b"<html>" + b" " * 4000 + b"<meta charset=late>", "late"),
        (b"<html>" + b" " * 70_000 + b"<meta charset=too-late>", ""),
        (b"<!-- <meta charset=koi8-r> --><meta charset=gbk>", "gbk"),
        (b'\n<?xml version="1.0" encoding="koi8-r"?><html>', "koi8-r"),
        # Whoever can read this declaration does not read UTF-16.
        (b"<meta charset=utf-16>", "utf-8"),
        (b"<p>no head", ""),
    ],
)
def test_html_names_its_own_charset(head, expected):
    assert find_declared_charset(head) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\r\nb\rc\vd\x85e\u2028f\u2029g", "a\nb\nc\nd\ne\nf\ng"),
        ("one\fpage", "one\n\npage"),
        ("a  \t\n\n \n\n\nb", "a\n\nb"),
        ("\n\n  indented\n    more", "indented\n    more"),
        ("nul\x00 bell\x07 escape\x1b[0m", "nul bell escape[0m"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("over\u202eride tag\U000e0041\U000e0042 \u2066isolate\u2069", "override tag isolate"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("no\u00a0break\u3000wide", "no break wide"),
        ("e\u0301 A\u030a", "é Å"),
        ("\ufb01lled e\ufb03cient", "filled efficient"),
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        ("tab\tstays", "tab\tstays"),
        (" \n\t ", ""),
    ],
)
def test_text_is_cleaned(raw, expected):
    assert clean(raw) == expected


@given(st.text(st.characters(categories=["L", "M", "Z", "C", "P", "S"]), max_size=300))
def test_clean_text_can_be_stored_and_quoted(raw):
    text = clean(raw)
    assert text == text.strip()
    assert unicodedata.is_normalized("NFC", text)
    assert "\n\n\n" not in text
    assert not any(
        unicodedata.category(character) == "Cc" for character in text if character not in "\t\n"
    )
    text.encode()


def test_combining_marks_without_end_are_normalised_in_linear_time():
    def work(number: int) -> None:
        text = clean("a" + "\u0301\u0316" * (2 * number) + "\U0001d165\U0001d16d" * number)
        assert len(text) > 6 * number

    assert_linear(work, int, 100_000)
    assert clean("e" + "\u0316" * MARKS_MAX) == "e" + "\u0316" * MARKS_MAX


@pytest.mark.parametrize(
    ("raw_of", "cleaned"),
    [
        (lambda size: " " * size + "x", "x"),
        (lambda size: "x" + " \n" * (size // 2) + "x", "x\n\nx"),
        (lambda size: "\t" * size, ""),
    ],
)
def test_blanks_without_end_are_cleaned_in_linear_time(raw_of, cleaned):
    def work(raw: str) -> None:
        assert clean(raw) == cleaned

    assert_linear(work, raw_of, 4_000_000)


def test_title_is_one_short_line():
    assert clean_title("  A\ttitle\nover \x00 lines ") == "A title over lines"
    assert len(clean_title("word " * 1000)) <= 300

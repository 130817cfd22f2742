"""Archives and pictures: refused with what to do, by their bytes, their type or their name."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from io import BytesIO

import pytest

from chassis.base.errors import InvalidInputError
from ingest.parsing.detect import detect
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure
from ingest.parsing.parser import Parser, ParserLimits

PDF = b"%PDF-1.7\n1 0 obj"
TEXT = b"Close the valve first.\n" * 20


def pack_zip() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        target.writestr("notes/valve.txt", TEXT)
    return packed.getvalue()


def pack_tar(mode: str) -> bytes:
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as target:
        member = tarfile.TarInfo("notes/valve.txt")
        member.size = len(TEXT)
        target.addfile(member, BytesIO(TEXT))
    return packed.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body).to_bytes(4)
        return len(body).to_bytes(4) + kind + body + check

    header = b"\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00"
    pixels = chunk(b"IDAT", zlib.compress(b"\x00\xff"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


ARCHIVES = {
    "notes.zip": pack_zip(),
    "notes.tar": pack_tar("w"),
    "notes.tar.gz": pack_tar("w:gz"),
    "notes.tgz": pack_tar("w:gz"),
    "notes.tar.bz2": pack_tar("w:bz2"),
    "notes.tar.xz": pack_tar("w:xz"),
    "valve.txt.gz": gzip.compress(TEXT),
    "rows.csv.bz2": bz2.compress(TEXT),
    "rows.json.xz": lzma.compress(TEXT),
    "notes.7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24),
    "notes.rar": b"Rar!\x1a\x07\x01\x00" + bytes(24),
    "notes.zst": b"\x28\xb5\x2f\xfd\x04\x00" + bytes(24),
}
PICTURES_FOR_OCR = {
    "scan.png": (png(), MediaType.PNG),
    "scan.jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(24), MediaType.JPEG),
    "scan.tif": (b"II*\x00\x08\x00\x00\x00" + bytes(24), MediaType.TIFF),
    "scan.tiff": (b"MM\x00*\x00\x00\x00\x08" + bytes(24), MediaType.TIFF),
}
PICTURES = {
    "scan.gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00",
    "scan.bmp": b"BM\x3a\x00\x00\x00\x00\x00" + bytes(24),
    "scan.webp": b"RIFF\x1a\x00\x00\x00WEBPVP8L" + bytes(24),
    "scan.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00" + bytes(24),
}


def find_refusal(data: bytes, media_type: str = "", file_name: str = "") -> InvalidInputError:
    with pytest.raises(InvalidInputError) as refusal:
        detect(data, media_type=media_type, file_name=file_name)
    return refusal.value


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("is_named", [True, False])
def test_archive_is_refused_with_the_advice_to_unpack_it(name, is_named):
    refusal = find_refusal(ARCHIVES[name], file_name=name if is_named else "")
    assert refusal.reason == ParseFailure.MEDIA_TYPE_UNSUPPORTED
    assert "unpack it" in refusal.detail


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("is_named", [True, False])
def test_picture_is_refused_with_the_advice_to_convert_it(name, is_named):
    refusal = find_refusal(PICTURES[name], file_name=name if is_named else "")
    assert refusal.reason == ParseFailure.NEEDS_OCR
    assert "convert it to PNG" in refusal.detail


@pytest.mark.parametrize("name", PICTURES_FOR_OCR)
@pytest.mark.parametrize("is_named", [True, False])
async def test_picture_that_ocr_can_read_is_refused_while_ocr_is_off(name, is_named):
    data, media_type = PICTURES_FOR_OCR[name]
    file_name = name if is_named else ""
    assert detect(data, media_type="", file_name=file_name) is media_type
    with pytest.raises(InvalidInputError) as refusal:
        await Parser(ParserLimits())(data, media_type="", file_name=file_name)
    assert refusal.value.reason == ParseFailure.NEEDS_OCR
    assert "run OCR" in refusal.value.detail


@pytest.mark.parametrize(
    ("data", "media_type", "file_name", "reason", "advice"),
    [
        (
            ARCHIVES["notes.zip"],
            "application/zip",
            "",
            ParseFailure.MEDIA_TYPE_UNSUPPORTED,
            "unpack",
        ),
        (
            ARCHIVES["notes.tgz"],
            "application/gzip",
            "",
            ParseFailure.MEDIA_TYPE_UNSUPPORTED,
            "unpack",
        ),
        (ARCHIVES["notes.tgz"], "text/csv", "", ParseFailure.MEDIA_TYPE_MISMATCH, "unpack"),
        (ARCHIVES["notes.zip"], "", "notes.docx", ParseFailure.MEDIA_TYPE_MISMATCH, "unpack"),
        (PICTURES["scan.gif"], "image/gif", "", ParseFailure.NEEDS_OCR, "convert"),
        (PICTURES["scan.gif"], "", "scan.pdf", ParseFailure.MEDIA_TYPE_MISMATCH, "convert"),
        (png(), "", "scan.pdf", ParseFailure.MEDIA_TYPE_MISMATCH, "correct the media type"),
        (PDF, "text/html", "", ParseFailure.MEDIA_TYPE_MISMATCH, "correct the media type"),
        (b"words", "video/mp4", "", ParseFailure.MEDIA_TYPE_UNSUPPORTED, "send one of text/plain"),
    ],
)
def test_declared_type_does_not_hide_what_to_do(data, media_type, file_name, reason, advice):
    refusal = find_refusal(data, media_type, file_name)
    assert refusal.reason == reason
    assert advice in refusal.detail


@pytest.mark.parametrize(
    ("text", "file_name"),
    [
        (b"BM is the state of Bermuda in this list.", ""),
        (b"II*5 and MM* are marks in the score.", ""),
        (b"GIF89a was the second edition of the format.", ""),
        (b"Rar! said the crow.", ""),
        (TEXT[:257] + b"ustar" + TEXT, ""),
        (TEXT, "valve.txt.gz"),
    ],
)
def test_text_that_begins_like_them_is_text(text, file_name):
    assert detect(text, media_type="", file_name=file_name) is MediaType.TEXT

"""Saved web pages, in the jailed child; every file is written by the test."""

from base64 import encodebytes
from quopri import encodestring

import pytest

from chassis.base.errors import InvalidInputError
from ingest.parsing.document import MediaType
from ingest.parsing.failure import ParseFailure

PAGE = "<!DOCTYPE html><html><head>{}<title>Größe</title></head><body>{}</body></html>"


def part(body: bytes, content_type: str, *headers: str, encoding: str = "8bit") -> bytes:
    encode = {"quoted-printable": encodestring, "base64": encodebytes}.get(encoding, bytes)
    lines = (f"Content-Type: {content_type}", f"Content-Transfer-Encoding: {encoding}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + encode(body)


def mhtml(*parts: bytes, parameters: str = "") -> bytes:
    head = (
        "From: <Saved by Blink>\r\nSubject: a page\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/related; boundary="--x--"{parameters}\r\n\r\n'
    )
    return head.encode() + b"".join(b"----x--\r\n%s\r\n" % one for one in parts) + b"----x----\r\n"


def page(text: str, meta: str = "") -> str:
    return PAGE.format(meta, f"<nav>Menu</nav><p>{text}</p>")


STYLE = part(b"p { color: red }", "text/css")
PICTURE = part(b"\x89PNG\r\n\x1a\n", "image/png", encoding="base64")
LATIN = '<meta charset="windows-1252">'


@pytest.mark.parametrize(
    "data",
    [
        mhtml(
            part(
                page("Die Pumpe heißt <b>Nord</b>.", LATIN).encode("cp1252"),
                "text/html",
                encoding="quoted-printable",
            ),
            STYLE,
            PICTURE,
        ),
        mhtml(
            PICTURE,
            part(
                page("Die Pumpe heißt Nord.").encode("iso8859_15"),
                'text/html; charset="iso-8859-15"',
                encoding="base64",
            ),
        ),
        mhtml(part(page("Die Pumpe heißt Nord.").encode(), "text/html; charset=utf-8")),
        mhtml(
            part(b"<p>a frame", "text/html", "Content-ID: <frame@x>"),
            part(page("Die Pumpe heißt Nord.").encode(), "text/html", "Content-ID: <page@x>"),
            parameters='; type="text/html"; start="<page@x>"',
        ),
        b"MIME-Version: 1.0\r\n" + part(page("Die Pumpe heißt Nord.").encode(), "text/html"),
    ],
    ids=["quoted-printable", "base64", "8bit", "start", "one part"],
)
async def test_page_is_read_in_its_encoding(parser, data):
    document = await parser(data, media_type="", file_name="page.mhtml")
    assert document.media_type is MediaType.MHTML
    assert document.title == "Größe"
    assert document.text == "Größe\n\nDie Pumpe heißt Nord."


async def test_declared_as_mail_it_is_told_by_its_name(parser):
    data = mhtml(part(page("Nord").encode(), "text/html"))
    document = await parser(data, media_type="message/rfc822", file_name="page.mht")
    assert document.media_type is MediaType.MHTML


def nest(depth: int) -> bytes:
    heads = (
        f'Content-Type: multipart/related; boundary="b{level}"\r\n\r\n--b{level}\r\n'
        for level in range(depth)
    )
    return "".join(heads).encode()


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"plain words", ParseFailure.DOCUMENT_DAMAGED, "no part of the file is HTML"),
        (mhtml(STYLE, PICTURE), ParseFailure.DOCUMENT_DAMAGED, "no part of the file is HTML"),
        (
            b"Content-Type: text/html; charset*0=utf; charset*=a''b; start*0*=c; start*=d\r\n\r\nx",
            ParseFailure.DOCUMENT_DAMAGED,
            "headers",
        ),
        (nest(20_000), ParseFailure.DOCUMENT_DAMAGED, "nested"),
        (mhtml(part(b"<p>", "text/html")), ParseFailure.NO_TEXT, "no text"),
        (
            mhtml(part(bytes(range(256)) * 9, "text/html", encoding="base64")),
            ParseFailure.TEXT_UNDECODABLE,
            "not text",
        ),
    ],
    ids=["text", "no page", "headers", "nested", "empty", "binary"],
)
async def test_file_without_a_page_is_refused(parser, data, reason, detail):
    with pytest.raises(InvalidInputError, match=detail) as refusal:
        await parser(data, media_type="", file_name="page.mht")
    assert refusal.value.reason == reason

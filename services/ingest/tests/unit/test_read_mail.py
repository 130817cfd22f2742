"""The reader of mail, called without its process: exact text of headers, bodies and attachments."""

from email.message import EmailMessage

import pytest

from chassis.base.errors import InvalidInputError
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.mail.parts import decode_words
from ingest.parsing.mail.read_mail import DEPTH_MAX, read
from ingest.parsing.text.clean import clean

from .growth import assert_linear

LIMIT = 1 << 26
HEAD = b"Subject: Pump\r\nMIME-Version: 1.0\r\n"


def read_text(data: bytes) -> str:
    return clean(read(data, LIMIT).texts[0])


def mail(subject: str = "Pump") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    return message


def find_refusal(data: bytes, limit: int = LIMIT) -> RefusalError:
    with pytest.raises(RefusalError) as refusal:
        read(data, limit)
    return refusal.value


def test_plain_text_is_kept_as_it_is():
    message = mail()
    message.set_content("Hot! *4* kW, a_b_c, [x](y) <z>\n\n# no heading\n\n    code\n1. one\ntwo\n")
    assert read_text(bytes(message)) == (
        "Subject: Pump\n\nHot! *4* kW, a_b_c, [x](y) <z>\n\n# no heading\n\n    code\n1. one\ntwo"
    )


def test_headers_are_lines_and_the_subject_is_the_title():
    message = mail("Größe der Pumpe")
    message["From"] = "Ada Müller <ada@example.org>"
    message["To"] = "bob@example.org, cy@example.org"
    message["Date"] = "Mon, 01 Jan 2024 10:00:00 +0100"
    message["X-Spam-Score"] = "1"
    message.set_content("x")
    assert read(bytes(message), LIMIT).title == "Größe der Pumpe"
    assert read_text(bytes(message)) == (
        "Subject: Größe der Pumpe\nFrom: Ada Müller <ada@example.org>\n"
        "To: bob@example.org, cy@example.org\nDate: Mon, 01 Jan 2024 10:00:00 +0100\n\nx"
    )


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?utf-8?Q?Gr=C3=B6=C3=9Fe?= 4", "Größe 4"),
        ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        ("=?gb2312?B?y67Twg==?=", "水勇"),
        ("=?shift_jis?B?kIWDfIOTg3Y=?=", "水ポンプ"),
        ("Größe", "Größe"),
        ("=?utf-8?B?a?=", "=?utf-8?B?a?="),
        ("=?no-such?Q?x?=", "x"),
        ("a\r\n  b", "a b"),
    ],
)
def test_words_of_headers_are_decoded(raw, text):
    assert decode_words(raw) == text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEAD + b"\r\nGr\xc3\xb6\xc3\x9fe", "Größe"),
        (HEAD + "Content-Type: text/plain; charset=koi8-r\r\n\r\nй".encode("koi8-r"), "й"),
        (
            HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=B6=C3=9Fe=\r\n!",
            "Größe!",
        ),
        (HEAD + b"Content-Transfer-Encoding: base64\r\n\r\nR3LDtsOfZQ==", "Größe"),
        (HEAD + b"Content-Type: text/html\r\n\r\n<meta charset=latin2><p>\xa3\xf3d\xbc", "Łódź"),
        ((HEAD + b"\r\nplain").decode().encode("utf-16"), "plain"),
    ],
)
def test_text_is_decoded_as_its_part_declares(data, expected):
    assert read_text(data) == f"Subject: Pump\n\n{expected}"


def test_last_alternative_with_a_text_is_read():
    message = mail()
    message.set_content("plain")
    message.add_alternative("<table><tr><td>a<td>b</table>", subtype="html")
    assert read_text(bytes(message)) == "Subject: Pump\n\na | b"
    message.add_alternative("<img src=x>", subtype="html")
    assert read_text(bytes(message)) == "Subject: Pump\n\na | b"


def test_pictures_of_a_page_are_left_out():
    message = mail()
    message.set_content("<p>See <img src=cid:a alt='the pump'>", subtype="html")
    message.add_related(b"\x89PNG", maintype="image", subtype="png", cid="<a>")
    assert read_text(bytes(message)) == "Subject: Pump\n\nSee the pump"


def test_attachments_are_named_and_texts_among_them_read():
    message = mail()
    message.set_content("See below.")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="ß.pdf")
    message.add_attachment("a,b\n1,2\n", subtype="csv", filename="t.csv")
    message.add_attachment("<p>page", subtype="html", filename="p.html")
    message.add_attachment(bytes(range(128, 256)), maintype="text", subtype="plain", filename="b")
    assert read_text(bytes(message)) == (
        "Subject: Pump\n\nSee below.\n\nAttachment: ß.pdf\n\nAttachment: t.csv\n\na,b\n1,2\n\n"
        "Attachment: p.html\n\npage\n\nAttachment: b"
    )


def test_mail_in_a_mail_is_read():
    inner = mail("Inner")
    inner.set_content("Inner text.")
    inner.add_attachment(b"x", maintype="image", subtype="png", filename="x.png")
    message = mail()
    message.set_content("Outer text.")
    message.add_attachment(inner)
    assert read_text(bytes(message)) == (
        "Subject: Pump\n\nOuter text.\n\nAttachment: message/rfc822\n\n"
        "Subject: Inner\n\nInner text.\n\nAttachment: x.png"
    )


def test_report_on_a_delivery_is_read():
    data = HEAD + (
        b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n\r\nNot delivered.\r\n--b\r\n'
        b"Content-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; a@example.org\r\n"
        b"Status: 5.1.1\r\n\r\n--b--\r\n"
    )
    assert read_text(data) == (
        "Subject: Pump\n\nNot delivered.\n\nFinal-Recipient: rfc822; a@example.org\nStatus: 5.1.1"
    )


def nest(kind: str, depth: int) -> bytes:
    if kind == "message/rfc822":
        return HEAD + b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: x\r\n\r\nx"
    parts = (f"Content-Type: {kind}; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(depth))
    return HEAD + "".join(parts).encode()


@pytest.mark.parametrize("kind", ["message/rfc822", "multipart/mixed", "multipart/alternative"])
def test_deep_nesting_is_refused(kind):
    refusal = find_refusal(nest(kind, DEPTH_MAX + 1))
    assert refusal.failure is ParseFailure.DOCUMENT_DAMAGED
    assert "nested" in refusal.detail


@pytest.mark.parametrize(
    ("data", "failure", "detail"),
    [
        (b"plain words", ParseFailure.DOCUMENT_DAMAGED, "no headers"),
        (
            HEAD + b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\n\r\nMIAG",
            ParseFailure.DOCUMENT_ENCRYPTED,
            "encrypted",
        ),
        (
            HEAD + b"Content-Type: text/plain; charset*0=utf; charset*=a''b\r\n\r\nx",
            ParseFailure.DOCUMENT_DAMAGED,
            "headers",
        ),
    ],
)
def test_mail_that_cannot_be_read_is_refused(data, failure, detail):
    refusal = find_refusal(data)
    assert refusal.failure is failure
    assert detail in refusal.detail


def test_body_of_uncertain_encoding_is_refused():
    with pytest.raises(InvalidInputError) as refusal:
        read(HEAD + b"\r\n\xe4\xf6", LIMIT)
    assert refusal.value.reason == ParseFailure.TEXT_UNDECODABLE


def test_text_past_the_limit_is_refused():
    data = HEAD + b"\r\n" + b"x" * 1_000
    assert find_refusal(data, 500).failure is ParseFailure.PARSER_OUTPUT_LIMIT


def test_work_grows_as_the_mail():
    part = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    head = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    assert_linear(
        lambda data: read(data, LIMIT), lambda size: head + part * (size // len(part)), 1 << 18
    )

"""PDF files to test with."""

import zlib


def pdf(*pages: bytes, font: bytes = b"/Type1 /BaseFont /Helvetica", title: bytes = b"") -> bytes:
    """A PDF of content streams, compressed, with a true cross-reference table."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % (5 + 2 * page) for page in range(len(pages)))),
        b"<< /Type /Font /Subtype %s >>" % font,
        b"<< /Title (%s) >>" % title,
    ]
    for number, content in enumerate(pages):
        packed = zlib.compress(content)
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (6 + 2 * number),
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed),
        ]
    out, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    return out + (
        b"xref\n0 %d\n%strailer << /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (size, table, size, len(out))
    )


def lines(*texts: bytes) -> bytes:
    """A content stream that shows one text below the other."""
    shown = b" ".join(b"0 -14 Td (%s) Tj" % text for text in texts)
    return b"BT /F1 12 Tf 72 700 Td %s ET" % shown

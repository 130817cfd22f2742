"""Which references the setting opens, and how an address is read."""

import pytest

from chassis.base.errors import FailedPreconditionError, InvalidInputError
from ingest.domain import Reference
from ingest.references.origins import Origins, WebAddress
from ingest.references.reader import URI_MAX_CHARS, open_references

SETTING = "https://files.example.com, http://dms.internal:8080 https://*.example.org s3://scans"


def reference(uri: str, size_bytes: int = 1) -> Reference:
    return Reference(uri=uri, sha256="0" * 64, size_bytes=size_bytes)


def reason_of(setting: str, uri: str) -> str:
    with pytest.raises(InvalidInputError) as refusal:
        open_references(None, setting, "").check(reference(uri))
    return refusal.value.reason


@pytest.mark.parametrize(
    "uri",
    [
        "https://files.example.com/a%20b.txt?x=1",
        "https://files.example.com:443/a",
        "https://FILES.example.com./a",
        "https://files.example.com",
        "http://dms.internal:8080/a",
        "https://eu.example.org/a",
        "https://a.b.example.org/",
        "s3://scans/2026/a b.pdf",
    ],
)
def test_what_the_setting_names_is_open(uri: str):
    open_references(None, SETTING, "").check(reference(uri))


@pytest.mark.parametrize(
    "uri",
    [
        "https://files.example.com:8443/a",
        "http://files.example.com/a",
        "https://example.org/a",
        "https://evilexample.org/a",
        "https://files.example.com.evil.net/a",
        "https://dms.internal:8080/a",
        "http://dms.internal/a",
        "https://user:secret@files.example.com/a",
        "https://files.example.com@evil.net/a",
        "https://evil.net\\@files.example.com/a",
        "https://evil.net#@files.example.com/a",
        "https://files.example.com/a#b",
        "https://files.example.com/a b",
        "https://files.example.com/a\r\nHost: evil.net",
        "https://files.example.com:0/a",
        "https://files.example.com:99999/a",
        "https:///a",
        "https://",
        "https:files.example.com/a",
        "https://fïles.example.com/a",
        "https://[::1/a",
        "s3://other/a",
        "s3://scans",
        "s3://scans/",
        "s3://scans/" + "x" * 1025,
        "s3://scans/a\x00",
    ],
)
def test_everything_else_of_an_open_scheme_is_forbidden(uri: str):
    assert reason_of(SETTING, uri) == "REFERENCE_FORBIDDEN"


@pytest.mark.parametrize(
    "uri", ["", "ftp://a/b", "gopher://a", "data:,x", "file:///etc/passwd", "/x"]
)
def test_a_scheme_that_is_off_is_told(uri: str):
    assert reason_of(SETTING, uri) == "REFERENCE_SCHEME"


def test_every_scheme_is_off_at_first():
    for uri in ("https://a.example/b", "http://a.example/b", "s3://bucket/b", "file:///a"):
        assert reason_of("", uri) == "REFERENCE_SCHEME"


def test_http_is_off_unless_it_is_named():
    assert reason_of("https://files.example.com", "http://files.example.com/") == "REFERENCE_SCHEME"


def test_a_star_opens_every_host():
    open_references(None, "https://*", "").check(reference("https://any.example.net/a"))


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "files.example.com",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a:0",
            "https://a:70000",
        ),
        *("https://u@a", "https://a?b", "s3://", "s3://A_b", "s3://bucket/key", "https://*a.com"),
        *("https://a.*.com", "file:///drops"),
    ],
)
def test_a_wrong_setting_is_named(setting: str):
    with pytest.raises(FailedPreconditionError) as refusal:
        Origins.parse(f"https://right.example {setting}")
    assert refusal.value.reason == "REFERENCE_ORIGIN_INVALID"
    assert setting in str(refusal.value)


def test_an_ipv6_address_is_taken_apart():
    address = WebAddress.parse("https://[2001:DB8::1]:8443/a?b")
    assert (address.host, address.port, address.target) == ("2001:db8::1", 8443, "/a?b")
    assert str(address) == "https://[2001:db8::1]:8443/a?b"


def test_a_uri_has_a_limit():
    assert reason_of(SETTING, "https://a/" + "x" * URI_MAX_CHARS) == "REFERENCE_INVALID"

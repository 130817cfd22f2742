"""The limit of a document follows from what its upload says of its format."""

import pytest

from chassis.base.errors import InvalidInputError
from ingest.parsing.sizes import SizeLimits

SIZES = SizeLimits(upload_bytes=1_000, text_bytes=100)


@pytest.mark.parametrize(
    ("media_type", "file_name", "limit"),
    [
        ("text/plain", "", 100),
        ("text/plain; charset=koi8-r", "a.pdf", 100),
        ("", "trace.txt", 100),
        ("application/octet-stream", "rows.CSV", 100),
        ("application/vnd.ms-excel", "rows.csv", 100),
        ("application/vnd.ms-excel", "rows.xls", 1_000),
        ("application/jsonl", "", 100),
        ("", "a.pdf", 1_000),
        ("", "", 1_000),
        ("video/mp4", "", 1_000),
    ],
)
def test_formats_that_are_text_have_a_limit_of_their_own(media_type, file_name, limit):
    assert SIZES.find(media_type, file_name) == limit
    SIZES.check(limit, media_type, file_name)
    with pytest.raises(InvalidInputError, match=f"{limit + 1} bytes.*allows {limit}") as refused:
        SIZES.check(limit + 1, media_type, file_name)
    assert refused.value.reason == "DOCUMENT_TOO_LARGE"
    assert refused.value.facts["limit_bytes"] == str(limit)


def test_no_text_may_be_larger_than_an_upload():
    assert SizeLimits(upload_bytes=50, text_bytes=100).find("text/plain", "") == 50

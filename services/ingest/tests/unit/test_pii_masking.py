"""Which personal data is masked, and what looks like it and stays. All of it is made up."""

import time

import pytest

from ingest.outline import HEADING_MAX_CHARS
from ingest.parsing.outline_marks import HEADING_MARKS, mark_line, take_marks
from ingest.parsing.steps.pages import Pages
from ingest.parsing.steps.pii_masking import run


def mask(text: str) -> str:
    (_, [masked]), _ = run(Pages("", [text]))
    return masked


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        *(
            ("EMAIL", one)
            for one in (
                *("jane.doe@example.com", "a+b_c@mail.sub-domain.example.co.uk"),
                *("jörg@müller.example", "me@xn--80ak6aa92e.com", "x" * 64 + "@example.org"),
            )
        ),
        *(
            ("IBAN", one)
            for one in (
                *("DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "NO9386011117947"),
                *("GB29NWBK60161331926819", "fr7630006000011234567890189"),
            )
        ),
        *(
            ("IP_ADDRESS", one)
            for one in ("192.168.12.7", "8.8.8.8", "2001:db8::8a2e:370:7334", "fe80::1")
        ),
        *(
            ("CREDIT_CARD", one)
            for one in (
                *("4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"),
                *("4012888888881881", "6011 1111 1111 1117", "2221000000000009"),
            )
        ),
        *(
            ("NATIONAL_ID", one)
            for one in (
                *("536-90-4399", "AB123456C", "AB 12 34 56 C", "255081416802538"),
                *("2 55 08 14 168 025 38", "12345678Z", "12345678-Z", "RSSMRA85M01H501Q"),
                *("44051401458", "12345678911", "12 345 678 911", "85.07.30-033.28"),
                *("756.1234.5678.97", "811218-9876", "131052-308T", "111.444.777-35"),
                *("HEGG560427MVZRRL04", "A123456789", "11010219840406970X", "8924 7352 8038"),
            )
        ),
        *(
            ("PHONE", one)
            for one in (
                *("+49 30 1234567", "+44 20 7946 0958", "+1 (212) 555-0199", "+81 3-1234-5678"),
                *("0049 30 1234567", "0711 / 685-82471", "(030) 1234567", "0171 1234567"),
                *("(212) 555-0199", "212-555-0199", "06 12 34 56 78", "020 7946 0958"),
                *("+49 (0)30 1234567", "01.42.68.53.00"),
            )
        ),
    ],
)
def test_it_is_masked_wherever_it_stands(kind: str, written: str):
    masked = f"[{kind}]"
    frames = ("{}", "Write to {}, or not.", "({})", "a: {}\nb", "| {} | x |", "{}; {}", "a,{},b")
    for text in frames:
        assert mask(text.replace("{}", written)) == text.replace("{}", masked)


@pytest.mark.parametrize(
    "text",
    [
        # Wrong checksums.
        "DE89370400440532013001 4111 1111 1111 1112 5500-0000-0000-0005 12345678A 44051401459",
        "a@b user@localhost @home me @ example.com x@.com https://example.com/@name",
        "2024-05-01 01.02.2024 01/02/2024 12:30:45 1999-2004 2001 2002 2003 2004 2005",
        "0.1234567 0,1234567 3.14159265358979 1e-05 10^19 -0.0625 1,234,567.89 .0123456",
        "Version 3.11.7, ISBN 978-3-16-148410-0, pp. 100-200, 5 x 10 x 15, §§ 12-34, NACA 0012",
        "order 100200300400, EAN 4006381333931, RE-2024-001234, 123 456 789, 1000-2000",
        "std::vector a::b ::1 x::y::z C:/path 12:34 ab:cd 1:2:3 256.1.1.1 1.2.3 1.2.3.4.5",
        "AB12 CDEF 3456 words that follow 0123 in a text of no kind",
        "R = 0012 and 00 and (0) and + 5",
    ],
)
def test_what_only_looks_like_it_stays(text: str):
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://10.0.0.1:8080/x [fe80::1]:80", "http://[IP_ADDRESS]:8080/x [[IP_ADDRESS]]:80"),
        ("4111111111111111,12/27", "[CREDIT_CARD],12/27"),
        ("7,4111111111111111/12/27", "7,[CREDIT_CARD]/12/27"),
        ("mailto:a@example.com, <b@example.com>", "mailto:[EMAIL], <[EMAIL]>"),
        ("Visa-4111111111111111 tel:+49301234567", "Visa-[CREDIT_CARD] tel:[PHONE]"),
        ("Tel.0711/68582471", "Tel.[PHONE]"),
        ("12 4111 1111 1111 1111 13", "12 [CREDIT_CARD] 13"),
        (
            "DE89 3704 0044 0532 0130 00 DE89 3704 0044 0532 0130 00 and words",
            "[IBAN] [IBAN] and words",
        ),
    ],
)
def test_it_is_masked_beside_other_signs(text: str, masked: str):
    assert mask(text) == masked


def test_counts_are_by_kind_and_of_pages_and_title_together():
    title, first, second = (
        "To a@example.com",
        "a@example.com b@example.com",
        "8.8.8.8 +49 30 1234567",
    )
    (masked, texts), counts = run(Pages(title, [first, "", second]))
    assert (masked, texts) == ("To [EMAIL]", ["[EMAIL] [EMAIL]", "", "[IP_ADDRESS] [PHONE]"])
    assert list(counts.items()) == [("EMAIL", 3), ("IP_ADDRESS", 1), ("PHONE", 1)]


def test_headings_and_header_rows_are_masked_with_the_text():
    text = f"{HEADING_MARKS[1]}Contact jane@example.com\n\nCall +49 30 1234567."
    plain, outline, _ = take_marks(mask(text))
    assert plain == "Contact [EMAIL]\n\nCall [PHONE]."
    assert [one.text for one in outline.headings] == ["Contact [EMAIL]"]
    assert len(outline.headings[0].text) <= HEADING_MAX_CHARS


def test_data_that_runs_over_a_line_of_a_page_is_masked():
    first, second, third = map(mark_line, range(3))
    text = f"{first}Pay to DE89 3704 0044 {second}0532 0130 00 now, or {third}call 8.8.8.8."
    plain, _, lines = take_marks(mask(text))
    assert plain == "Pay to [IBAN] now, or call [IP_ADDRESS]."
    assert lines == [(0, 0), (len("Pay to [IBAN]"), 1), (len("Pay to [IBAN] now, or "), 2)]


def test_marks_stay_in_their_places_beside_and_between_masks():
    text = (
        f"{mark_line(0)}jane@example.com{mark_line(1)} and {mark_line(2)}8.8.8.8{mark_line(3)} end"
    )
    plain, _, lines = take_marks(mask(text))
    assert plain == "[EMAIL] and [IP_ADDRESS] end"
    assert [plain[start:] for start, _ in lines] == [
        plain,
        " and [IP_ADDRESS] end",
        "[IP_ADDRESS] end",
        " end",
    ]


def test_it_does_nothing_the_second_time():
    text = "jane@example.com DE89370400440532013000 8.8.8.8 4111111111111111 AB123456C 0171 1234567"
    once = mask(text)
    assert mask(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        *("@", "a@", "1", "1 ", "AA11", "AA11 ", "a:", "1.", "1-", "+", "(0", "+1(0) ", "0 "),
        *("4111 ", "4111 1111 1111 1111 ", "01 23 45 67 89 ", "123456-7890 ", "12345678901 "),
        *("jane.doe@example.com ", ".a", "-", "x.y.z@", "0123 4567 8901\n", "\u0661\u0662"),
    ],
)
def test_time_grows_with_the_length_only(piece: str):
    """Twice the text may take about twice the time; a nested search would take four times."""

    def measure(chars: int) -> float:
        text = (piece * chars)[:chars]
        started = time.process_time()
        mask(text)
        return time.process_time() - started

    short = min(measure(4_000) for _ in range(3))
    assert measure(16_000) < 12 * short + 0.05

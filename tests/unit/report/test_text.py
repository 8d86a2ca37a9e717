"""Text of unknown origin, and numbers as people read them."""

import pytest

from resilience.report.text import instant_text, took_text, visible, window_text, xml_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("héllo ≥ 99 %", "héllo ≥ 99 %"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x00\x9b", "\\x00\\x9b"),
        ("abc\u202edef\u2066", "abc\\u202edef\\u2066"),
        ("\u2028", "\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_what_does_not_show_itself_is_written_out(text: str, shown: str):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a\x00\x1b\x7f\x9bb", "ab"), ("a\ud800\ufffe\uffffb", "ab"), ("\u202eab", "ab"), ("a\n\tb ≥ 😀", "a\n\tb ≥ 😀")],
)
def test_xml_takes_only_what_it_may_hold(text: str, kept: str):
    assert xml_text(text) == kept


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [(31_250_000, 36_900_000, "31.250 to 36.900 s"), (0, -1, "from 0.000 s on"), (-1, -1, "")],
)
def test_windows(start: int, end: int, text: str):
    assert window_text(start, end) == text


def test_instants_that_are_none_say_nothing():
    assert (instant_text(-1), instant_text(0), instant_text(1_500)) == ("", "0.000 s", "0.002 s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (99.9, "99.9 s"), (99.96, "1 min 40 s"), (125.4, "2 min 05 s")]
)
def test_how_long_something_took(seconds: float, text: str):
    assert took_text(seconds) == text

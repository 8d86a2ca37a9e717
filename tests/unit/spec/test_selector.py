"""Bare selectors are taken apart; whatever would change what is counted is refused by name."""

import pytest

from resilience.spec.selector import Matcher, Selector, selector_from_text


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ("up", Selector(metric="up", matchers=())),
        (" up {} ", Selector(metric="up", matchers=())),
        ("a:b_total", Selector(metric="a:b_total", matchers=())),
        (
            'x{a="1",b!="2", c=~"3|4" ,d!~"5",}',
            Selector(
                metric="x",
                matchers=(
                    Matcher(label="a", op="=", value="1"),
                    Matcher(label="b", op="!=", value="2"),
                    Matcher(label="c", op="=~", value="3|4"),
                    Matcher(label="d", op="!~", value="5"),
                ),
            ),
        ),
        (
            'x{a="rate(y[1m]) @ 3"}',
            Selector(metric="x", matchers=(Matcher(label="a", op="=", value="rate(y[1m]) @ 3"),)),
        ),
    ],
)
def test_bare_selector(text: str, expect: Selector) -> None:
    assert selector_from_text(text) == expect


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must begin with a metric"),
        ('{a="1"}', "must begin with a metric"),
        ("3", "must begin with a metric"),
        ("rate(x)", "extrapolate"),
        ("irate (x[1m])", "extrapolate"),
        ("increase(x[1m])", "extrapolate"),
        ("x or vector(0)", "missing data"),
        ("sum by (a) (x)", "a function"),
        ("x[1m]", "a range"),
        ("x offset 5m", "an instant"),
        ("x @ 3", "an instant"),
        ("x / y", "an expression"),
        ("x > 1", "an expression"),
        ("-x", "must begin with a metric"),
        ('x{a="1"', "an expression"),
        ("x{a='1'}", "no condition"),
        ('x{a="1" b="2"}', "expected a comma"),
        ("x{a}", "no condition"),
        ('x{a=~"("}', "no regular expression"),
        ('x{a="\\"}', "no condition"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        selector_from_text(text)
    assert why in str(caught.value)


def test_labels_of_a_selector() -> None:
    selector = selector_from_text('x{a="1",b=~"2"}')
    assert (selector.equals("a"), selector.equals("b"), selector.equals("c")) == ("1", None, None)
    assert selector.without("a") == {Matcher(label="b", op="=~", value="2")}

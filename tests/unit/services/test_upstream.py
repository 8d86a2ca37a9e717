"""Which instances requests go to."""

import asyncio
from typing import Any, NoReturn

import pytest
from aiohttp import ClientSession, TCPConnector
from prometheus_client import CollectorRegistry

from services.edge import bucket_from_visitor
from services.metric import EdgeMetrics
from services.upstream import Upstream, Upstreams, check, is_refusal
from tests.fakes import FakeResolver

NAMES = ("a:1", "b:1", "c:1")


def three() -> tuple[Upstream, Upstream, Upstream]:
    metrics = EdgeMetrics(CollectorRegistry(), NAMES)
    first, second, third = (Upstream(name, metrics.healthy[name]) for name in NAMES)
    return first, second, third


def test_an_instance_is_out_until_it_was_good_once():
    first, *_ = three()
    assert not first.healthy
    first.good()
    assert first.healthy


@pytest.mark.parametrize(
    ("checks", "healthy"),
    [("g", True), ("gb", True), ("gbb", False), ("gbgb", True), ("gbgbb", False), ("gbbg", True), ("gbbbbbg", True)],
)
def test_one_failed_check_is_forgiven_two_are_not_and_one_good_one_brings_back(checks: str, healthy: bool):
    first, *_ = three()
    for letter in checks:
        (first.good if letter == "g" else first.bad)()
    assert first.healthy is healthy


def test_a_refused_connection_puts_out_at_once():
    first, *_ = three()
    first.good()
    first.refused()
    assert not first.healthy


def test_only_an_instance_that_is_gone_takes_its_websockets_along():
    first, *_ = three()
    ended: list[str] = []
    first.good()
    first.on_gone(lambda: ended.append("kept"))
    forget = first.on_gone(lambda: ended.append("forgotten"))
    forget()
    first.bad()
    first.bad()  # it answers, with an error: what is connected may stay
    assert ended == []
    first.good()
    first.gone()
    assert ended == []
    first.gone()
    assert ended == ["kept"]


def test_the_healthy_ones_take_turns():
    first, second, third = three()
    upstreams = Upstreams((first, second, third))
    assert upstreams.choose() is None
    first.good()
    third.good()
    assert [upstreams.choose() for _ in range(4)] == [first, third, first, third]
    assert upstreams.choose(but=first) is third
    first.refused()
    assert upstreams.choose(but=third) is None


def test_a_refusal_is_found_behind_other_errors():
    wrapped = RuntimeError("connect")
    wrapped.__cause__ = OSError("many")
    wrapped.__cause__.__cause__ = ConnectionRefusedError()
    assert is_refusal(wrapped)
    assert not is_refusal(RuntimeError("connect"))


def test_buckets_are_stable_and_about_even():
    buckets = [bucket_from_visitor(f"visitor-{number}") for number in range(2_000)]
    assert buckets == [bucket_from_visitor(f"visitor-{number}") for number in range(2_000)]
    assert buckets.count("A") == pytest.approx(1_000, abs=100)


@pytest.mark.parametrize(
    ("error", "expect"),
    [(ConnectionRefusedError(), ["old", "new", "new"]), (TimeoutError(), ["old", "old", "new"])],
    ids=["refused: out at once", "too late: out after two"],
)
def test_the_address_of_one_that_is_out_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, error: OSError, expect: list[str]
):
    """An instance that is replaced has the same name at another address."""
    names = {"10.0.0.1": "old", "10.0.0.2": "new"}
    tried: list[str] = []

    async def start_connection(addr_infos: Any, **_how: Any) -> NoReturn:
        tried.extend(names[address[0]] for *_, address in addr_infos)
        raise error

    async def checked() -> None:
        first, *_ = three()
        first.good()
        resolver = FakeResolver("10.0.0.1")
        async with ClientSession(connector=TCPConnector(resolver=resolver)) as client:
            await check(first, client)
            resolver.address = "10.0.0.2"
            await check(first, client)
            await check(first, client)

    monkeypatch.setattr("aiohappyeyeballs.start_connection", start_connection)
    asyncio.run(checked())
    assert tried == expect

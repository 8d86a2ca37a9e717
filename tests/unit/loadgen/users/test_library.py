"""Who does what when an op on an article is due, and what it sends."""

from collections import Counter

import msgspec
import pytest

from loadgen.users.content import request_of
from loadgen.users.library import UPDATES, Article, Library, Turn


def answer(library: Library, turn: Turn, version: int | None = None):
    known = turn.article.version if turn.article else 0
    body = {} if turn.step == "list" else {"version": known + (turn.step != "read") if version is None else version}
    library.settle(turn, "ok", 201 if turn.step == "create" else 200, body)


def next_of_author(library: Library, article: Article | None = None) -> Turn:
    """An author's next turn, of that article if one is given; whatever comes first is answered."""
    for _ in range(10_000):
        turn = library.pick()
        if turn.by_author and (article is None or turn.article is article):
            return turn
        answer(library, turn)
    raise AssertionError("it never has its turn")


def only() -> tuple[Library, Article]:
    """A library of one article that was created."""
    library = Library(1, seed=7)
    turn = library.pick()
    assert (turn.step, turn.by_author) == ("create", True)
    answer(library, turn)
    assert turn.article is not None
    return library, turn.article


def test_articles_are_written_read_and_listed_in_their_shares():
    library, steps = Library(20, seed=7), Counter[str]()
    for _ in range(4_000):
        turn = library.pick()
        steps[turn.step] += 1
        answer(library, turn)
        assert library.live <= 20
    assert steps.total() * 0.27 < steps["create"] + steps["update"] < steps.total() * 0.33
    assert steps.total() * 0.08 < steps["list"] < steps.total() * 0.12
    assert steps["update"] / steps["create"] == pytest.approx(UPDATES, rel=0.2)


def test_an_author_waits_for_an_answer_and_readers_do_not():
    library, article = only()
    writing = next_of_author(library, article)
    turns = [library.pick() for _ in range(200)]
    assert [turn for turn in turns if turn.article is article and turn.by_author] == []
    assert [turn for turn in turns if turn.article is article and turn.step == "read"]
    answer(library, writing)
    assert next_of_author(library, article).step == "update"


def test_who_does_not_know_whether_it_was_written_reads_first_and_a_conflict_names_what_stands():
    library, article = only()
    library.settle(next_of_author(library, article), "unknown", 0, {})
    reading = next_of_author(library, article)
    assert reading.step == "read"
    library.settle(reading, "fail", 503, {})
    reading = next_of_author(library, article)
    assert reading.step == "read", "it does not know yet"
    answer(library, reading, version=1)  # a cached copy, say
    library.settle(next_of_author(library, article), "fail", 409, {"version": 2})
    assert (next_of_author(library, article).step, article.version) == ("update", 2)


@pytest.mark.parametrize(("outcome", "status"), [("fail", 503), ("unknown", 0)])
def test_an_article_that_may_not_be_there_is_read_by_nobody_else(outcome, status):
    library = Library(1, seed=7)
    library.settle(library.pick(), outcome, status, {})
    assert {library.pick().by_author for _ in range(20)} == {True}


def test_an_article_that_is_gone_is_over():
    library, article = only()
    library.settle(next_of_author(library, article), "fail", 404, {})
    assert library.live == 0
    assert library.pick().step == "create"


@pytest.mark.parametrize(
    ("turn", "method", "path", "body"),
    [
        (Turn("create", Article("a-1"), by_author=True), "POST", "/articles",
         {"article": "a-1", "op": "v", "body": "v"}),
        (Turn("update", Article("a-1", version=4), by_author=True), "PUT", "/articles/a-1",
         {"op": "v", "version": 4, "body": "v"}),
        (Turn("read", Article("a-1")), "GET", "/articles/a-1", None),
        (Turn("list"), "GET", "/articles", None),
    ],
    ids=["create", "update", "read", "list"],
)  # fmt: skip
def test_request_of(turn, method, path, body):
    sent = request_of(turn, "v")
    assert sent[:2] == (method, path)
    assert (msgspec.json.decode(sent[2]) if sent[2] else None) == body

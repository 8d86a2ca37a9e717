"""Evidence as people read it, whatever a check named."""

from typing import Any

import pytest

from resilience.report.evidence import evidence_table, pieces


@pytest.mark.parametrize(
    ("evidence", "shown"),
    [
        ({"op": "direct/7"}, ("op", "direct/7")),
        ({"acked_us": 29_940_000}, ("acked", "29.940 s")),
        ({"acked_us": -1}, ("acked", "")),
        ({"age_s": -0.25}, ("before the fault", "-0.25 s")),
        ({"latency_ms": 12.0}, ("latency", "12 ms")),
        ({"seen_by": ["a", "b"]}, ("seen by", '["a","b"]')),
        ({"allowed": False}, ("allowed", "no")),
        ({"value": None}, ("value", "")),
    ],
)
def test_each_value_has_a_name_and_a_unit(evidence: dict[str, Any], shown: tuple[str, str]):
    assert pieces(evidence) == [shown]


def test_a_table_has_a_column_for_each_name_that_any_piece_has():
    table = evidence_table("Lost", [{"op": "a"}, {"op": "b", "shard": 1}], total=5)
    assert table.columns == ("op", "shard")
    assert table.rows == (("a", ""), ("b", "1"))
    assert table.more == 3


def test_nothing_is_a_table_without_rows():
    assert evidence_table("Lost", []).rows == ()

"""What a runner's pod begins with."""

from pathlib import Path

from resilience.play import received


def test_the_order_is_all_that_is_there_at_the_beginning(tmp_path: Path) -> None:
    order, directory = tmp_path / "order", tmp_path / "run"
    order.mkdir()
    (order / "spec.json").write_text("{}")
    (directory / "load").mkdir(parents=True)
    (directory / "load" / "old.ops.jsonl").write_text("of an older run")
    record = received(order, directory)
    assert record.spec.read_text() == "{}"
    assert list(record.load_dir.iterdir()) == []
    assert record.reserve.exists()

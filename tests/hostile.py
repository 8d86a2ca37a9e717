"""A run in which every text that a platform, a member or a file can choose is an attack on whoever shows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from resilience.history.record import Event, Invoked, Returned
from resilience.history.writer import Writer
from resilience.report.document import About
from resilience.report.run import Run
from resilience.report.store import RunStore
from tests import judged_run

TEXTS: Mapping[str, str] = {
    "script": "</script><script>window.owned=1;alert(1)</script>",
    "comment": "<!--<script>]]>",
    "image": '"><img src="http://198.18.9.9/x" onerror=window.owned=1>',
    "attribute": "' onmouseover='window.owned=1' x='",
    "style": "</style><style>body{display:none}</style>",
    "address": "javascript:window.owned=1",
    "markup": "[bold red]x[/] [link=http://a]b[/link] :bomb:",
    "title": "\x1b]0;owned\x07",
    "screen": "\x1b[2J\x1b[31m\x9b2J\x90q\x9c",
    "clipboard": "\x1b]52;c;b3duZWQ=\x07",
    "back": "safe\r\x08\x08\x08\x08owned\x00",
    "shell": "$(touch owned); `touch owned` | sh && x=${HOME}",
    "template": "{{7*7}} {% raw %} ${7*7} #{7*7} %s %(x)s {0}",
    "yaml": "a: &a [*a]\n- !!python/object/apply:os.system [touch owned]",
    "bidi": "\u202eenilno si \u2066ti\u2069 \u200e\u061c",
    "lines": "one\u2028two\u2029three\u0085four",
    "promql": 'x"} or vector(0) #',
    "polluted": "__proto__",
    "built-in": "constructor",
    "megabyte": "x" * 1_000_000,
}
ALL = " ".join(text for name, text in TEXTS.items() if name != "megabyte")
ABOUT = About(revision=ALL, versions={ALL: ALL}, host={"hostname": ALL, ALL: ALL}, rerun=f"resilience run {ALL}")


def opened(reports_dir: Path) -> Run:
    """The run as it was recorded, not judged yet."""
    plain = judged_run.scenario()
    assert plain.experiment is not None
    scenario = msgspec.structs.replace(
        plain,
        title=ALL,
        description=ALL,
        file=ALL,
        experiment=msgspec.structs.replace(plain.experiment, title=ALL, file=ALL),
        slos=tuple(msgspec.structs.replace(slo, title=ALL, service=ALL, file=ALL) for slo in plain.slos),
    )
    run = RunStore(reports_dir, None, now=lambda: judged_run.STARTED).open(scenario, ABOUT)
    with Writer(run.history) as writer:
        for event in (*judged_run.events(), *_events()):
            writer.append(event)
    with Writer(run.load_dir / "locust.ops.jsonl") as writer:
        for number, text in enumerate(TEXTS.values(), start=1):
            at = number * 1_000_000
            writer.append(Invoked(number, "session.update", text, text, 1, "steady", at, at))
            writer.append(Returned(number, "ok", at + 1_000, 1, -1, text))
    run.save_servers({text: {text: text, "nested": {text: [text]}} for text in TEXTS.values() if len(text) < 1_000})
    (run.members_dir / "bad-\udcff-\x1b]0;owned\x07.log").write_bytes(b"x")
    (run.members_dir / "javascript:alert(1)").write_bytes(b"x")
    return run


def _events() -> list[Event]:
    each: list[tuple[str, dict[str, Any]]] = []
    for number, text in enumerate(TEXTS.values()):
        each += [
            ("member", {"member": text, "what": text, text: text}),
            ("role", {"member": text, "group": 1, "role": text}),
            ("generator", {"client": text, "cpu_ratio": 0.1, "lag_ms_p99": 1}),
            ("error", {"where": text, "message": text}),
            ("no-target", {"target": text}),
            ("injected", {"injection": text, "began_us": number, "applied_us": number, "members": [text]}),
            ("experiment", {"status": text, "deviated": True, "exit": 1, "failed": [text]}),
            ("converged", {"ok": False, "took_s": 1.0, "reason": text}),
            (text, {text: {text: text}}),
        ]
    return [Event(name, 10_000_000 + at, data) for at, (name, data) in enumerate(each)]

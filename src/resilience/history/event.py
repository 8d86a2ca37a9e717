"""The names of the events of a run, and what their ``data`` holds; who writes each is in brackets.

- ``stack-up``: ``took_s``; [runner] the stack answered its first good request
- ``shards``: ``shards``: list of {``group``, ``primary``, ``replicas``, ``slots``: [[first, last], …]} at start
  [runner]
- ``load-started``: ``clients``: names of the client processes [runner]
- ``load-stopped``: ``clients``: {name: {``exit``, ``unfinished``, ``torn``}} [runner]
- ``phase-announced``: ``phase``, ``starts_at``: the instant (us) that the generators were told [whoever announces]
- ``injecting``: ``injection``: the `Injection` as JSON; written before anything is touched [chaos]
- ``injected``: ``injection`` (id), ``began_us``, ``applied_us``, ``members``, ``nodes`` [chaos]
- ``effect-probed``: ``injection`` (id), ``when``: ``injected`` or ``before-heal``, ``in_effect``: bool,
  ``evidence``: list of {``what``, ``expected``, ``observed``, ``ok``} [chaos]
- ``healing``: ``injection`` (id) [chaos]
- ``healed``: ``injection`` (id), ``healed``: bool, ``by``: ``request``, ``ttl`` or ``rollback``, ``healed_us``,
  ``evidence`` as above [chaos, agent's answer]
- ``no-target``: ``target``: nothing matched at injection time, nothing was touched [chaos]
- ``experiment``: ``status``, ``deviated``, ``exit``, ``failed``: names of activities that failed [runner, from the
  journal]
- ``role``: ``member``, ``group``, ``role`` (``primary``, ``replica``, ``unreachable``, ``stray``: it answers and has
  no slots), ``epoch``; each member's own statement [runner's watch]
- ``failing``: ``member`` (whom), ``by`` (who says it), ``flag``: ``fail?``, ``fail`` or ``ok`` [runner's watch]
- ``member``: ``member``, ``what``: ``started``, ``exited``, ``restarted``, ``held``, ``released``; ``pid``,
  ``code`` [backend]
- ``converged``: ``ok``: bool, ``took_s``, ``reason`` [runner]
- ``pressure``: ``cpu_some_ratio``, ``steal_ratio``, ``busy_ratio`` over the second before, of the whole machine
  [runner]
- ``generator``: ``client``, ``cpu_ratio``, ``lag_ms_p99``, ``inflight`` over the second before [runner, from the
  generators]
- ``interrupted``: ``signal`` [runner]
- ``error``: ``where``, ``message``: something of the harness went wrong; the run is judged on what there is
  [runner]
"""

NAMES = frozenset({
    "stack-up", "shards", "load-started", "load-stopped", "phase-announced", "injecting", "injected", "effect-probed",
    "healing", "healed", "no-target", "experiment", "role", "failing", "member", "converged", "replicas", "pressure",
    "generator", "interrupted", "error",
})  # fmt: skip

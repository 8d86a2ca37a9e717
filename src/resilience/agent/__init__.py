"""The Linux fault primitives: one program, with nothing but the standard library, that runs beside a member.

::

    python -m resilience.agent apply   <<< '{"injection": …, "dir": …, "ledger": …, "base_ns": …, "at_ns": …}'
    python -m resilience.agent prepare <<< the same without "at_ns"
    python -m resilience.agent undo    <<< the same

``apply`` prepares the probes, waits for ``at_ns`` (a value of the monotonic clock; 0: at once), takes the injection's
steps in their order, prints one line ``{"began_ns", "applied_ns"}`` and stays behind as a daemon: it answers ``probe``
and ``undo`` on a Unix socket in ``dir`` and undoes the injection by itself when its time to live is over. After
``prepare``, which prints one line as soon as the probes are prepared, it waits to be told ``apply`` with ``at_ns`` on
that socket, for half a minute, and answers with that line. ``undo`` needs no daemon: it works from the injection alone
and is harmless when repeated. Each prints ``{"error": …}`` and exits with 1 if it cannot do its work.

An injection may have a *prelude* (`resilience.agent.prelude`): what is done to others for a while before its own steps,
and undone as soon as these were taken.

A *step* does something and can undo it (`resilience.agent.step`); a *probe* looks at the effect from a third point of
view (`resilience.agent.probe`). A *place* is a member as both find it: its address, and the first process of its
namespaces by pid **and** start time, so that a reused pid is never touched.
"""

"""Every publish of a run, and every time that a message was seen: at a consumer, or in a queue as it was drained.

A message is known by its value. It is *dead* where it was seen in the dead-letter queue of the queue that it was
published to, or where its headers say that it died; *fresh* where it was seen without the server's flag that it had
been handed over before, and not dead. It *died* so often as it was seen dead without that flag: a drain that broke off
before its acknowledgement reads a dead letter again, flagged.
"""

from dataclasses import dataclass

import numpy as np

from resilience.history.columns import Codes, Flags, Ints, Known, Texts, code_array, of_codes
from resilience.history.read import History
from resilience.spec.rabbitmq import dead_letter_queue

NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Columns: one entry a publish (``sent…``), one entry a sight of a message (all others)."""

    sent: Ints  # rows of the ops, in their order
    sent_value: Codes
    sent_queue: Codes
    value: Codes  # those at consumers first, in the order in which each had them, then those that were drained
    queue: Codes
    consumer: Codes  # into ``consumed.consumers``; `NONE`: it was drained
    redelivered: Flags
    acked: Flags
    dead: Flags
    died: Flags  # a death each; of a value that was only seen flagged the first sight tells of it
    own: Codes  # of each value the queue that it was published to, `NONE` if it was published to none
    values: tuple[str, ...]
    queues: tuple[str, ...]

    @property
    def fresh(self) -> Flags:
        """Which sights are of a message that had not been handed over before."""
        found: Flags = ~self.redelivered & ~self.dead
        return found

    @property
    def drained(self) -> Flags:
        """Which sights are those of the audit."""
        found: Flags = self.consumer == NONE
        return found

    def times(self, which: Flags) -> Ints:
        """How often each value is among these sights."""
        return np.bincount(self.value[which], minlength=len(self.values))


def traffic(history: History) -> Traffic:
    """The publishes and the sights of a run."""
    ops, consumed, messages = history.ops, history.consumed, history.audit.messages
    values: Known = {}
    queues: Known = {}
    sent = np.flatnonzero(ops.of_kind("rabbitmq.publish"))
    sent_value = code_array(ops.value[sent].tolist(), values)
    sent_queue = _recoded(ops.key[sent], ops.keys, queues)
    value = code_array(consumed.value.tolist() + messages.value.tolist(), values)
    queue = np.concatenate(
        (_recoded(consumed.queue, consumed.queues, queues), _recoded(messages.queue, messages.queues, queues))
    )
    own = np.full(len(values), NONE, dtype=np.int32)
    own[sent_value[::-1]] = sent_queue[::-1]  # of several publishes the first
    died = of_codes(messages.died_of, (reason != "" for reason in messages.reasons))
    told_dead = np.concatenate((np.zeros(len(consumed), dtype=np.bool_), died))
    dead = told_dead | np.equal(queue, _dead_letters_of(own, queues)[value])
    redelivered = np.concatenate((consumed.redelivered, messages.redelivered))
    return Traffic(
        sent=sent,
        sent_value=sent_value,
        sent_queue=sent_queue,
        value=value,
        queue=queue,
        consumer=np.concatenate((consumed.consumer, np.full(len(messages), NONE, dtype=np.int32))),
        redelivered=redelivered,
        acked=np.concatenate((consumed.acked, np.zeros(len(messages), dtype=np.bool_))),
        dead=dead,
        died=_deaths(value, dead, redelivered),
        own=own,
        values=tuple(values),
        queues=tuple(queues),
    )


def _recoded(column: Codes, texts: tuple[str, ...] | Texts, known: Known) -> Codes:
    """The column with the codes of ``known`` in place of those into ``texts``."""
    used = np.unique(column)
    codes = np.full(len(texts), NONE, dtype=np.int32)
    codes[used] = code_array([texts[code] for code in used.tolist()], known)
    return codes[column]


def _deaths(value: Codes, dead: Flags, redelivered: Flags) -> Flags:
    first: Flags = dead & ~redelivered
    only = np.flatnonzero(dead & ~np.isin(value, value[first]))
    _, earliest = np.unique(value[only], return_index=True)
    first[only[earliest]] = True
    return first


def _dead_letters_of(own: Codes, queues: Known) -> Codes:
    """Of each value the dead-letter queue of its own queue, as far as anything was seen there."""
    nowhere = NONE - 1  # nothing was ever seen there
    found = [queues.get(dead_letter_queue(queue), nowhere) for queue in queues]
    return np.array([*found, nowhere], dtype=np.int32)[own]  # `NONE` takes the last one

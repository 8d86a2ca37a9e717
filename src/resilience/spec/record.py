"""The base of every record of the specification."""

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, keyword-only record that refuses fields it does not know.

    It is validated when it is read (`spec.read`), so a record that exists is a valid one. Changed copies are made
    with ``msgspec.structs.replace``.
    """

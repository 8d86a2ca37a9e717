"""What other services ask the session service by gRPC."""

from typing import Annotated

from msgspec import Meta, Struct

from services.rpc import Method
from services.web import ID_PATTERN


class Session(Struct, frozen=True):
    """Which session is meant."""

    session: Annotated[str, Meta(pattern=ID_PATTERN)]


class Owner(Struct, frozen=True):
    """Whose session it is; `person` is None where it was created for nobody in particular."""

    person: str | None
    state: str  # live or ended


WHOSE = Method(service="harmonyflow.Session", name="Whose", question=Session, answer=Owner, reads=True)

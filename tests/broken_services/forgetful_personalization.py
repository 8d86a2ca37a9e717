"""A personalization service that forgets events, and suggests by profiles that it read long ago.

One event in `EVERY` is acknowledged without its effect. A profile that was read is shown for `KEPT_S`, whatever people
have been told meanwhile; the answer says that it is fresh. Everybody is answered, and quickly.
"""

import asyncio
import itertools
import sys
from typing import ClassVar
from unittest import mock

from services import personalization
from services.profile import Profile, Profiles
from services.web import main

EVERY = 20
KEPT_S = 10.0


class KeepingProfiles(Profiles):
    """The profiles, with both defects."""

    _events = itertools.count(1)
    _kept: ClassVar[dict[str, tuple[float, Profile]]] = {}

    async def read(self, person: str, deadline: float) -> Profile:
        """As it was, for a while."""
        now = asyncio.get_running_loop().time()
        until, profile = self._kept.get(person, (now, None))
        if profile is None or until <= now:
            profile = await super().read(person, deadline)
            self._kept[person] = (now + KEPT_S, profile)
        return profile

    async def add(self, event: str, person: str | None) -> None:
        """As it should be, or nothing."""
        if next(self._events) % EVERY:
            await super().add(event, person)


if __name__ == "__main__":
    with mock.patch.object(personalization, "Profiles", KeepingProfiles):
        sys.exit(main(personalization.serve))

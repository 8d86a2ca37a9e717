"""Ending a task that runs beside another one."""

import asyncio
from typing import Any


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, whatever that is.

    Not by catching `CancelledError` from the task: that would also catch the caller's own.
    """
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: asyncio need not report it

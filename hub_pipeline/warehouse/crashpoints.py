"""Named points at which a test can have the process killed, to prove that a rerun repairs what was cut off.

A kill at a random moment rarely hits the few microseconds that matter; these points are those moments. Without
``HUB_CRASH_AT`` in the environment they do nothing.
"""

from __future__ import annotations

import os
import signal

_passed: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if ``HUB_CRASH_AT`` names this point.

    ``HUB_CRASH_AT=raw.commit`` kills at the first passing, ``raw.commit:3`` at the third. Points ending in
    ``.after`` lie just behind the durable step, the others just before it.
    """
    wanted = os.environ.get("HUB_CRASH_AT")
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    if point != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)

"""The same work by several threads, which stop together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hub_pipeline.sources.transport import CancelledError


def spread(threads: int, work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run `work` in so many threads, this one included, until all have ended.

    Args:
        threads: how many.
        work: ends when there is nothing left to do.
        stop: makes every `work` end soon; called when one fails.

    Raises:
        BaseException: the first failure that is not a mere consequence of another.
    """
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            stop()

    if threads <= 1:
        work()
        return
    with ThreadPoolExecutor(threads - 1, thread_name_prefix="hubspot-chain") as pool:
        for _ in range(threads - 1):
            pool.submit(guarded)
        guarded()
    own = [error for error in failures if not isinstance(error, CancelledError)]
    for error in own or failures:
        raise error

"""The same work by several threads, which stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from hub_pipeline.sources.transport import CancelledError

T = TypeVar("T")


def spread(threads: int, work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run `work` in so many threads until all have ended.

    Args:
        threads: how many.
        work: ends when there is nothing left to do.
        stop: makes every `work` end soon; called when one fails.

    Raises:
        BaseException: the first failure that is not a mere consequence of another.
    """

    def guarded() -> None:
        try:
            work()
        except BaseException:
            stop()
            raise

    if threads <= 1:
        work()
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="hubspot-chain") as pool:
        futures = [pool.submit(guarded) for _ in range(threads)]
    failures = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(failures, key=lambda one: isinstance(one, CancelledError)):
        raise error


class Shared(Generic[T]):
    """An iterator that several threads draw from; one item goes to one of them."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._lock:
                if self._stopped:
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            yield item

    def stop(self) -> None:
        """Give nothing any more."""
        self._stopped = True

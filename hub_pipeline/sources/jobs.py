"""Jobs of one source that run at the same time and fail together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

from hub_pipeline.sources.transport import Budget, CancelledError

R = TypeVar("R")


class Jobs:
    """A thread pool whose first failure cancels the source's budget, and with it everything else at once.

    Use as a context manager: leaving it, for whatever reason, cancels what is still running and waits for it.
    """

    def __init__(self, name: str, workers: int, budget: Budget) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._budget = budget
        self._waiting: set[Future[Any]] = set()
        self._failure: BaseException | None = None

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, job: Callable[..., Any], *args: Any) -> None:
        """Start a job as soon as a worker is free; its outcome comes from `outcomes`."""
        self._waiting.add(self._pool.submit(partial(self._guarded, job, *args)))

    def outcomes(self) -> Iterator[Any]:
        """Outcomes as they come, also of jobs submitted meanwhile.

        Raises:
            BaseException: the failure that cancelled the others, whichever of them ended first.
        """
        while self._waiting:
            finished, self._waiting = wait(self._waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield self._outcome(future)

    def map(self, job: Callable[[str], R], items: Iterable[str]) -> Iterator[R]:
        """Run a job for each item; outcomes come in the order of the items. Raises as `outcomes` does."""
        futures = deque(self._pool.submit(partial(self._guarded, job, item)) for item in items)
        while futures:
            yield self._outcome(futures.popleft())

    def _outcome(self, future: Future[R]) -> R:
        try:
            return future.result()
        except CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise

    def _guarded(self, job: Callable[..., R], *args: Any) -> R:
        try:
            return job(*args)
        except CancelledError:
            raise
        except BaseException as error:
            # Set before the others can notice that they are cancelled.
            self._failure = self._failure or error
            self._budget.cancel()
            raise

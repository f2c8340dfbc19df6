"""Jobs of one source that run at the same time and fail together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, ParamSpec, TypeVar

from hub_pipeline.sources.transport import Budget, CancelledError

P = ParamSpec("P")
R = TypeVar("R")


class Jobs:
    """A thread pool whose first failure cancels the source's budget, and with it everything else at once.

    Use as a context manager: leaving it, for whatever reason, cancels what is still running and waits for it.
    """

    def __init__(self, name: str, workers: int, budget: Budget) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._budget = budget
        self._waiting: set[Future[Any]] = set()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, job: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a job as soon as a worker is free; its outcome comes from `outcomes`."""
        self._waiting.add(self._pool.submit(self._guarded, job, *args, **kwargs))

    def map(self, job: Callable[[Any], R], items: list[Any]) -> Iterator[R]:
        """Run a job for each item; outcomes come in the order of the items."""
        return self._pool.map(lambda item: self._guarded(job, item), items)

    def outcomes(self) -> Iterator[Any]:
        """Outcomes as they come, also of jobs submitted meanwhile; raises the failure that cancelled the others."""
        cancelled: CancelledError | None = None
        while self._waiting:
            finished, self._waiting = wait(self._waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    outcome = future.result()
                except CancelledError as error:
                    cancelled = error
                else:
                    if cancelled is None:
                        yield outcome
        if cancelled is not None:
            raise cancelled

    def _guarded(self, job: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        try:
            return job(*args, **kwargs)
        except BaseException:
            self._budget.cancel()
            raise

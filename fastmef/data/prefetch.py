"""Make batches in threads, ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2  # batches per thread


def prefetch(
    make: Callable[[int], T], numbers: Iterable[int], workers: int
) -> Generator[T, None, None]:
    """Yield ``make(number)`` in order, computed up to ``AHEAD`` × ``workers`` numbers ahead.

    An error of ``make`` is raised where its result would be yielded. With 0 workers nothing is
    computed ahead. Closing the iterator waits for the calls that are running.
    """
    if workers == 0:
        yield from map(make, numbers)
        return
    following = iter(numbers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fastmef-data")
    try:
        pending: deque[Future[T]] = deque(
            pool.submit(make, number) for number in islice(following, AHEAD * workers)
        )
        while pending:
            result = pending.popleft().result()
            for number in islice(following, 1):
                pending.append(pool.submit(make, number))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)

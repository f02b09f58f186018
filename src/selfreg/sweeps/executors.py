"""Where the batches of a sweep run: threads of this process, or a Ray cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.parallel import spawn_pool
from selfreg.sweeps.batches import Case, Job, Label, Results, solve_batch
from selfreg.sweeps.packing import Packed, Packer

T = TypeVar("T")
R = TypeVar("R")

# Batches handed out for each worker and not yet taken back: the next one waits while one is worked on.
AHEAD = 2


class Executor(Protocol):
    """Runs batches; results come in any order, and no more batches are asked for than can soon be worked on.

    One with an attribute `batch_times` gets batches of so many times as many models.
    """

    def run(self, batches: Iterable[list[Case]], job: Job) -> Iterator[Results]:
        """Results of every batch."""


@dataclass(frozen=True)
class LocalExecutor:
    """Threads of this process; the kernels run without the GIL.

    Parameters
    ----------
    n_threads : int, optional
        All cores that this process may use, by default.
    """

    n_threads: int | None = None

    def __post_init__(self) -> None:
        validate.threads(self.n_threads)

    def run(self, batches: Iterable[list[Case]], job: Job) -> Iterator[Results]:
        """Results of every batch, as they are ready."""
        workers = validate.threads(self.n_threads)
        if workers == 1:
            yield from (solve_batch(batch, job) for batch in batches)
            return
        pool = ThreadPoolExecutor(workers)
        try:
            yield from _in_turn(batches, lambda batch: pool.submit(solve_batch, batch, job), AHEAD * workers)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_turn(
    batches: Iterable[list[Case]], submit: Callable[[list[Case]], Future[Results]], most: int
) -> Iterator[Results]:
    running: set[Future[Results]] = set()
    for batch in batches:
        running.add(submit(batch))
        if len(running) >= most:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


@dataclass(frozen=True)
class RayExecutor:
    """Tasks on a Ray cluster; needs the extra `ray`, on every node.

    A batch travels once, as a few long arrays in the object store. The tasks of a worker or node that dies run again
    elsewhere; only their batches are lost time. Results do not depend on the number of workers.

    Parameters
    ----------
    address : str, optional
        Of a cluster ("auto", "ray://host:10001", "host:6379"); by default the one that this process is connected to,
        else a new one on this machine, which ends with the sweep.
    n_workers : int, optional
        Batches worked on at the same time; by default the CPUs of the cluster, looked at anew as nodes come and go.
    retries : int
        How often a batch may lose its worker before the sweep gives up (what is done stays).
    """

    address: str | None = None
    n_workers: int | None = None
    retries: int = 5
    # A task costs Ray about a millisecond of processor time, and a batch of small models some milliseconds.
    batch_times: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if self.n_workers is not None:
            validate.threads(self.n_workers)
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; expected an int >= 0")

    def run(self, batches: Iterable[list[Case]], job: Job) -> Iterator[Results]:
        """Results of every batch, as they are ready.

        Raises
        ------
        ConnectionError
            Where the cluster is lost, or a batch loses its worker more often than `retries`.
        """
        with self._cluster() as ray:
            # A worker's own threads would only compete with other workers.
            task = ray.remote(_solve_packed).options(num_cpus=1, max_retries=self.retries)
            shared, packer, most = ray.put(job), Packer(), self._most(ray)
            running: dict[Any, list[Label]] = {}

            def finished() -> Results:
                (ready,), _ = ray.wait([*running])
                results: Results = ray.get(ready)
                return results._replace(labels=running.pop(ready))

            for batch in batches:
                running[task.remote(ray.put(packer.pack(batch)), shared)] = [case.label for case in batch]
                while len(running) >= most():
                    yield finished()
            while running:
                yield finished()

    def in_order(
        self, function: Callable[[Any, T], R], shared: Any, tasks: Iterable[T]
    ) -> Generator[tuple[T, R], None, None]:
        """Every task with function(shared, task), in their order; tasks are drawn on as fast as they are worked off.

        Raises
        ------
        ConnectionError
            As of `run`.
        """
        with self._cluster() as ray:
            remote = ray.remote(function).options(num_cpus=1, max_retries=self.retries)
            place, most = ray.put(shared), self._most(ray)
            running: deque[tuple[T, Any]] = deque()
            for task in tasks:
                running.append((task, remote.remote(place, task)))
                while len(running) >= most():
                    first, reference = running.popleft()
                    yield first, ray.get(reference)
            while running:
                first, reference = running.popleft()
                yield first, ray.get(reference)

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Ray, connected; a cluster that was started here ends here."""
        with require_extra("ray", "RayExecutor"):
            import ray
        started = not ray.is_initialized()
        if started:
            limit = {} if self.address else {"num_cpus": self.n_workers}
            ray.init(address=self.address, logging_level="warning", include_dashboard=False, **limit)
        try:
            yield ray
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)  # of a task that raised
            if not isinstance(cause, ray.exceptions.RayError):
                raise cause from None
            raise ConnectionError(f"Ray gave up ({type(cause).__name__}): {cause}") from error
        finally:
            if started:
                ray.shutdown()

    def _most(self, ray: Any) -> Callable[[], int]:
        return lambda: AHEAD * (self.n_workers or _cpus(ray))


def _cpus(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _solve_packed(packed: Packed, job: Job) -> Results:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return packed.solve(job)


def executor_of(value: Any) -> Executor:
    """The executor that a name stands for; None is "local"."""
    if value is None or value == "local":
        return LocalExecutor()
    if value == "ray":
        return RayExecutor()
    if isinstance(value, str) or not callable(getattr(value, "run", None)):
        raise ValueError(f'executor is {value!r}; expected "local", "ray", LocalExecutor(...) or RayExecutor(...)')
    executor: Executor = value
    return executor


def in_processes(
    function: Callable[[Any, T], R], shared: Any, tasks: Iterable[T], processes: int
) -> Generator[tuple[T, R], None, None]:
    """Every task with function(shared, task), in their order, in processes of this machine; with one, in this one."""
    if processes == 1:
        for task in tasks:
            yield task, function(shared, task)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = spawn_pool(processes, _Shared.set, (shared,))
    try:
        for task in tasks:
            waiting.append((task, pool.submit(_Shared.call, function, task)))
            if len(waiting) >= AHEAD * processes:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Shared:
    """What a process was given once for all of its tasks."""

    value: Any = None

    @classmethod
    def set(cls, value: Any) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of one process would only compete with the others
        cls.value = value

    @classmethod
    def call(cls, function: Callable[[Any, T], R], task: T) -> R:
        return function(cls.value, task)


def ray_executor(value: Any) -> RayExecutor | None:
    """Ray where it is asked for, for work that otherwise runs in processes of this machine."""
    if value is None or isinstance(value, RayExecutor):
        return value
    if value == "ray":
        return RayExecutor()
    raise ValueError(f'executor is {value!r}; expected "ray" or RayExecutor(...), or none for processes')

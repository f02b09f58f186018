"""One work queue for threads, spawned processes and Ray: a bounded number of tasks in flight, results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NamedTuple, Protocol, TypeVar

from selfreg._util import validate
from selfreg._util.extras import require_extra

S = TypeVar("S")
K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

# Tasks in flight for each worker: the next one waits while one runs.
AHEAD = 2


class _Backend(NamedTuple):
    """Operations of an open executor on its task handles (hashable)."""

    submit: Callable[[Any], Any]
    result: Callable[[Any], Any]
    first_done: Callable[[list[Any]], Any]
    cancel: Callable[[Any], Any]
    limit: Callable[[], int]


class Executor(Protocol):
    """Where tasks run."""

    def _open(self, function: Callable[[Any, Any], Any], shared: Any) -> AbstractContextManager[_Backend]: ...


def run_tasks(
    executor: Executor, function: Callable[[S, T], R], shared: S, tasks: Iterable[tuple[K, T]], *, in_order: bool = True
) -> Generator[tuple[K, R], None, None]:
    """Run `function(shared, task)` for every (label, task); yield (label, result).

    Tasks are drawn as fast as they are completed, so that only a few are in memory. An error, or closing the generator,
    cancels the tasks that wait.

    Parameters
    ----------
    executor : LocalExecutor, ProcessExecutor or RayExecutor
    function : callable
        Picklable where it runs in other processes.
    shared : object
        The same for all tasks; sent to each process once.
    tasks : iterable of (label, task)
        Labels stay in this process. Tasks are not referenced after they are submitted.
    in_order : bool
        In the order of the tasks, or as they complete.

    Raises
    ------
    ConnectionError
        If Ray loses its cluster, or the worker of a task more often than `retries`.

    Examples
    --------
    >>> list(run_tasks(LocalExecutor(2), pow, 2, enumerate([3, 4, 5])))
    [(0, 8), (1, 16), (2, 32)]
    """
    with executor._open(function, shared) as backend:
        running: dict[Any, K] = {}

        def finish() -> tuple[K, R]:
            handle = next(iter(running)) if in_order else backend.first_done([*running])
            result: R = backend.result(handle)
            return running.pop(handle), result

        try:
            for label, task in tasks:
                running[backend.submit(task)] = label
                del task
                while len(running) >= backend.limit():
                    yield finish()
            while running:
                yield finish()
        finally:
            for handle in running:
                backend.cancel(handle)


# ---- this machine ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalExecutor:
    """Threads of this process; the kernels run without the GIL.

    Parameters
    ----------
    n_threads : int, optional
        Default: all cores that this process may use. 1 runs tasks in the calling thread.
    """

    n_threads: int | None = None

    def __post_init__(self) -> None:
        validate.threads(self.n_threads)

    @contextmanager
    def _open(self, function: Callable[[Any, Any], Any], shared: Any) -> Iterator[_Backend]:
        n = validate.threads(self.n_threads)
        if n == 1:
            yield _in_caller(function, shared)
            return
        pool = ThreadPoolExecutor(n)
        try:
            yield _of_futures(lambda task: pool.submit(function, shared, task), n)
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class ProcessExecutor:
    """Spawned processes, with one thread each for numeric libraries; they end with the process that started them.

    Parameters
    ----------
    n_processes : int
        1 runs tasks in this process.
    """

    n_processes: int

    @contextmanager
    def _open(self, function: Callable[[Any, Any], Any], shared: Any) -> Iterator[_Backend]:
        n = self.n_processes
        if n == 1:
            yield _in_caller(function, shared)
            return
        context = _Spawn()
        pool = ProcessPoolExecutor(n, context, initializer=_Worker.begin, initargs=(function, shared))
        try:
            # In a thread: an interrupt, which is raised in the main thread, never leaves a process half started.
            with ThreadPoolExecutor(1) as starter:
                starter.submit(_start_processes, pool).result()
            yield _of_futures(lambda task: pool.submit(_Worker.call, task), n)
        except BaseException:
            context.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


class _Spawn(SpawnContext):
    """Spawns processes, and remembers them, so that they can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        process = SpawnProcess(*args, **kwargs)
        self._made.append(process)
        return process

    def kill(self) -> None:
        for process in self._made:
            if process.ident is not None:
                process.kill()


def _start_processes(pool: ProcessPoolExecutor) -> None:
    """Start all processes of a pool, with SIGINT blocked in them: Ctrl-C goes to all, and their parent ends them."""
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # it changes the mask when it starts
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pool.submit(int)


def _in_caller(function: Callable[[Any, Any], Any], shared: Any) -> _Backend:
    def submit(task: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(shared, task))
        return future

    return _of_futures(submit, 0)._replace(limit=lambda: 1)


def _of_futures(submit: Callable[[Any], Future[Any]], workers: int) -> _Backend:
    # The pool itself cancels: the thread of a pool whose processes are killed fails on a future that another cancelled.
    return _Backend(submit, Future.result, _first_done, lambda future: None, lambda: AHEAD * workers)


def _first_done(futures: list[Future[Any]]) -> Future[Any]:
    done, _ = wait(futures, return_when=FIRST_COMPLETED)
    return next(future for future in futures if future in done)


class _Worker:
    """State of a spawned process."""

    function: Callable[[Any, Any], Any]
    shared: Any

    @classmethod
    def begin(cls, function: Callable[[Any, Any], Any], shared: Any) -> None:
        # Without this thread a process waits for work forever if its parent is killed: it holds the other end of its
        # own pipe.
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads would compete with the other processes
        cls.function, cls.shared = staticmethod(function), shared

    @classmethod
    def call(cls, task: Any) -> Any:
        return cls.function(cls.shared, task)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# ---- a cluster ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RayExecutor:
    """Tasks on a Ray cluster; needs the extra `ray` on every node.

    If a worker or a node dies, its tasks run again elsewhere. Results do not depend on the number of workers.

    Parameters
    ----------
    address : str, optional
        Of a cluster ("auto", "ray://host:10001", "host:6379"). Default: the cluster that this process is connected to,
        else a new one on this machine, which ends with the call.
    n_workers : int, optional
        Tasks that run at the same time. Default: the CPUs of the cluster, which may change while it runs.
    retries : int
        How often a task may lose its worker before the call fails.

    Raises
    ------
    ValueError
        If `n_workers` or `retries` is out of its range.
    """

    address: str | None = None
    n_workers: int | None = None
    retries: int = 5

    def __post_init__(self) -> None:
        if self.n_workers is not None:
            validate.threads(self.n_workers)
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; expected an int >= 0")

    @contextmanager
    def _open(self, function: Callable[[Any, Any], Any], shared: Any) -> Iterator[_Backend]:
        with self._cluster() as ray:
            remote = ray.remote(function).options(num_cpus=1, max_retries=self.retries)
            reference = ray.put(shared)

            def first_done(references: list[Any]) -> Any:
                (done,), _ = ray.wait(references)
                return done

            def cancel(task: Any) -> None:
                with suppress(Exception):  # the cluster may be lost
                    ray.cancel(task)

            def limit() -> int:
                return AHEAD * (self.n_workers or max(1, int(ray.cluster_resources().get("CPU", 1))))

            yield _Backend(lambda task: remote.remote(reference, task), ray.get, first_done, cancel, limit)

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Ray, connected; a cluster that was started here is shut down."""
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


def choose_executor(value: Any, default: Executor) -> Executor:
    """Ray if `value` says so, `default` if it is None.

    Raises
    ------
    ValueError
        If `value` is something else.
    """
    if value is None:
        return default
    if isinstance(value, RayExecutor):
        return value
    if value == "ray":
        return RayExecutor()
    raise ValueError(f'executor is {value!r}; expected "ray" or RayExecutor(...), or None for processes')

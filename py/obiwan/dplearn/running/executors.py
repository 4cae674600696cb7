"""Executors of independent tasks: this process, a pool of processes, or MPI ranks.

Each is a `concurrent.futures.Executor`, or None for this process, so that a program hands out tasks with
`run_tasks` and need not know which it has.  Whatever ends the program ends its workers.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process, resource_tracker
from threading import Thread
from time import sleep
from typing import Any, Generic, TypeVar, cast

from tqdm import tqdm

from obiwan.dplearn.errors import DplearnError, LeaseLostError
from obiwan.dplearn.running.launch import Launch, rank_problem

Task = TypeVar("Task")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

_PATIENCE = 10  #: seconds
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@dataclass(frozen=True)
class Done(Generic[Result]):
    """Outcome of a task.

    Attributes
    ----------
    number : int
        The task's position.
    result : object
        What the function returned; None where it failed.
    error : DplearnError or None
        What is wrong with the task's input, where it failed.
    """

    number: int
    result: Result | None = None
    error: DplearnError | None = None


def _done(number: int, result: Callable[[], Result]) -> Done[Result]:
    try:
        return Done(number, result())
    except LeaseLostError:
        raise
    except DplearnError as error:
        return Done(number, error=error)


def each(
    function: Callable[[Task], Result], tasks: Sequence[Task], executor: Executor | None
) -> Iterator[Done[Result]]:
    """Run every task; yields the outcomes as they come.

    A task whose input is at fault (`DplearnError`) does not stop the others; anything else (a full
    disk, a worker that died, another run that took over) does, and cancels what has not begun.

    Parameters
    ----------
    function : callable
        Of one task; it and the tasks must be picklable where there are workers.
    tasks : sequence
        Asked for one by one, a few more than there are workers at a time.
    executor : Executor or None
        Workers, or None to work in this process.
    """
    if executor is None:
        for number, task in enumerate(tasks):
            yield _done(number, partial(function, task))
        return
    # A few more than there are workers, so that nobody waits for the next one; each may hold 2 MB of rows.
    workers = getattr(executor, "num_workers", 0) or getattr(executor, "_max_workers", len(tasks))
    at_a_time = workers + max(8, workers // 8)
    numbers = iter(range(len(tasks)))
    futures: dict[Future[Result], int] = {}
    try:
        while True:
            # Not all at once: what waits takes memory, and tasks may be made as they are asked for.
            for number in islice(numbers, at_a_time - len(futures)):
                futures[executor.submit(function, tasks[number])] = number
            if not futures:
                return
            finished = wait_for(futures, _PATIENCE, return_when=FIRST_COMPLETED).done
            if not finished and isinstance(executor, Workers):
                executor.check()
            for future in finished:
                yield _done(futures.pop(future), future.result)
    except BrokenProcessPool:
        msg = "a worker process died (killed, or out of memory); start again, perhaps with fewer --jobs"
        raise DplearnError(msg) from None
    finally:
        if not isinstance(executor, Workers):  # `process_pool` kills them, for which none may be cancelled
            for future in futures:
                future.cancel()


def progress_bar(total: int, description: str, unit: str, **options: Any) -> Any:
    """Progress bar on a terminal; in a job's log a line every half minute."""
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        mininterval=interval,
        maxinterval=60,
        dynamic_ncols=True,
        **options,
    )


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    executor: Executor | None,
    bar: Any,
    *,
    size: Callable[[int], int] = lambda _: 1,
    most_errors: int | None = None,
    keep: Callable[[Result], Any] = lambda result: result,
) -> tuple[list[Any], list[DplearnError]]:
    """Run every task with `each`; errors are logged as they come.

    Parameters
    ----------
    function, tasks, executor
        As for `each`.
    bar : tqdm
        Moves on by the size of each task that is done.
    size : callable
        Of a task, given its number, in the bar's unit.
    most_errors : int, optional
        Stop after so many.
    keep : callable
        What is kept of a result, in this process; by default all of it.

    Returns
    -------
    results, errors : list
        Of the tasks that were done and of those that failed, in the order of the tasks.
    """
    results: dict[int, Any] = {}
    errors: dict[int, DplearnError] = {}
    for done in each(function, tasks, executor):
        if done.error is None:
            results[done.number] = keep(cast("Result", done.result))
            bar.update(size(done.number))
            continue
        errors[done.number] = done.error
        with bar.external_write_mode(sys.stderr):
            for line in str(done.error).splitlines():
                log.warning("failed: %s", line)
        if len(errors) == most_errors:
            break
    return [results[i] for i in sorted(results)], [errors[i] for i in sorted(errors)]


def run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], executor: Executor | None, bar: Any, **of: Any
) -> list[Result]:
    """The results of all tasks, as of `run_tasks`; the first error ends it.

    Raises
    ------
    DplearnError
        What is wrong with a task's input.
    """
    results, errors = run_tasks(function, tasks, executor, bar, **of, most_errors=1)
    if errors:
        raise errors[0]
    return results


def in_one_line(errors: Iterable[DplearnError], most: int = 5) -> str:
    """Errors in one line, without remedies where there are several: `run_tasks` has logged those.

    Errors that say the same of several files or bricks are said once, with their remedy.
    """
    lines = list(dict.fromkeys(line for error in errors for line in str(error).splitlines()))
    if len({line.partition(": ")[2] or line for line in lines}) == 1:
        where, colon, what = lines[0].partition(": ")
        others = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        return f"{where}{others}{colon}{what}"
    more = [f"and {len(lines) - most} more, listed above"] if len(lines) > most else []
    return "; ".join([*(line.partition("; ")[0] for line in lines[:most]), *more])


def _end_with_parent() -> None:
    """In a worker: exit when the parent does, also after kill -9; Ctrl-C stays blocked, SIGTERM ends it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def watch() -> None:
        if parent := parent_process():
            parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class Workers(ProcessPoolExecutor):
    """Process pool in which Ctrl-C, which a terminal sends to all processes, reaches the parent alone.

    Parameters
    ----------
    jobs : int
        The most processes; they are started as tasks come.
    """

    def __init__(self, jobs: int) -> None:
        # The tracker removes the semaphores of a program that SIGTERM ended, and need not warn of them.
        sys.warnoptions.append("ignore:resource_tracker")
        resource_tracker.ensure_running()
        sys.warnoptions.pop()
        # Spawned, not forked: a progress bar's thread must not be copied into the workers.
        super().__init__(jobs, get_context("spawn"), _end_with_parent)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of every executor; the processes that it starts inherit the blocked signals."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            return super().submit(function, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def check(self) -> None:
        """Kill all where one has died: one that died while it wrote a large result holds up the others."""
        if any(process.exitcode is not None for process in list((self._processes or {}).values())):
            self.kill()

    def kill(self) -> None:
        """End the processes at once; futures that are not done get a `BrokenProcessPool`."""
        for process in list((self._processes or {}).values()):
            process.kill()
        if self._result_queue is not None:  # its reader may wait for the rest of a result
            self._result_queue._writer.close()  # type: ignore[attr-defined]
        self.shutdown()

    def __exit__(self, kind: Any, *rest: Any) -> bool | None:
        """Whatever error ends the block ends the workers, too."""
        if kind is not None:
            self.kill()
        return super().__exit__(kind, *rest)


def process_pool(jobs: int) -> AbstractContextManager[Executor | None]:
    """Worker processes on this machine, or None for one job: the work is then done in this process."""
    return Workers(jobs) if jobs > 1 else nullcontext()


def mpi_pool(launch: Launch, program: str) -> AbstractContextManager[Any]:
    """On rank 0, the other ranks as workers; on those the block is left when rank 0 has no more.

    Parameters
    ----------
    launch : Launch
        What the launcher says of this process.
    program : str
        The module that runs, for the error's remedy.

    Raises
    ------
    DplearnError
        If there was no launcher, no mpi4py, no MPI library that it can load, or another one than the
        launcher's.
    """
    if launch.size == 1:  # asked before MPI is started, which outside a job may end the process
        msg = (
            f"--mpi needs a launcher: mpirun -n 8 python -m {program} --mpi ... (or srun), of whose ranks "
            "one hands out the work; on one machine --jobs does the same without MPI"
        )
        raise DplearnError(msg)
    try:
        import mpi4py

        mpi4py.rc(initialize=False, finalize=True)
        _bind_at_once()
        from mpi4py import MPI, futures
    except ImportError as error:
        msg = f"--mpi needs mpi4py and an MPI library: pip install 'obiwan-dplearn[mpi]' ({error})"
        raise DplearnError(msg) from None
    except RuntimeError as error:  # from mpi4py's loader
        msg = f"--mpi: mpi4py finds no MPI library that it can load ({error}); load your site's MPI module"
        raise DplearnError(msg) from None
    if problem := rank_problem(os.environ):  # starting MPI would end this process without a word of ours
        msg = f"--mpi: {problem}"
        raise DplearnError(msg)
    if not MPI.Is_initialized():
        MPI.Init_thread()
    if MPI.COMM_WORLD.size != launch.size:
        msg = (
            f"--mpi: {launch.launcher} started {launch.size} ranks and mpi4py sees {MPI.COMM_WORLD.size}: it "
            "uses another MPI than the launcher; use the mpirun of its MPI, or build mpi4py for this one "
            "(MPICC=... pip install --no-binary mpi4py mpi4py)"
        )
        raise DplearnError(msg)
    return futures.MPICommExecutor(MPI.COMM_WORLD, root=0)


def _bind_at_once() -> None:
    """Have the functions of an MPI library that mpi4py finds by itself bound when it is loaded.

    Bound when they are first called, those that Open MPI calls at its end are TensorFlow's of the same name.
    """
    with suppress(ImportError):  # of mpi4py that was built for one library
        from mpi4py import _mpiabi

        _mpiabi.LIBMPI_MODE = os.RTLD_NOW | os.RTLD_LOCAL


def mpi_worker(launch: Launch, program: str) -> int:
    """On the other ranks: work until rank 0 has no more; silent, for rank 0 speaks.

    Returns
    -------
    int
        Exit status: 1 where MPI cannot be used.
    """
    try:
        pool = mpi_pool(launch, program)
    except DplearnError:
        sleep(_PATIENCE)
        return 1
    with pool:
        return 0

"""Programs that hand out tasks: their options, and their body with worker processes or MPI ranks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from obiwan.dplearn.running import cli
from obiwan.dplearn.running.executors import mpi_pool, mpi_worker, process_pool
from obiwan.dplearn.running.launch import first_speaks, launched


def add_worker_options(add: Callable[..., Any]) -> None:
    """Add ``--jobs``, ``--mpi`` and ``--verbose`` with the ``add_argument`` of a parser or group."""
    add("--jobs", type=cli.jobs, default=1, metavar="N", help="worker processes")
    add_rank_options(add)


def add_rank_options(add: Callable[..., Any]) -> None:
    """Add ``--mpi`` and ``--verbose`` with the ``add_argument`` of a parser or group."""
    says = "work on all ranks that mpirun or srun started: rank 0 hands out the work, and --jobs is void"
    add("--mpi", action="store_true", help=says)
    add("--verbose", action="store_true", help="details, and tracebacks of errors")


def run_with_workers(
    parser: argparse.ArgumentParser,
    module: str,
    argv: Sequence[str] | None,
    check: Callable[[argparse.Namespace], None],
    body: Callable[[argparse.Namespace, Executor | None], int],
    jobs: Callable[[argparse.Namespace], int] = lambda options: int(options.jobs),
) -> int:
    """Run a program whose tasks go to workers; of several ranks the first runs the body, and speaks.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        With the options of `add_worker_options`.
    module : str
        What ``python -m`` runs.
    argv : sequence of str, optional
        The command line; `sys.argv` by default.
    check : callable
        Completes the options; a ValueError ends the program with status 2.
    body : callable
        The program, given options and workers (None for this process); returns the exit status.
    jobs : callable, optional
        Number of worker processes, asked for before there are any.

    Returns
    -------
    int
        As of `obiwan.dplearn.running.cli.run`.
    """
    launch = launched(os.environ)

    def read() -> argparse.Namespace:
        options = cli.parse(parser, argv)
        try:
            check(options)
        except ValueError as error:
            parser.error(str(error))
        if launch.size > 1 and not options.mpi:
            parser.error(f"{launch.size} ranks were started, and each would do the whole work: give --mpi")
        return options

    if launch.rank > 0:
        try:
            with first_speaks(launch):
                read()
        except SystemExit:  # rank 0 says why, and has the status
            return 0
        return mpi_worker(launch, module)
    options = read()

    def program() -> int:
        processes = jobs(options)
        with mpi_pool(launch, module) if options.mpi else process_pool(processes) as executor:
            return body(options, executor)

    return cli.run(program, module.rpartition(".")[2], verbose=options.verbose)

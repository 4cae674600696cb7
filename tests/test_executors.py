"""Workers: outcomes of tasks, what a failure stops, and that no worker outlives its parent."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from tqdm import tqdm

from obiwan.dplearn.errors import CoaddError, DplearnError, LeaseLostError
from obiwan.dplearn.running import executors
from obiwan.dplearn.running.executors import each, in_one_line, process_pool, progress_bar, run_tasks
from pool_tasks import die, die_while_answering, full_disk, over, triple, unpicklable


class Patient:
    """An executor that never begins, so that only what was cancelled ends."""

    def __init__(self):
        self.futures = []

    def submit(self, function, task):
        future = Future()
        if task < 3:
            future.set_running_or_notify_cancel()
            try:
                future.set_result(function(task))
            except OSError as error:
                future.set_exception(error)
        self.futures.append(future)
        return future


@pytest.fixture(scope="module", params=["here", "pool"])
def executor(request):
    with process_pool(1 if request.param == "here" else 2) as workers:
        assert (workers is None) == (request.param == "here")
        yield workers


def test_a_failure_does_not_stop_the_others(executor):
    done = {outcome.number: outcome for outcome in each(triple, list(range(12)), executor)}
    assert sorted(done) == list(range(12))
    for number, outcome in done.items():
        if number in (4, 9):
            assert outcome.result is None
            assert isinstance(outcome.error, CoaddError)
            assert str(outcome.error) == f"task {number}: damaged; repair it"
        else:
            assert (outcome.result, outcome.error) == (3 * number, None)


def test_what_is_not_the_inputs_fault_ends_it(executor):
    with pytest.raises(OSError, match="No space left") as caught:
        list(each(full_disk, list(range(8)), executor))
    assert caught.value.filename == "shard"


def test_what_has_not_begun_is_cancelled():
    patient = Patient()
    with pytest.raises(OSError, match="No space left"):
        list(each(full_disk, list(range(9)), patient))
    assert [future.cancelled() for future in patient.futures] == [False] * 3 + [True] * 6
    patient = Patient()
    for _ in each(full_disk, [0, 1, 5, 6], patient):
        break  # the caller has had enough
    assert [future.cancelled() for future in patient.futures] == [False, False, True, True]


class Lazy(Sequence):
    """Tasks that are made as they are asked for."""

    def __init__(self, n):
        self.n, self.asked = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, number):
        self.asked.append(number)
        return 5 * number


def test_tasks_are_asked_for_as_workers_become_free():
    tasks = Lazy(60)
    with process_pool(2) as workers:
        outcomes = each(triple, tasks, workers)
        first = next(outcomes)
        assert len(tasks.asked) <= 2 + 8  # each of them may be large
        rest = list(outcomes)
    assert tasks.asked == list(range(60))
    assert {one.number: one.result for one in [first, *rest]} == {n: 15 * n for n in range(60)}


def test_another_run_that_took_over_ends_all(executor):
    with pytest.raises(LeaseLostError, match="another run"):
        list(each(over, list(range(8)), executor))


def test_a_worker_that_dies_is_told():
    with process_pool(2) as workers, pytest.raises(DplearnError, match="a worker process died"):
        list(each(die, list(range(4)), workers))


def test_a_worker_that_dies_in_the_middle_of_its_result_is_told(monkeypatch):
    """It holds the lock of the results' pipe, and half a result waits for its rest."""
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)
    with process_pool(2) as workers, pytest.raises(DplearnError, match="a worker process died"):
        list(each(die_while_answering, list(range(4)), workers))


LARGE = """
    import sys
    from obiwan.dplearn.errors import DplearnError
    from obiwan.dplearn.running.executors import each, process_pool
    from pool_tasks import die_of_large

    if __name__ == "__main__":
        tasks = [(number, bytes(2 << 20)) for number in range(12)]
        try:
            with process_pool(2) as workers:
                list(each(die_of_large, tasks, workers))
        except DplearnError as error:
            print(error)
"""


def test_a_worker_that_dies_with_large_tasks_before_it(tmp_path, root, run_python):
    """Larger than what a pipe holds."""
    (tmp_path / "parent.py").write_text(textwrap.dedent(LARGE))
    done = run_python(tmp_path / "parent.py", path=(root / "py", root / "tests"))
    assert done.stdout.startswith("a worker process died"), done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_a_dead_worker_ends_the_others():
    started = []

    def run() -> None:
        with process_pool(2) as workers:
            assert len(list(each(triple, [1, 2, 3], workers))) == 3
            started.extend(workers._processes.values())
            list(each(die, list(range(4)), workers))

    with pytest.raises(DplearnError, match="a worker process died"):
        run()
    assert [process.is_alive() for process in started] == [False, False]


def test_what_cannot_travel_is_an_error_and_the_worker_goes_on():
    with process_pool(2) as workers:
        for number, kind in ((0, Exception), (1, Exception)):
            with pytest.raises(kind, match="lambda"):
                list(each(unpicklable, [number], workers))
        assert [one.result for one in each(triple, [2], workers)] == [6]


def test_an_error_says_where_in_the_worker_it_happened():
    with process_pool(2) as workers, pytest.raises(OSError, match="No space") as caught:
        list(each(full_disk, [2], workers))
    assert "in full_disk" in str(caught.value.__cause__)


def test_gathered_in_the_order_of_the_tasks(executor, caplog):
    bar = tqdm(total=120, file=io.StringIO())
    with caplog.at_level(logging.WARNING):
        results, errors = run_tasks(triple, list(range(12)), executor, bar, size=lambda _: 10)
    assert results == [3 * number for number in range(12) if number not in (4, 9)]
    assert [str(error)[:6] for error in errors] == ["task 4", "task 9"]
    assert bar.n == 100
    assert sorted(record.message for record in caplog.records) == [
        f"failed: task {number}: damaged; repair it" for number in (4, 9)
    ]


def test_enough_errors_are_enough():
    results, errors = run_tasks(triple, [4, 9, 1, 14, 19], None, tqdm(disable=True), most_errors=2)
    assert (results, len(errors)) == ([], 2)


def test_errors_in_one_line():
    one = DplearnError("a.fits: torn; mend it")
    two = DplearnError("b.fits: lost; find it\nc.fits: gone; look; it up")
    assert in_one_line([one]) == "a.fits: torn; mend it"
    assert in_one_line([one, one]) == "a.fits: torn; mend it"
    assert in_one_line([one, two]) == "a.fits: torn; b.fits: lost; c.fits: gone"
    same = [DplearnError(f"brick {name}: no z; give another") for name in "abc"]
    assert in_one_line(same) == "brick a and 2 more: no z; give another"
    assert in_one_line([one, two], most=2) == "a.fits: torn; b.fits: lost; and 1 more, listed above"


def test_a_jobs_log_is_not_filled_by_the_bar(capsys):
    with progress_bar(5000, "plan", "brick") as bar:
        for _ in range(5000):
            bar.update()
    assert capsys.readouterr().err.count("\r") <= 2


PARENT = """
    import os, sys, time
    from pathlib import Path
    from obiwan.dplearn.running.executors import each, process_pool

    def work(directory):
        (Path(directory) / str(os.getpid())).touch()
        time.sleep(600)

    if __name__ == "__main__":
        with process_pool(2) as workers:
            list(each(work, [sys.argv[1]] * 2, workers))
"""


def _alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_was_killed(tmp_path, root):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    pids = tmp_path / "pids"
    pids.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(root / "py")}
    with subprocess.Popen([sys.executable, str(script), str(pids)], env=environ) as parent:
        deadline = time.monotonic() + 60
        while len(list(pids.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        workers = [int(path.name) for path in pids.iterdir()]
        assert len(workers) == 2
        assert all(map(_alive, workers))
        parent.kill()  # it cannot tell them
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = [pid for pid in workers if _alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


SIGNALLED = """
    import sys, time
    from obiwan.dplearn.running import cli
    from obiwan.dplearn.running.executors import each, process_pool

    def work(seconds):
        time.sleep(seconds)

    def body():
        with process_pool(2) as workers:
            tasks = each(work, [0, 600, 600], workers)
            print("begun", flush=True)
            for _ in tasks:
                print("working", flush=True)

    if __name__ == "__main__":
        sys.exit(cli.run(body, "prog"))
    else:
        time.sleep(0.5)  # as if a worker's imports took as long
"""


@pytest.mark.parametrize("moment", ["begun", "importing", "working"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_one_line(number, moment, tmp_path, root):
    """Ctrl-C reaches all processes of a terminal, workers that are still importing, too."""
    script = tmp_path / "parent.py"
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # as on a terminal
    script.write_text(heard + textwrap.dedent(SIGNALLED))
    environ = {**os.environ, "PYTHONPATH": str(root / "py")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, str(script)], env=environ, **pipes) as parent:
        for line in parent.stdout:
            if line.strip() == moment.replace("importing", "begun"):
                break
        time.sleep(0.25 if moment == "importing" else 0)
        (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)
        _, said = parent.communicate(timeout=60)
    assert parent.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    (line,) = said.strip().splitlines()
    assert line.startswith("prog: ")


def test_mpi_without_a_launcher(run_python, tmp_path):
    words = ("-m", "obiwan.dplearn.create_training", "--mpi", "--fake", tmp_path, "--outdir", tmp_path / "o")
    done = run_python(*words)
    assert done.returncode == 1
    assert re.fullmatch(
        r"create_training: error: --mpi needs a launcher: mpirun -n 8 python -m obiwan\.dplearn\."
        r"create_training --mpi .*\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("raise ImportError('no such thing')", "pip install 'obiwan-dplearn[mpi]' (no such thing)"),
        ("raise RuntimeError('cannot load MPI library')", "finds no MPI library"),
        (
            "from types import SimpleNamespace as N; rc = dict; futures = None; "
            "MPI = N(COMM_WORLD=N(size=1), Is_initialized=lambda: True)",
            "mpiexec started 2 ranks and mpi4py sees 1",
        ),
    ],
)
def test_mpi_without_mpi4py_or_mpi(module, message, run_python, tmp_path, root):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text(module)
    done = run_python(
        *("-m", "obiwan.dplearn.create_training", "--mpi", "--fake", tmp_path, "--outdir", tmp_path / "o"),
        path=(tmp_path, root / "py"),
        env={"PMI_RANK": "0", "PMI_SIZE": "2"},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("create_training: error: --mpi")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1

"""Threads and affinity: who decides, and that TensorFlow and the others obey."""

from __future__ import annotations

import importlib
import os
import textwrap

import pytest

from obiwan.dplearn.running.profiles import (
    ONE_THREAD,
    PROFILES,
    Node,
    describe,
    local_ranks,
    settings,
    this_node,
)

MILAN = Node(processors=256, cores=128, own_processors=256, own_cores=128)
SOCKET = Node(processors=256, cores=128, own_processors=128, own_cores=64)
SMALL = Node(processors=2, cores=2, own_processors=2, own_cores=2)
COUNTS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def threads(profile, asked, environ, node) -> int:
    found = settings(profile, asked, environ, node)
    (number,) = {found[name] for name in COUNTS if name in found}
    return int(number)


def test_knl_is_as_documented():
    assert settings("knl", None, {}, SMALL) == {
        "OMP_NUM_THREADS": "68",
        "TF_NUM_INTRAOP_THREADS": "68",
        "TF_NUM_INTEROP_THREADS": "2",
        "KMP_BLOCKTIME": "1",
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
    }


@pytest.mark.parametrize(
    ("profile", "environ", "node", "expected"),
    [
        ("knl", {"SLURM_CPUS_PER_TASK": "272"}, SMALL, 68),
        ("knl", {"SLURM_CPUS_PER_TASK": "136"}, SMALL, 34),
        ("knl", {"SLURM_STEP_TASKS_PER_NODE": "4"}, SMALL, 17),
        ("perlmutter", {}, SMALL, 128),
        ("perlmutter", {"SLURM_CPUS_PER_TASK": "128"}, SMALL, 64),  # a rank a socket
        ("perlmutter", {"SLURM_CPUS_PER_TASK": "32", "SLURM_STEP_TASKS_PER_NODE": "8(x4)"}, SMALL, 16),
        ("small", {}, MILAN, 2),
        ("small", {"HOROVOD_LOCAL_SIZE": "2"}, MILAN, 1),
        (None, {}, MILAN, 128),
        ("auto", {}, SOCKET, 64),
        ("auto", {"SLURM_CPUS_PER_TASK": "32"}, MILAN, 16),  # SLURM counts hardware threads
        ("auto", {"SLURM_CPUS_PER_TASK": "128"}, SOCKET, 64),
        ("auto", {"SLURM_CPUS_PER_TASK": "16"}, SMALL, 2),  # never more than there are
        ("auto", {"SLURM_CPUS_PER_TASK": "1"}, MILAN, 1),
        ("auto", {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, SMALL, 1),
        ("auto", {"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, SMALL, 1),
        ("auto", {"MPI_LOCALNRANKS": "4"}, SOCKET, 32),  # two ranks to a socket
        ("auto", {"OMP_NUM_THREADS": "5"}, MILAN, 5),
        ("auto", {"OMP_NUM_THREADS": "6,2", "SLURM_CPUS_PER_TASK": "32"}, MILAN, 6),
        ("knl", {"OMP_NUM_THREADS": "64"}, SMALL, 64),
        ("auto", {"OMP_NUM_THREADS": ""}, SMALL, 2),
    ],
)
def test_number_of_threads(profile, environ, node, expected):
    assert threads(profile, None, environ, node) == expected


def test_the_environment_is_kept_and_threads_wins_over_it():
    environ = {"OMP_NUM_THREADS": "5", "KMP_AFFINITY": "none", "TF_NUM_INTEROP_THREADS": "9"}
    kept = settings("knl", None, environ, SMALL)
    assert kept == {"TF_NUM_INTRAOP_THREADS": "5", "KMP_BLOCKTIME": "1"}
    line = describe("knl", None, environ, SMALL)[0]
    for words in (
        "5 a rank, from OMP_NUM_THREADS",
        "kept from the environment",
        "KMP_AFFINITY=none",
        "TF_NUM_INTEROP_THREADS=9",
    ):
        assert words in line
    asked = settings("knl", 3, environ, SMALL)
    assert asked == {
        "OMP_NUM_THREADS": "3",
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "2",
        "KMP_BLOCKTIME": "1",
    }
    assert "kept from the environment: KMP_AFFINITY=none" in describe("knl", 3, environ, SMALL)[0]
    assert "3 a rank, from --threads" in describe("knl", 3, environ, SMALL)[0]


def test_jax_is_told_as_well():
    assert "NPROC" not in settings("auto", 3, {}, SMALL)
    assert settings("auto", 3, {"KERAS_BACKEND": "jax", "NPROC": "9"}, SMALL)["NPROC"] == "3"
    assert "NPROC" not in settings("auto", None, {"KERAS_BACKEND": "jax", "NPROC": "9"}, SMALL)
    assert settings("auto", 1, {"KERAS_BACKEND": "jax"}, SMALL).items() <= ONE_THREAD.items()


def test_one_thread_runs_one_operation_at_a_time():
    assert settings("auto", 1, {}, SMALL)["TF_NUM_INTEROP_THREADS"] == "1"
    assert settings("small", 2, {}, SMALL)["TF_NUM_INTEROP_THREADS"] == "1"


@pytest.mark.parametrize(
    ("profile", "asked", "environ", "message"),
    [
        ("auto", None, {"OMP_NUM_THREADS": "many"}, "OMP_NUM_THREADS=many in the environment"),
        ("auto", None, {"SLURM_CPUS_PER_TASK": "0"}, "SLURM_CPUS_PER_TASK=0 in the environment"),
    ],
)
def test_refusals(profile, asked, environ, message):
    with pytest.raises(ValueError, match=message):
        settings(profile, asked, environ, SMALL)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "4,8(x2)"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x128)"}, 1),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "3", "SLURM_STEP_TASKS_PER_NODE": "1"}, 3),
    ],
)
def test_ranks_on_this_node(environ, expected):
    assert local_ranks(environ) == expected


def test_what_to_beware_of():
    assert describe("small", None, {}, SMALL)[1:] == []
    assert "68 threads in all share the 2 cores" in describe("knl", None, {}, SMALL)[1]
    assert "6 threads in all share the 2 cores" in describe("auto", 3, {"MPI_LOCALNRANKS": "2"}, SMALL)[1]
    assert "100 threads share the 64 cores that this rank is bound to" in describe("auto", 100, {}, SOCKET)[1]
    assert "OMP_PLACES=cores can tie" in describe("auto", None, {"OMP_PLACES": "cores"}, SMALL)[1]


def test_no_profile_binds_by_openmp():
    """GNU OpenMP would tie the main thread, and all that it starts, to one core."""
    for name in PROFILES:
        assert not {"OMP_PROC_BIND", "OMP_PLACES"} & set(settings(name, None, {}, MILAN))


def test_this_node(tmp_path):
    node = this_node()
    assert 1 <= node.own_cores <= node.own_processors <= node.processors
    for processor in range(os.cpu_count()):  # pairs of processors are one core
        place = tmp_path / f"cpu{processor}" / "topology"
        place.mkdir(parents=True)
        first = processor - processor % 2
        (place / "thread_siblings_list").write_text(f"{first}-{first + 1}\n")
    assert this_node(tmp_path).cores == -(-os.cpu_count() // 2)
    assert this_node(tmp_path / "absent").cores == os.cpu_count()


def test_affinity_mask_is_what_counts(run_python):
    """A process that is bound to one processor takes one thread, whatever the node has."""
    program = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from obiwan.dplearn.running.profiles import settings
        print(settings(None, None, {})["OMP_NUM_THREADS"])
    """
    done = run_python("-c", textwrap.dedent(program))
    assert done.stdout == "1\n", done.stderr


@pytest.mark.slow
def test_tensorflow_obeys(run_python):
    """Its pools are as large as the profile says; they are made when the first operation runs."""
    program = """
        import os
        from obiwan.dplearn.running.profiles import settings
        os.environ.update(settings("auto", THREADS, {}))
        import tensorflow as tf
        tf.linalg.matmul(tf.ones((600, 600)), tf.ones((600, 600)))
        tasks = os.listdir("/proc/self/task")
        names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in tasks]
        print(names.count("tf_Compute"), len(names))
    """
    pools = {}
    for asked in (1, 6):
        words = textwrap.dedent(program).replace("THREADS", str(asked))
        done = run_python("-c", words)
        assert done.returncode == 0, done.stderr
        pools[asked] = [int(word) for word in done.stdout.split()]
    assert pools[1][0] == 1
    assert pools[6][0] == 2  # operations at a time
    between = (pools[6][1] - pools[6][0]) - (pools[1][1] - pools[1][0])
    assert between >= 5  # threads of an operation


@pytest.mark.parametrize("program", ["cnn", "evaluate", "mosaic"])
@pytest.mark.parametrize(
    ("env", "words", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "1"}, (), "1"),
        ({"OMP_NUM_THREADS": "3"}, (), "3"),
        ({"OMP_NUM_THREADS": "3"}, ("--threads", "1"), "1"),
        ({}, ("--profile", "small", "--threads", "2"), "2"),
    ],
)
def test_every_program_that_loads_a_network_keeps_to_its_threads(program, env, words, threads, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMP_", "TF_", "OMPI_")):
            monkeypatch.delenv(name)
    for name in (
        "OMP_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "TF_CPP_MIN_LOG_LEVEL",
    ):
        monkeypatch.setenv(name, "")  # so that it is put back
        os.environ.pop(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    module = importlib.import_module(f"obiwan.dplearn.{program}")
    several = ["--model", "m"] if program == "evaluate" else []
    assert module.main(["--data", "absent", "--outdir", "o", *several, *words]) == 1
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == threads


@pytest.mark.parametrize("program", ["cnn", "evaluate", "mosaic"])
def test_threads_that_are_no_number_are_one_line(program, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    module = importlib.import_module(f"obiwan.dplearn.{program}")
    several = ["--model", "m"] if program == "evaluate" else []
    assert module.main(["--data", "absent", "--outdir", "o", *several]) == 1
    assert "OMP_NUM_THREADS=many" in capsys.readouterr().err

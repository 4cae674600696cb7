"""Kills, a full disk, lost files, two runs at once: each ends with the bytes of an undisturbed run."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from benchmarks import faults
from obiwan.dplearn import create_training
from obiwan.dplearn.cutting import extraction, workspace
from obiwan.dplearn.errors import LeaseLostError
from obiwan.dplearn.files import outdir as outdirs
from obiwan.dplearn.files.outdir import acquire_lease, holding_lease, revoke_leases
from obiwan.dplearn.survey import coadds
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted, write_set
from processes import ENV
from synthetic import Survey, bricks_apart, content_of, planes, survey, write_plane

ENDED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Survey:
    """Six bricks of two runs, and their release."""
    return survey(tmp_path_factory.mktemp("survey"), bricks=bricks_apart(6))


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory) -> dict[str, bytes]:
    """What an undisturbed run leaves."""
    outdir = tmp_path_factory.mktemp("whole") / "set"
    assert run(made, outdir) == 0
    return content_of(outdir)


@pytest.fixture(scope="module")
def whole_packed(made, tmp_path_factory) -> dict[str, bytes]:
    """The same with packed shards."""
    outdir = tmp_path_factory.mktemp("packed") / "set"
    assert run(made, outdir, "--shards", "packed") == 0
    return content_of(outdir)


@pytest.fixture
def copy(made, tmp_path) -> Survey:
    """The survey's files, to be damaged."""
    shutil.copytree(made.fake, tmp_path / "fake")
    return Survey(tmp_path / "fake", made.real, made.kind, made.scenes, made.runs)


def run(made: Survey, outdir: Path, *more: str, jobs: int = 1) -> int:
    return create_training.main([*faults.stamps_words(made, outdir, jobs), *more])


BAR = re.compile(r"(plan|extract): +(\d+%\||0(\.0+)?(brick|cutout))")  # of tqdm
TOLD = ("failed: ", "going on after ", "threads: ")  # what a run may say before it ends


def only_error(text: str) -> str:
    """The one line that says what is wrong; beside it there are only bars and what is known to be said."""
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    (line,) = [line for line in lines if not BAR.match(line) and not line.startswith(TOLD)]
    assert ": error: " in line
    return line


def nothing_half_written(outdir: Path) -> None:
    """Whatever stands in a training set opens; there is no manifest."""
    import numpy as np

    assert not (outdir / "manifest.json").exists()
    for path in outdir.glob("*.npy"):
        np.load(path)
    for path in outdir.glob("*.npz"):
        with np.load(path) as file:
            assert [file[name].size for name in file.files]


# --- killed and ended ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_while_shards_are_written(made, whole, tmp_path):
    """A few of what `benchmarks/faults.py` does by the dozen, and at any moment."""
    rng = random.Random(os.urandom(8))
    for way in ("worker", "driver", "all"):
        outdir, files = tmp_path / way, rng.randint(1, 30)
        moment = partial(has_files, outdir, files)
        status, _ = faults.disturbed(
            "create_training", faults.stamps_words(made, outdir, 2), moment, way, rng
        )
        assert status != 0, (way, files)
        assert has_files(outdir, files)
        nothing_half_written(outdir)
        assert run(made, outdir) == 0
        assert content_of(outdir) == whole, (way, files)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(("way", "hit"), [("worker", "driver"), ("driver", "driver"), ("SIGTERM", "SIGTERM")])
def test_the_campaign_counts_what_it_hit(way, hit):
    """A program without workers loses none."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, start_new_session=True, text=True) as process:
        assert faults.strike(process, way, random.Random(1)) == hit
    assert process.returncode == -(signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL)
    assert faults.kills(Counter({hit: 3})) == (0 if hit == "SIGTERM" else 3)


def has_files(outdir: Path, number: int) -> bool:
    """Whether so many files of shards are there."""
    return len(list(outdir.glob("*.npy"))) >= number


KILLER = """
import json, os, signal, sys
from pathlib import Path
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.cutting import extraction
from obiwan.dplearn.create_training import main

words, base = json.loads(sys.argv[1]), Path(sys.argv[2])
StampSpec.stamps_per_group = 40  # several groups
real_replace = Path.replace


def child(outdir, moment=None, after=False, count=None):
    '''Run in a fork that kills itself at the n-th file that is renamed into place.'''
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        seen = 0

        def replace(self, target):
            nonlocal seen
            seen += 1
            if count is not None:
                count.write_text(str(seen))
            if seen == moment and not after:
                os.truncate(self, os.path.getsize(self) // 2)  # caught in the middle of writing
                os.kill(os.getpid(), signal.SIGKILL)
            done = real_replace(self, target)
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        Path.replace = replace
        os._exit(main([*words, "--outdir", str(outdir)]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


number = base / "number"
results = {"whole": child(base / "whole", count=number)}
total = int(number.read_text())
middle = total // 2
moments = [(1, False), (2, False), (3, True), (middle, False), (total - 1, False), (total, False)]
moments.append((total, True))
for moment, after in moments:
    outdir = base / f"at{moment}{after}"
    killed, left = child(outdir, moment, after), (outdir / "manifest.json").exists()
    results[outdir.name] = [killed, left == (moment == total and after), child(outdir)]
print(json.dumps([total, results]))
"""


def test_killed_at_any_moment_and_started_again(made, run_python, tmp_path):
    script = tmp_path / "killer.py"
    script.write_text(KILLER)
    few = [content.brick.name for content in made.scenes[:3]]
    given = [*faults.stamps_words(made, Path("x"), 1), "--bricks", *few]
    del given[given.index("--outdir") : given.index("--outdir") + 2]
    done = run_python(script, json.dumps(given), tmp_path)
    assert done.returncode == 0, done.stderr
    total, results = json.loads(done.stdout)
    assert total > 20
    assert results.pop("whole") == 0
    undisturbed = content_of(tmp_path / "whole")
    assert len(undisturbed) > 10
    for name, outcome in results.items():
        assert outcome == [-signal.SIGKILL, True, 0], name
        assert content_of(tmp_path / name) == undisturbed, name


@pytest.mark.parametrize("form", ["npy", "packed"])
def test_killed_with_workers_and_started_again(form, made, whole, whole_packed, tmp_path):
    outdir, more = tmp_path / "out", ("--shards", form)
    process = faults.start("create_training", [*faults.stamps_words(made, outdir, 2), *more])
    deadline = time.monotonic() + 60
    while not has_files(outdir, 1) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL  # before its end
    assert has_files(outdir, 1)
    nothing_half_written(outdir)
    assert run(made, outdir, *more) == 0  # and with another number of workers
    assert content_of(outdir) == (whole if form == "npy" else whole_packed)


@pytest.mark.parametrize(("form", "name"), [("npy", "xval_1.npy"), ("packed", "xval_1.npz")])
def test_a_damaged_shard_is_written_again_on_restart(
    form, name, made, whole, whole_packed, tmp_path, monkeypatch
):
    outdir, more = tmp_path / "out", ("--shards", form)
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "write_sources", stop)
        assert run(made, outdir, *more) == 130
    nothing_half_written(outdir)
    with (outdir / name).open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"broken")
    assert run(made, outdir, *more) == 0
    assert content_of(outdir) == (whole if form == "npy" else whole_packed)


@pytest.mark.parametrize("jobs", [1, 2])
def test_sigterm_is_one_line_and_a_status(jobs, made, whole, tmp_path):
    outdir = tmp_path / "out"
    process = faults.start("create_training", faults.stamps_words(made, outdir, jobs))
    deadline = time.monotonic() + 120
    while not (outdir / ".work").is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    workers = faults.workers_of(process.pid)
    assert len(workers) == (2 if jobs == 2 else 0)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == ENDED, said
    line = only_error(said)
    assert line.startswith("create_training: error: ended by SIGTERM")
    assert line.endswith("start it again to go on where it stopped")
    nothing_half_written(outdir)
    while any(Path(f"/proc/{number}/fd").exists() for number in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{number}/fd/1").exists() for number in workers)
    assert run(made, outdir) == 0
    assert content_of(outdir) == whole


SLOW_END = """
import os, signal, time
from obiwan.dplearn.running import interruptions
interruptions.GRACE = 0.2
with interruptions.ending("cnn"), interruptions.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_an_end_that_takes_too_long_is_one_line_too(run_python):
    done = run_python("-c", SLOW_END)
    assert done.returncode == ENDED
    assert only_error(done.stderr).startswith("cnn: error: ended by SIGTERM")


# --- the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 kB, and how to make it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here (not root, or a container that forbids it)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk(jobs, small_disk, made, whole, capsys):
    outdir = small_disk / "set"
    assert run(made, outdir, jobs=jobs) == 1
    line = only_error(capsys.readouterr().err)
    assert re.search(rf"No space left on device: {outdir}/[xy]\w+_\d+\.npy \(check the path", line)
    nothing_half_written(outdir)
    assert list(outdir.glob("*.npy"))  # what there was room for
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert run(made, outdir, jobs=jobs) == 0
    assert content_of(outdir) == whole


def test_files_that_may_not_be_so_large(made, run_python, tmp_path):
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
    limited += "from obiwan.dplearn.create_training import main; sys.exit(main(sys.argv[1:]))"
    outdir = tmp_path / "out"
    done = run_python("-c", limited, *faults.stamps_words(made, outdir, 1))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = only_error(done.stderr)
    assert "create_training: error: File too large" in line
    assert "the space left" in line
    assert list(outdir.glob("*")) == [outdir / ".work"]


@pytest.mark.parametrize("function", ["write_sources", "write_json"])
def test_a_disk_that_is_full_at_the_end(function, made, whole, tmp_path, monkeypatch, capsys):
    outdir = tmp_path / "out"
    original = getattr(workspace, function)

    def full(*args, **kwargs):
        if function == "write_json" and Path(args[0]).name != "manifest.json":
            return original(*args, **kwargs)
        raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))

    with monkeypatch.context() as patch:
        patch.setattr(workspace, function, full)
        assert run(made, outdir) == 1
    assert "No space left on device" in only_error(capsys.readouterr().err)
    nothing_half_written(outdir)
    assert run(made, outdir) == 0
    assert content_of(outdir) == whole


# --- inputs and outputs that fail or vanish -----------------------------------------------------------


@pytest.mark.parametrize("stage", ["planning", "cutting"])
def test_a_read_error_in_one_brick_of_many(stage, made, whole, tmp_path, monkeypatch, capsys):
    _, _, place = next(made.places())
    bad = str(place.plane("invvar" if stage == "planning" else "image", "r"))

    def failing(original):
        def opened(path, *args, **kwargs):
            if str(path) == bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO), bad)
            return original(path, *args, **kwargs)

        return opened

    with monkeypatch.context() as patch:
        if stage == "planning":
            patch.setattr(coadds, "open_fits", failing(coadds.open_fits))
        patch.setattr(coadds.fits, "open", failing(coadds.fits.open))
        patch.setattr(coadds, "read_windows", lambda *_: pytest.fail("the stamps of these bricks are many"))
        patch.setattr(extraction, "windows_pay", lambda *_: False)
        assert run(made, tmp_path / "out") == 1
    line = only_error(capsys.readouterr().err)
    assert f"brick {place.brick}" in line
    assert bad in line
    assert "Input/output error" in line
    if stage == "cutting":
        assert "the others are done and kept" in line
        assert list((tmp_path / "out").glob("*.npy"))
    nothing_half_written(tmp_path / "out")
    assert run(made, tmp_path / "out") == 0
    assert content_of(tmp_path / "out") == whole


def test_a_coadd_that_vanishes_after_planning(copy, whole, tmp_path, monkeypatch, capsys):
    _, _, place = next(copy.places())
    path = place.plane("image", "g")
    content = path.read_bytes()

    def lose(*args):
        path.unlink()
        return extract(*args)

    extract = create_training._extract
    with monkeypatch.context() as patch:
        patch.setattr(create_training, "_extract", lose)
        assert run(copy, tmp_path / "out") == 1
    assert f"brick {place.brick}" in (line := only_error(capsys.readouterr().err))
    assert "band g missing" in line
    nothing_half_written(tmp_path / "out")
    path.write_bytes(content)
    assert run(copy, tmp_path / "out") == 0
    assert renamed(content_of(tmp_path / "out"), "fake", "injected") == whole


@pytest.mark.parametrize("suffix", [".fits", ".fits.fz", ".fits.gz"])
def test_a_coadd_that_changes_between_two_starts(suffix, tmp_path, monkeypatch, capsys):
    """Old and new pixels are not mixed, neither in a set that was interrupted nor in one that is finished."""
    made, outdir = survey(tmp_path, bricks=bricks_apart(3), suffix=suffix), tmp_path / "out"
    content, number, place = list(made.places())[-1]
    path = place.plane("image", "g", suffix)
    with monkeypatch.context() as patch:
        patch.setattr(create_training, "finish", stop)
        assert run(made, outdir) == 130
    assert list((outdir / ".work").glob("group-*.json"))  # all is cut
    before = path.read_bytes()
    lighter = planes(content.brick, content.painted(number), number)["image", "g"] + 1000
    write_plane(path, lighter, content.brick.cards())
    assert run(made, outdir) == run(made, tmp_path / "anew") == 0
    assert content_of(outdir) == content_of(tmp_path / "anew")
    path.write_bytes(before)
    assert run(made, outdir) == 1
    assert "holds a training set made from other inputs than these" in capsys.readouterr().err


def stop(*_):
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def renamed(content: dict[str, bytes], old: str, new: str) -> dict[str, bytes]:
    """A training set as it would be were its first root of another name."""
    manifest = json.loads(content["manifest.json"])
    manifest["roots"][0]["name"] = manifest["roots"][0]["name"].replace(old, new)
    from obiwan.dplearn.trainingset.manifest import manifest_checksum

    manifest["manifest_crc32"] = manifest_checksum(manifest)
    return {**content, "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}


@pytest.mark.parametrize("victim", ["xtrain_2.npy", ".work", "everything"])
def test_outputs_that_vanish_before_the_end(victim, made, whole, tmp_path, monkeypatch, capsys):
    """As where old files of scratch file systems are swept away."""
    outdir = tmp_path / "out"
    extract = create_training._extract

    def lose(*args):
        receipts = extract(*args)
        path = outdir if victim == "everything" else outdir / victim
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return receipts

    with monkeypatch.context() as patch:
        patch.setattr(create_training, "_extract", lose)
        assert run(made, outdir) == 1
    line = only_error(capsys.readouterr().err)
    assert (
        f"{outdir / victim}: written by this run, and no longer there" if "x" in victim else "is gone"
    ) in line
    assert not (outdir / "manifest.json").exists()
    if victim == ".work":
        assert run(made, outdir) == 1  # without its plan, nobody can tell whose these files are
        assert "which is no part of a training set" in only_error(capsys.readouterr().err)
    assert run(made, outdir, *(["--overwrite"] if victim == ".work" else [])) == 0
    assert content_of(outdir) == whole


# --- two runs at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [1, 5, 9])
def test_a_second_run_takes_over_and_the_first_ends(moment, made, whole, tmp_path, monkeypatch, capsys):
    """At any moment of the first; that both write the same bytes makes it harmless."""
    outdir, seen, second = tmp_path / "out", 0, []
    original = extraction.write_shard

    def interrupted(*args):
        nonlocal seen
        seen += 1
        if seen == moment:
            second.append(run(made, outdir))
        return original(*args)

    monkeypatch.setattr(extraction, "write_shard", interrupted)
    assert run(made, outdir) == 1
    assert second == [0]
    line = only_error(capsys.readouterr().err)
    assert line.startswith(f"create_training: error: {outdir}: the scratch directory of this run is gone")
    assert content_of(outdir) == whole


def test_a_second_run_of_another_kind(made, whole, tmp_path, monkeypatch, capsys):
    """It is refused; with --overwrite the first one is ended, and cannot spoil the second's files."""
    outdir, seen, second = tmp_path / "out", 0, []
    assert run(made, tmp_path / "other", "--seed", "7") == 0
    original = extraction.write_shard

    def interrupted(*args):
        nonlocal seen
        seen += 1
        if seen == 3:
            second.append(run(made, outdir, "--seed", "7"))
        if seen == 4:
            second.append(run(made, outdir, "--seed", "7", "--overwrite"))
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_shard", interrupted)
        assert run(made, outdir) == 1
    assert second == [1, 0]
    err = capsys.readouterr().err
    assert "holds another training set (config.seed was " in err
    assert "the scratch directory of this run is gone" in err
    assert content_of(outdir) == content_of(tmp_path / "other")
    assert run(made, outdir, "--overwrite") == 0
    assert content_of(outdir) == whole


@pytest.mark.parametrize("more", [[], ["--seed", "7", "--overwrite"]])
def test_a_second_run_that_is_interrupted(more, made, whole, tmp_path, monkeypatch, capsys):
    """It has ended the first all the same, so that what the first would still have written is not there."""
    outdir, seen, second = tmp_path / "out", 0, []
    assert run(made, tmp_path / "other", "--seed", "7") == 0
    original = extraction.write_shard

    def interrupted(*args):
        nonlocal seen
        seen += 1
        if seen == 3:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(create_training, "finish", stop)
                second.append(run(made, outdir, *more))
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_shard", interrupted)
        assert run(made, outdir) == 1
    assert second == [130]
    assert "the scratch directory of this run is gone" in capsys.readouterr().err
    again = [word for word in more if word != "--overwrite"]
    assert run(made, outdir, *again) == 0
    assert content_of(outdir) == (content_of(tmp_path / "other") if more else whole)


@pytest.mark.parametrize("look", ["check_outdir", "acquire_lease"])
@pytest.mark.parametrize("more", [[], ["--seed", "7"]])
def test_another_run_finishes_between_two_looks(look, more, made, whole, tmp_path, monkeypatch, capsys):
    """While this one plans, or at the very moment at which it takes over: what is finished stays."""
    outdir = tmp_path / "out"
    place = create_training if look == "check_outdir" else outdirs
    original = getattr(place, look)

    def looked(*args, **kwargs):
        found = original(*args, **kwargs) if look == "check_outdir" else None
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(place, look, original)
            assert run(made, outdir) == 0
        return original(*args, **kwargs) if found is None else found

    with monkeypatch.context() as patch:
        patch.setattr(place, look, looked)
        status = run(made, outdir, *more)
    assert content_of(outdir) == whole
    assert not (outdir / ".work").exists()
    said = capsys.readouterr()
    if more:
        assert status == 1
        assert f"{outdir}: holds another training set (config.seed was " in only_error(said.err)
    else:
        assert status == 0
        assert "already holds this training set; nothing to do" in said.out


@pytest.mark.slow
def test_two_runs_started_at_the_same_moment(made, whole, tmp_path):
    outdir = tmp_path / "out"
    both = [faults.start("create_training", faults.stamps_words(made, outdir, 1)) for _ in range(2)]
    said = [process.communicate(timeout=200)[1] for process in both]
    for process, text in zip(both, said, strict=True):
        assert process.returncode in (0, 1), text
        assert "Traceback" not in text
        if process.returncode:
            assert f"{outdir}: " in only_error(text)
    assert run(made, outdir) == 0
    assert content_of(outdir) == whole


def test_a_scratch_directory_is_lost_at_once_and_for_good(tmp_path):
    first = acquire_lease(tmp_path / "running")
    (first / "half").write_text("half")
    second = acquire_lease(tmp_path / "running")
    assert [path.name for path in (tmp_path / "running").iterdir()] == [second.name]
    with pytest.raises(LeaseLostError, match="another run was started here"), holding_lease(first, tmp_path):
        (first / "more").write_text("more")
    with holding_lease(second, tmp_path):
        (second / "more").write_text("more")
    with (
        pytest.raises(FileNotFoundError),
        holding_lease(second, tmp_path),
    ):  # not every lost file is a lost directory
        (second / "absent").read_text()
    revoke_leases(tmp_path / "running")
    revoke_leases(tmp_path / "never was")
    assert list((tmp_path / "running").iterdir()) == []


# --- clocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [0, 4_000_000_000])  # 1970, 2096
def test_times_of_files_mean_nothing(when, made, whole, tmp_path, monkeypatch):
    """Nor does the clock: it is set back and forth between an interruption and the restart."""
    outdir = tmp_path / "out"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(create_training, "finish", stop)
        assert run(made, outdir) == 130
    receipts = list((outdir / ".work").glob("group-*.json"))
    assert receipts
    (outdir / "xtrain_2.npy").write_bytes(b"torn")
    for number, path in enumerate(sorted(outdir.rglob("*"))):
        os.utime(path, (when + number, when + number))
    monkeypatch.setattr(time, "time", lambda: float(when))
    assert run(made, outdir) == 0
    assert content_of(outdir) == whole


# --- training -----------------------------------------------------------------------------------------

# In a Python of its own, on one thread: a run that is left alone; runs that die in the middle of writing each
# of their files (what a kill leaves: half a file beside its place, then nothing more); runs that are asked to
# end between two steps and in the middle of a checkpoint; one whose shard is lost for a while.
TRAINING = """
import hashlib, json, os, signal, sys
from pathlib import Path
from obiwan.dplearn.training.settings import FeedConfig, RunConfig
from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.training.rundir import Logs, RunLogs
from obiwan.dplearn.training.settings import network_config
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.files import outdir as outdirs
from obiwan.dplearn.files.outdir import acquire_lease
from obiwan.dplearn.training.trainer import Trainer

class Death(BaseException):
    pass

class Watched(Logs):
    def __init__(self, on_step):
        self.on_step, self.steps = on_step, 0
    def step(self, *_):
        self.steps += 1
        self.on_step(self.steps)

def end(*_):
    raise Death

def fit(outdir, on_step=lambda _: None):
    network = network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6)
    config = RunConfig(network, FeedConfig(batch_size=8, seed=2, window=2), epochs=2, learning_rate=2e-3)
    data = open_training_set(Path(sys.argv[1]))
    scratch = acquire_lease(outdir / ".scratch")
    trainer = Trainer(config, data, outdir, checkpoint_steps=5, logs=Watched(on_step), scratch=scratch)
    fitted = trainer.fit()
    digest = hashlib.sha256()
    for variable in [*fitted.model.weights, *trainer.optimizer.variables]:
        digest.update(variable.numpy().tobytes())
    return {"digest": digest.hexdigest(), "history": fitted.progress.history}

def survivor(outdir, on_step=lambda _: None):
    try:
        fit(outdir, on_step)
    except Death:
        pass
    else:
        raise SystemExit(f"{outdir} was not disturbed")
    return sorted(path.name for path in (outdir / "checkpoints").glob("*"))

out = Path(sys.argv[2])
results = {"whole": fit(out / "whole")}
replace = Path.replace
names = []

def counting(self, target):
    names.append(Path(target).name)
    return replace(self, target)

Path.replace = counting
results["again"] = fit(out / "counted")
files = list(names)
number = 0
for moment in range(len(files)):
    if moment % 3 != int(sys.argv[3]) % 3 and "step_" not in files[moment]:
        continue
    for signalled in (False, True):
        seen = 0
        def dying(self, target):
            global seen
            seen += 1
            if seen == moment + 1:
                os.truncate(self, os.path.getsize(self) // 2)
                if signalled:
                    os.kill(os.getpid(), signal.SIGTERM)
                raise Death
            return replace(self, target)
        signal.signal(signal.SIGTERM, end)
        Path.replace = dying
        survivor(out / f"died{moment}{signalled}")
        Path.replace = replace
        results[f"{files[moment]} {signalled}"] = fit(out / f"died{moment}{signalled}")

def ask(step):
    if step == 7:
        os.kill(os.getpid(), signal.SIGTERM)

def no_more(step):
    if step > 7:
        raise SystemExit("a step after the one that was to be the last")

left = survivor(out / "asked", lambda step: (ask(step), no_more(step)))
results["asked"] = fit(out / "asked")

data = Path(sys.argv[1])
def lose(step):
    if step == 3:
        for name in ("xtrain_1.npy", "xtrain_2.npy", "xtrain_3.npy"):
            os.rename(data / name, data / (name + ".lost"))
try:
    fit(out / "lost", lose)
    said = ""
except DplearnError as error:
    said = str(error)
for path in data.glob("*.lost"):
    path.rename(path.with_suffix(""))
results["lost"] = fit(out / "lost")

def cut(step):
    if step == 9:
        newest = sorted((out / "cut" / "checkpoints").glob("*.npz"))[-1]
        newest.write_bytes(newest.read_bytes()[:2000])
        raise Death
survivor(out / "cut", cut)
results["cut"] = fit(out / "cut")
print(json.dumps([results, files, left, said]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("size", 2.5), {"train": 96, "val": 32, "test": 32}, seed=5, rows=32)
    return directory


@pytest.mark.slow
def test_training_ends_with_the_same_weights_after_any_death(data, tmp_path):
    mine = shutil.copytree(data, tmp_path / "set")
    command = [sys.executable, "-c", TRAINING, str(mine), str(tmp_path), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, check=False)
    assert done.returncode == 0, done.stderr
    results, files, left, said = json.loads(done.stdout.strip().splitlines()[-1])
    whole = results.pop("whole")
    assert len(whole["history"]) == 2
    assert sum(name.startswith("step_") for name in files) >= 5
    assert len(results) >= 14
    for name, found in results.items():
        assert found == whole, name
    assert left[-1] == "step_0000000007.npz"  # asked to end, it kept its steps
    assert re.search(r"xtrain_\d\.npy: the manifest names this shard but it is not there", said)


@pytest.mark.slow
def test_sigterm_ends_training_with_a_checkpoint_and_a_line(data, tmp_path):
    def words(name):
        given = faults.training_words(data, tmp_path / name)
        return given[: given.index("--checkpoint-steps")]  # by itself, none before the end of an epoch

    process = faults.start("cnn", words("ended"))
    scratch, deadline = tmp_path / "ended" / ".scratch", time.monotonic() + 120
    while not (tmp_path / "ended" / "history.csv").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(0.03)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == ENDED, said
    assert only_error(said).startswith("cnn: error: ended by SIGTERM")
    lines = [line for line in said.splitlines() if line and not line.startswith("threads: ")]
    assert len(lines) == 1
    steps = max(int(path.stem[5:]) for path in (tmp_path / "ended" / "checkpoints").glob("*.npz"))
    assert steps < 6 * 48
    assert scratch.is_dir()
    done = faults.start("cnn", words("ended"))
    _, said = done.communicate(timeout=200)
    assert done.returncode == 0, said
    assert re.search(rf"going on after {steps // 48} finished epochs and {steps % 48} steps", said)
    assert not scratch.exists()
    faults.undisturbed("cnn", words("whole"))
    assert faults.weights(tmp_path / "ended") == faults.weights(tmp_path / "whole")


def test_a_second_training_takes_over(data, tmp_path):
    """Its files are the ones that stay; the first ends with a line instead of mixing its own in."""
    from obiwan.dplearn.training import checkpoints

    first = acquire_lease(tmp_path / ".scratch")
    state = checkpoints.Checkpoint(checkpoints.Progress(), [], [], [])
    with holding_lease(first, tmp_path):
        checkpoints.save_checkpoint(tmp_path / "checkpoints", state, 3, first)
    acquire_lease(tmp_path / ".scratch")
    with pytest.raises(LeaseLostError), holding_lease(first, tmp_path):
        checkpoints.save_checkpoint(tmp_path / "checkpoints", state, 4, first)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_0000000003.npz"]
    assert open_training_set(data).shards


# In one Python, on one thread: a training that is left alone, and one in whose middle a second is started.
TWO_TRAININGS = """
import json, sys
from obiwan.dplearn import cnn
from obiwan.dplearn.training.rundir import RunLogs

alone, both, moment = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
statuses, seen, step = [cnn.main(alone)], 0, RunLogs.step

def watched(self, *given):
    global seen
    seen += 1
    if seen == moment:
        RunLogs.step = step
        statuses.append(cnn.main(both))
    return step(self, *given)

RunLogs.step = watched
statuses.append(cnn.main(both))
print(json.dumps(statuses))
"""


@pytest.mark.slow
def test_a_second_cnn_takes_over_and_the_first_ends(data, tmp_path):
    """In the middle of an epoch, after checkpoints of it; the weights are those of a run left alone."""
    words = [faults.training_words(data, tmp_path / name) for name in ("alone", "both")]
    given = [json.dumps([*these, "--epochs", "2"]) for these in words]
    command = [sys.executable, "-c", TWO_TRAININGS, *given, "53"]  # of 48 steps an epoch
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [0, 0, 1]  # alone, the second, the first
    (line,) = [line for line in done.stderr.splitlines() if ": error:" in line]
    assert line.startswith(f"cnn: error: {tmp_path / 'both'}: the scratch directory of this run is gone")
    assert "going on after 1 finished epochs and 4 steps" in done.stderr
    assert not (tmp_path / "both" / ".scratch").exists()
    assert faults.weights(tmp_path / "both") == faults.weights(tmp_path / "alone")

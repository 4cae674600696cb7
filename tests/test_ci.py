"""What continuous integration prepares before the tests: a browser, where it may have one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "run"


@pytest.fixture
def machine(tmp_path):
    """Runs ``.ci/run`` where only these commands are found; `bash` tells what would be run in the end."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("dirname", "timeout", "chmod", "touch"):
        (place / name).symlink_to(shutil.which(name))

    def run(**commands):
        for name, body in {"bash": 'echo "runs $*"', **commands}.items():
            (place / name.replace("_", "-")).write_text(f"#!/bin/sh\n{body}\n")
            (place / name.replace("_", "-")).chmod(0o755)
        return subprocess.run(
            [shutil.which("bash"), SCRIPT],
            env={"PATH": str(place), "PLACE": str(place), "LOG": str(tmp_path / "log")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run.log = tmp_path / "log"
    return run


ROOT_USER = "echo 0"
APT = """echo "$*" >>"$LOG"
for word in "$@"; do
    case $word in
        chromium) touch "$PLACE/chromium"; chmod +x "$PLACE/chromium";;
        slurm-wlm) cd "$PLACE"; touch slurmctld slurmd munged; chmod +x slurmctld slurmd munged;;
    esac
done"""
SLURM = dict.fromkeys(("slurmctld", "slurmd", "munged"), "true")


@pytest.mark.parametrize(
    ("there", "packages"),
    [(SLURM, "chromium"), ({"google_chrome": "true"}, "slurm-wlm munge libpmix-dev")],
)
def test_what_is_not_there_is_installed(there, packages, machine):
    done = machine(id=ROOT_USER, apt_get=APT, **there)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "runs bin/test --all"
    assert "could be installed" not in done.stdout
    update, install = machine.log.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith(f"--no-install-recommends {packages}")


def test_what_is_there_will_do(machine):
    done = machine(id=ROOT_USER, apt_get=APT, google_chrome="true", **SLURM)
    assert done.stdout == "runs bin/test --all\n"
    assert not machine.log.exists()


@pytest.mark.parametrize("commands", [{"id": "echo 1000", "apt_get": APT}, {"id": ROOT_USER}])
def test_nothing_is_installed_where_it_cannot_be(machine, commands):
    done = machine(**commands)
    assert done.stdout == "runs bin/test --all\n"
    assert not machine.log.exists()


@pytest.mark.parametrize("apt", ["exit 100", "true"])
def test_without_them_the_tests_run_all_the_same(machine, apt):
    done = machine(id=ROOT_USER, apt_get=apt)
    assert done.returncode == 0
    for name in ("Chromium", "SLURM"):
        assert f"No {name} could be installed: what needs one will be skipped" in done.stdout
    assert done.stdout.splitlines()[-1] == "runs bin/test --all"

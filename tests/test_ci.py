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
APT = 'echo "$*" >>"$LOG"; case "$*" in *install*) touch "$PLACE/chromium"; chmod +x "$PLACE/chromium";; esac'


def test_a_browser_is_installed_where_there_is_none(machine):
    done = machine(id=ROOT_USER, apt_get=APT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "runs bin/test --all"
    assert "No Chromium" not in done.stdout
    update, install = machine.log.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("chromium")


def test_a_browser_that_is_there_will_do(machine):
    done = machine(id=ROOT_USER, apt_get=APT, google_chrome="true")
    assert done.stdout == "runs bin/test --all\n"
    assert not machine.log.exists()


@pytest.mark.parametrize("commands", [{"id": "echo 1000", "apt_get": APT}, {"id": ROOT_USER}])
def test_nothing_is_installed_where_it_cannot_be(machine, commands):
    done = machine(**commands)
    assert done.stdout == "runs bin/test --all\n"
    assert not machine.log.exists()


@pytest.mark.parametrize("apt", ["exit 100", "true"])
def test_without_a_browser_the_tests_run_all_the_same(machine, apt):
    done = machine(id=ROOT_USER, apt_get=apt)
    assert done.returncode == 0
    assert "what needs one will be skipped" in done.stdout
    assert done.stdout.splitlines()[-1] == "runs bin/test --all"

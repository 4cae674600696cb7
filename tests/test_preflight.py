"""The preflight's own judgement; what it says of other trees is in `test_namespace`."""

from __future__ import annotations

import json
import re
import sys

import pytest

from obiwan.dplearn import __main__ as preflight
from obiwan.dplearn import __version__
from obiwan.dplearn.running.backends import keras_backend

ABSENT = preflight.Package("no_such_module_anywhere", "mock")


def test_report_names_version_tree_and_packages(run_python, root):
    done = run_python("-m", "obiwan.dplearn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"obiwan.dplearn {__version__} in {root / 'py'}\n")
    assert done.stdout.endswith("preflight: ok\n")
    for package in preflight.PACKAGES:
        assert f"\n  {package.module} " in done.stdout
    assert "; Keras backend tensorflow\n" in done.stdout
    assert "\nlaunchers: " in done.stdout


def test_core_package_that_is_absent_fails(run_python):
    # -S leaves site-packages out, so that nothing third-party can be imported.
    done = run_python("-S", "-m", "obiwan.dplearn")
    assert done.returncode == 1
    assert "PROBLEM: numpy is missing: pip install obiwan-dplearn\n" in done.stdout
    assert "keras is missing" not in done.stdout


def test_extra_is_needed_only_when_named():
    assert preflight.package_report([ABSENT], ["core"], loading=True)[1] == []
    _, problems = preflight.package_report([ABSENT], ["core", "mock"], loading=False)
    assert problems == ["no_such_module_anywhere is missing: pip install 'obiwan-dplearn[mock]'"]


def test_unknown_extra_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        preflight.main(["--need", "teapot"])
    assert "teapot" in capsys.readouterr().err


def test_what_scripts_and_pages_need_are_extras(root):
    pages = [*(root / "bin").iterdir(), *(root / "doc").rglob("*.rst"), root / "README.rst"]
    texts = [path.read_text(encoding="utf-8") for path in pages if path.is_file()]
    asked = [words for text in texts for words in re.findall(r"obiwan\.dplearn --need ([a-z -]+)", text)]
    assert len(asked) > 3
    assert {word for words in asked for word in words.split()} <= set(preflight.EXTRAS)


def test_horovod_is_not_promised_by_pip():
    assert "doc/howto/install.rst" in preflight.remedy("horovod")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0libmpi.so.40\0..._ZN4gloo7barrier\0", "with gloo and mpi"),
        (b"\0libmpi_gnu_123.so.12\0", "with mpi"),
        (b"\0_ZN4gloo7barrier\0 horovod_mpi_built HOROVOD_GLOO", "with gloo"),
        (b"\0libm.so.6\0horovod_gloo_built", "not built for TensorFlow"),
    ],
)
def test_controllers_of_horovod(content, words, tmp_path):
    assert preflight.controllers(tmp_path) == "not built for TensorFlow"
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "mpi_lib.cpython-311-x86_64-linux-gnu.so").write_bytes(content)
    assert preflight.controllers(tmp_path) == words


def test_controllers_are_in_the_table(tmp_path, monkeypatch):
    (tmp_path / "horovod" / "tensorflow").mkdir(parents=True)
    (tmp_path / "horovod" / "__init__.py").touch()
    (tmp_path / "horovod" / "tensorflow" / "mpi_lib.so").write_bytes(b"_ZN4gloo")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "horovod", raising=False)  # of another test in this process
    (line,), _ = preflight.package_report([preflight.Package("horovod", "horovod")], [], loading=False)
    assert line.endswith("with gloo")


@pytest.mark.horovod
def test_controllers_are_those_that_horovod_tells(run_python):
    installed = preflight.Package("horovod", "horovod").origin()
    if installed is None:
        pytest.skip("Horovod is not installed (bin/install_horovod)")
    done = run_python(
        "-c", "import horovod.tensorflow as h; print(*['gloo'] * h.gloo_built(), *['mpi'] * h.mpi_built())"
    )
    assert preflight.controllers(installed.parent) == f"with {' and '.join(done.stdout.split())}"


def test_launchers_on_the_path(tmp_path):
    assert preflight.launchers(str(tmp_path)) == "none of mpirun, srun, horovodrun"
    for name in ("srun", "mpirun"):
        (tmp_path / name).touch(mode=0o755)
    assert preflight.launchers(str(tmp_path)) == f"{tmp_path / 'mpirun'}, {tmp_path / 'srun'}"


def test_load_tells_of_a_broken_package(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise OSError('libmissing.so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    lines, problems = preflight.package_report(
        [preflight.Package("broken_package", "mock")], ["mock"], loading=True
    )
    assert "fails: OSError: libmissing.so" in lines[0]
    assert problems == ["broken_package cannot be imported: fails: OSError: libmissing.so"]


def test_load_of_a_sound_package():
    assert preflight.load(preflight.Package("json", "core")).startswith("loads in ")


def test_package_hidden_by_the_current_directory(run_python, tmp_path):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    done = run_python("-m", "obiwan.dplearn")
    assert done.returncode == 1
    assert f"{tmp_path / 'numpy'} hides the package numpy" in done.stdout


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({}, None, "tensorflow"),
        ({}, {"backend": "jax"}, "jax"),
        ({"KERAS_BACKEND": "torch"}, {"backend": "jax"}, "torch"),
        ({"KERAS_BACKEND": ""}, {"floatx": "float32"}, "tensorflow"),
        ({}, [], "tensorflow"),
    ],
)
def test_keras_backend(tmp_path, environ, configured, expected):
    if configured is not None:
        (tmp_path / "keras.json").write_text(json.dumps(configured))
    assert keras_backend({"KERAS_HOME": str(tmp_path), **environ}) == expected


def test_backend_takes_the_place_of_tensorflow(run_python):
    modules = [package.module for package in preflight.with_backend(preflight.PACKAGES, "jax")]
    assert "jax" in modules
    assert not {"tensorflow", "tensorboard"} & set(modules)
    done = run_python("-m", "obiwan.dplearn", env={"KERAS_BACKEND": "abacus"})
    assert done.returncode == 1
    assert "KERAS_BACKEND=abacus is none of" in done.stdout


def test_no_obiwan_on_the_path():
    assert "no obiwan on the path" in preflight.path_problems([], starts_here=False)[0]


def test_metadata_may_be_absent():
    assert preflight.Package("json", "core").version() == "version unknown"

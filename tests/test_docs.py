"""The pages of ``doc``: they build without a warning, cover the package, and their commands run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import obiwan.dplearn
from obiwan.dplearn.twosample.summary import detectable_excess

REPOSITORY = Path(__file__).parents[1]
DOC = REPOSITORY / "doc"
PACKAGE = Path(obiwan.dplearn.__file__).parent


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages; warnings are errors, and there is no network."""
    base = tmp_path_factory.mktemp("site")
    source, target = base / "doc", base / "html"
    shutil.copytree(DOC, source, ignore=shutil.ignore_patterns("_build", "generated"))
    environment = {
        **os.environ,
        "DPLEARN_INTERSPHINX": "0",
        "PYTHONPATH": str(REPOSITORY / "py"),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(target)]
    done = subprocess.run(command, cwd=base, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return target


class Page(HTMLParser):
    """The anchors of a page and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, _tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(values["id"])
        for name in ("href", "src"):
            if values.get(name):
                self.links.append(values[name])


@pytest.mark.slow
def test_equations_need_no_network(site):
    pages = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    assert (
        sum(page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') for page in pages)
        > 5
    )
    assert [page[:80] for page in pages if "mathjax" in page.lower()] == []


@pytest.mark.slow
def test_links_inside_lead_somewhere(site):
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    checked = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} links to {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{path.name} links to {link}"
            checked += 1
    assert checked > 1000


def modules() -> list[str]:
    """The names of all public modules of the package."""
    names = [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "obiwan.dplearn.")]
    return [name for name in names if not name.rsplit(".", 1)[1].startswith("_")]


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as stream:
        inventory = InventoryFile.load(stream, "", lambda _, name: name)
    documented = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    for name in modules():
        assert name in documented, f"{name} is not in doc/api.rst"
        module = importlib.import_module(name)
        for word, value in vars(module).items():
            ours = (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == name
            if ours and not word.startswith("_"):
                assert f"{name}.{word}" in documented


@dataclass(frozen=True)
class Block:
    """A ``code-block`` of a page."""

    language: str
    classes: tuple[str, ...]
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """The code blocks of a page that have a language."""
    found, lines = [], path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        directive = re.fullmatch(r"( *)\.\. code-block:: (\w+)", line)
        if directive is None:
            continue
        depth, body = len(directive[1]), []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= depth:
                break
            body.append(following)
        margin = min(len(text) - len(text.lstrip()) for text in body if text.strip())
        body = [text[margin:] for text in body]
        classes = [text.split()[1:] for text in body if text.startswith(":class:")]
        text = "\n".join(text for text in body if not text.startswith(":")).strip("\n")
        found.append(Block(directive[2], tuple(classes[0] if classes else ()), text, number + 1))
    return found


# Flags that are put after those of a page, so that they win, and its commands take seconds.
SMALLER = {
    "mock": "--bricks 8 --brick-size 400 --runs 4 --jobs 1",
    "cnn": "--maps 4 4 4 --dense 8 --epochs 1 --threads 1 --quiet",
    "tune": "--trials 2 --threads 1",
}
PAGES = ["deeplearning", *(f"howto/{path.stem}" for path in sorted(DOC.glob("howto/*.rst")))]
RUNNABLE = [
    page
    for page in PAGES
    if any(b.language == "shell" and "elsewhere" not in b.classes for b in blocks(DOC / f"{page}.rst"))
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A directory of programs that stand for the user's, and the mock survey that the pages share."""
    base = tmp_path_factory.mktemp("workshop")
    (base / "bin").mkdir()
    cases = "".join(
        f'  "-m obiwan.dplearn.{name}") exec "{sys.executable}" "$@" {flags} ;;\n'
        for name, flags in SMALLER.items()
    )
    shim = base / "bin" / "python"
    shim.write_text(f'#!/bin/sh\ncase "$1 $2" in\n{cases}esac\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    run(base, "python -m obiwan.dplearn.mock --outdir mock --layout both")
    return base


def run(base: Path, script: str, cwd: Path | None = None) -> str:
    """Standard output of a shell script that must succeed."""
    environment = {
        **os.environ,
        "PATH": f"{base / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY / "py"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", "-c", f"set -euo pipefail\n{script}"]
    done = subprocess.run(
        command, cwd=cwd or base, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def in_form(text: str) -> str:
    """A printed text without its numbers and the width of its columns; the set of a test has few bricks."""
    text = text.replace("the examples taken one by one", "9 bricks")
    return " ".join(re.sub(r"\d[\d,.]*", "#", text).split())


def without_verdict(text: str) -> str:
    """What ``evaluate`` prints after the verdict, which differs: a small network of a test finds nothing."""
    return text[text.index("\nAccuracy") :]


def agrees(shown: str, printed: str) -> bool:
    """Whether a page shows what a command prints; ``...`` stands for anything."""
    parts = [re.escape(in_form(part)) for part in shown.split("...")]
    return re.fullmatch(" ?.* ?".join(parts), in_form(printed), re.DOTALL) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE)
def test_shell_lines_run(page, workshop, tmp_path):
    here = [b for b in blocks(DOC / f"{page}.rst") if "elsewhere" not in b.classes]
    script, expected = [], {}
    for previous, block in zip([None, *here], here, strict=False):
        if block.language == "shell":
            script.append(f"echo '@@ {block.line}'\n{block.text}")
        elif block.language == "text":
            assert previous is not None, f"{page}:{block.line}: output of what?"
            assert previous.language == "shell", f"{page}:{block.line}: output of what?"
            expected[previous.line] = block
    if not any("mock --outdir mock" in text for text in script):
        (tmp_path / "mock").symlink_to(workshop / "mock")
    printed = run(workshop, "\n".join(script), tmp_path)
    outputs = dict(part.split("\n", 1) for part in printed.split("@@ ")[1:])
    for line, block in expected.items():
        texts = block.text, outputs[str(line)]
        if "verdict" in block.classes:
            texts = tuple(map(without_verdict, texts))
        assert agrees(*texts), f"{page}:{line} prints\n{outputs[str(line)]}"


def test_the_comparison_of_outputs_can_fail():
    assert agrees("AUC 0.812 +- 0.02\n...\nend", "AUC   0.7 +- 0.1\nmore\nend\n")
    assert not agrees("AUC 0.812", "accuracy 0.812")
    assert not agrees("one line", "one line\nand another")


@pytest.mark.parametrize("page", PAGES)
def test_outputs_on_pages_are_of_this_version(page):
    """Headlines of verdicts are not compared with what is printed, as they depend on the network."""
    for block in blocks(DOC / f"{page}.rst"):
        if block.language == "text":
            assert not re.search(r"AUC \d\.\d{4}|differ from real ones: [a-z ]+ \(", block.text), block.line


def test_only_what_needs_another_machine_is_not_run():
    skipped = [b for page in PAGES for b in blocks(DOC / f"{page}.rst") if "elsewhere" in b.classes]
    needs = (
        "SCRATCH",
        "tensorboard",
        "KERAS_BACKEND=",
        "srun",
        "sbatch",
        "mpirun",
        "horovodrun",
        "module load",
    )
    for block in skipped:
        assert any(word in block.text for word in needs), block


@pytest.mark.parametrize(
    "page",
    [path.relative_to(DOC) for path in sorted(DOC.rglob("*.rst")) if ">>> " in path.read_text()],
    ids=str,
)
def test_examples_of_pages(page):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testfile(str(DOC / page), module_relative=False, optionflags=flags)
    assert tried
    assert not failed


def values_of_cells(cells: list[dict]) -> list[str]:
    """Run code cells of a notebook in order; the last value of each as text, empty where it has none."""
    namespace: dict[str, object] = {"__name__": "notebook"}
    values = []
    for cell in cells:
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), namespace)
        value = last and eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        values.append("" if value is None else repr(value))
    return values


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_gives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in os.environ.items():  # what functions set in the environment is put back
        monkeypatch.setenv(name, value)
    cells = json.loads((DOC / "howto" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    shown = ["".join(text for out in cell["outputs"] for text in out["data"]["text/plain"]) for cell in cells]
    for cell, given, value in zip(cells, shown, values_of_cells(cells), strict=True):
        words = 3 if given.startswith("Injected galaxies") else None  # of a verdict
        given, value = (" ".join(in_form(text).split()[:words]) for text in (given, value))
        assert given == value, "".join(cell["source"])


def table(page: str, *header: str) -> list[list[float]]:
    """Numbers of the simple table of a page whose head is these words."""
    text = (DOC / page).read_text(encoding="utf-8")
    body = re.split(
        r"^=[= ]+\n", text[re.search(r" +".join(map(re.escape, header)), text).end() :], flags=re.M
    )[1]
    return [[float(word.replace(",", "")) for word in line.split()] for line in body.splitlines()]


def test_numbers_of_injections_follow_from_the_power():
    rows = table("howto/faq.rst", "AUC", "tests, deff 1", "tests, deff 3", "injections, deff 3")
    assert len(rows) == 6
    for auc, one, three, injections in rows:
        for count, effect in ((one, 1), (three, 3)):
            assert detectable_excess(round(count), round(count), effect) == pytest.approx(auc - 0.5, rel=0.01)
        assert injections == pytest.approx(three / 0.2 / 0.4, rel=0.05)


def test_costs_follow_from_the_measured_rates():
    rows = table(
        "explanation/scaling.rst", "bricks", "stamps", "disk, GB", "cutting, h", "training, h", "panel, h"
    )
    assert len(rows) == 4
    for bricks, stamps, *costs in rows:
        assert stamps == 200 * bricks
        cut, train = bricks * 0.105 + stamps * 0.00275, 20 * 0.7 * stamps / 246
        panel = min(stamps, 150_000) * 0.0028 + 150
        expected = [stamps * 98e-6, *(seconds / 3600 for seconds in (cut, train, panel))]
        assert costs == pytest.approx(expected, rel=0.03, abs=0.005)


# Troubleshooting: the page lists kinds of errors, each by words that stand in a message.

TROUBLESHOOTING = (DOC / "howto" / "troubleshooting.rst").read_text(encoding="utf-8")
FROM_ELSEWHERE = (  # Python, Open MPI and TensorFlow say these
    "No module named",
    "MPI_ERRORS_ARE_FATAL",
    "OPAL ERROR",
    "the following arguments are required",
    "WARNING: All log messages",
)


def kinds_of_errors() -> dict[str, list[str]]:
    """The entries of the troubleshooting page, and the words that each quotes."""
    terms = re.findall(r"^(\S.*)\n   \S", TROUBLESHOOTING, re.MULTILINE)
    return {term: re.findall(r"``(.+?)``", term) for term in terms}


def texts_of_the_source() -> list[str]:
    """Every text in the package and in the programs of ``bin``; of those with values, the parts between."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    shell = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "bin").iterdir() if path.is_file()]
    return [text for text in (*constants, *shell) if isinstance(text, str)]


def test_every_kind_of_error_is_said_by_the_programs():
    kinds, source = kinds_of_errors(), texts_of_the_source()
    assert len(kinds) > 60
    assert [kind for kind, words in kinds.items() if not words] == []
    quotes = {word for words in kinds.values() for word in words if not word.startswith(FROM_ELSEWHERE)}
    assert sorted(word for word in quotes if not any(word in text for text in source)) == []


def test_every_class_of_errors_has_a_place():
    errors = importlib.import_module("obiwan.dplearn.errors")
    classes = [name for name, value in vars(errors).items() if inspect.isclass(value) and "Error" in name]
    assert len(classes) > 6
    assert [name for name in classes if f"errors.{name}`" not in TROUBLESHOOTING] == []

"""The pages of ``doc``: they build without a warning, cover the package, and their commands run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import obiwan.dplearn

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
    """A printed text without its numbers and the width of its columns."""
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


# Troubleshooting: what the page quotes is what the programs say, and what they can say is quoted.

OURS = {
    "DplearnError",
    *(name for name in vars(importlib.import_module("obiwan.dplearn.errors")) if "Error" in name),
}


def template(node: ast.expr) -> list[str]:
    """The texts that an expression can give, with ``\\0`` for what varies."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)]
    if isinstance(node, ast.BinOp):
        return [a + b for a in template(node.left) for b in template(node.right)]
    if isinstance(node, ast.IfExp):
        return template(node.body) + template(node.orelse)
    return ["\0"]


def texts_of_the_source() -> list[str]:
    """Every text that stands in the package's source."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    plain = [text for node in nodes if isinstance(node, kinds) for text in template(node)]
    return plain + [text for node in nodes for text in said_by_call(node)]


def said_by_call(node: ast.AST) -> list[str]:
    """What ``explained`` and ``reading`` make of a decoder's words, and what ``parser.error`` says."""
    if not isinstance(node, ast.Call):
        return []
    if isinstance(node.func, ast.Name) and node.func.id in ("explained", "reading"):
        what, remedy, _kind = node.args
        return [f"{a} (\0); {b}" for a in template(what) for b in template(remedy) if a.strip("\0")]
    if ast.unparse(node.func) == "parser.error":
        return [text for text in template(node.args[0]) if text.strip("\0")]
    return []


def checks_options(node: ast.AST) -> bool:
    """Whether this is a function whose `ValueError` a program tells its user."""
    return isinstance(node, ast.FunctionDef) and node.name.startswith(("__post_init__", "parse_"))


def raised_in(tree: ast.AST, kinds: set[str]) -> list[tuple[ast.expr, int]]:
    """The text and line of each ``msg = ...; raise Kind(msg)`` in a piece of source."""
    found = []
    for block in ast.walk(tree):
        for body in (getattr(block, name, None) for name in ("body", "orelse", "finalbody")):
            for first, second in pairwise(body) if isinstance(body, list) else ():
                raises = isinstance(second, ast.Raise) and isinstance(second.exc, ast.Call)
                if raises and isinstance(first, ast.Assign) and getattr(second.exc.func, "id", "") in kinds:
                    found.append((first.value, first.lineno))
    return found


def messages_of_our_errors() -> dict[str, str]:
    """What is said by the errors that end a program, and where."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        texts = [(text, node.lineno) for node in nodes for text in said_by_call(node)]
        values = raised_in(tree, OURS)
        for node in filter(checks_options, nodes):
            values += raised_in(node, {"ValueError"})
        texts += [(text, line) for value, line in values for text in template(value)]
        found |= {text: f"{path.name}:{line}" for text, line in texts}
    return found


def quoted_messages() -> list[str]:
    """The messages of the troubleshooting page, ``...`` for what varies."""
    text = (DOC / "howto" / "troubleshooting.rst").read_text(encoding="utf-8")
    terms = re.findall(r"^(\S.*)\n   \S", text, re.MULTILINE)
    return [quote for term in terms for quote in re.findall(r"``(.+?)``", term)]


def is_quote(quote: str, text: str) -> bool:
    """Whether the pieces of a quotation stand in a text, in their order."""
    pieces = [piece for piece in quote.split("...") if piece.strip()]
    return re.search(".*?".join(map(re.escape, pieces)), text, re.DOTALL) is not None


FROM_ELSEWHERE = (  # Python, the operating system and TensorFlow say these
    "No module named",
    "No space left",
    "the following arguments are required",
    "WARNING: All log messages",
)
OF_NO_OPTION = ("rank must be in", "warmup must be in")  # which no command line can bring about


def test_quoted_messages_are_said():
    shell = [path.read_text() for path in (REPOSITORY / "bin").iterdir()]
    source = [*texts_of_the_source(), *shell]
    quotes = [quote for quote in quoted_messages() if not quote.startswith(FROM_ELSEWHERE)]
    assert len(quotes) > 80
    said = {quote: any(is_quote(quote.split(": error: ")[-1], text) for text in source) for quote in quotes}
    assert [quote for quote in quotes if not said[quote]] == []


def test_every_error_is_quoted():
    quotes = quoted_messages()
    silent = [
        f"{where}: {text!r}"
        for text, where in messages_of_our_errors().items()
        if not text.startswith(OF_NO_OPTION) and not any(is_quote(quote, text) for quote in quotes)
    ]
    assert silent == [], "to be put into doc/howto/troubleshooting.rst"

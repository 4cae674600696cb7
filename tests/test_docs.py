"""The pages of ``doc``: they build without a warning, cover the package, and their commands run."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import obiwan.dplearn

REPOSITORY = Path(__file__).parents[1]
DOC = REPOSITORY / "doc"
PACKAGE = Path(obiwan.dplearn.__file__).parent
UNIMPORTABLE = {"__main__"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages; warnings are errors, and there is no network."""
    base = tmp_path_factory.mktemp("site")
    source, target = base / "doc", base / "html"
    shutil.copytree(DOC, source, ignore=shutil.ignore_patterns("_build", "generated"))
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DPLEARN_INTERSPHINX"},
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

    def handle_starttag(self, tag, attrs):
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
    words = [name.rsplit(".", 1)[1] for name in names]
    return [name for name, word in zip(names, words, strict=True) if not word.startswith("_")]


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as stream:
        inventory = InventoryFile.load(stream, "", lambda base, name: name)
    documented = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    for name in modules():
        assert name in documented, f"{name} is not in doc/api.rst"
        module = importlib.import_module(name)
        for word, value in vars(module).items():
            ours = (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == name
            if ours and not word.startswith("_"):
                assert f"{name}.{word}" in documented

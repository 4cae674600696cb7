"""Sphinx configuration: ``python -m sphinx -W doc doc/_build/html`` builds the pages, without a network."""

from __future__ import annotations

import atexit
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from textwrap import indent
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml

import obiwan.dplearn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the API pages import Keras

HERE = Path(__file__).parent

project = "obiwan.dplearn"
author = "the obiwan.dplearn developers"
copyright = f"2018 and later, {author}"
version = release = obiwan.dplearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
]
exclude_patterns = ["_build", "_inventories"]
templates_path = ["_templates"]
nitpicky = True
# A word in single backticks is a link where it names something that can be imported, and plain otherwise
# (a parameter, a column).
default_role = "autolink"
highlight_language = "none"  # `::` blocks are output and file lists; shell lines say `code-block:: shell`

autosummary_generate = True
viewcode_follow_imported_members = False  # else a name imported elsewhere links to where it is not
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say types, with shapes and units
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False  # autodoc lists the methods; the attributes are in the docstring
numpydoc_xref_param_type = True
numpydoc_xref_aliases = {
    "Path": "pathlib.Path",
    "Generator": "numpy.random.Generator",
    "Figure": "matplotlib.figure.Figure",
    "Axes": "matplotlib.axes.Axes",
    "iterable": "collections.abc.Iterable",
    "sequence": "collections.abc.Sequence",
    "callable": "collections.abc.Callable",
    "collection": "collections.abc.Collection",
    "mapping": "collections.abc.Mapping",
}
numpydoc_xref_ignore = "all"  # words that are no type below, "shape" and "optional" among them


def public_classes() -> dict[str, str]:
    """The classes of the package, by name, with the module that defines each."""
    found = {}
    for info in pkgutil.walk_packages(obiwan.dplearn.__path__, "obiwan.dplearn."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            found |= {
                name: f"{info.name}.{name}"
                for name, value in vars(module).items()
                if inspect.isclass(value) and value.__module__ == info.name and not name.startswith("_")
            }
    return found


numpydoc_xref_aliases |= public_classes()


def inventories() -> dict[str, tuple[str, str | None]]:
    """What links to other projects resolve against.

    By default the small lists of ``_inventories``, with the names that these pages mention, so that a
    build needs no network and a misspelt name is a warning.  On Read the Docs, and with
    ``DPLEARN_INTERSPHINX=1``, the projects' own inventories are read.  Keras has none, so its list is always
    used.
    """
    hosted = "1" if os.environ.get("READTHEDOCS") == "True" else "0"
    online = os.environ.get("DPLEARN_INTERSPHINX", hosted) == "1"
    target = Path(tempfile.mkdtemp(prefix="dplearn-inventories-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    mapping: dict[str, tuple[str, str | None]] = {}
    for path in sorted((HERE / "_inventories").glob("*.txt")):
        url, *lines = path.read_text(encoding="utf-8").splitlines()
        packed = target / f"{path.stem}.inv"
        header = (
            f"# Sphinx inventory version 2\n# Project: {path.stem}\n# Version:\n"
            "# The remainder of this file is compressed using zlib.\n"
        )
        packed.write_bytes(header.encode() + zlib.compress("".join(f"{line}\n" for line in lines).encode()))
        mapping[path.stem] = (url, None if online and path.stem != "keras" else str(packed))
    return mapping


intersphinx_mapping = inventories()


def exists(module: str, name: str) -> bool:
    """Whether a documented module has this attribute."""
    try:
        pkgutil.resolve_name(f"{module}:{name}")
    except (AttributeError, ValueError):
        return False
    return True


def short_reference(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve the names of this package that a docstring says without the module that defines them.

    A public constant without a text of its own stays unlinked; a name that nothing has is Sphinx's warning.
    """
    if node.get("refdomain") != "py":
        return None
    target, domain = node["reftarget"], env.get_domain("py")
    found = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(found) == 1:
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)
    names = [f"{node.get('py:class')}.{target}", target]
    return contnode if any(exists(module, name) for module in domain.modules for name in names) else None


def foreign_signature(*event: Any) -> tuple[str, str] | None:
    """Keep numpydoc from reading signatures of what modules import: that of SciPy's cKDTree breaks it."""
    _app, _what, _name, found, _options, *signature = event
    return None if str(getattr(found, "__module__", "")).startswith("obiwan") else tuple(signature)


def text_of_cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook as reStructuredText: titles, code spans, links; code with its output."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        text = re.sub(r"`([^`]+)`", r"``\1``", source)
        text = re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text)
        text = re.sub(r"^# (.*)$", lambda m: f"{m[1]}\n{'=' * len(m[1])}", text, flags=re.M)
        return re.sub(r"^## (.*)$", lambda m: f"{m[1]}\n{'-' * len(m[1])}", text, flags=re.M)
    shown = f".. code-block:: python\n\n{indent(source, '   ')}"
    texts = ("".join(out.get("text") or out["data"]["text/plain"]) for out in cell["outputs"])
    return "\n\n".join([shown, *(f".. code-block:: none\n\n{indent(text, '   ')}" for text in texts)])


class Notebook(Directive):
    """``.. notebook:: FILE.ipynb``: the cells of a notebook, with the outputs that it has, as a page."""

    required_arguments = 1

    def run(self) -> list[Any]:
        """Put the cells in place of the directive."""
        path = Path(self.state.document.current_source).parent / self.arguments[0]
        self.state.document.settings.env.note_dependency(str(path))
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        self.state_machine.insert_input("\n\n".join(map(text_of_cell, cells)).splitlines(), str(path))
        return []


def as_mathml(translator: Any, node: Any) -> None:
    """Write an equation as MathML, which browsers draw; MathJax would need a network."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("notebook", Notebook)
    app.add_html_math_renderer("mathml", (as_mathml, None), (as_mathml, None))
    app.connect("autodoc-process-signature", foreign_signature, priority=400)
    app.connect("missing-reference", short_reference)


html_math_renderer = "mathml"
html_theme = "furo"
html_title = "obiwan.dplearn"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {"navigation_with_keys": True}

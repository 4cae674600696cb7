"""Namespace shim: ``obiwan.dplearn`` lives beside an upstream ``obiwan`` on the path.

Upstream obiwan and legacypipe both ship a regular ``obiwan`` package.  When this
directory comes first on ``PYTHONPATH``, extending ``__path__`` keeps their modules
importable as well.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)

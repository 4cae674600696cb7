"""The tables that benchmarks of verdicts write: what they count, and what made them."""

from __future__ import annotations

import pytest

pytest.importorskip("galsim")

from benchmarks import surveys, verdicts
from obiwan.dplearn import __version__


def test_verdicts_are_counted_with_the_interval_of_their_rate():
    found = [
        {"kind": kind, "value": auc, "real": 400, "fake": 500, "version": "1"}
        for kind, auc in (("inconclusive", 0.49), ("distinguishable", 0.56), ("inconclusive", 0.51))
    ]
    row = verdicts.row("psf", found)
    assert (row["planted"], row["seeds"], row["distinguishable"], row["inconclusive"]) == ("psf 1.1", 3, 1, 2)
    assert float(row["rate_low"]) < 1 / 3 < float(row["rate_high"])
    assert (row["auc_median"], row["auc_least"], row["auc_most"]) == ("0.510", "0.490", "0.560")
    assert (row["test_examples"], row["version"]) == (900, "1")


def test_a_table_names_package_and_mock():
    assert surveys.version().startswith(__version__)
    assert f"mock {surveys.EDITION}" in surveys.version()

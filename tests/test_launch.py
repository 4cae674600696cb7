"""Kinds of srun's ``--mpi`` and the MPI that they can start; launchers are in test_mpi, test_distributed."""

from __future__ import annotations

import pytest

from obiwan.dplearn.running.launch import pmi_problem, rank_pmi

KINDS = ["pmix", "none", "cray_shasta", "pmi2"]


@pytest.fixture
def open_mpi(tmp_path):
    """Its libraries, which say nothing of SLURM's own PMI."""
    paths = [tmp_path / name for name in ("libmpi.so.40", "libopen-pal.so.40")]
    for path in paths:
        path.write_bytes(b"\x7fELF mca_pmix_pmix3x_component")
    return paths


@pytest.mark.parametrize("kind", ["none", "pmi2"])
def test_open_mpi_needs_pmix(kind, open_mpi):
    found = pmi_problem(kind, KINDS, open_mpi)
    assert found.startswith(f"srun --mpi={kind} cannot start Open MPI ({open_mpi[0].parent})")
    assert "SRUN_MPI=pmix" in found
    assert "load an MPI of the site" in pmi_problem(kind, ["none", "pmi2"], open_mpi)


@pytest.mark.parametrize("kind", ["pmix", "pmix_v4", ""])
def test_open_mpi_with_pmix(kind, open_mpi):
    assert pmi_problem(kind, KINDS, open_mpi) == ""


def test_open_mpi_with_slurms_own_library(open_mpi):
    (open_mpi[0].parent / "openmpi").mkdir()
    (open_mpi[0].parent / "openmpi" / "mca_pmix_s2.so").touch()
    assert pmi_problem("pmi2", KINDS, open_mpi) == ""
    assert pmi_problem("none", KINDS, open_mpi) != ""


def test_another_mpi_is_let_be(tmp_path):
    for kind in KINDS:
        assert pmi_problem(kind, KINDS, [tmp_path / "libmpi.so.12"]) == ""


def test_a_kind_that_srun_does_not_have():
    assert "has no --mpi=pmix; it has none, pmi2" in pmi_problem("pmix", ["none", "pmi2"], [])


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, ""),  # the batch script, or a program that it starts
        ({"SLURM_STEP_ID": "0"}, "none"),
        ({"SLURM_STEP_ID": "0", "PMI_FD": "11"}, "pmi2"),
        ({"SLURM_STEP_ID": "0", "PMIX_RANK": "1"}, "pmix"),
        ({"SLURM_STEP_ID": "0", "OMPI_COMM_WORLD_RANK": "1", "PMIX_RANK": "1"}, ""),
    ],
)
def test_kind_of_a_rank(environ, kind):
    assert rank_pmi(environ) == kind

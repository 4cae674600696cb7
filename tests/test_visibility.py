"""What referees see of the example table: what both classes have, and nothing that tells the class."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.referees.jury import Jury, judge, samples_of, train_member
from obiwan.dplearn.referees.measured import measure_set
from obiwan.dplearn.referees.scoring import score_split
from obiwan.dplearn.referees.stored import read_referee, write_referee
from obiwan.dplearn.retraining.ablations import ablated
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from obiwan.dplearn.trainingset.visibility import HIDDEN, psf_widths, visible_columns, visible_rows
from planted import Planted
from sealing import seal
from stamps import GRZ, galaxies, rows_of
from tables import read_table, write_table

COUNTS = {"train": 128, "val": 64, "test": 64}
PSF = GRZ.columns("psfsize")


@pytest.fixture
def rows() -> np.ndarray:
    found = rows_of(galaxies(400, 1), 0, 2)
    found["label"] = np.arange(400) % 2
    found["camera"], found["nobs_g"], found["maskbits"] = b"decam", 3, np.arange(400) // 2 % 3
    return found


def test_nothing_that_is_hidden_is_left_in_the_bytes(rows):
    rows["label"], rows["run"] = 77, b"a run of the injections"
    seen = visible_rows(rows, ("mag_g", "x", "y"))
    assert seen.dtype.names == ("mag_g", "x", "y")
    assert seen.base is None
    assert seen.dtype.itemsize < rows.dtype.itemsize
    assert b"injections" not in seen.tobytes()


def test_what_tells_class_storage_or_place_is_hidden(rows):
    """Also where both classes have it, with the same values."""
    for name in set(rows.dtype.names) - {"label", "mag_source"}:
        if name in HIDDEN or name.startswith("truth_"):
            rows[name] = (1 + np.arange(len(rows)) // 2 % 7).astype(rows.dtype[name])
    hidden = set(rows.dtype.names) - set(visible_columns(rows))
    assert hidden >= {name for name in rows.dtype.names if name.startswith("truth_")}
    assert hidden >= {"label", "run", "root", "id", "truth_ra", "truth_dec", "match_dist", "mag_source"}
    assert hidden >= {"flags", "split", "shard", "row", "ra", "dec"}
    assert {"flux_g", "mag_r", *PSF, "brick", "camera", "x", "y"} <= set(visible_columns(rows))


def test_positions_are_those_in_the_centre_pixel(rows):
    """An injection grid shows in positions on the coadd."""
    seen = visible_rows(rows, visible_columns(rows))
    for axis in ("x", "y"):
        assert (seen[axis] == rows[axis] - np.floor(rows[axis] + 0.5)).all()
        assert np.abs(seen[axis]).max() <= 0.5


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    ("column", "unknown"),
    [
        ("psfsize_g", np.nan),
        ("psfsize_g", 0.0),
        ("ebv", np.nan),
        ("ebv", 0.0),  # as good as unknown where the other class has values
        ("mw_transmission_r", 1.0),
        ("nobs_g", -1),
        ("camera", b""),
        ("camera", b"90prime"),
        ("maskbits", 0),
        ("type", b""),
    ],
)
def test_a_column_of_one_class_is_hidden_whichever_it_is(rows, column, unknown, label):
    before = set(visible_columns(rows))
    assert column in before
    rows[column][rows["label"] == label] = unknown
    assert set(visible_columns(rows)) == before - {column}


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("column", ["psfsize_g", "psfdepth_r", "mw_transmission_z", "flux_ivar_g", "nobs_r"])
def test_0_and_minus_1_are_both_unknown(rows, column, label):
    mine = np.flatnonzero(rows["label"] == label)
    rows[column][mine] = -(np.arange(len(mine)) % 2)
    assert column not in visible_columns(rows)


def test_a_column_that_both_classes_lack_equally_often_is_visible(rows):
    rows["ebv"][:100] = np.nan
    assert "ebv" in visible_columns(rows)
    rows["ebv"][1:200:2] = np.nan  # half of one class, a quarter of the other
    assert "ebv" not in visible_columns(rows)


def test_fits_of_two_origins_are_hidden(rows):
    rows["mag_source"] = b"measured"
    assert "mag_g" in visible_columns(rows)
    rows["mag_source"][rows["label"] == 1] = b"table"
    names = visible_columns(rows)
    fitted = {"type", "flux_r", "flux_ivar_r", "mag_g", "shape_r", "e1", "sersic"}
    assert not fitted & set(names)
    assert set(PSF) <= set(names)
    rows["mag_source"] = b"truth"  # of one origin, which no real galaxy has
    assert not fitted & set(visible_columns(rows))


def test_widths_of_a_hidden_band_are_unknown(rows):
    found = psf_widths(rows, PSF[:2], GRZ)
    assert np.isfinite(found).all(0).tolist() == [True, True, False]


def without_psf(directory, label: int) -> StampSet:
    """A set of which one class has no PSF widths, as a table of the user's has none."""
    made = make_set(directory, Planted("size", 2.0), COUNTS)
    table = read_table(directory)
    for name in made.spec.columns("psfsize"):
        table[name][table["label"] == label] = np.nan
    write_table(directory, table, made.spec)
    seal(directory)
    return open_training_set(directory)


@pytest.fixture(scope="module")
def both_classes(tmp_path_factory) -> StampSet:
    return make_set(tmp_path_factory.mktemp("both") / "set", Planted("size", 2.0), COUNTS)


@pytest.fixture(scope="module", params=[0, 1])
def one_class(request, tmp_path_factory) -> StampSet:
    return without_psf(tmp_path_factory.mktemp("one") / "set", request.param)


def test_the_prior_of_a_fit_is_the_same_for_both_classes(one_class, both_classes):
    """With the width of one class as prior, all else equal, the classes would be fitted differently."""
    with_prior, without = (measure_set(one, "test") for one in (both_classes, one_class))
    assert (with_prior.prior, without.prior) == (PSF, ())
    label = one_class.rows("test")["label"]
    changed = (with_prior.fits.column("ln_psf_r") != without.fits.column("ln_psf_r")).tolist()
    for value in (0, 1):
        assert np.array(changed)[label == value].mean() > 0.9
    assert not set(PSF) & set(one_class.visible("test").dtype.names)


def test_a_null_test_of_one_class_measures_as_the_panel_does(one_class):
    """One class has the widths of all its examples; the panel does without them, and so does the null."""
    for name in ("A/A real", "A/A fake"):
        assert measure_set(ablated(name, one_class, 1), "val").prior == ()


def test_a_stored_referee_measures_other_sets_as_its_own(one_class, both_classes, tmp_path):
    path = tmp_path / "referee_scores.npz"
    sample = samples_of(one_class, Jury(("scores",)))["train"]
    write_referee(path, train_member("scores", sample, 1), {})
    stored, header = read_referee(path)
    assert header["prior"] == []
    given, own = (samples_of(one, Jury(("scores",)))["test"] for one in (both_classes, one_class))
    np.testing.assert_array_equal(given.scored_by(stored), own.scored_by(stored))
    np.testing.assert_array_equal(score_split(stored, both_classes, "test").score, own.scored_by(stored))


def test_a_kept_referee_of_another_prior_is_trained_again(tmp_path):
    jury, made = Jury(("scores",)), make_set(tmp_path / "set", Planted("size", 2.0), COUNTS)
    first = judge(jury, samples_of(made, jury), outdir=tmp_path / "out")
    changed = without_psf(tmp_path / "set", 1)
    assert changed.checksum == made.checksum  # of pixels
    second = judge(jury, samples_of(changed, jury, outdir=tmp_path / "out"), outdir=tmp_path / "out")
    assert first.checksum != second.checksum
    assert read_referee(tmp_path / "out" / "referee_scores.npz")[0].prior == ()


def test_a_referee_refuses_stamps_without_what_it_was_trained_with(one_class, both_classes):
    referee = train_member("scores", samples_of(both_classes, Jury(("scores",)))["train"], 1)
    with pytest.raises(ModelError, match=r"referee scores: it was trained with psfsize_g, which .* lack"):
        score_split(referee, one_class, "test")


class Curious:
    """A referee of the user's that reports what it sees."""

    def fit(self, stamps, rows, labels):  # noqa: ARG002
        self.names = rows.dtype.names

    def predict(self, stamps, rows):
        assert rows.dtype.names == self.names
        assert not set(PSF) & set(self.names)
        return np.full(len(stamps), 0.5)


def test_a_referee_of_the_user_sees_what_both_classes_have(one_class, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    assert judge(Jury(("mine:Curious",)), samples_of(one_class, Jury(("mine:Curious",)))).scores.std() == 0


def test_a_referee_of_the_user_says_how_many_examples_it_was_given(one_class, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    jury = Jury(("mine:Curious", "scores"))
    monkeypatch.setattr("obiwan.dplearn.referees.jury._STAMPS", 20 * one_class.spec.stamp_bytes)
    found = judge(jury, samples_of(one_class, jury))
    assert [one.examples for one in found.members] == [20, COUNTS["train"]]


def test_sets_without_examples_of_a_class_hide_no_more():
    rows = np.zeros(3, [("label", "u1"), ("mag_source", "S8"), ("brick", "S8"), ("mag_g", "f4")])
    assert visible_columns(rows) == ("brick", "mag_g")

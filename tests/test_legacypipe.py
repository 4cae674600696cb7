"""Our release paths against legacypipe's own `find_file`, where a legacypipe can be imported."""

from pathlib import Path

import pytest

from obiwan.dplearn.survey.layouts import IMAGE_SUFFIXES, RELEASE, RELEASE_RUN, BrickRun, Root

survey = pytest.importorskip(
    "legacypipe.survey", reason="legacypipe is not importable here: an optional cross-check"
)

BRICK = "1211p060"


@pytest.fixture
def theirs(tmp_path):
    return survey.LegacySurveyData(survey_dir=str(tmp_path))


def test_tractor_catalogue(theirs, tmp_path):
    ours = tmp_path / RELEASE.tractor.format(bri=BRICK[:3], brick=BRICK)
    assert Path(theirs.find_file("tractor", brick=BRICK)) == ours


@pytest.mark.parametrize("kind", ["image", "invvar"])
@pytest.mark.parametrize("band", ["g", "r", "z"])
def test_coadd_planes(theirs, tmp_path, kind, band):
    expected = Path(theirs.find_file(kind, brick=BRICK, band=band))
    assert expected.name.endswith(IMAGE_SUFFIXES)
    expected.parent.mkdir(parents=True)
    expected.touch()
    coadd = tmp_path / RELEASE.coadd.format(bri=BRICK[:3], brick=BRICK)
    run = BrickRun(Root(0, tmp_path, RELEASE), BRICK, RELEASE_RUN, coadd, None, None, None)
    assert run.plane(kind, band) == expected


def test_ccd_table(theirs, tmp_path):
    coadd = tmp_path / RELEASE.coadd.format(bri=BRICK[:3], brick=BRICK)
    run = BrickRun(Root(0, tmp_path, RELEASE), BRICK, RELEASE_RUN, coadd, None, None, None)
    assert Path(theirs.find_file("ccds-table", brick=BRICK)) == run.ccds()

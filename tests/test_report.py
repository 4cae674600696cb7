"""The report: one page that needs nothing beside it, and files that are whole or absent."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import fitsio
import numpy as np
import pytest
from astropy.units import Unit
from matplotlib.figure import Figure

from evaluation_set import make_evaluation, make_set, scored_by_hand
from obiwan.dplearn.controls.records import Obstacle, State
from obiwan.dplearn.errors import LeaseLostError, ModelError
from obiwan.dplearn.evaluation import analysis, occlusion
from obiwan.dplearn.evaluation.bins import LEAST_VALUES
from obiwan.dplearn.evaluation.gallery import galleries_of, mosaics_of
from obiwan.dplearn.evaluation.notices import Fact, Notice, alarms, not_run
from obiwan.dplearn.evaluation.ruling import Equal, Outcome, RulingKind
from obiwan.dplearn.report import charts, opening, output, rulings, sections, wording
from obiwan.dplearn.report.figures import pictures_of
from obiwan.dplearn.report.formatting import (
    DASH,
    HTML,
    catalogue,
    effect,
    extents,
    least_detectable,
    say,
)
from obiwan.dplearn.report.output import FORMAT, claim, metrics, report_directory
from obiwan.dplearn.report.page import render
from obiwan.dplearn.report.pictures import Picture, write_picture
from obiwan.dplearn.report.rulings import ruling_statement
from obiwan.dplearn.retraining.ablations import AblationResult
from obiwan.dplearn.retraining.sensitivity import SensitivityResult
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import KINDS
from obiwan.dplearn.trainingset.clusters import ClusteredBy
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.verdict import Reason, decide
from planted import Planted
from synthetic import content_of

COUNTS = {"train": 64, "val": 64, "test": 320}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", Planted("offset", 1.5), COUNTS)


@pytest.fixture(scope="module")
def evaluation(data):
    return make_evaluation(data, scored_by_hand(data, 1.5, models=2))


@pytest.fixture(scope="module")
def looked(evaluation):
    """The same with an occlusion, which is made up."""
    some = occlusion.Occlusion(
        radii=np.array([4.0, 12.0]),
        counts=(160, 160),
        whole=Estimate(0.81, 0.77, 0.85),
        inner=(Estimate(0.6, 0.55, 0.65), Estimate(0.785, 0.75, 0.82)),
        outer=(Estimate(0.78, 0.74, 0.82), Estimate(0.514, 0.46, 0.56)),
    )
    return dataclasses.replace(evaluation, occlusion=some)


@pytest.fixture(scope="module")
def shown(data, looked):
    """Galleries and one mosaic."""
    scored = looked.scored
    galleries = galleries_of(data, "test", scored.scores, 8)
    return galleries, mosaics_of(data, "test", 4)[:1]


@pytest.fixture(scope="module")
def outdir(tmp_path_factory, looked, shown):
    """A whole report on disk."""
    place = tmp_path_factory.mktemp("report")
    write_report(place, looked, pictures_of(looked, *shown))
    return place


@pytest.fixture(scope="module")
def page(outdir):
    return (outdir / "report.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text of each in the order of their ends."""

    VOID = frozenset({"img", "meta", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == [], "elements that are not closed"

    def handle_starttag(self, tag, attrs):
        element = SimpleNamespace(tag=tag, words="", **{"attrs": dict(attrs)})
        self.found.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag
        if tag in ("td", "th"):
            self.handle_data(" ")

    def handle_data(self, data):
        for element in self.open:
            element.words += data

    def of(self, tag):
        return [element for element in self.found if element.tag == tag]


def write_report(outdir, evaluation, pictures):
    """A report made as the program makes it; returns its page."""
    with report_directory(outdir).lease() as scratch:
        return output.write_report(outdir, evaluation, pictures, scratch)


def said_of(evaluation):
    """The verdict in words."""
    return wording.verdict_lines(evaluation)


def rendered(evaluation, **changes):
    """The page of an evaluation, without figures."""
    return render(dataclasses.replace(evaluation, **changes), {})


def text_of(page):
    """The words of a page."""
    (body,) = Elements(page).of("body")
    return " ".join(body.words.split())


def test_the_verdict_comes_first_and_the_controls_before_the_claims(page, looked):
    elements = Elements(page)
    (heading,) = elements.of("h1")
    assert heading.words == ruling_statement(looked).headline
    sections = [element.attrs["id"] for element in elements.of("section")]
    order = [
        "answer",
        "tested",
        "appearance",
        "controls",
        "baseline",
        "where",
        "looks",
        "galleries",
        "calibration",
        "notrun",
    ]
    assert sections == [*order, "provenance", "glossary"]
    words = text_of(page)
    assert words.index(ruling_statement(looked).headline) < words.index(said_of(looked).headline)
    assert "px off in x" in words[: words.index("Result")]  # what fails is said at once


def test_it_needs_nothing_beside_it(page):
    elements = Elements(page)
    for tag in ("script", "link", "iframe", "object", "video"):
        assert elements.of(tag) == []
    sources = [image.attrs["src"] for image in elements.of("img")]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(link.attrs["href"].startswith("#") for link in elements.of("a"))
    (style,) = elements.of("style")
    assert "url(" not in style.words
    assert "@import" not in style.words


def test_every_rule_of_its_style_is_for_something_on_it(page):
    """A rule for nothing is a slip of the pen, which browsers pass over without a word."""
    elements = Elements(page)
    (style,) = elements.of("style")
    rules = re.sub(r"@media[^{]*\{|::[a-z-]+|:root", "", style.words)
    selectors = {s.strip() for names in re.findall(r"([^{}]+)\{[^{}]*\}", rules) for s in names.split(",")}
    tags = {element.tag for element in elements.found}
    classes = {name for element in elements.found for name in element.attrs.get("class", "").split()}
    optional = {
        "equivalent",
        "inconclusive",
        "cautions",
        "not-run",
        "warning",
        "warn",
        "open",
        "differ",
        "invalid-set",
    }
    assert len(selectors) > 40
    for selector in selectors:
        for word in selector.split():
            tag, *names = word.split(".")
            assert tag in {"", "*", *tags}, selector
            assert set(names) <= classes | optional, selector


def test_it_can_be_read_without_seeing_it(page):
    elements = Elements(page)
    assert elements.of("html")[0].attrs["lang"] == "en"
    assert all(len(image.attrs["alt"]) > 20 for image in elements.of("img"))
    assert all(cell.attrs.get("scope") in ("col", "row") for cell in elements.of("th"))
    assert len(elements.of("caption")) == len(elements.of("table"))
    assert len(elements.of("figcaption")) == len(elements.of("figure")) == len(elements.of("img"))
    identities = {element.attrs["id"] for element in elements.found if "id" in element.attrs}
    assert {link.attrs["href"][1:] for link in elements.of("a")} <= identities
    # A state is a word, not only a colour.
    states = [e for e in elements.of("span") if e.attrs.get("class", "").startswith("state ")]
    assert {state.words.split(maxsplit=1)[1] for state in states} >= {"fail", "pass", "open"}


def test_a_wide_figure_scrolls_where_its_words_would_be_too_small(page):
    assert re.search(r'<figure id="figure-fake_real_mosaic_p99" class="wide">\s*<div class="scroll"', page)
    assert re.search(r'<figure id="figure-scores">\s*<img', page)
    assert re.search(r"figure\.wide img \{ min-width: \d+rem", page)


def test_the_planted_flaw_fails(looked):
    fail = {f"{control.name} {control.band}" for control in looked.controls if control.state == "fail"}
    assert {"centroid x g", "centroid x r", "centroid x z"} <= fail
    assert not any("centroid y" in title for title in fail)


def test_the_first_screen_says_what_differs_where_and_what_to_do(page, looked):
    """In the field's units, before any table; the same in words in ``metrics.json`` and on the terminal."""
    words = text_of(page)
    first = words[: words.index("Controls that fail")]
    assert re.search(r"light \+1\.\d\d px off in x in [grz] \(also [grz], [grz]\)", first)
    assert "160 real and 160 injected galaxies in 12 bricks, RA 0." in first
    assert "tree south (legacysim)" in first
    ours = {**looked.data, "drawn": [{"root": 0}]}
    assert opening.input_trees(ours) == ["south (inject)"]
    assert catalogue()["remedy"]["D2"] in first
    assert f"Training set {looked.data['name']}" in first
    assert first.index("AUC of what was declared") < first.index("Mean of")
    by_exposures = dataclasses.replace(looked.answer, clusters=5, clustered_by=ClusteredBy.EXPOSURES)
    grouped = opening.scope(dataclasses.replace(looked, answer=by_exposures))
    assert "in 12 bricks (5 groups of bricks that share exposures), RA" in grouped
    told = metrics(looked)["ruling"]
    assert told["scope"] == opening.scope(looked)
    lines = wording.summary(looked)
    assert f"  {opening.scope(looked)}" in lines
    assert [line for line in lines if "What to do (D2" in line] == [f"  {told['remedies'][0]}"]
    assert not re.search(r"AUC [01]\.[3-9]\d{3}", words)  # of no AUC four digits mean anything


def test_every_figure_is_a_file_too(outdir, looked, shown):
    names = {picture.name for picture in pictures_of(looked, *shown)}
    assert {
        "scores",
        "roc",
        "classifiers",
        "hazards",
        "mean_stamps",
        "profiles",
        "noise",
        "brick_aucs",
        "cuts",
        "footprint",
        "history",
        "auc_by_mag_r",
        "auc_by_sn",
    } <= names
    assert not {"auc_by_mag_g", "auc_by_mag_z", "auc_by_percentile"} & names  # brightness again
    assert {
        "occlusion",
        "gallery_fakes_that_fooled",
        "fake_real_mosaic_p99",
        "reliability",
    } <= names
    files = {path.name for path in (outdir / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "pdf")} | {"captions.txt"}
    for path in (outdir / "figures").glob("*.p*"):
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")
    captions = (outdir / "figures" / "captions.txt").read_text(encoding="utf-8")
    for picture in pictures_of(looked, *shown):  # the figures travel with their captions
        assert f"{picture.name}: {picture.caption}\n" in captions


def test_metrics_have_every_number(outdir, looked):
    found = json.loads((outdir / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert found["format"] == FORMAT
    assert found["answer"]["auc"] == dataclasses.asdict(looked.answer.auc)
    assert found["verdict"]["kind"] == looked.verdict.kind.value
    assert [c["state"] for c in found["controls"]] == [c.state.name for c in looked.controls]
    assert found["ruling"]["kind"] == looked.ruling.kind.value
    assert found["ruling"]["failing"][0].startswith("centroid x")
    assert [len(t["bins"]) for t in found["bins"]] == [len(t.bins) for t in looked.bins]
    assert found["bins"][0]["bins"][0]["auc"]["value"] == looked.bins[0].bins[0].auc.value
    assert found["baseline"]["test_auc"]["value"] == looked.baseline.test_auc.value
    assert found["conditional"]["stratified"]["value"] == looked.conditional.stratified.value
    assert found["calibration"]["raw"]["ece"] == looked.calibration.raw.ece
    assert len(found["calibration"]["raw"]["curve"]) == len(looked.calibration.raw.curve)
    assert found["occlusion"]["radii"] == [4, 12]
    assert found["occlusion"]["outer"][1]["high"] == 0.56
    assert found["versions"]["numpy"] == np.__version__
    assert [model["checksum"] for model in found["models"]] == [m.checksum for m in looked.scored.models]
    assert found["settings"]["margin"] == 0.02


def test_scores_have_a_row_for_every_test_example(outdir, looked):
    table, header = fitsio.read(str(outdir / "scores.fits"), ext="SCORES", header=True)
    scored = looked.scored
    assert len(table) == COUNTS["test"]
    for name in ("root", "brick", "run", "id", "label", "shard", "row"):
        assert table[name].astype(str).tolist() == scored.rows[name].astype(str).tolist(), name
    assert table["score"] == pytest.approx(scored.singles.mean(0))
    assert table["score_2"] == pytest.approx(scored.singles[1])
    assert table["mag_g"] == pytest.approx(looked.columns["mag_g"])
    assert table["score_metadata"] == pytest.approx(looked.baseline.scores)
    assert header["TRAINSET"].strip() == looked.data["checksum"]
    assert header["MODEL2"].strip() == scored.models[1].checksum
    units = {header.get(f"TUNIT{i}", "").strip() for i in range(1, header["TFIELDS"] + 1)}
    assert {"pixel", "arcsec", "deg", "mag"} <= units
    assert all(Unit(unit) is not None for unit in units)  # astropy knows them


def test_equal_results_give_equal_bytes(tmp_path, looked, shown):
    few = [
        p for p in pictures_of(looked, *shown) if p.name in ("scores", "gallery_fakest_fakes", "occlusion")
    ]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, looked, few)
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("a", "b")]
    assert [p.name for p in files[0]] == [p.name for p in files[1]]
    assert len(files[0]) == 4 + 2 * len(few)
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_report_is_whole_or_the_one_before(tmp_path, looked):
    def fails(_):
        raise OSError(28, "No space left on device")

    write_report(tmp_path, looked, [])
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    bad = Picture("bad", "answer", (2, 2), fails, "caption", "alt")
    other = dataclasses.replace(looked, settings={**looked.settings, "seed": 7})
    with pytest.raises(OSError, match="No space"):
        write_report(tmp_path, other, [bad])
    after = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    write_report(tmp_path, other, [])
    assert json.loads((tmp_path / "metrics.json").read_text())["settings"]["seed"] == 7


def test_what_stands_in_the_output_directory(tmp_path, looked):
    identity = {"data": looked.data["checksum"], "models": [m.checksum for m in looked.scored.models]}
    place = tmp_path / "new" / "deep"
    claim(place, identity, overwrite=False)  # absent: nothing to say, and nothing made
    assert not place.exists()
    write_report(place, looked, [])
    (place / "ablations").mkdir()
    claim(place, identity, overwrite=False)
    with pytest.raises(ModelError, match="another report"):
        claim(place, {**identity, "data": "00000000"}, overwrite=False)
    claim(place, {**identity, "data": "00000000"}, overwrite=True)
    (place / "figures" / "my_paper_figure.pdf").write_text("precious")
    with pytest.raises(ModelError, match=r"figures/my_paper_figure\.pdf, which is no part of a report"):
        claim(place, identity, overwrite=True)
    (place / "figures" / "my_paper_figure.pdf").unlink()
    claim(place, identity, overwrite=False)
    (place / "thesis.tex").write_text("precious")
    with pytest.raises(ModelError, match=r"thesis\.tex, which is no part of a report"):
        claim(place, identity, overwrite=True)
    with pytest.raises(ModelError, match="not a writable directory"):
        claim(place / "thesis.tex" / "report", identity, overwrite=False)


@pytest.mark.parametrize("name", ["figures", "scores.fits", "metrics.json", "report.html"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_names_of_a_report_are_anyones_where_no_report_is(tmp_path, name, overwrite):
    place = tmp_path / "out"
    for ours in (".work", "ablations", "sensitivity"):  # of an evaluation that was interrupted
        (place / ours).mkdir(parents=True)
    claim(place, {}, overwrite=overwrite)
    (place / name).write_text('{"format": "mine"}')
    with pytest.raises(ModelError, match=f"{re.escape(name)}, which is no part of a report"):
        claim(place, {}, overwrite=overwrite)


@pytest.mark.parametrize("before", [False, True])
def test_an_evaluation_that_is_interrupted_while_it_writes_can_be_started_again(
    tmp_path, looked, monkeypatch, before
):
    """Whatever is in place by then, the directory is still known as ours."""
    identity = {"data": looked.data["checksum"], "models": [m.checksum for m in looked.scored.models]}
    chart = next(p for p in pictures_of(looked, [], []) if p.name == "scores")
    other, moved, died = dataclasses.replace(chart, name="other"), 0, True
    while died:
        place = tmp_path / str(moved)
        if before:
            write_report(place, looked, [chart])
        with monkeypatch.context() as patch:
            whole, left = Path.replace, iter([True] * moved)

            def replace(self, target, whole=whole, left=left):
                if not next(left, False):
                    raise KeyboardInterrupt
                return whole(self, target)

            patch.setattr(Path, "replace", replace)
            try:
                write_report(place, looked, [other])
                died = False
            except KeyboardInterrupt:
                moved += 1
        claim(place, identity, overwrite=False)
        assert died or not (place / ".work").exists()
    assert moved >= 4 + 2 + 1  # files of the report, of the picture, and of JSON


def test_of_two_evaluations_the_later_goes_on(tmp_path, looked, monkeypatch):
    """Whenever it begins, and whatever the first still wanted to remove or to put into place."""
    other = dataclasses.replace(looked, settings={**looked.settings, "seed": 7})
    write_report(tmp_path / "alone", other, [])
    alone = content_of(tmp_path / "alone")
    moment, ended = 0, True
    while ended:
        place, seen = tmp_path / str(moment), 0
        write_report(place, looked, [])
        with monkeypatch.context() as patch:
            whole = Path.replace

            def replace(self, target, whole=whole, place=place, moment=moment, patch=patch):
                nonlocal seen
                seen += 1
                if seen == moment + 1:
                    patch.setattr(Path, "replace", whole)
                    write_report(place, other, [])
                return whole(self, target)

            patch.setattr(Path, "replace", replace)
            try:
                write_report(place, looked, [])
                ended = False
            except LeaseLostError as error:
                assert "another run was started here and has taken over" in str(error)  # noqa: PT017
                assert content_of(place) == alone
                moment += 1
    assert moment >= 4 + 2 + 1  # files put into place, old ones put away, and of JSON


def test_what_an_earlier_version_left_half_done_is_no_hindrance(tmp_path, looked):
    (tmp_path / ".work" / "figures").mkdir(parents=True)
    (tmp_path / ".work" / "metrics.json").write_text("{")
    write_report(tmp_path, looked, [])
    assert not (tmp_path / ".work").exists()


def test_an_evaluation_that_fails_leaves_no_directory(tmp_path):
    with pytest.raises(ModelError), report_directory(tmp_path / "out").lease():
        raise ModelError
    assert not (tmp_path / "out").exists()


def test_a_picture_is_whole_or_the_one_before(tmp_path, monkeypatch):
    def torn(self, content):
        with self.open("wb") as stream:
            stream.write(content[:10])
        raise KeyboardInterrupt

    def fails(_):
        raise OSError(28, "No space left on device")

    def draws(figure):
        figure.text(0.5, 0.5, "x")

    picture = Picture("chart", "answer", (1, 1), draws, "caption", "alt")
    write_picture(picture, tmp_path)
    before = content_of(tmp_path)
    assert set(before) == {"chart.pdf", "chart.png"}
    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(KeyboardInterrupt):
        write_picture(picture, tmp_path)
    with pytest.raises(OSError, match="No space"):
        write_picture(dataclasses.replace(picture, draw=fails), tmp_path)
    assert content_of(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(ModelError, match="not a writable directory"):
        claim(tmp_path / "shut" / "report", {}, overwrite=False)


def test_what_comes_from_files_is_not_markup(looked):
    models = tuple(dataclasses.replace(m, name="<img src=x onerror=alert(1)>") for m in looked.scored.models)
    page = rendered(looked, scored=dataclasses.replace(looked.scored, models=models))
    assert "<img src=x" not in page
    assert html.escape("<img src=x onerror=alert(1)>") in page


@pytest.mark.parametrize("kind", ["not learnt", "inconclusive", "equivalent"])
def test_the_other_verdicts(data, kind):
    scored = scored_by_hand(data, 0.0, learnt=kind != "not learnt", seed=2)
    positive = SimpleNamespace(detected=True, weakest=0.58)
    verdict = decide(
        scored.labels,
        scored.scores,
        scored.bricks,
        margin=0.2 if kind == "equivalent" else 0.02,
        learnt=scored.learnt,
        positive=positive if kind == "equivalent" else None,
    )
    assert verdict.kind == kind
    found = make_evaluation(data, scored, verdict=verdict)
    page = rendered(found)
    (heading,) = Elements(page).of("h1")
    assert heading.attrs["class"] == "differ"  # by the controls, whatever the classifier sees
    assert heading.words == ruling_statement(found).headline
    for line in (said_of(found).headline, *said_of(found).explanation):
        assert line in text_of(page)


def test_retraining_and_what_was_not_run(looked):
    auc = Estimate(0.52, 0.47, 0.57)
    size = {"train": 64, "test": 320, "bricks": 12}
    ablation = AblationResult(auc, learnt=False, **size, name="ivar only", p=0.4)
    planted = [
        SensitivityResult(
            found, learnt, **size, kind="offset", amplitude=amplitude, detected=found.low > 0.5, left_out=3
        )
        for amplitude, found, learnt in ((0.2, Estimate(0.7, 0.6, 0.8), True), (0.1, auc, False))
    ]
    changed = dataclasses.replace(
        looked,
        ablations=(ablation,),
        sensitivity=tuple(planted),
        not_run=(
            Fact(Notice.CONTROL, {"name": "w", "band": "", "obstacle": Obstacle.NO_IVAR, "counts": (0, 0)}),
        ),
    )
    words = text_of(render(changed, {}))
    assert "ivar only 0.520 0.470 to 0.570 0.4 network, did not learn" in words
    assert f"planted: offset, 0.2 px 0.700 0.600 to 0.800 {DASH} detected; power 0.9" in words
    assert f"planted: offset, 0.1 px 0.520 0.470 to 0.570 {DASH} not detected; did not learn" in words
    assert say("retraining", "first", name="run0/best.keras", count=2) in words
    assert "Offset: 0.2 px is detected" in words  # the smallest
    assert "3 examples without" in words
    assert "Control w: the stamps have no inverse variance planes." in words
    names = [picture.name for picture in pictures_of(changed, [], [])]
    assert {"ablations", "sensitivity_offset"} <= set(names)
    assert "retraining" not in {e.attrs.get("id") for e in Elements(rendered(looked)).found}


def retrained_as(name, low, high, p):
    auc = Estimate((low + high) / 2, low, high)
    return AblationResult(auc, learnt=True, train=64, test=320, bricks=12, name=name, p=p)


def test_halves_of_one_class_that_are_told_apart_are_an_alarm(looked):
    """Nothing is said before it: the test itself is broken."""
    sound = (retrained_as("A/A real", 0.45, 0.55, 0.9), retrained_as("ivar only", 0.6, 0.7, 0.001))
    fine = dataclasses.replace(looked, ablations=sound)
    assert not alarms(sound)
    assert "broken" not in text_of(render(fine, {}))
    assert [row[3] for row in sections.retrained(fine)] == ["pass", ""]
    for low, high in ((0.51, 0.6), (0.4, 0.49)):
        broken = (*sound[1:], retrained_as("A/A real", low, high, 0.02))
        found = dataclasses.replace(looked, ablations=broken)
        (alarm,) = map(wording.notice, alarms(broken))
        assert "A/A real" in alarm
        assert wording.summary(found)[:2] == [alarm, ruling_statement(found).headline]
        assert "\n".join(wording.summary(found)).count(alarm) == 1
        elements = Elements(render(found, {}))
        (shown,) = (e for e in elements.of("p") if e.words == alarm)
        assert shown.attrs["class"] == "warning"
        assert [row[3] for row in sections.retrained(found)] == ["", "fail"]
        assert metrics(found)["verdict"]["explanation"][0] == alarm


def test_ablations_are_corrected_for_being_several(looked):
    tried = tuple(retrained_as(name, 0.5, 0.6, 0.02) for name in ("ivar only", "centre masked", "band g"))
    old = retrained_as("band r", 0.5, 0.6, float("nan"))  # of a version that did not keep its p
    rows = sections.retrained(dataclasses.replace(looked, ablations=(*tried, old)))
    assert [row[2] for row in rows[:3]] == pytest.approx([0.06] * 3)
    assert np.isnan(rows[3][2])


def test_a_constant_network_gets_no_sentence_that_is_wrong_for_it(data, looked, shown):
    scored = scored_by_hand(data, 0.0, learnt=False)
    scored = dataclasses.replace(scored, singles=np.full_like(scored.singles, 0.5))
    found = make_evaluation(data, scored)
    words = text_of(rendered(found))
    assert "gives every galaxy the same score" in words
    assert "% power" not in words
    assert found.ruling.kind == "differ, unseen by the panel"
    assert "px off in x" in ruling_statement(found).headline
    assert f"equivalence (margin 0.02) {DASH}" in words
    assert "shown by brightness" in words
    names = {picture.name for picture in pictures_of(found, *shown)}
    assert not any(name.startswith("gallery") for name in names)
    assert "fake_real_mosaic_p99" in names
    assert any(name.startswith("gallery") for name in (p.name for p in pictures_of(looked, *shown)))


def test_the_headline_and_the_table_say_one_bound(looked):
    rows = {row[0]: row for row in sections.answer_rows(looked)}
    low = looked.answer.auc.low
    bound = 1 - np.sqrt(2 * (1 - low))
    assert rows["total variation, from the AUC, at least"][1:3] == (f"{bound:.3f}", DASH)
    assert f"at most {100 - 100 * bound:.0f} %" in " ".join(said_of(looked).explanation)
    assert sum(name.startswith("total variation") for name in rows) == 1
    assert looked.verdict.numbers.effect.others == pytest.approx(bound)


def test_p_values_are_called_what_they_are(tmp_path):
    counts, bricks = {"train": 16, "val": 8, "test": 80}, {"train": 1, "val": 1, "test": 4}
    few = make_set(tmp_path / "set", Planted(), counts, bricks=bricks)
    found = make_evaluation(few, scored_by_hand(few, 3.0))
    rows = {row[0]: row[1] for row in sections.answer_rows(found)}
    assert sum("no smaller than 0.06 with 4 bricks" in name for name in rows) == 1
    assert say("row", "tost", margin=0.02) in rows
    assert "e-" not in "".join(rows.values())
    words = text_of(rendered(found))
    assert "outside the margin" not in words
    assert "of 4 bricks, none of which is in the training split" in words


def test_ends_of_bins_have_the_decimals_of_their_table(looked):
    words = text_of(rendered(looked))
    drawn = [t for t in looked.bins if t.bins and not t.bins[0].name]
    assert len(drawn) > 5
    for table in drawn:
        ends = extents(table)
        assert all(f"{end} " in words for end in ends), table.key
        assert len({len(number.partition(".")[2]) for end in ends for number in end.split(" to ")}) == 1
        # Every end that is shared is written alike, and no bin is without an extent.
        assert [end.split(" to ")[1] for end in ends[:-1]] == [end.split(" to ")[0] for end in ends[1:]]
        assert all(low != high for low, high in (end.split(" to ") for end in ends))


def test_single_bricks_make_no_trend(data):
    scored = scored_by_hand(data, 1.0)
    rows = scored.rows.copy()
    rows["ebv"] = 0.01 * (1 + np.unique(scored.bricks, return_inverse=True)[1] % 4)
    found = make_evaluation(data, dataclasses.replace(scored, rows=rows))
    names = {picture.name for picture in pictures_of(found, [], [])}
    assert "auc_by_ebv" not in names
    assert "auc_by_mag_r" in names
    words = text_of(rendered(found))
    assert say("bins", "coarse", bricks="12 bricks", least=LEAST_VALUES, names="E(B-V)") in words
    assert "AUC by E(B-V)" in words  # the numbers are there


@pytest.mark.parametrize("differ", [True, False])
def test_all_measured_examples_say_whether_the_classes_are_matched(looked, differ):
    """Those of the test are too few to see what the others show; either way both numbers are given."""
    on_all = Estimate(0.53, 0.51 if differ else 0.49, 0.55)
    result = dataclasses.replace(looked.baseline.result, auc=on_all)
    on_test = Estimate(0.53, 0.49 if differ else 0.51, 0.57)
    words = text_of(
        rendered(looked, baseline=dataclasses.replace(looked.baseline, result=result, test_auc=on_test))
    )
    assert (say("baseline", "differs") in words) == differ
    assert (say("baseline", "alike") in words) != differ
    assert f"{on_all.low:.3f} to 0.550" in words
    assert f"{on_test.low:.3f} to 0.570" in words


def test_the_page_says_what_its_intervals_rest_on(looked):
    assert "rest on whole bricks" in text_of(rendered(looked))
    answer = dataclasses.replace(looked.answer, rests_on_bricks=False)
    assert "rest on single examples" in text_of(rendered(looked, answer=answer))


def test_one_camera_is_no_division(looked):
    assert "camera" not in {table.key for table in looked.bins}
    rows = looked.scored.rows.copy()
    rows["camera"] = np.where(np.arange(len(rows)) % 4 == 0, b"90prime+mosaic", b"decam")
    tables = analysis.where(dataclasses.replace(looked.scored, rows=rows), looked.columns, looked.spec)
    (cameras,) = (table for table in tables if table.key == "camera")
    assert [b.name for b in cameras.bins] == ["90prime+mosaic", "decam"]


def test_neighbouring_bins_are_not_a_staircase(looked):
    """Their extents are paler than the intervals and end in caps; the histogram has no walls."""
    picture = next(p for p in pictures_of(looked, [], []) if p.name == "auc_by_mag_r")
    figure = Figure()
    picture.draw(figure)
    (axes,) = figure.axes
    caps = [line for line in axes.lines if line.get_marker() == "|"]
    assert len(caps) == 2
    assert {line.get_markeredgecolor() for line in caps} == {charts.GREY}
    figure = Figure()
    charts.draw_scores(figure.subplots(), looked.scored.labels, looked.scored.scores)
    (axes,) = figure.axes
    assert [patch.get_data().baseline for patch in axes.patches] == [None, None]
    assert "0.04" in axes.get_ylabel()


def test_the_area_under_the_curve_is_the_auc(looked):
    """Ties are one step: each is half of what it would be if it were won."""
    scores = looked.scored.scores.round(1)
    found = charts.roc(looked.scored.labels, scores)
    assert [line[0] for line in found] == [0, 0]
    assert [line[-1] for line in found] == [1, 1]
    real, fake = (scores[looked.scored.labels == value] for value in (0, 1))
    higher = np.sign(fake[:, None] - real).mean()
    assert np.trapezoid(found[1], found[0]) == pytest.approx(0.5 + higher / 2)


def test_many_failing_controls_are_named_by_quantity(looked):
    first = next(c for c in looked.controls if c.state == "fail" and c.band)
    many = tuple(
        dataclasses.replace(first, name=name, band=band)
        for name in ("centroid scatter", "ivar step", "width")
        for band in "grz"
    )
    together = "centroid scatter (g, r, z), ivar step (g, r, z), width (g, r, z)"
    ruling = dataclasses.replace(looked.ruling, failing=many)
    words = text_of(rendered(looked, controls=many, ruling=ruling))
    assert f"Controls that fail: {together}." in words
    assert f"Fail: {together}." in rulings.control_summary(many)


def test_the_power_of_each_control_is_told(looked, page):
    """In its own column, of every control that was run; a set that can find nothing says so."""
    told = [one for one in looked.controls if np.isfinite(one.detectable)]
    assert len(told) > 50
    assert page.count("<td>" + html.escape(least_detectable(told[0])) + "</td>") >= 1
    blind = dataclasses.replace(told[0], state=State.FAIL, detectable=np.inf)
    assert "<td>none</td>" in rendered(looked, controls=(blind,))


def test_what_cannot_be_told_apart_from_what_fails_is_left_open(looked):
    """Next to a quantity that separates the classes nearly completely, a further difference adds little."""
    equal = Equal((("width", "r"),), Outcome.GONE, Estimate(0.735, 0.672, 0.799), 0.5, 0.972)
    ruling = dataclasses.replace(looked.ruling, kind=RulingKind.EXPLAINED, equal=equal)
    words = " ".join(ruling_statement(dataclasses.replace(looked, ruling=ruling)).explanation)
    assert "0.735 (0.672 to 0.799) among the 50 % of test examples" in words
    assert "cannot tell which" in words


def test_scores_in_the_wrong_direction_are_no_difference_of_the_galaxies(looked):
    """A classifier cannot have learnt what it contradicts; that two classes differ is another statement."""
    ruling = dataclasses.replace(looked.ruling, kind=RulingKind.UNEXPLAINED, in_these_bricks=False)
    reasons = (Reason.DIFFERS, Reason.WRONG_WAY)
    verdict = dataclasses.replace(looked.verdict, reasons=reasons)
    found = dataclasses.replace(looked, ruling=ruling, verdict=verdict)
    assert ruling_statement(found).headline.startswith("Test and training galaxies differ: ")
    other = dataclasses.replace(verdict, reasons=(Reason.DIFFERS,))
    assert "Injected galaxies differ" in ruling_statement(dataclasses.replace(found, verdict=other)).headline


def test_equivalence_in_few_bricks_says_so(looked):
    ruling = dataclasses.replace(looked.ruling, kind=RulingKind.EQUIVALENT, in_these_bricks=True, bricks=6)
    headline = ruling_statement(dataclasses.replace(looked, ruling=ruling)).headline
    assert headline.startswith("Injected galaxies look real in these 6 bricks: ")


def test_the_page_on_the_report_names_its_parts():
    page = (Path(__file__).parents[1] / "doc" / "howto" / "report.rst").read_text(encoding="utf-8")
    titles = catalogue()["title"]
    assert all(f"*{titles[name]}* " in page for name in ("baseline", "where", "looks", "galleries"))
    assert "*Not learnt*" in page


def test_an_effect_has_its_component_and_unit(looked):
    spread = next(c for c in looked.controls if c.name == "width")
    assert re.fullmatch(r"(location|spread|skewness) [+-]0\.\d+ AUC \(.* to .*\)", effect(spread))
    assert re.fullmatch(r"association 0\.\d+ \(.* to .*\)", effect(looked.controls[-1]))


def test_what_is_planted_is_called_by_its_name(looked):
    auc = Estimate(0.52, 0.47, 0.57)
    size = {"train": 64, "test": 320, "bricks": 12, "left_out": 1}
    one = SensitivityResult(auc, learnt=True, **size, kind="psf", amplitude=1.05, detected=False)
    found = dataclasses.replace(looked, sensitivity=(one,))
    words = text_of(rendered(found))
    assert "PSF width: a factor of 1.05 is not detected" in words
    assert "1 example without" in words
    assert "Psf" not in words
    picture = next(p for p in pictures_of(found, [], []) if p.name == "sensitivity_psf")
    figure = Figure()
    picture.draw(figure)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "PSF width (factor)"
    assert axes.get_xticks().tolist() == [1.05]  # alone: no axis of its own


def test_what_is_not_known_is_said(looked):
    words = text_of(rendered(looked, baseline=None, occlusion=None))
    assert say("baseline", "none") in words
    assert say("occlusion", "none") in words
    cautious = text_of(rendered(looked, cautions=(Fact(Notice.SHARED_BRICKS),)))
    assert wording.notice(Fact(Notice.SHARED_BRICKS)) in cautious


def test_a_set_of_a_few_galaxies(tmp_path):
    """A region of real data may hold a dozen: everything is said, nothing fails."""
    few = make_set(
        tmp_path / "set",
        Planted(),
        {"train": 16, "val": 8, "test": 10},
        bricks={"train": 1, "val": 1, "test": 2},
    )
    tiny = make_evaluation(few, scored_by_hand(few, 0.5))
    tiny.data["config"]["split"] = "object"
    assert tiny.verdict.kind == "inconclusive"
    page = write_report(tmp_path / "out", tiny, pictures_of(tiny, [], []))
    words = text_of(page.read_text(encoding="utf-8"))
    assert "5 real and 5 injected examples of 2 bricks, parts of which are in the training split." in words
    assert "too few test examples or bricks for bins" in words
    assert "too small" in words
    assert "2 bricks only" in words
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert numbers["verdict"]["needed"] > 1000


def test_the_cut_flow_of_both_classes_is_one_table(looked):
    merged, dash = sections.text_of(looked)["flow"], None
    assert merged == [
        ("catalogue rows", 900, 800),
        ('no injection within 5"', 700, dash),
        ("injected on a CCD", dash, 750),
        ("elg colour box", 400, 380),
        ("balanced", 320, 320),
    ]


def test_the_summary_begins_with_the_verdict(looked):
    lines = wording.summary(looked)
    assert lines[0] == ruling_statement(looked).headline
    assert said_of(looked).headline in lines
    text = "\n".join(lines)
    assert "Fail: centroid x g +1.5" in text
    assert "mean of 2 networks" in text


def find_browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


MEASURE = """
<!DOCTYPE html><html><body>
<script>
const page = PAGE, out = [];
let left = WIDTHS.length;
for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.srcdoc = page;
  frame.onload = () => {
    const inside = frame.contentDocument, root = inside.documentElement;
    for (const one of inside.querySelectorAll("details")) one.open = true;
    const images = [...inside.images]
      .map(i => [i.complete && i.naturalWidth > 0, i.clientWidth, i.clientHeight]);
    const beyond = [...inside.querySelectorAll("body *")]
      .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > root.clientWidth + 1)
      .map(e => e.tagName + " " + e.className);
    const small = [...inside.querySelectorAll("p, figcaption, td, th, li")]
      .filter(e => parseFloat(getComputedStyle(e).fontSize) < 11).length;
    out.push({width, client: root.clientWidth, scroll: root.scrollWidth, images, beyond, small});
    if (--left === 0) { const p = document.createElement("pre"); p.id = "out";
      p.textContent = JSON.stringify(out); document.body.append(p); }
  };
  document.body.append(frame);
}
</script></body></html>
"""


@pytest.mark.slow
def test_a_browser_draws_it(outdir, page, tmp_path):
    """In headless Chromium every figure is drawn, and nothing is wider than the window."""
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium or Chrome on the path")
    inside = json.dumps(page).replace("</", "<\\/")
    probe = tmp_path / "probe.html"
    probe.write_text(MEASURE.replace("PAGE", inside).replace("WIDTHS", "[1280, 360]"), encoding="utf-8")
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
        *(
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,2000",
            "--virtual-time-budget=20000",
        ),
    ]
    command = [browser, *flags, "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    result = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert result, done.stderr[-2000:]
    found = json.loads(html.unescape(result[1]))
    assert sorted(one["width"] for one in found) == [360, 1280]  # whichever was drawn first
    pictures = len(list((outdir / "figures").glob("*.png")))
    for one in found:
        assert len(one["images"]) == pictures
        assert all(drawn and width > 200 and height > 50 for drawn, width, height in one["images"])
        assert one["beyond"] == []
        assert one["scroll"] <= one["client"]
        assert one["small"] == 0


@pytest.mark.parametrize(
    "spec",
    [
        StampSpec(("g", "r", "i", "z"), size=48),
        StampSpec(("r",)),
        StampSpec(("g", "z"), ("image",), 32),
    ],
    ids=str,
)
def test_a_report_of_any_stamps(tmp_path, spec):
    """Bands, size and planes are the set's, and what needs inverse variances is said not to have been run."""
    counts, bricks = {"train": 16, "val": 16, "test": 120}, {"train": 2, "val": 2, "test": 6}
    data = make_set(tmp_path / "set", Planted("offset", 1.5), counts, bricks=bricks, spec=spec)
    scored = scored_by_hand(data, 1.5)
    mosaics = mosaics_of(data, "test", 2)[:1]
    found = make_evaluation(data, scored, not_run=not_run(1, (), (), (), spec))
    pictures = list(pictures_of(found, galleries_of(data, "test", scored.scores, 2)[:1], mosaics))
    names = {picture.name for picture in pictures}
    assert f"auc_by_mag_{spec.reference}" in names
    few = [p for p in pictures if p.section in ("galleries", "appearance", "summary")]
    words = text_of(write_report(tmp_path / "out", found, few).read_text(encoding="utf-8"))
    assert f"{spec.bands[-1]} magnitude" in words
    assert all(f"centroid x {band}" in words for band in spec.bands)
    assert f"{spec.size * spec.pixel_scale:.1f} arcsec wide" in words
    assert (say("obstacle", "NO_IVAR") in words) != spec.has_ivar
    assert ("“ivar only”" in words) == spec.has_ivar
    assert ("“band g”" in words) == (spec.bands[0] == "g")
    assert ("binned in" in words) == (len(spec.bands) > 1)
    table = fitsio.read(str(tmp_path / "out" / "scores.fits"))
    assert {f"mag_{band}" for band in spec.bands} <= set(table.dtype.names)


#: Parts of the catalogue that are looked up by names of things; `test_findings` has those of controls.
WHOLE = ("title", "symbol", "glossary", "gallery", "split", "ablation", "member", "hazard", "remedy")
WHOLE += ("differs", "more", "less")


def test_every_sentence_is_used():
    """A sentence that nothing says is a mistake, as is one that nobody wrote."""
    code = "".join(path.read_text(encoding="utf-8") for path in HTML.parent.glob("*.py"))
    enums = {"notice": Notice, "obstacle": Obstacle, "ruling": RulingKind, "clusters": ClusteredBy}
    template = (HTML / "report.html").read_text(encoding="utf-8")
    assert set(catalogue()["title"]) == set(re.findall(r'<section id="(\w+)"', template))
    assert set(catalogue()["symbol"]) == set(State)
    for section, sentences in catalogue().items():
        if section in enums:
            assert set(sentences) == {one.name for one in enums[section]}, section
        elif section == "kind":
            assert set(sentences) <= set(KINDS)
        elif section not in WHOLE:
            assert [key for key in sentences if f'"{key}"' not in code] == [], section


def test_occlusion_says_where(looked):
    """Within a radius, beyond every radius, nowhere, or that the examples are too few."""
    found = looked.occlusion
    low, high = Estimate(0.5, 0.45, 0.55), Estimate(0.8, 0.75, 0.85)
    cases = {
        "within": {},
        "beyond": {"outer": (high, high)},
        "unclear": {"inner": (low, low), "outer": (low, low)},
        "alike": {"whole": low},
    }
    for key, changes in cases.items():
        one = dataclasses.replace(looked, occlusion=dataclasses.replace(found, **changes))
        radius = "3.1 arcsec"  # of 12 pixels
        assert list(sections.occlusion_lines(one))[-1] == say("occlusion", key, radius=radius), key


DRAWS = """
from pathlib import Path
from obiwan.dplearn.report.pictures import Picture, write_picture
def draws(figure):
    figure.subplots().set_title("a_b")
write_picture(Picture("chart", "answer", (2, 2), draws, "caption", "alt"), Path())
"""


def test_figures_are_the_same_whatever_matplotlib_is_told(tmp_path, run_python):
    rc = "text.usetex: True\nbackend: tkagg\nfont.size: 30\naxes.facecolor: red\nsavefig.bbox: tight\n"
    (tmp_path / "matplotlibrc").write_text(rc)
    drawn = []
    for name, env in (("plain", {}), ("told", {"MPLBACKEND": "module://matplotlib_inline.backend_inline"})):
        (tmp_path / name).mkdir()
        if name == "told":
            env["MPLCONFIGDIR"] = str(tmp_path)
        done = run_python("-c", DRAWS, cwd=tmp_path / name, env=env)
        assert done.returncode == 0, done.stderr
        drawn.append([(tmp_path / name / f"chart{suffix}").read_bytes() for suffix in (".png", ".pdf")])
    assert drawn[0] == drawn[1]


def test_a_figure_that_fails_costs_no_numbers(tmp_path, looked, caplog):
    def fails(_):
        raise RuntimeError("no such font")

    def draws(figure):
        figure.text(0.5, 0.5, "x")

    pictures = [
        Picture(name, "answer", (1, 1), draw, "", "") for name, draw in (("bad", fails), ("good", draws))
    ]
    write_report(tmp_path, looked, pictures)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert {"good.png", "good.pdf"} <= set(found["figures"])
    assert not {"bad.png", "bad.pdf"} & set(found["figures"])
    assert "bad" in caplog.text
    assert "no such font" in caplog.text

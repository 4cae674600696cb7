"""Which software wrote a coadd: the cards of every release, and what two sets of coadds differ in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import read_frame
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root
from obiwan.dplearn.survey.writers import PLAIN, Writer, differences, writer_of
from synthetic import BRICK, Place, objects, planes, write_coadd

DITHER, NONE = "SUBTRACTIVE_DITHER_2", "NO_DITHER"
DR9 = Writer(NONE, DITHER, "g+r", "", "100x100", "DR9")


def headers(invvar: str | None = NONE, image: str | None = DITHER, **cards):
    """Of two bands; cards of the images, with ``{band}`` in names and values for the band."""
    out = {}
    for band in "gr":
        for kind, quantised in (("image", image), ("invvar", invvar)):
            header = {"ZTILE1": 100, "ZTILE2": 100, "ZQUANTIZ": quantised} if quantised else {}
            if kind == "image":
                filled = {
                    name.replace("BAND", band.upper()): value.replace("BAND", band)
                    if isinstance(value, str)
                    else value
                    for name, value in cards.items()
                }
                header |= filled
            out[kind, band] = header
    return out


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (headers(None, None, DECALSDR="DR3"), Writer(PLAIN, PLAIN, "", "", "", "DR3")),
        (headers(DITHER, DECALSDR="DR5"), replace(DR9, invvar=DITHER, sky="", pipeline="DR5")),
        (headers(DITHER, LSDR="DR8"), replace(DR9, invvar=DITHER, sky="", pipeline="DR8")),
        (headers(COSKY_BAND=-1e-4, LSDR="DR9"), DR9),
        (headers(COSKY_BAND=0.0, LSDR="DR9"), DR9),
        (headers(COSKY_BAND="None", LSDR="DR9"), replace(DR9, sky="")),
        (
            headers(COSKY_BAND=1e-5, EXTNAME="IMAGE_BAND", LSDR="DR11"),
            replace(DR9, extname="IMAGE_<band>", pipeline="DR11"),
        ),
        (
            headers("SUBTRACTIVE_DITHER_1", EXTNAME="COMPRESSED_IMAGE"),
            replace(DR9, invvar="SUBTRACTIVE_DITHER_1", sky="", extname="COMPRESSED_IMAGE", pipeline=""),
        ),
    ],
)
def test_each_writer_has_its_cards(made, expected):
    assert writer_of(made) == expected


def test_planes_that_differ_among_themselves():
    made = headers(COSKY_BAND=1e-5, LSDR="DR9")
    made["invvar", "r"]["ZQUANTIZ"] = DITHER
    made["image", "g"]["COSKY_G"] = "None"
    assert writer_of(made) == replace(DR9, invvar=f"{NONE}+{DITHER}", sky="r")


def test_differences_are_named_with_their_values_and_the_gravest_first():
    old = Writer(DITHER, DITHER, "", "", "100x100", "DR8")
    assert list(differences([DR9], [old, old])) == ["invvar", "sky", "pipeline"]
    assert differences([DR9], [old])["invvar"] == ((NONE,), (DITHER,))
    assert differences([DR9, old], [DR9])["pipeline"] == (("DR8", "DR9"), ("DR9",))
    assert differences([DR9, old], [old, DR9, DR9]) == {}
    assert differences([DR9], []) == {}


@pytest.mark.parametrize(
    ("flavour", "suffix", "invvar"),
    [
        ("dr3", ".fits", PLAIN),
        ("dr5", ".fits.fz", DITHER),
        ("dr9", ".fits.fz", NONE),
        ("dr9", ".fits.gz", PLAIN),
    ],
)
def test_a_frame_knows_the_writer_of_its_files(flavour, suffix, invvar, tmp_path):
    place = Place("release", tmp_path, BRICK.name)
    write_coadd(place.coadd, BRICK, planes(BRICK, objects(BRICK, [60.0], [60.0])), flavour, suffix)
    run = BrickRun(Root(0, tmp_path, RELEASE), BRICK.name, "release", place.coadd, None, None, None)
    writer = read_frame(run, StampSpec()).writer
    assert (writer.invvar, writer.tiles) == (invvar, "" if invvar == PLAIN else "100x100")


def test_a_plane_that_astropy_wrote_is_told(tmp_path):
    place = Place("release", tmp_path, BRICK.name)
    data = planes(BRICK, objects(BRICK, [60.0], [60.0]))
    write_coadd(place.coadd, BRICK, data)
    run = BrickRun(Root(0, tmp_path, RELEASE), BRICK.name, "release", place.coadd, None, None, None)
    before = read_frame(run, StampSpec()).writer
    for band in "grz":
        header = fits.Header(BRICK.cards().items())
        hdu = fits.CompImageHDU(
            np.asarray(data["image", band]), header, tile_shape=(100, 100), quantize_method=2
        )
        hdu.writeto(place.plane("image", band), overwrite=True)
    found = differences([before], [read_frame(run, StampSpec()).writer])
    assert found == {"extname": (("",), ("COMPRESSED_IMAGE",))}

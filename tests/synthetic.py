"""A tiny survey, written in the true on-disk formats, of which everything is known.

A `Brick` is a piece of sky with a WCS; `objects` lists sources at given pixels of it; `planes` paints
them as Gaussians on noise; a `Place` says where the files of one tree lie.  Paths, column names and
headers are written out here anew, from doc/explanation/data-model.rst; only `Case.plan` calls the package.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

BANDS = ("g", "r", "z")
FILTERS = "ugrizY"
BANDS_OF = {1: ("r",), 2: ("g", "r"), 3: BANDS, 4: ("g", "r", "i", "z")}  #: by the number of columns
FLUX = {"g": 1.0, "r": 1.6, "i": 2.1, "z": 2.5}  # nanomaggies, in the middle of the elg box
DUST = {"g": 0.90, "r": 0.93, "i": 0.945, "z": 0.96}
SEEING = {"g": 1.5, "r": 1.3, "i": 1.25, "z": 1.2}  # arcsec
KINDS = ("image", "invvar")
PIXEL = 0.262 / 3600  # degrees
EXTRA_BANDS = {
    "dr8": ("W1", "W2", "W3", "W4"),
    "dr9": ("W1", "W2", "W3", "W4"),
    "dr10": ("i", "W1", "W2"),
    "dr11": ("i",),
}
FLAVOURS = ("dr3", "dr4", "dr5", "dr8", "dr9", "dr10", "dr11")
SUFFIX_OF = {"dr3": ".fits", "dr4": ".fits"}  # the others are fpacked
RUN_OF = {
    "release": "release",
    "obiwan": "rs0",
    "obiwan2017": "rs0",
    "legacysim": "file0_rs0_skip0",
    "obiwan_code": "rs0",
}
Objects = dict[str, np.ndarray]
Planes = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Brick:
    """A square of sky: name, centre in degrees, side in pixels."""

    name: str
    ra: float
    dec: float
    size: int = 256

    def cards(self) -> dict[str, Any]:
        """WCS and primary area, as legacypipe writes them."""
        centre = (self.size + 1) / 2
        half = (self.size / 2 - 8) * PIXEL  # the primary area is a little smaller than the coadd
        wide = half / np.cos(np.radians(self.dec))
        return {
            **{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": self.ra, "CRVAL2": self.dec},
            **{"CRPIX1": centre, "CRPIX2": centre, "CD1_1": -PIXEL, "CD1_2": 0.0, "CD2_1": 0.0},
            **{"CD2_2": PIXEL, "EQUINOX": 2000.0, "BRICKNAM": self.name},
            **{"RAMIN": (self.ra - wide) % 360, "RAMAX": (self.ra + wide) % 360},
            **{"DECMIN": self.dec - half, "DECMAX": self.dec + half},
            **{"BRICK_G": True, "BRICK_R": True, "BRICK_Z": True, "MAGZERO": 22.5},
        }

    def wcs(self) -> WCS:
        """The WCS of its coadds."""
        names = ("CTYPE", "CRVAL", "CRPIX")
        cards = self.cards()
        wanted = {f"{n}{i}": cards[f"{n}{i}"] for n in names for i in (1, 2)}
        return WCS(fits.Header({**wanted, **{k: v for k, v in cards.items() if k.startswith("CD")}}))

    def sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination of 0-based pixels."""
        ra, dec = self.wcs().all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
        return np.atleast_1d(ra), np.atleast_1d(dec)

    def seed(self, *words: object) -> np.random.Generator:
        """A generator that belongs to this brick and purpose."""
        return np.random.default_rng(zlib.crc32(repr((self.name, *words)).encode()))


def bands_of(rows: Objects) -> tuple[str, ...]:
    """The bands of a list of objects."""
    return BANDS_OF[rows["flux"].shape[1]]


def objects(brick: Brick, x: Any, y: Any, bands: Sequence[str] = BANDS, **given: Any) -> Objects:
    """Sources at 0-based pixels; by default bright EXP galaxies in the middle of the elg box."""
    ra, dec = brick.sky(x, y)
    n = len(ra)
    rows: Objects = {
        "id": np.arange(n, dtype=np.int32),
        **{"ra": ra, "dec": dec, "x": np.atleast_1d(np.asarray(x, float))},
        **{"y": np.atleast_1d(np.asarray(y, float)), "type": np.full(n, "EXP")},
        "flux": np.tile([FLUX[band] for band in bands], (n, 1)),
        "flux_ivar": np.full((n, len(bands)), 400.0),
        "mw": np.tile([DUST[band] for band in bands], (n, 1)),
        "nobs": np.full((n, len(bands)), 2),
        "psfsize": np.tile([SEEING[band] for band in bands], (n, 1)),
        "psfdepth": np.full((n, len(bands)), 900.0),
        **{"shape_r": np.full(n, 0.5), "e1": np.full(n, 0.1), "e2": np.full(n, -0.05)},
        **{"sersic": np.ones(n), "ebv": np.full(n, 0.03), "maskbits": np.zeros(n, int)},
        **{"primary": np.ones(n, bool), "collided": np.zeros(n, bool)},
    }
    for name, value in given.items():
        rows[name] = np.broadcast_to(np.asarray(value), rows[name].shape).copy()
    return rows


def pick(rows: Objects, index: Any) -> Objects:
    """Rows of a list of objects."""
    return {name: values[index] for name, values in rows.items()}


def join(*parts: Objects) -> Objects:
    """Several lists as one, with new ids."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**rows, "id": np.arange(len(rows["id"]), dtype=np.int32)}


def move(brick: Brick, rows: Objects, dx: Any, dy: Any = 0.0) -> Objects:
    """The same objects a few pixels away, for example as a fit sees them."""
    x, y = rows["x"] + dx, rows["y"] + dy
    ra, dec = brick.sky(x, y)
    return {**rows, "x": x, "y": y, "ra": ra, "dec": dec}


# --- images ---------------------------------------------------------------------------------------


def planes(brick: Brick, rows: Objects, tag: object = "", noise: float = 0.01) -> Planes:
    """Gaussians on noise, and an inverse variance that differs from pixel to pixel."""
    out: Planes = {}
    for i, band in enumerate(bands_of(rows)):
        rng = brick.seed(tag, band)
        sigma = rows["psfsize"][0, i] / 2.35 / 0.262 if len(rows["id"]) else 2.0
        image = rng.normal(0, noise, (brick.size, brick.size)) if noise else np.zeros((brick.size,) * 2)
        for x, y, flux in zip(rows["x"], rows["y"], rows["flux"][:, i], strict=True):
            top, left = max(int(y) - 20, 0), max(int(x) - 20, 0)  # beyond is less than 1e-10 of the peak
            near = image[top : int(y) + 21, left : int(x) + 21]
            yy, xx = np.mgrid[top : top + near.shape[0], left : left + near.shape[1]]
            r2 = (xx - x) ** 2 + (yy - y) ** 2
            near += flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * r2 / sigma**2)
        out["image", band] = image.astype(np.float32)
        out["invvar", band] = (1e4 * rng.uniform(0.8, 1.2, image.shape)).astype(np.float32)
    return out


def write_plane(path: Path, data: np.ndarray, cards: Mapping[str, Any], flavour: str = "dr9") -> None:
    """Write one plane as its suffix says: fpacked in HDU 1, plain or gzipped in HDU 0."""
    header = [{"name": name, "value": value} for name, value in cards.items()]
    path.unlink(missing_ok=True)
    if path.name.endswith(".fz"):
        is_image, dithered = "-image-" in path.name, flavour in {"dr5", "dr8"}
        with fitsio.FITS(str(path), "rw") as file:
            file.write(
                data,
                header=header,
                compress="RICE",
                tile_dims=[100, 100],
                qlevel=-1e-4 if is_image else 16,
                qmethod="SUBTRACTIVE_DITHER_2" if is_image or dithered else "NO_DITHER",
                dither_seed=7,
            )
        return
    head = fits.Header()
    for name, value in cards.items():
        head[name] = value
    fits.PrimaryHDU(data, head).writeto(path)


def plane_path(directory: Path, brick: str, kind: str, band: str, suffix: str = ".fits.fz") -> Path:
    """Where a plane lies in a coadd directory."""
    return directory / f"legacysurvey-{brick}-{kind}-{band}{suffix}"


def write_coadd(
    directory: Path, brick: Brick, data: Planes, flavour: str = "dr9", suffix: str | None = None
) -> None:
    """Write all planes of a brick, with the other bands that the flavour has beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    suffix = SUFFIX_OF.get(flavour, ".fits.fz") if suffix is None else suffix
    bands = {band for _, band in data}
    cards = {**brick.cards(), **{f"BRICK_{band.upper()}": True for band in sorted(bands)}}
    for (kind, band), plane in data.items():
        write_plane(plane_path(directory, brick.name, kind, band, suffix), plane, cards, flavour)
    for band in set(EXTRA_BANDS.get(flavour, ())) - bands:
        for kind in KINDS:  # another size: whoever reads them by mistake will notice
            other = np.full((24, 24), 9.0, np.float32)
            write_plane(plane_path(directory, brick.name, kind, band, ".fits"), other, brick.cards())


# --- catalogues -----------------------------------------------------------------------------------


def write_table(path: Path, columns: Mapping[str, Any], cards: Mapping[str, Any] | None = None) -> None:
    """Write columns as a FITS table behind an empty primary HDU that holds the cards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    arrays = {name: np.asarray(value) for name, value in columns.items()}
    n = len(next(iter(arrays.values())))
    kinds = [
        (name, f"S{max(1, value.dtype.itemsize // 4)}" if value.dtype.kind == "U" else value.dtype.str)
        + ((value.shape[1:],) if value.ndim > 1 else ())
        for name, value in arrays.items()
    ]
    table = np.zeros(n, dtype=kinds)
    for name, value in arrays.items():
        table[name] = value
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None, header=[{"name": k, "value": v} for k, v in (cards or {}).items()])
        file.write(table)


def _per_band(stem: str, values: np.ndarray, dtype: str = "f4") -> dict[str, np.ndarray]:
    return {f"{stem}_{band}": values[:, i].astype(dtype) for i, band in enumerate(BANDS_OF[values.shape[1]])}


def _six(values: np.ndarray, dtype: str = "f4") -> np.ndarray:
    """ugrizY; those that there are none of hold a value that would be noticed."""
    wide = np.full((len(values), 6), 77, dtype=dtype)
    wide[:, [FILTERS.index(band) for band in BANDS_OF[values.shape[1]]]] = values
    return wide


def tractor_columns(rows: Objects, flavour: str) -> dict[str, np.ndarray]:
    """The columns of a tractor catalogue as each release spells them."""
    n = len(rows["id"])
    old = flavour in {"dr3", "dr4", "dr5", "dr8"}
    text = np.char.ljust(rows["type"].astype("U4"), 4) if old else rows["type"].astype("U3")
    common = {
        **{"objid": rows["id"].astype("i4"), "ra": rows["ra"], "dec": rows["dec"]},
        **{"bx": rows["x"].astype("f4"), "by": rows["y"].astype("f4"), "type": text},
        **{"brick_primary": rows["primary"], "ebv": rows["ebv"].astype("f4")},
        "brickname": np.full(n, "whatever"),
    }
    stems = {"flux": "flux", "flux_ivar": "flux_ivar", "mw_transmission": "mw", "psfsize": "psfsize"}
    if flavour == "dr3":
        bands: dict[str, np.ndarray] = {f"decam_{s}": _six(rows[key]) for s, key in stems.items()}
        bands["decam_nobs"] = _six(rows["nobs"], "u1")
        bands["decam_depth"] = _six(rows["psfdepth"])
    else:
        prefix = "decam_" if flavour == "dr4" else ""
        bands = {}
        for stem, key in {**stems, "psfdepth": "psfdepth"}.items():
            bands |= _per_band(prefix + stem, rows[key])
        bands |= _per_band(prefix + "nobs", rows["nobs"], "i2")
        extra = {"dr5": "uiY", "dr10": "i", "dr11": "i"}.get(flavour, "")
        others = [band for band in extra if band not in bands_of(rows)]
        bands |= {f"{stem}_{band}": np.full(n, 77, "f4") for band in others for stem in stems}
    if old:
        extended = np.isin(rows["type"], ("EXP", "REX"))
        shapes = {
            "shapeexp_r": np.where(extended, rows["shape_r"], 0.0),
            "shapedev_r": np.where(rows["type"] == "DEV", rows["shape_r"], 0.0),
            "fracdev": np.where(rows["type"] == "DEV", 1.0, 0.0),
        }
        for profile in ("exp", "dev"):
            shapes |= {f"shape{profile}_{e}": rows[e] for e in ("e1", "e2")}
    else:
        shapes = {name: rows[name] for name in ("shape_r", "sersic")}
        shapes |= {"shape_e1": rows["e1"], "shape_e2": rows["e2"], "fitbits": np.zeros(n, "i2")}
    shapes = {k: v if v.dtype.kind == "i" else v.astype("f4") for k, v in shapes.items()}
    bits = {} if flavour in {"dr3", "dr4", "dr5"} else {"maskbits": rows["maskbits"].astype("i4")}
    columns = {**common, **bands, **shapes, **bits}
    return {name.upper(): v for name, v in columns.items()} if flavour == "dr3" else columns


def write_tractor(
    path: Path, rows: Objects, flavour: str = "dr9", cards: Mapping[str, Any] | None = None
) -> None:
    """Write a tractor catalogue; DR8 and later end with rows at the first source without flux: DUP, NUN."""
    if flavour in {"dr8", "dr9", "dr10", "dr11"} and len(rows["id"]):
        kinds = ["DUP", "NUN"] if flavour == "dr11" else ["DUP"]
        none = pick(rows, [0] * len(kinds))
        none |= {"type": np.array(kinds), "flux": none["flux"] * 0, "flux_ivar": none["flux_ivar"] * 0}
        rows = {**join(rows, none), "id": np.r_[rows["id"], rows["id"].max() + 1000 + np.arange(len(kinds))]}
    write_table(path, tractor_columns(rows, flavour), cards)


def truth_columns(kind: str, rows: Objects, obj: str = "elg", brick: str = "") -> dict[str, np.ndarray]:
    """The columns of a truth table, as the three injectors spell them."""
    n = len(rows["id"])
    columns = {"id": rows["id"].astype("i8"), "ra": rows["ra"], "dec": rows["dec"]}
    if kind == "legacysim":
        columns |= {"brickname": np.full(n, brick or "whatever"), "bx": rows["x"], "by": rows["y"]}
        columns |= _per_band("flux", rows["flux"], "f8")
        columns |= {"sersic": rows["sersic"], "shape_r": rows["shape_r"], "collided": rows["collided"]}
        return columns | {"shape_e1": rows["e1"], "shape_e2": rows["e2"], "seed": np.arange(n)}
    columns |= {"x": rows["x"] + 1, "y": rows["y"] + 1}  # 1-based: a trap
    columns |= {f"{band}flux": rows["flux"][:, i].astype("f4") for i, band in enumerate(bands_of(rows))}
    columns |= _per_band("mw_transmission", rows["mw"])
    if obj in {"elg", "lrg"}:
        columns |= {"n": rows["sersic"], "rhalf": rows["shape_r"], "e1": rows["e1"], "e2": rows["e2"]}
    return columns


# --- trees ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where the files of one brick and run lie in a tree of one kind."""

    kind: str
    root: Path
    brick: str
    run: str = ""
    obj: str = "elg"

    @property
    def _run(self) -> str:
        return self.run or RUN_OF[self.kind]

    def _of_kind(self, **paths: str) -> Path:
        words = {"B": self.brick, "BRI": self.brick[:3], "RS": self._run, "OBJ": self.obj}
        return self.root / paths[self.kind].format(**words)

    @property
    def coadd(self) -> Path:
        """Directory of the coadds."""
        return self._of_kind(
            release="coadd/{BRI}/{B}",
            obiwan="coadd/{BRI}/{B}/{RS}",
            obiwan2017="{OBJ}/{BRI}/{B}/{RS}/coadd",
            legacysim="{RS}/coadd/{BRI}/{B}",
            obiwan_code="{RS}/coadd/{BRI}/{B}",
        )

    @property
    def tractor(self) -> Path:
        """The fitted catalogue."""
        return self._of_kind(
            release="tractor/{BRI}/tractor-{B}.fits",
            obiwan="tractor/{BRI}/{B}/{RS}/tractor-{B}.fits",
            obiwan2017="{OBJ}/{BRI}/{B}/{RS}/tractor/tractor-{B}.fits",
            legacysim="{RS}/tractor/{BRI}/tractor-{B}.fits",
            obiwan_code="{RS}/tractor/{BRI}/tractor-{B}.fits",
        )

    @property
    def truth(self) -> Path:
        """The table of injections."""
        return self._of_kind(
            obiwan="obiwan/{BRI}/{B}/{RS}/simcat-{OBJ}-{B}.fits",
            obiwan2017="{OBJ}/{BRI}/{B}/{RS}/obiwan/simcat-{OBJ}-{B}.fits",
            legacysim="{RS}/sim/{BRI}/injected-{B}.fits",
            obiwan_code="{RS}/coadd/{BRI}/{B}/legacysurvey-simcat-{B}.fits",
        )

    @property
    def ids_added(self) -> Path:
        """The original obiwan's list of the injections that touched a CCD."""
        return self.truth.with_name("sim_ids_added.fits")

    @property
    def ccds(self) -> Path:
        """The table of the CCDs of this brick."""
        return self.coadd / f"legacysurvey-{self.brick}-ccds.fits"

    def plane(self, kind: str, band: str, suffix: str = ".fits.fz") -> Path:
        """One plane."""
        return plane_path(self.coadd, self.brick, kind, band, suffix)


def write_run(
    place: Place,
    brick: Brick,
    fitted: Objects | None,
    injected: Objects | None = None,
    *,
    data: Planes | None = None,
    flavour: str = "dr9",
    suffix: str | None = None,
    command: str = "runbrick.py",
    camera: str = "decam",
    added: Sequence[int] | None = None,
) -> None:
    """Write coadds, CCD table, tractor catalogue (unless None) and truth table of one run."""
    if data is None:
        shown = [rows for rows in (fitted, injected) if rows is not None]
        data = planes(brick, shown[0], place.run)
    write_coadd(place.coadd, brick, data, flavour, suffix)
    write_table(place.ccds, {"camera": np.array([camera, camera]), "ccdname": np.array(["S1", "S2"])})
    if fitted is not None:
        write_tractor(place.tractor, fitted, flavour, {"CMDLINE": command, **brick.cards()})
    if injected is not None:
        write_table(place.truth, truth_columns(place.kind, injected, place.obj, brick.name))
    if added is not None:
        write_table(place.ids_added, {"id": np.asarray(added, "i4")})


def bricks_apart(n: int, size: int = 256, dec: float = 5.125) -> list[Brick]:
    """Bricks that share no sky, with names as the survey gives them."""
    return [Brick(f"{1000 + 25 * i:04d}p051", 100.0 + 0.25 * i, dec, size) for i in range(n)]


#: Sites in a 256-px brick; injections of two runs, and reals whose stamps hold none of them.
FAKE_SITES = (((40, 40), (40, 118), (40, 196)), ((44, 60), (44, 138), (44, 214)))
REAL_SITES = ((130, 50), (150, 120), (130, 190), (190, 70), (200, 160), (210, 210))


@dataclass(frozen=True)
class Scene:
    """What is in one brick: the reals, and the injections of each run."""

    brick: Brick
    reals: Objects
    injected: tuple[Objects, ...]

    def fitted(self, run: int) -> Objects:
        """The sources that a fit of one run finds: a tenth of a pixel off, reals first."""
        rng = self.brick.seed("fit", run)
        everything = join(self.reals, self.injected[run])
        n = len(everything["id"])
        return move(self.brick, everything, rng.uniform(-0.1, 0.1, n), rng.uniform(-0.1, 0.1, n))

    def painted(self, run: int) -> Objects:
        """The sources that are in the images of one run."""
        return join(self.reals, self.injected[run])


def scene(brick: Brick, runs: int = 2, bands: Sequence[str] = BANDS) -> Scene:
    """The standard content of a 256-px brick, each source at its own sub-pixel position."""
    rng = brick.seed("scene")

    def at(sites: Sequence[tuple[int, int]]) -> Objects:
        x, y = np.array(sites, float).T + rng.uniform(-2, 2, (2, len(sites)))
        flux = np.array([FLUX[band] for band in bands]) * rng.uniform(0.7, 1.4, (len(sites), 1))
        return objects(brick, x, y, bands, flux=flux)

    injected = tuple({**at(FAKE_SITES[i % 2]), "id": np.arange(3) * 7 + 5} for i in range(runs))
    return Scene(brick, at(REAL_SITES), injected)


@dataclass(frozen=True)
class Survey:
    """Trees on disk and what is in them."""

    fake: Path
    real: Path
    kind: str
    scenes: tuple[Scene, ...]
    runs: tuple[str, ...]
    obj: str = "elg"

    def places(self) -> Iterator[tuple[Scene, int, Place]]:
        """Every scene and run with its files."""
        for content in self.scenes:
            for i, run in enumerate(self.runs):
                yield content, i, Place(self.kind, self.fake, content.brick.name, run, self.obj)


def survey(
    root: Path,
    *,
    kind: str = "legacysim",
    flavour: str = "dr9",
    suffix: str | None = None,
    bricks: Sequence[Brick] | None = None,
    runs: int = 2,
    release: bool = True,
    obj: str = "elg",
    bands: Sequence[str] = BANDS,
) -> Survey:
    """Write injection runs of several bricks, and (unless told otherwise) the release of them."""
    names = (
        [f"file0_rs{10 * i}_skip0" for i in range(runs)]
        if kind == "legacysim"
        else ["rs0", "skip_rs0", "more_rs3", "more_skip_rs3"][:runs]
    )
    scenes = tuple(scene(brick, runs, bands) for brick in (bricks_apart(10) if bricks is None else bricks))
    made = Survey(root / "injected", root / "release", kind, scenes, tuple(names), obj)
    for content, i, place in made.places():
        write_run(
            place,
            content.brick,
            content.fitted(i),
            content.injected[i],
            data=planes(content.brick, content.painted(i), i),
            flavour=flavour,
            suffix=suffix,
        )
    for content in scenes if release else ():
        write_run(
            Place("release", made.real, content.brick.name),
            content.brick,
            content.reals,
            data=planes(content.brick, content.reals, "release"),
            flavour=flavour,
            suffix=suffix,
        )
    return made


# --- one brick, made for one rule ---------------------------------------------------------------------

BRICK = Brick("1211p060", 121.1, 6.0)


@dataclass(frozen=True)
class Case:
    """One brick: what each run injected and fitted, and what its release lists."""

    tmp: Path
    brick: Brick = BRICK
    kind: str = "legacysim"
    injected: tuple[Objects, ...] = ()
    fitted: tuple[Objects | None, ...] = ()
    release: Objects | None = None
    data: Planes = field(default_factory=dict)
    added: tuple[int, ...] | None = None
    command: str = "runbrick.py"
    camera: str = "decam"
    flavour: str = "dr9"

    def write(self) -> Case:
        """Put it on disk."""
        names = {"legacysim": "file0_rs{}_skip0"}.get(self.kind, "rs{}")
        for i, (injected, fitted) in enumerate(zip(self.injected, self.fitted, strict=True)):
            write_run(
                Place(self.kind, self.tmp / "fake", self.brick.name, names.format(i)),
                self.brick,
                fitted,
                injected,
                data=self.data or planes(self.brick, injected),
                suffix=".fits",
                added=self.added,
                command=self.command,
                camera=self.camera,
                flavour=self.flavour,
            )
        if self.release is not None:
            write_run(
                Place("release", self.tmp / "real", self.brick.name),
                self.brick,
                self.release,
                suffix=".fits",
                flavour=self.flavour,
            )
        return self

    def plan(self, tables: dict[str, Path] | None = None, **options: Any) -> Any:
        """Let the package plan this brick, by default without cuts; its `BrickPlan`."""
        from obiwan.dplearn.planning.bricks import plan_brick
        from obiwan.dplearn.planning.config import TrainingConfig
        from obiwan.dplearn.planning.inputs import resolve_inputs

        config = TrainingConfig(**{"select": "none", **options})
        fake = [self.tmp / "fake"] if (self.tmp / "fake").is_dir() else []
        real = [self.tmp / "real"] if self.release is not None else []
        inputs = resolve_inputs(fake=fake, real=real, config=config, **(tables or {}))
        (brick,) = inputs.bricks
        return plan_brick(brick, config)


def _ids(plan: Any, label: int) -> list[int]:
    return sorted(plan.rows["id"][plan.rows["label"] == label].tolist())


def reals(plan: Any) -> list[int]:
    """Ids of the real examples of a plan."""
    return _ids(plan, 0)


def fakes(plan: Any) -> list[int]:
    """Ids of the fake examples of a plan."""
    return _ids(plan, 1)


def at(*xy: tuple[float, float], first: int = 0, **given: Any) -> Objects:
    """Objects at these pixels of `BRICK`, their ids from `first`."""
    x, y = np.array(xy, float).T
    return {**objects(BRICK, x, y, **given), "id": np.arange(first, first + len(xy))}


def both(one: Objects, two: Objects) -> Objects:
    """One after the other, ids kept."""
    return {**join(one, two), "id": np.r_[one["id"], two["id"]]}


FAKE = at((60, 60), first=500)
REAL = at((180, 180), first=10)


# --- what must come out ------------------------------------------------------------------------------


def _read_by_astropy(directory: Path, brick: str, kind: str, band: str) -> np.ndarray:
    for suffix, hdu in ((".fits.fz", 1), (".fits", 0), (".fits.gz", 0)):
        path = plane_path(directory, brick, kind, band, suffix)
        if path.exists():
            return np.array(fits.getdata(path, hdu), np.float32)
    raise FileNotFoundError(plane_path(directory, brick, kind, band))


class Reader:
    """Stamps read independently of the package: whole planes by astropy, padded, sliced, cleaned."""

    def __init__(self, bands: Sequence[str] = BANDS, size: int = 64, kinds: Sequence[str] = KINDS) -> None:
        self.bands, self.size, self.kinds = bands, size, kinds
        self._cubes: dict[tuple[Path, str], np.ndarray] = {}

    def cube(self, directory: Path, brick: str) -> np.ndarray:
        """All planes, (ny, nx, channels), as they stand in the files."""
        if (directory, brick) not in self._cubes:
            read = [
                _read_by_astropy(directory, brick, kind, band) for kind in self.kinds for band in self.bands
            ]
            self._cubes[directory, brick] = np.stack(read, axis=-1)
        return self._cubes[directory, brick]

    def stamp(self, directory: Path, brick: str, x: float, y: float) -> np.ndarray:
        """The cutout of a source at this 0-based position."""
        cube = self.cube(directory, brick)
        size, number = self.size, len(self.bands)
        out = np.zeros((size, size, cube.shape[2]), np.float32)
        left, bottom = int(np.floor(x + 0.5)) - size // 2, int(np.floor(y + 0.5)) - size // 2
        for j in range(size):
            row = bottom + j
            if 0 <= row < cube.shape[0]:
                first, last = max(left, 0), min(left + size, cube.shape[1])
                out[j, first - left : last - left] = cube[row, first:last]
        for band in range(number):
            planes_of_band = out[..., band::number]
            bad = ~np.isfinite(planes_of_band).all(axis=-1)
            planes_of_band[bad] = 0
            ivar = planes_of_band[..., 1:]
            ivar[ivar < 0] = 0
        return out


def content_of(directory: Path) -> dict[str, bytes]:
    """Every file under a directory, to compare two of them byte by byte."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }

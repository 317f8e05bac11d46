"""Random but reproducible cases: an image, an aperture entry and step parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy import coordinates as coord
from astropy import units as u
from astropy.modeling import models as m
from gwcs import coordinate_frames as cf
from gwcs.wcs import WCS

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS

RA, DEC = 53.08, -27.85
PIXEL = 0.11 / 3600


def make_wcs(
    rows: int,
    columns: int,
    wavelength: np.ndarray,
    curve: float,
    box: tuple[Any, Any],
    tilt: float = 0.0,
) -> WCS:
    """A WCS whose trace bends by `curve` columns, with its inverse.

    Wavelength by row; lines of one wavelength fall by `tilt` rows a column.
    """
    row = np.arange(rows, dtype=float)
    bend = m.Tabular1D(row, curve * (row / rows) ** 2, bounds_error=False, fill_value=np.nan)
    wave = m.Tabular1D(row, wavelength, bounds_error=False, fill_value=np.nan)
    order = np.argsort(wavelength)
    unwave = m.Tabular1D(wavelength[order], row[order], bounds_error=False, fill_value=np.nan)
    middle = (columns - 1) / 2
    tangent = m.Pix2Sky_TAN() | m.RotateNative2Celestial(RA, DEC, 180.0)
    along = m.Linear1D(-PIXEL, PIXEL * middle) & m.Linear1D(0.1 * PIXEL, -0.1 * PIXEL * middle)
    straight = m.Mapping((0,), n_inputs=2) - (m.Mapping((1,), n_inputs=2) | bend)
    forward = (
        m.Mapping((0, 1, 0, 1))
        | straight & m.Polynomial2D(1, c0_0=-tilt * middle, c1_0=tilt, c0_1=1.0)
        | m.Mapping((0, 0, 1))
        | (along | tangent) & wave
    )
    to_column = (
        m.RotateCelestial2Native(RA, DEC, 180.0)
        | m.Sky2Pix_TAN()
        | m.Mapping((0,), n_inputs=2)
        | m.Linear1D(-1 / PIXEL, middle)
    )
    forward.inverse = (
        m.Mapping((0, 1, 2, 2))
        | to_column & unwave & (unwave | bend)
        | m.Mapping((0, 2, 1))
        | (m.Mapping((0, 1)) | _plus()) & m.Identity(1)
        | m.Mapping((0, 0, 1))
        | m.Identity(1) & m.Polynomial2D(1, c0_0=tilt * middle, c1_0=-tilt, c0_1=1.0)
    )
    detector = cf.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
    sky = cf.CelestialFrame(name="sky", axes_order=(0, 1), reference_frame=coord.ICRS())
    spectral = cf.SpectralFrame(name="spectral", axes_order=(2,), unit=(u.um,))
    world = cf.CompositeFrame([sky, spectral], name="world")
    wcs = WCS([(detector, forward), (world, None)])
    wcs.bounding_box = box
    return wcs


def _plus() -> Any:
    """(a, b) -> a + b."""
    return m.Polynomial2D(1, c0_0=0.0, c1_0=1.0, c0_1=1.0)


@dataclass(frozen=True)
class Case:
    """What both sides are given, and which branches it is meant to reach."""

    image: SlitImage
    entry: dict[str, Any]
    step: dict[str, Any]
    apcorr: ApertureCorrection | None
    model_class: str
    branches: frozenset[str] = field(default_factory=frozenset)

    @property
    def smoothing(self) -> bool:
        length = self.step.get("smoothing_length", self.entry.get("smoothing_length", 0))
        return bool(length and length >= 3)

    @property
    def stiff(self) -> bool:
        """A cubic through one narrow region: normal equations as the pipeline's lose digits."""
        return {"regions: one", "background: poly3"} <= self.branches


@dataclass(frozen=True)
class Chooser:
    """Chooses between branches by their weights, and remembers what it has chosen."""

    rng: np.random.Generator
    hit: set[str] = field(default_factory=set)

    def __call__(self, what: str, **weights: float) -> str:
        names = list(weights)
        p = np.array(list(weights.values()))
        name = names[int(self.rng.choice(len(names), p=p / p.sum()))]
        self.hit.add(f"{what}: {name}")
        return name


def make_case(seed: int) -> Case:
    """One case; all that is random comes from the seed."""
    rng = np.random.default_rng(seed)
    choose = Chooser(rng)
    kind = choose("image", s2d=4, cal=3, cal_cut=1.5, calints=2, slit_tso=1)
    image, model_class = _image(kind, rng, choose)
    image = _spoil(image, rng, choose)
    entry = _limits(image, rng, choose)
    entry |= _background(image, rng, choose)
    step = _step(rng, choose, entry)
    apcorr = _apcorr(image, rng, choose)
    if apcorr is not None and rng.random() < 0.1:
        step["apply_apcorr"] = False
    return Case(image, entry, step, apcorr, model_class, frozenset(choose.hit))


def _image(kind: str, rng: np.random.Generator, choose: Chooser) -> tuple[SlitImage, str]:
    rows = int(rng.integers(25, 50))
    columns = int(rng.integers(30, 50))
    integrations = int(rng.integers(1, 4)) if kind in ("calints", "slit_tso") else 0
    curve = float(rng.uniform(-3, 3)) if kind in ("cal", "cal_cut") else 0.0
    wavelength = 14.0 - 11.0 * (np.arange(rows) / rows) ** 1.5
    box: tuple[Any, Any] = ((-0.5, columns - 0.5), (-0.5, rows - 0.5))
    if kind in ("cal", "calints"):
        box = ((2.5, columns - 3.5), (3.5, rows - 4.5))
    tilt = (
        float(rng.uniform(-0.08, 0.08)) if choose("lines", level=1, tilted=1) == "tilted" else 0.0
    )
    wcs = make_wcs(rows, columns, wavelength, curve, box, tilt)
    x, y = np.meshgrid(np.arange(columns, dtype=float), np.arange(rows, dtype=float))
    plane = np.asarray(wcs(x, y)[2])
    if choose("wavelength", plane=2, wcs=1) == "plane":
        plane = plane.astype(np.float32)
    centre = rng.uniform(0.35, 0.65) * columns
    profile = np.exp(-0.5 * ((x - centre - curve * (y / rows) ** 2) / 1.5) ** 2)
    shape = (integrations, rows, columns) if integrations else (rows, columns)
    data = rng.uniform(1, 3) + 0.02 * x + 50 * profile * np.ones(shape)
    data = (data + rng.normal(size=shape)).astype(np.float32)
    var = {
        name: (rng.uniform(0.5, 1.5) * (1 + scale * profile) * rng.uniform(0.8, 1.2, shape)).astype(
            np.float32
        )
        for name, scale in (("var_poisson", 5.0), ("var_rnoise", 0.0), ("var_flat", 1.0))
    }
    if choose("var_flat", present=3, missing=1) == "missing":
        del var["var_flat"]
    err = np.sqrt(sum(var.values())).astype(np.float32)
    slitless = kind == "calints"
    calibrated = choose("photom", calibrated=4, uncalibrated=1) == "calibrated"
    source = wcs(centre, rows / 2.0)[:2]
    place = choose("dither", there=8, missing=1, outside=1)
    if place == "outside":
        source = wcs.forward_transform(columns + 30.0, rows / 2.0)[:2]
    image = SlitImage(
        data=data,
        err=err,
        wavelength=plane,
        unit=u.Unit("MJy/sr") if calibrated else u.Unit("DN/s"),
        exp_type=SLITLESS if slitless else FIXED_SLIT,
        calibrated=calibrated,
        pixel_area=2.86e-13 if calibrated else None,
        source_type={"point": "POINT", "extended": "EXTENDED", "unknown": "UNKNOWN", "none": None}[
            choose("source", point=6, extended=2, unknown=0.5, none=0.5)
        ],
        subarray="SLITLESSPRISM" if slitless else "FULL",
        source_ra=None if place == "missing" else float(source[0]),
        source_dec=None if place == "missing" else float(source[1]),
        kind={"cal_cut": "cal", "slit_tso": "calints"}.get(kind, kind),
        wcs_source=wcs,
        **var,
    )
    model = "SlitModel" if kind in ("s2d", "cal_cut") else "ImageModel"
    if integrations:
        model = choose("stack", SlitModel=1, CubeModel=1)
    if model != "SlitModel" and plane.dtype == np.float32 and model == "ImageModel":
        image = replace(image, wavelength=np.asarray(wcs(x, y)[2]))  # it has no such plane
    return image, model


def _spoil(image: SlitImage, rng: np.random.Generator, choose: Chooser) -> SlitImage:
    """Bad pixels of one sort or of all."""
    planes = {
        name: None if getattr(image, name) is None else np.array(getattr(image, name))
        for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat")
    }
    dq = None
    if image.kind != "s2d":
        dq = np.zeros(image.data.shape, dtype=np.uint32)
    how = choose("bad", none=1, data=2, err=1, variance=1, dq=1.5, mixed=2, row=1.5, infinite=1)

    def some(fraction: float = 0.03) -> Any:
        return rng.random(image.data.shape) < fraction

    if how in ("data", "mixed"):
        planes["data"][some()] = np.nan
    if how in ("err", "mixed"):
        planes["err"][some()] = np.nan
    if how in ("variance", "mixed"):
        planes["var_rnoise"][some()] = np.nan
        if planes["var_flat"] is not None:
            planes["var_flat"][some()] = np.nan
    if how in ("dq", "mixed") and dq is not None:
        dq[some()] |= 1
        dq[some(0.2)] |= 4
    if how == "row":
        planes["data"][..., int(rng.integers(image.shape[0])), :] = np.nan
        planes["data"][..., int(rng.integers(image.shape[0])), : image.shape[1] // 2] = np.nan
    if how == "infinite":
        planes["data"][some(0.005)] = np.inf
        planes["var_poisson"][some(0.005)] = np.inf
    return replace(image, dq=dq, **planes)


def _limits(image: SlitImage, rng: np.random.Generator, choose: Chooser) -> dict[str, Any]:
    columns = image.shape[1]
    middle = columns / 2 + rng.uniform(-5, 5)
    half = rng.uniform(1.0, 7.0)
    entry: dict[str, Any] = {}
    how = choose(
        "limits", default=0.5, whole=2, fraction=2, beyond=0.5, width=2, pixel=2, taper=2, two=1
    )
    if how == "whole":
        entry |= {"xstart": int(middle - half), "xstop": int(middle + half)}
    elif how == "fraction":
        entry |= {"xstart": middle - half, "xstop": middle + half}
    elif how == "beyond":
        entry |= {"xstart": -3.3, "xstop": middle}
    elif how == "width":
        entry |= {"extract_width": float(rng.choice([2 * half, int(2 * half) + 1]))}
        if rng.random() < 0.7:
            entry |= {"xstart": middle - 3, "xstop": middle + 4}
    elif how == "pixel":
        slope = rng.uniform(-0.05, 0.05)
        entry |= {"src_coeff": [[middle - half, slope], [middle + half, slope, 1e-4]]}
    elif how == "taper":
        slope = rng.uniform(0.0, 0.25)
        entry |= {
            "src_coeff": [[middle - half, -slope], [middle + half, slope]],
            "independent_var": str(rng.choice(["wavelength", "Wavelength_um"])),
        }
    elif how == "two":
        entry |= {
            "src_coeff": [[middle - 8.2], [middle - 3.1], [middle - 1.3], [middle + 5.4]],
        }
    if choose("rows", all=3, cut=1) == "cut":
        entry |= {"ystart": 4.3, "ystop": image.shape[0] - 6.5}
    return entry


def _background(image: SlitImage, rng: np.random.Generator, choose: Chooser) -> dict[str, Any]:
    fit = choose(
        "background", none=2, poly0=2, poly1=1.5, poly2=1, poly3=0.5, median=3, step_mean=1
    )
    if fit == "none":
        return {}
    columns = image.shape[1]
    edges = [[0.7], [5.9 + rng.uniform(0, 3)], [columns - 9.2 - rng.uniform(0, 3)], [columns - 2.5]]
    regions = choose("regions", both=3, one=1, overlapping=0.5, sloped=1)
    if regions == "one":
        edges = edges[:2]
    elif regions == "overlapping":
        edges = [[0.7], [5.9], [3.2], [9.4]]
    elif regions == "sloped":
        edges = [[*edge, 0.01] for edge in edges]
    entry: dict[str, Any] = {"bkg_coeff": edges}
    if fit.startswith("poly"):
        entry["bkg_order"] = int(fit[4:])
        if rng.random() < 0.5:
            entry["bkg_fit"] = "poly"
    elif fit == "median":
        entry["bkg_fit"] = "median"
    smooth = choose("smoothing", none=4, reference=1, even=0.5)
    if smooth != "none":
        entry["smoothing_length"] = int(rng.choice([3, 5, 7])) + (smooth == "even")
    return entry


def _step(rng: np.random.Generator, choose: Chooser, entry: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = {}
    where = choose("position", default=2, ref_true=1, ref_false=2, step_true=2, step_false=1)
    if where.startswith("ref"):
        entry["use_source_posn"] = where == "ref_true"
    elif where.startswith("step"):
        step["use_source_posn"] = where == "step_true"
    if choose("offset", none=3, some=1) == "some":
        step["position_offset"] = float(rng.uniform(-1.5, 1.5))
    if "background: step_mean" in choose.hit:
        step["bkg_fit"] = "mean"
    elif "bkg_coeff" in entry and rng.random() < 0.3:
        step["bkg_fit"] = str(rng.choice(["poly", "median"]))
        if step["bkg_fit"] == "poly" and rng.random() < 0.5:
            step["bkg_order"] = int(rng.integers(0, 3))
    subtract = choose("subtract", none=4, true=1, false=0.7)
    if subtract != "none":
        step["subtract_background"] = subtract == "true"
    if "bkg_coeff" in entry and rng.random() < 0.15:
        step["smoothing_length"] = int(rng.choice([0, 3, 5]))
    return step


def _apcorr(
    image: SlitImage, rng: np.random.Generator, choose: Chooser
) -> ApertureCorrection | None:
    if choose("apcorr", none=1, table=1) == "none":
        return None
    wavelength = rng.permutation(np.linspace(3.5, 13.0, int(rng.integers(2, 12))))
    size = np.arange(2, 4 + int(rng.integers(2, 30)))
    factor = 1 + 2 / np.add.outer(15 - wavelength, size) + rng.uniform(0, 0.1, (wavelength.size, 1))
    return ApertureCorrection(
        wavelength=wavelength.astype(np.float32),
        size=size,
        factor=factor.astype(np.float32),
        subarray=image.subarray or "FULL",
    )

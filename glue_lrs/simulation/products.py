"""Simulated products: images in the form of the pipeline's files, made from simulated exposures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.simulation.detector import OUTSIDE_SLIT, Detector
from glue_lrs.simulation.geometry import SLIT_COLUMNS, Pointing, cut_to_box, embed_in_detector
from glue_lrs.simulation.headers import integration_times, primary_header, science_header
from glue_lrs.simulation.optics import (
    FIXED_SLIT,
    JY_PER_PIXEL,
    MJYSR_PER_DN,
    PIXEL_AREA,
    PIXEL_SCALE,
    SceneError,
)
from glue_lrs.simulation.spectra import evaluate
from glue_lrs.simulation.surface_brightness import background_image, source_image
from glue_lrs.simulation.truth import Observation, Planes, Simulated, Truth

if TYPE_CHECKING:
    from astropy.table import Table

    from glue_lrs.simulation.geometry import Geometry
    from glue_lrs.simulation.scene import Scene


@dataclass(frozen=True, eq=False, kw_only=True)
class Product:
    """Properties of a product that do not depend on the simulated noise.

    Parameters
    ----------
    kind : {"s2d", "cal", "calints"}
        Kind of product.
    geometry : Geometry
        Pixel grid of the image.
    calibrated : bool
        Whether the image is in MJy/sr; otherwise it is in DN/s.
    cards : dict
        Cards of the primary header that differ between products.
    edges : bool
        Whether the first and last rows and columns are NaN.
    exp_type, datamodel : str
        EXP_TYPE and DATAMODL of the primary header.
    position : float
        Position of the target along the slit according to the header, in arcsec from the reference
        point.
    negative : tuple of ndarray
        Column of each negative trace in each row, arrays of shape (row,).
    factors : ndarray, optional
        Factor that multiplies the flux in each integration of a stack.
    times : `~astropy.table.Table`, optional
        INT_TIMES table of a stack.
    """

    kind: Literal["s2d", "cal", "calints"]
    geometry: Geometry
    calibrated: bool
    cards: dict[str, Any]
    edges: bool = False
    exp_type: str = FIXED_SLIT
    datamodel: str = "SlitModel"
    position: float = 0.0
    negative: tuple[NDArray[np.float64], ...] = field(default=(), repr=False)
    factors: NDArray[np.float64] | None = None
    times: Table | None = None


def single_nod(
    scene: Scene,
    kind: Literal["s2d", "cal"],
    geometry: Geometry,
    nod: int,
    *,
    subtract_nod: bool,
    calibrated: bool,
    edges: bool = False,
    datamodel: str = "SlitModel",
) -> Simulated:
    """Simulate the image of one nod; the parameters are those of `Scene.s2d` and `Scene.cal`."""
    if nod not in (1, 2):
        raise SceneError(f"nod is {nod}, expected 1 or 2")
    rng = _generator(scene, kind, nod)
    position = (nod * 2 - 3) * scene.nod_throw / 2.0
    observation = _observe_nod(
        scene, rng, cut_to_box(geometry), position, -position if subtract_nod else None
    )
    shift = scene.sources[0].position + scene.pointing_error
    product = Product(
        kind=kind,
        geometry=geometry,
        calibrated=calibrated,
        edges=edges,
        datamodel=datamodel,
        position=position,
        negative=(geometry.trace(shift - position),) if subtract_nod else (),
        cards={
            "PATTTYPE": "ALONG-SLIT-NOD",
            "NUMDTHPT": 2,
            "PATT_NUM": nod,
            "XOFFSET": position,
            "YOFFSET": 0.0,
            "S_BKDSUB": "COMPLETE" if subtract_nod else "SKIPPED",
            **({"S_RESAMP": "COMPLETE", "NDRIZ": 1} if kind == "s2d" else {}),
        },
    )
    return _assemble(scene, product, observation, rng)


def combined_nods(scene: Scene, geometry: Geometry, *, calibrated: bool, edges: bool) -> Simulated:
    """Simulate the mean of two nod images, each minus the other nod; see `Scene.combined`."""
    rng = _generator(scene, "combined")
    exposures, coverage = [], []
    for sign in (-1, 1):
        # The target is at the same column in both images, so that the middle of the slit is half a
        # nod throw away from the target.
        middle = geometry.column - sign * scene.nod_throw / 2.0 / PIXEL_SCALE
        coverage.append(np.abs(np.arange(geometry.shape[1]) - middle) <= SLIT_COLUMNS / 2.0)
        exposures.append(
            _observe_nod(scene, rng, geometry, 0.0, -sign * scene.nod_throw, middle=middle)
        )
    number = np.sum(coverage, axis=0, dtype=float)

    def mean(values: list[NDArray[Any]], power: int) -> NDArray[Any]:
        total = sum(np.where(seen, v, 0.0) for seen, v in zip(coverage, values, strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / number**power

    def mean_planes(planes: list[Planes]) -> Planes:
        return Planes(
            mean([p.data for p in planes], 1),
            mean([p.var_poisson for p in planes], 2),
            mean([p.var_rnoise for p in planes], 2),
            mean([p.var_flat for p in planes], 2),
        )

    observation = Observation(
        mean_planes([one.observed for one in exposures]),
        mean_planes([one.true for one in exposures]),
        mean([one.background for one in exposures], 1),
    )
    shift = scene.sources[0].position + scene.pointing_error
    product = Product(
        kind="s2d",
        geometry=geometry,
        calibrated=calibrated,
        edges=edges,
        negative=tuple(geometry.trace(shift + sign * scene.nod_throw) for sign in (-1, 1)),
        cards={
            "PATTTYPE": "ALONG-SLIT-NOD",
            "NUMDTHPT": 2,
            "PATT_NUM": 1,
            "XOFFSET": -scene.nod_throw / 2.0,
            "YOFFSET": 0.0,
            "S_BKDSUB": "COMPLETE",
            "S_RESAMP": "COMPLETE",
            "NDRIZ": 2,
            "EFFEXPTM": 2 * scene.exposure_time,
            "ASNTABLE": "simulated_spec3_asn.json",
        },
    )
    return _assemble(scene, product, observation, rng)


def integration_stack(
    scene: Scene,
    geometry: Geometry,
    n_int: int,
    *,
    factors: ArrayLike | None,
    calibrated: bool,
    first: int,
    segment: int,
    n_total: int | None,
    datamodel: str,
    exp_type: str,
) -> Simulated:
    """Simulate a stack of integrations; the parameters are those of `Scene.calints`."""
    if n_int < 1 or first < 1:
        raise SceneError(f"n_int is {n_int} and first {first}, expected at least 1")
    scale = np.ones(n_int) if factors is None else np.asarray(factors, dtype=float)
    if scale.shape != (n_int,) or not (scale >= 0).all():
        raise SceneError(f"factors has shape {scale.shape}, expected ({n_int},), none below 0")
    rng = _generator(scene, "calints", exp_type)
    light = source_image(scene.sources, scene.psf, geometry, 0.0, scene.pointing_error)
    sky = background_image(scene.background, scene.background_slope, geometry, geometry.column)
    observation = _detector(scene).observe_stack(rng, geometry, light, sky, scale)
    last = first + n_int - 1
    product = Product(
        kind="calints",
        geometry=geometry,
        calibrated=calibrated,
        exp_type=exp_type,
        datamodel=datamodel,
        factors=scale,
        times=integration_times(first, n_int, scene.exposure_time),
        cards={
            "TSOVISIT": True,
            "EXSEGNUM": segment,
            "NINTS": last if n_total is None else n_total,
            "INTSTART": first,
            "INTEND": last,
            "PATTTYPE": "NONE",
            "NUMDTHPT": 1,
            "PATT_NUM": 1,
            "XOFFSET": 0.0,
            "YOFFSET": 0.0,
            "S_BKDSUB": "SKIPPED",
        },
    )
    return _assemble(scene, product, observation, rng)


def _generator(scene: Scene, *product: str | int) -> np.random.Generator:
    """Return a random number generator whose seed depends on the scene and the product."""
    key = [ord(letter) for part in product for letter in str(part)]
    return np.random.default_rng([scene.seed, *key])


def _detector(scene: Scene) -> Detector:
    """Return a detector with the noise and the bad pixels that a scene specifies."""
    return Detector(
        exposure_time=scene.exposure_time,
        sensitivity=scene.sensitivity,
        read_noise=scene.read_noise,
        flat_error=scene.flat_error,
        bad_fraction=scene.bad_fraction,
    )


def _observe_nod(
    scene: Scene,
    rng: np.random.Generator,
    geometry: Geometry,
    position: float,
    nod_position: float | None,
    *,
    middle: float | None = None,
) -> Observation:
    """Simulate an exposure, and subtract the other nod if `nod_position` is given.

    Parameters
    ----------
    scene, rng, geometry
        Scene, random number generator of the noise, and pixel grid.
    position, nod_position : float
        Position of the target along the slit in arcsec from the reference point, in the exposure
        and in the other nod.
    middle : float, optional
        Column of the middle of the slit; by default the column of the reference point.
    """
    sky = background_image(
        scene.background,
        scene.background_slope,
        geometry,
        geometry.column if middle is None else middle,
    )

    def light(at: float) -> NDArray[np.float64]:
        return source_image(scene.sources, scene.psf, geometry, at, scene.pointing_error)

    return _detector(scene).observe(
        rng,
        geometry,
        light(position),
        sky,
        scene.background_drift,
        None if nod_position is None else light(nod_position),
    )


def _assemble(
    scene: Scene, product: Product, observation: Observation, rng: np.random.Generator
) -> Simulated:
    """Make a product from an observation: add bad pixels, NaN edges, headers and the WCS."""
    geometry, calibrated = product.geometry, product.calibrated
    observed, true, background = observation.observed, observation.true, observation.background
    if not calibrated:
        factor = 1.0 / MJYSR_PER_DN
        observed, true = observed.scaled(factor), true.scaled(factor)
        background = background * factor
    resampled = product.kind == "s2d"
    planes, dq = _detector(scene).with_bad_pixels(rng, observed, resampled=resampled)
    missing = np.zeros(true.data.shape, dtype=bool)
    if product.edges:
        missing[[0, -1]] = True
        missing[:, [0, -1]] = True
    if resampled:
        missing |= ~np.isfinite(true.data)
    arrays = {
        "data": planes.data,
        "var_poisson": planes.var_poisson,
        "var_rnoise": planes.var_rnoise,
        "var_flat": planes.var_flat,
    }
    for plane in arrays.values():
        plane[..., missing] = np.nan
    arrays["err"] = np.sqrt(planes.var_poisson + planes.var_rnoise + planes.var_flat)
    truths = {
        name: np.where(missing, np.nan, plane)
        for name, plane in (
            ("data", true.data),
            ("background", background),
            ("var_poisson", true.var_poisson),
            ("var_rnoise", true.var_rnoise),
            ("var_flat", true.var_flat),
        )
    }
    if true.data.shape != geometry.shape:  # only the bounding box of the slit was simulated
        arrays, truths = (
            {name: embed_in_detector(plane, np.nan) for name, plane in planes_of.items()}
            for planes_of in (arrays, truths)
        )
        dq = None if dq is None else embed_in_detector(dq, OUTSIDE_SLIT)
    pointing = Pointing.of_target(
        geometry.dispersion, product.position, ra=scene.ra, dec=scene.dec, roll=scene.roll
    )
    wcs, row = geometry.wcs(pointing), float(np.mean(geometry.box[1]))
    column = geometry.column_at(product.position + scene.sources[0].position, row)
    source_ra, source_dec, _ = (float(value) for value in wcs(column, row))
    header = primary_header(scene, product, (source_ra, source_dec))
    wavelength = np.where(geometry.inside, geometry.wavelength[:, np.newaxis], np.nan)
    unit = u.MJy / u.sr if calibrated else u.DN / u.s
    image = SlitImage(
        data=arrays["data"],
        err=arrays["err"],
        var_poisson=arrays["var_poisson"],
        var_rnoise=arrays["var_rnoise"],
        var_flat=arrays["var_flat"],
        dq=dq,
        wavelength=wavelength.astype(np.float32),
        unit=unit,
        exp_type=product.exp_type,
        calibrated=calibrated,
        pixel_area=PIXEL_AREA if calibrated else None,
        source_type=scene.source_type,
        subarray=header["SUBARRAY"],
        source_ra=source_ra,
        source_dec=source_dec,
        times=product.times,
        header=header,
        sci_header=science_header(scene, product, pointing, header["EFFEXPTM"]),
        kind=product.kind,
        wcs_source=wcs,
    )
    return Simulated(image, _truth(scene, product, truths))


def _truth(scene: Scene, product: Product, planes: dict[str, NDArray[np.float64]]) -> Truth:
    """Return the true values of a product; `planes` are its noise-free images."""
    source, geometry = scene.sources[0], product.geometry
    wave = geometry.wavelength
    known = np.isfinite(wave)
    flux = np.full(wave.shape, np.nan)
    flux[known] = evaluate(source.flux, wave[known], "flux")
    if not product.calibrated:
        flux *= 1.0 / MJYSR_PER_DN / JY_PER_PIXEL
    return Truth(
        wavelength=wave,
        flux=flux,
        unit=u.Jy if product.calibrated else u.DN / u.s,
        column=geometry.trace(product.position + source.position + scene.pointing_error),
        negative=product.negative,
        psf=scene.psf,
        halo=source.halo,
        factors=product.factors,
        **planes,
    )

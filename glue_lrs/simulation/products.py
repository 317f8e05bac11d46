"""Simulation of products in the format of the pipeline, made from simulated exposures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.simulation import optics
from glue_lrs.simulation.detector import (
    OUTSIDE_SLIT,
    Observation,
    charge_strength,
    defect_columns,
    observe,
    observe_nods,
    observe_stack,
    with_bad_pixels,
)
from glue_lrs.simulation.geometry import SLIT_COLUMNS, Pointing, cut_to_box, embed_in_detector
from glue_lrs.simulation.headers import integration_times, primary_header, science_header
from glue_lrs.simulation.spectra import evaluate
from glue_lrs.simulation.truth import Simulated, Truth

if TYPE_CHECKING:
    from astropy.table import Table

    from glue_lrs._utils.typing import Array
    from glue_lrs.simulation.geometry import Geometry
    from glue_lrs.simulation.scene import Scene


@dataclass(frozen=True, eq=False)
class Product:
    """Properties of a product that do not depend on the simulated noise.

    The methods of `Scene` set the properties from `kind` to `datamodel`. The functions in this
    module set the other properties.

    Parameters
    ----------
    kind : {"s2d", "cal", "calints"}
        Kind of product.
    geometry : Geometry
        Pixel grid of the image.
    calibrated : bool
        Whether the image is in MJy/sr rather than DN/s.
    edges : bool
        Whether the first and the last row and column are NaN.
    exp_type, datamodel : str
        EXP_TYPE and DATAMODL of the primary header.
    cards : dict
        Cards of the primary header that depend on the product, such as PATT_NUM.
    position : float
        Position of the target along the slit in arcsec from the reference point, according to the
        header.
    negative : tuple of ndarray
        Negative traces of the target, each an array of shape (row,) with the column in each row.
    factors : ndarray, optional
        Factor that multiplies the flux in each integration of a stack, shape (integration,).
    times : `~astropy.table.Table`, optional
        INT_TIMES table of a stack.
    """

    kind: Literal["s2d", "cal", "calints"]
    geometry: Geometry
    calibrated: bool
    edges: bool = False
    exp_type: str = optics.FIXED_SLIT
    datamodel: str = "SlitModel"
    cards: dict[str, str | float] = field(default_factory=dict)
    position: float = 0.0
    negative: tuple[Array, ...] = field(default=(), repr=False)
    factors: Array | None = None
    times: Table | None = None


def single_nod(scene: Scene, product: Product, nod: int, subtract_nod: bool) -> Simulated:
    """Simulate the image at one nod. The parameters are described in `Scene.s2d`."""
    if nod not in (1, 2):
        raise optics.SceneError(f"nod is {nod}, expected 1 or 2")
    rng, grid = _generator(scene, product.kind, nod), cut_to_box(product.geometry)
    position = (nod * 2 - 3) * scene.nod_throw / 2.0
    sources = _source_image(scene, grid, position)
    nod_sources = _source_image(scene, grid, -position) if subtract_nod else None
    observation = observe(scene, rng, grid, sources, _background_image(scene, grid), nod_sources)
    shift = scene.sources[0].position + scene.pointing_error
    cards = _pattern_cards("ALONG-SLIT-NOD", nod, position, subtract_nod)
    product = replace(
        product,
        position=position,
        negative=(product.geometry.trace(shift - position),) if subtract_nod else (),
        cards=cards | ({"S_RESAMP": "COMPLETE", "NDRIZ": 1} if product.kind == "s2d" else {}),
    )
    return _assemble(scene, product, observation, rng)


def combined_nods(scene: Scene, product: Product) -> Simulated:
    """Simulate the mean of two nod images, as described in `Scene.combined`."""
    rng, geometry, throw = _generator(scene, "combined"), product.geometry, scene.nod_throw
    exposures, coverage = [], []
    for sign in (-1, 1):
        # The target is at the same column in both images, so that the middle of the slit is half a
        # nod throw away from the target.
        middle = geometry.column - sign * throw / 2.0 / optics.PIXEL_SCALE
        coverage.append(np.abs(np.arange(geometry.shape[1]) - middle) <= SLIT_COLUMNS / 2.0)
        sources, nod_sources = (_source_image(scene, geometry, at) for at in (0.0, -sign * throw))
        sky = _background_image(scene, geometry, middle)
        exposures.append(observe(scene, rng, geometry, sources, sky, nod_sources))
    number = np.sum(coverage, axis=0, dtype=float)
    # In the mean of n images, the data are divided by n and the variances by n^2.
    powers = np.array([1, 2, 2, 2])[:, np.newaxis, np.newaxis]
    means = []
    for images, power in zip(zip(*exposures, strict=True), (powers, powers, 1), strict=True):
        total = sum(
            np.where(seen, image, 0.0) for seen, image in zip(coverage, images, strict=True)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(total / number**power)
    shift = scene.sources[0].position + scene.pointing_error
    product = replace(
        product,
        negative=tuple(geometry.trace(shift + sign * throw) for sign in (-1, 1)),
        cards=_pattern_cards("ALONG-SLIT-NOD", 1, -throw / 2.0, True)
        | {
            "S_RESAMP": "COMPLETE",
            "NDRIZ": 2,
            "EFFEXPTM": 2 * scene.exposure_time,
            "ASNTABLE": "simulated_spec3_asn.json",
        },
    )
    return _assemble(scene, product, Observation(*means), rng)


def nod_exposures(scene: Scene, product: Product, number: int) -> list[Simulated]:
    """Simulate several exposures at each nod, as described in `Scene.nods`."""
    if number < 1:
        raise optics.SceneError(f"n_exposures is {number}, expected at least 1")
    rng, geometry = _generator(scene, "nods", number), product.geometry
    positions = (-scene.nod_throw / 2.0, scene.nod_throw / 2.0)
    sources = [_source_image(scene, geometry, position) for position in positions]
    sky = _background_image(scene, geometry)
    shift = scene.sources[0].position + scene.pointing_error
    made = []
    for index, observation in enumerate(observe_nods(scene, rng, geometry, sources, sky, number)):
        nod, position = index // number + 1, positions[index // number]
        cards = _pattern_cards("ALONG-SLIT-NOD", nod, position, True)
        cards |= {"EXPOSURE": f"{index + 1:05d}", "S_RESAMP": "COMPLETE", "NDRIZ": 1}
        one = replace(
            product,
            position=position,
            negative=(geometry.trace(shift - position),),
            cards=cards,
        )
        made.append(_assemble(scene, one, observation, rng))
    return made


def integration_stack(
    scene: Scene,
    product: Product,
    n_int: int,
    factors: ArrayLike | None,
    first: int,
    segment: int,
    n_total: int | None,
    shifts: ArrayLike | None = None,
) -> Simulated:
    """Simulate a stack of integrations. The parameters are described in `Scene.calints`."""
    if n_int < 1 or first < 1:
        raise optics.SceneError(
            f"n_int is {n_int} and first {first}, expected both to be at least 1"
        )
    scale = np.ones(n_int) if factors is None else np.asarray(factors, dtype=float)
    if scale.shape != (n_int,) or not (scale >= 0).all():
        raise optics.SceneError(
            f"factors has shape {scale.shape}, expected ({n_int},), none below 0"
        )
    moved = None if shifts is None else np.asarray(shifts, dtype=float)
    if moved is not None and not (moved.shape == (n_int,) and np.isfinite(moved).all()):
        raise optics.SceneError(f"shifts has shape {moved.shape}, expected ({n_int},), all finite")
    rng, geometry = _generator(scene, "calints", product.exp_type), product.geometry
    sources, sky = _source_image(scene, geometry, 0.0), _background_image(scene, geometry)
    images = None
    if moved is not None:  # the images of a block at a time
        images = lambda block: np.array(  # noqa: E731
            [_source_image(scene, geometry, shift * optics.PIXEL_SCALE) for shift in moved[block]]
        )
    observation = observe_stack(scene, rng, geometry, sources, sky, scale, images)
    last = first + n_int - 1
    product = replace(
        product,
        factors=scale,
        times=integration_times(first, n_int, scene.exposure_time),
        cards={
            "TSOVISIT": True,
            "EXSEGNUM": segment,
            "NINTS": last if n_total is None else n_total,
            "INTSTART": first,
            "INTEND": last,
        }
        | _pattern_cards("NONE", 1, 0.0, False),
    )
    return _assemble(scene, product, observation, rng)


def _source_image(scene: Scene, geometry: Geometry, position: float) -> Array:
    """Compute the surface brightness of the point sources in MJy/sr, shape (row, column).

    The PSF is integrated exactly over each pixel, so that the sum over a row equals the flux.

    Parameters
    ----------
    scene : Scene
        Scene with the sources, the PSF and the pointing error.
    geometry : Geometry
        Pixel grid of the image.
    position : float
        Position of the target along the slit in arcsec from the reference point, without the
        pointing error.

    Raises
    ------
    SceneError
        If a flux is not finite.
    """
    known = np.isfinite(geometry.wavelength)
    wave = geometry.wavelength[known][:, np.newaxis]
    edges = np.arange(geometry.shape[1] + 1) - 0.5
    image = np.zeros(geometry.shape)
    for source in scene.sources:
        flux = evaluate(source.flux, wave[:, 0], "flux")
        trace = geometry.trace(position + source.position + scene.pointing_error)[known]
        x = (edges - trace[:, np.newaxis]) * optics.PIXEL_SCALE
        fractions = np.diff(scene.psf.cumulative(x, wave, source.halo), axis=1)
        image[known] += flux[:, np.newaxis] / optics.JY_PER_PIXEL * fractions
    return image * geometry.inside


def _background_image(scene: Scene, geometry: Geometry, middle: float | None = None) -> Array:
    """Compute the surface brightness of background and hot columns in MJy/sr, shape (row, column).

    Rows without a wavelength have the background of the nearest row with a wavelength.

    Parameters
    ----------
    scene : Scene
        Scene with the background and its slope.
    geometry : Geometry
        Pixel grid of the image.
    middle : float, optional
        Column at which the surface brightness is ``scene.background``. The default is the column of
        the reference point.

    Raises
    ------
    SceneError
        If the background is not finite.
    """
    level = evaluate(scene.background, geometry.filled_wavelength, "background")
    middle = geometry.column if middle is None else middle
    distance = (np.arange(geometry.shape[1]) - middle) * optics.PIXEL_SCALE
    image = level[:, np.newaxis] * (1.0 + scene.background_slope * distance)
    hot = defect_columns(scene.hot_columns, geometry.column, geometry.shape[1])
    for column, signal in zip(hot, scene.hot_columns.values(), strict=True):
        image[:, column] += signal
    return image


def _generator(scene: Scene, *product: str | int) -> np.random.Generator:
    """Return a random number generator whose seed depends on `Scene.seed` and the product."""
    key = [ord(letter) for part in product for letter in str(part)]
    return np.random.default_rng([scene.seed, *key])


def _pattern_cards(
    pattern: str, number: int, offset: float, subtracted: bool
) -> dict[str, str | float]:
    """Return the header cards about the dither pattern and the background subtraction.

    `number` is the number of the exposure in the pattern, and `offset` is the slit position in
    arcsec from the reference point. `subtracted` is True if the other nod is subtracted.
    """
    return {
        "PATTTYPE": pattern,
        "NUMDTHPT": 1 if pattern == "NONE" else 2,
        "PATT_NUM": number,
        "XOFFSET": offset,
        "YOFFSET": 0.0,
        "S_BKDSUB": "COMPLETE" if subtracted else "SKIPPED",
    }


def _assemble(
    scene: Scene, product: Product, observation: Observation, rng: np.random.Generator
) -> Simulated:
    """Make a product from an observation by adding bad pixels, NaN edges, headers and WCS."""
    geometry, calibrated = product.geometry, product.calibrated
    observed, true, background = observation
    if not calibrated:
        factor = 1.0 / optics.MJYSR_PER_DN
        background = background * factor
        for planes in (observed, true):
            planes[0] *= factor
            planes[1:] *= factor**2
    resampled = product.kind == "s2d"
    reference = cut_to_box(geometry).column
    arrays, dq = with_bad_pixels(scene, rng, observed, resampled, reference)
    missing = np.zeros(true[0].shape, dtype=bool)
    if product.edges:
        missing[[0, -1]] = True
        missing[:, [0, -1]] = True
    if resampled:
        missing |= ~np.isfinite(true[0])
    arrays[..., missing] = np.nan
    truths = np.where(missing, np.nan, [*true, background])
    if missing.shape != geometry.shape:  # only the bounding box of the slit was simulated
        arrays, truths = embed_in_detector(arrays, np.nan), embed_in_detector(truths, np.nan)
        dq = None if dq is None else embed_in_detector(dq, OUTSIDE_SLIT)
    data, var_poisson, var_rnoise, var_flat = arrays
    pointing = Pointing.of_target(
        geometry.dispersion, product.position, ra=scene.ra, dec=scene.dec, roll=scene.roll
    )
    wcs, row = geometry.wcs(pointing), float(np.mean(geometry.box[1]))
    column = geometry.column_at(product.position + scene.sources[0].position, row)
    source_ra, source_dec, _ = (float(value) for value in wcs(column, row))
    header = primary_header(scene, product, (source_ra, source_dec))
    wavelength = np.where(geometry.inside, geometry.wavelength[:, np.newaxis], np.nan)
    image = SlitImage(
        data=data,
        err=np.sqrt(var_poisson + var_rnoise + var_flat),
        var_poisson=var_poisson,
        var_rnoise=var_rnoise,
        var_flat=var_flat,
        dq=dq,
        wavelength=wavelength.astype(np.float32),
        unit=u.MJy / u.sr if calibrated else u.DN / u.s,
        exp_type=product.exp_type,
        calibrated=calibrated,
        pixel_area=optics.PIXEL_AREA if calibrated else None,
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


def _truth(scene: Scene, product: Product, planes: Array) -> Truth:
    """Return the true values of a product.

    `planes` contains the noise-free data, the three variances and the background.
    """
    source, geometry = scene.sources[0], product.geometry
    data, var_poisson, var_rnoise, var_flat, background = planes
    known = np.isfinite(geometry.wavelength)
    flux = np.full(known.shape, np.nan)
    flux[known] = evaluate(source.flux, geometry.wavelength[known], "flux")
    if not product.calibrated:
        flux *= 1.0 / optics.MJYSR_PER_DN / optics.JY_PER_PIXEL
    # The brighter-fatter effect depends on the number of electrons, which is the same whether or
    # not the image is calibrated. It is therefore computed from the flux in Jy.
    janskys = flux * (1.0 if product.calibrated else optics.MJYSR_PER_DN * optics.JY_PER_PIXEL)
    charge = charge_strength(scene, geometry)[:, 0] * janskys / optics.JY_PER_PIXEL
    return Truth(
        wavelength=geometry.wavelength,
        flux=flux,
        unit=u.Jy if product.calibrated else u.DN / u.s,
        column=geometry.trace(product.position + source.position + scene.pointing_error),
        negative=product.negative,
        background=background,
        data=data,
        var_poisson=var_poisson,
        var_rnoise=var_rnoise,
        var_flat=var_flat,
        psf=scene.psf,
        charge=charge if scene.brighter_fatter else None,
        halo=source.halo,
        factors=product.factors,
    )

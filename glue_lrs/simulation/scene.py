"""LRS scenes with a known truth, as images that are shaped like the pipeline's products.

A `Scene` holds point sources, a background and a detector; its methods make products: `Scene.s2d`
(level 2b, one nod), `Scene.combined` (level 3, both nods), `Scene.cal` (not resampled),
`Scene.calints` (slitless) and `Scene.slit_calints`. Each gives a `Simulated`: the `SlitImage` and,
beside it, the `Truth`.

How a pixel comes about:

- The light of a source is spread over columns by a point spread function (a Gaussian core and a
  halo) that is integrated exactly over each pixel: a row's noise-free sum is the source's flux.
- Electrons are drawn from a Poisson distribution, read noise is added, the other nod is subtracted,
  and each pixel is multiplied by an error of the flat field.
- The variances are estimated from these noisy data, as the pipeline's are.

What is true is known from the scene alone; no extraction has a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE, FIXED_SLIT, SLITLESS
from glue_lrs.simulation.geometry import DETECTOR, DETECTOR_CUT, SLIT_COLUMNS, Geometry, Pointing
from glue_lrs.simulation.headers import check_nod, integration_times
from glue_lrs.simulation.optics import (
    BLOCK,
    EXPOSURE_START,
    MEGA,
    MJYSR_PER_DN,
    PIXEL_AREA,
    PIXEL_SCALE,
    PRISM,
    PSF,
    SLIT,
    SceneError,
)
from glue_lrs.simulation.products import cut_to_box, embed_in_detector
from glue_lrs.simulation.spectra import Source, Supernova, sensitivity, thermal_background
from glue_lrs.simulation.truth import Planes, Simulated, Truth

if TYPE_CHECKING:
    from glue_lrs.simulation.optics import Dispersion
    from glue_lrs.simulation.spectra import Spectral

__all__ = ["Scene", "demo_scene"]

#: DQ flags that take nothing from a pixel: JUMP_DET, and a warning of bit 23.
_HARMLESS = (4, 1 << 23)

_NON_SCIENCE = 512


# --- the scene ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Point sources on a background, seen by LRS.

    Parameters
    ----------
    sources : tuple of Source
        The sources; the first is the target.
    background : float or callable
        MJy/sr: a number, or a function of the wavelength in micron.
    background_slope : float
        Relative change of the background per arcsec along the slit.
    background_drift : float
        How much brighter, relatively, the background is in an exposure than in the other nod that
        is subtracted from it.
    psf : PSF
        Point spread function across the slit.
    nod_throw : float
        Arcsec between the two nods.
    pointing_error : float
        Arcsec that all sources are to higher columns of where the header says.
    exposure_time : float
        Seconds of an exposure, or of an integration of a stack.
    sensitivity : float or callable
        Electrons per second and pixel for 1 MJy/sr: a number, or a function of the wavelength.
    read_noise : float
        Standard deviation in electrons of an exposure or integration; varies by 5% between pixels.
    flat_error : float
        Relative standard deviation of the flat field; one draw for each pixel of a product, so that
        all integrations of a stack share it.
    bad_fraction : float
        Fraction of pixels without a value: NaN on a resampled image; on others half of them NaN
        and half a wild number, all with DQ bit 0. In a stack half of them change from one
        integration to the next.
    source_type : str
        SRCTYPE: ``"POINT"`` or ``"EXTENDED"``.
    ra, dec : float
        Where the target is, in degrees.
    roll : float
        Position angle of the V3 axis in degrees.
    seed : int
        Seed of the noise. Each product has its own noise, the same each time.

    Raises
    ------
    SceneError
        If a value is out of range.

    Examples
    --------
    >>> from glue_lrs.simulate import Scene, Source
    >>> scene = Scene(sources=(Source(flux=1e-3),), seed=1)
    >>> nod = scene.s2d(nod=1)
    >>> nod.image
    <SlitImage s2d MIR_LRS-FIXEDSLIT 387 x 45 MJy / sr >
    >>> float(nod.truth.flux[100])
    0.001
    """

    sources: tuple[Source, ...] = (Source(),)
    background: Spectral = thermal_background
    background_slope: float = 0.0
    background_drift: float = 0.0
    psf: PSF = PSF()
    nod_throw: float = 1.97
    pointing_error: float = 0.0
    exposure_time: float = 332.0
    sensitivity: Spectral = sensitivity
    read_noise: float = 20.0
    flat_error: float = 0.003
    bad_fraction: float = 0.0
    source_type: str = "POINT"
    ra: float = 53.0827
    dec: float = -27.8556
    roll: float = 3.0052305503727696
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        if not self.sources:
            raise SceneError("sources is empty, expected at least one Source")
        for key in ("exposure_time", "nod_throw"):
            if not getattr(self, key) > 0:
                raise SceneError(f"{key} is {getattr(self, key)}, expected more than 0")
        for key in ("read_noise", "flat_error", "bad_fraction"):
            if not getattr(self, key) >= 0:
                raise SceneError(f"{key} is {getattr(self, key)}, expected 0 or more")
        if self.bad_fraction >= 1:
            raise SceneError(f"bad_fraction is {self.bad_fraction}, expected less than 1")

    # --- products ----------------------------------------------------------------------------

    def s2d(
        self,
        nod: Literal[1, 2] = 1,
        *,
        subtract_nod: bool = True,
        calibrated: bool = True,
        edges: bool = True,
        shape: tuple[int, int] = (387, 45),
        column: float = 22.0,
    ) -> Simulated:
        """Make a level-2b s2d: one nod, rectified.

        Parameters
        ----------
        nod : {1, 2}
            The source is at lower columns in nod 1 (column 13 by default), at higher ones in nod 2
            (column 31).
        subtract_nod : bool
            Whether the other nod has been subtracted: it leaves a negative trace, no background
            (but `background_drift`) and more noise.
        calibrated : bool
            False gives DN/s, S_PHOTOM SKIPPED and no PIXAR_SR.
        edges : bool
            Whether the first and last row and column are NaN, as the resampling leaves them.
        shape : (int, int)
            Rows and columns.
        column : float
            Column of the middle of the slit.

        Returns
        -------
        Simulated
            The image, whose pixels have independent noise, and its truth. Noise of the two nods is
            independent as well, though real ones share their exposures.
        """
        check_nod(nod)
        geometry = Geometry.rectified(shape, column)
        return self._slit_image("s2d", geometry, nod, subtract_nod, calibrated, edges=edges)

    def cal(
        self,
        nod: Literal[1, 2] = 1,
        *,
        full_frame: bool = True,
        subtract_nod: bool = True,
        calibrated: bool = True,
        datamodel: Literal["SlitModel", "ImageModel"] = "SlitModel",
    ) -> Simulated:
        """Make a cal of one nod: on the detector's pixels, with a curved trace and a DQ plane.

        Parameters
        ----------
        nod : {1, 2}
            As for `s2d`.
        full_frame : bool
            Whether the image has the detector's 1024 x 1032 pixels, NaN and flagged outside of the
            slit, or is cut to its bounding box.
        subtract_nod, calibrated
            As for `s2d`.
        datamodel : {"SlitModel", "ImageModel"}
            DATAMODL: older versions of the pipeline left an ImageModel.

        Returns
        -------
        Simulated
            The image and its truth.
        """
        check_nod(nod)
        geometry = DETECTOR
        if not full_frame:
            geometry = cut_to_box(geometry)
        return self._slit_image(
            "cal", geometry, nod, subtract_nod, calibrated, edges=False, datamodel=datamodel
        )

    def combined(
        self,
        *,
        calibrated: bool = True,
        edges: bool = True,
        shape: tuple[int, int] = (388, 63),
        column: float = 30.5,
    ) -> Simulated:
        """Make a level-3 s2d: the mean of both nods, each with the other one subtracted.

        Parameters
        ----------
        calibrated, edges
            As for `s2d`; columns that neither nod reaches are NaN in any case.
        shape : (int, int)
            Rows and columns.
        column : float
            Column of the target.

        Returns
        -------
        Simulated
            The image, whose pixels have independent noise (it is not drizzled), and its truth. A
            negative trace lies on either side of the source, seen by one of the nods only.
        """
        geometry, columns = Geometry.rectified(shape, column), shape[1]
        rng = self._generator("combined")
        sums = [np.zeros(shape) for _ in range(9)]
        seen = np.zeros(columns)
        for sign in (-1, 1):
            # The slit's middle is half a throw from the source, which stays where it is on the sky.
            middle = column - sign * self.nod_throw / 2.0 / PIXEL_SCALE
            reach = np.abs(np.arange(columns) - middle) <= SLIT_COLUMNS / 2.0
            seen += reach
            own, other = 0.0, -sign * self.nod_throw
            # Slope of the background: from the slit's middle.
            planes, true, left = self._nod_pair(geometry, rng, own, other, True, middle)
            values = (
                planes.data, planes.var_poisson, planes.var_rnoise, planes.var_flat,
                true.data, true.var_poisson, true.var_rnoise, true.var_flat, left,
            )  # fmt: skip
            for total, value in zip(sums, values, strict=True):
                total += np.where(reach, value, 0.0)
        power = np.array([1, 2, 2, 2, 1, 2, 2, 2, 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [total / seen**n for total, n in zip(sums, power, strict=True)]
        columns_of = tuple(
            geometry.trace(self.sources[0].position + self.pointing_error + sign * self.nod_throw)
            for sign in (-1, 1)
        )
        pointing = self._pointing(SLIT, 0.0)
        return self._finish(
            "s2d",
            geometry,
            pointing,
            Planes(*means[:4]),
            Planes(*means[4:8]),
            means[8],
            columns_of,
            rng,
            calibrated=calibrated,
            edges=edges,
            cards={
                "PATTTYPE": "ALONG-SLIT-NOD",
                "NUMDTHPT": 2,
                "PATT_NUM": 1,
                "XOFFSET": -self.nod_throw / 2.0,
                "YOFFSET": 0.0,
                "S_BKDSUB": "COMPLETE",
                "S_RESAMP": "COMPLETE",
                "NDRIZ": 2,
                "EFFEXPTM": 2 * self.exposure_time,
                "ASNTABLE": "simulated_spec3_asn.json",
            },
        )

    def calints(
        self,
        n_int: int = 10,
        *,
        factors: ArrayLike | None = None,
        calibrated: bool = True,
        first: int = 1,
        segment: int = 1,
        n_total: int | None = None,
        column: float = 35.9,
        datamodel: Literal["SlitModel", "CubeModel"] = "SlitModel",
    ) -> Simulated:
        """Make slitless calints: a stack of integrations of a time series, background still in.

        Parameters
        ----------
        n_int : int
            Number of integrations in the file.
        factors : array_like, optional
            What the flux of all sources is multiplied by in each integration; shape (n_int,).
        calibrated : bool
            False gives DN/s, S_PHOTOM SKIPPED and no PIXAR_SR.
        first : int
            Number of the first integration in the exposure, from 1.
        segment : int
            Number of the segment of the exposure.
        n_total : int, optional
            Number of integrations in the exposure; None: the file has its last.
        column : float
            Column of the reference point; the trace's mean is 0.4 less.
        datamodel : {"SlitModel", "CubeModel"}
            DATAMODL: older versions of the pipeline left a CubeModel.

        Returns
        -------
        Simulated
            The stack, 416 x 72 pixels each, and its truth.
        """
        geometry = Geometry(PRISM, (416, 72), column, 300.0, ((3.5, 71.5), (5.5, 395.5)))
        return self._stack(
            geometry, n_int, factors, calibrated, first, segment, n_total, datamodel, SLITLESS
        )

    def slit_calints(
        self,
        n_int: int = 10,
        *,
        factors: ArrayLike | None = None,
        calibrated: bool = True,
        first: int = 1,
        segment: int = 1,
        n_total: int | None = None,
        datamodel: Literal["SlitModel", "CubeModel"] = "SlitModel",
    ) -> Simulated:
        """Make a stack of integrations through the fixed slit, cut to its bounding box.

        Parameters are those of `calints`; the source is in the middle of the slit.
        """
        return self._stack(
            cut_to_box(DETECTOR),
            n_int,
            factors,
            calibrated,
            first,
            segment,
            n_total,
            datamodel,
            FIXED_SLIT,
        )

    def aperture_correction(
        self,
        subarray: str = "FULL",
        *,
        size: ArrayLike | None = None,
        wavelength: ArrayLike | None = None,
        offset: float = 0.0,
    ) -> ApertureCorrection:
        """Table of the true factors for the first source's light outside an aperture.

        Parameters
        ----------
        subarray : str
            SUBARRAY that the table belongs to: ``"FULL"`` or ``"SLITLESSPRISM"``.
        size : array_like, optional
            Widths in pixels; None: 1 to 30 in steps of a half.
        wavelength : array_like, optional
            Wavelengths in micron; None: 2.8 to 14.2 in steps of 0.1.
        offset : float
            Columns that the aperture's middle is to the right of the source.

        Returns
        -------
        ApertureCorrection
            1 over the fraction of the light inside.
        """
        sizes = np.arange(1.0, 30.25, 0.5) if size is None else np.asarray(size, dtype=float)
        waves = (
            np.arange(2.8, 14.25, 0.1)
            if wavelength is None
            else np.asarray(wavelength, dtype=float)
        )
        inside = self.psf.enclosed(
            (offset - sizes / 2.0) * PIXEL_SCALE,
            (offset + sizes / 2.0) * PIXEL_SCALE,
            waves[:, np.newaxis],
            self.sources[0].halo,
        )
        return ApertureCorrection(
            wavelength=waves, size=sizes, factor=1.0 / inside, subarray=subarray
        )

    # --- how ---------------------------------------------------------------------------------

    def _generator(self, *product: str | int) -> np.random.Generator:
        """The product's own stream of random numbers."""
        key = [ord(letter) for part in product for letter in str(part)]
        return np.random.default_rng([self.seed, *key])

    def _pointing(self, dispersion: Dispersion, position: float) -> Pointing:
        """The pointing that puts the target `position` arcsec from the reference point."""
        if dispersion is SLIT:
            v2, v3, angle = -414.7798311657103, -400.61593483851567, 4.75797
        else:
            v2, v3, angle = -378.8320736785982, -344.9445433053003, 4.75797
        return Pointing(v2, v3, angle, self.roll, self.ra, self.dec).at(position)

    def _light(self, geometry: Geometry, position: float) -> NDArray[np.float64]:
        """Surface brightness of all sources in MJy/sr, with the target `position` arcsec along."""
        known = np.isfinite(geometry.wavelength)
        wave = geometry.wavelength[known][:, np.newaxis]
        edges = np.arange(geometry.shape[1] + 1) - 0.5
        image = np.zeros(geometry.shape)
        for source in self.sources:
            flux = _evaluate(source.flux, wave[:, 0], "flux")
            trace = geometry.trace(position + source.position + self.pointing_error)[known]
            x = (edges - trace[:, np.newaxis]) * PIXEL_SCALE
            share = np.diff(self.psf.cumulative(x, wave, source.halo), axis=1)
            image[known] += flux[:, np.newaxis] / (PIXEL_AREA * MEGA) * share
        return image * geometry.inside

    def _sky(self, geometry: Geometry, middle: float) -> NDArray[np.float64]:
        """Background in MJy/sr; rows without a wavelength have the nearest one's."""
        wave = _fill(geometry.wavelength)
        level = _evaluate(self.background, wave, "background")
        away = (np.arange(geometry.shape[1]) - middle) * PIXEL_SCALE
        return level[:, np.newaxis] * (1.0 + self.background_slope * away)

    def _electrons(self, geometry: Geometry) -> NDArray[np.float64]:
        """Electrons for 1 MJy/sr in each row, shape (row, 1)."""
        wave = _fill(geometry.wavelength)
        rate = _evaluate(self.sensitivity, wave, "sensitivity")
        if not (rate > 0).all():
            raise SceneError("sensitivity is not greater than 0 everywhere")
        return np.asarray(rate * self.exposure_time)[:, np.newaxis]

    def _expose(
        self,
        rng: np.random.Generator,
        signal: NDArray[np.float64],
        electrons: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Observe a surface brightness: Poisson noise and read noise (`noise`, in electrons)."""
        if (signal < 0).any():
            raise SceneError("flux and background add up to less than 0 in some pixels")
        counts = rng.poisson(signal * electrons).astype(float)
        counts += noise * rng.standard_normal(signal.shape)
        counts /= electrons
        return counts

    def _nod_pair(
        self,
        geometry: Geometry,
        rng: np.random.Generator,
        own: float,
        other: float,
        subtract: bool,
        middle: float,
    ) -> tuple[Planes, Planes, NDArray[np.float64]]:
        """One exposure, less the other nod's: observed planes, true planes, background left in.

        `own` and `other` are where the target is in the two, in arcsec; `middle` the slit's column.
        """
        electrons = self._electrons(geometry)
        noise = self._noise_map(geometry, rng)
        sky = self._sky(geometry, middle)
        bright = sky * (1.0 + self.background_drift) if subtract else sky
        signal = self._light(geometry, own) + bright
        seen = self._expose(rng, signal, electrons, noise)
        true, left = signal, sky
        poisson, seen_poisson = signal / electrons, np.maximum(seen, 0.0) / electrons
        rnoise = (noise / electrons) ** 2
        if subtract:
            negative = self._light(geometry, other) + sky
            seen_negative = self._expose(rng, negative, electrons, noise)
            true, left = signal - negative, self.background_drift * sky
            seen = seen - seen_negative
            poisson = poisson + negative / electrons
            seen_poisson += np.maximum(seen_negative, 0.0) / electrons
            rnoise = 2.0 * rnoise
        seen = seen * (1.0 + self.flat_error * rng.standard_normal(geometry.shape))
        return (
            Planes(seen, seen_poisson, rnoise, (self.flat_error * seen) ** 2),
            Planes(true, poisson, rnoise, (self.flat_error * true) ** 2),
            left,
        )

    def _noise_map(self, geometry: Geometry, rng: np.random.Generator) -> NDArray[np.float64]:
        """Read noise of each pixel in electrons."""
        spread = np.clip(rng.standard_normal(geometry.shape), -3.0, 3.0)
        return self.read_noise * (1.0 + 0.05 * spread)

    def _slit_image(
        self,
        kind: str,
        geometry: Geometry,
        nod: int,
        subtract: bool,
        calibrated: bool,
        *,
        edges: bool,
        datamodel: str = "SlitModel",
    ) -> Simulated:
        """A product of one nod."""
        rng = self._generator(kind, nod)
        own = (nod * 2 - 3) * self.nod_throw / 2.0
        worked = cut_to_box(geometry) if kind == "cal" else geometry
        planes, true, left = self._nod_pair(worked, rng, own, -own, subtract, worked.column)
        shift = self.sources[0].position + self.pointing_error
        return self._finish(
            kind,
            geometry,
            self._pointing(SLIT, own),
            planes,
            true,
            left,
            (geometry.trace(shift - own),) if subtract else (),
            rng,
            position=own,
            calibrated=calibrated,
            edges=edges,
            datamodel=datamodel,
            cards={
                "PATTTYPE": "ALONG-SLIT-NOD",
                "NUMDTHPT": 2,
                "PATT_NUM": nod,
                "XOFFSET": own,
                "YOFFSET": 0.0,
                "S_BKDSUB": "COMPLETE" if subtract else "SKIPPED",
                **({"S_RESAMP": "COMPLETE", "NDRIZ": 1} if kind == "s2d" else {}),
            },
        )

    def _stack(
        self,
        geometry: Geometry,
        n_int: int,
        factors: ArrayLike | None,
        calibrated: bool,
        first: int,
        segment: int,
        n_total: int | None,
        datamodel: str,
        exp_type: str,
    ) -> Simulated:
        """A stack of integrations."""
        if n_int < 1 or first < 1:
            raise SceneError(f"n_int is {n_int} and first {first}, expected at least 1")
        scale = np.ones(n_int) if factors is None else np.asarray(factors, dtype=float)
        if scale.shape != (n_int,) or not (scale >= 0).all():
            raise SceneError(f"factors has shape {scale.shape}, expected ({n_int},), none below 0")
        rng = self._generator("calints", exp_type)
        electrons = self._electrons(geometry)
        noise = self._noise_map(geometry, rng)
        sky, light = self._sky(geometry, geometry.column), self._light(geometry, 0.0)
        flat = 1.0 + self.flat_error * rng.standard_normal(geometry.shape)
        signal = light + sky
        shape = (n_int, *geometry.shape)
        planes = Planes(*(np.empty(shape, dtype=np.float32) for _ in range(4)))
        rnoise = (noise / electrons) ** 2
        planes.var_rnoise[...] = rnoise
        for start in range(0, n_int, BLOCK):
            block = slice(start, min(start + BLOCK, n_int))
            total = light * scale[block, np.newaxis, np.newaxis] + sky
            seen = self._expose(rng, total, electrons, noise)
            planes.var_poisson[block] = np.maximum(seen, 0.0) / electrons
            seen *= flat
            planes.data[block] = seen
            planes.var_flat[block] = (self.flat_error * seen) ** 2
        true = Planes(signal, signal / electrons, rnoise, (self.flat_error * signal) ** 2)
        last = first + n_int - 1
        return self._finish(
            "calints",
            geometry,
            self._pointing(geometry.dispersion, 0.0),
            planes,
            true,
            sky,
            (),
            rng,
            calibrated=calibrated,
            edges=False,
            datamodel=datamodel,
            exp_type=exp_type,
            factors=scale,
            times=integration_times(first, n_int, self.exposure_time),
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

    def _finish(
        self,
        kind: str,
        geometry: Geometry,
        pointing: Pointing,
        planes: Planes,
        true: Planes,
        background: NDArray[np.float64],
        negative: tuple[NDArray[np.float64], ...],
        rng: np.random.Generator,
        *,
        cards: dict[str, Any],
        position: float = 0.0,
        calibrated: bool,
        edges: bool,
        datamodel: str = "SlitModel",
        exp_type: str = FIXED_SLIT,
        factors: NDArray[np.float64] | None = None,
        times: Table | None = None,
    ) -> Simulated:
        """Give the planes their units, bad pixels, frame, header and WCS."""
        framed = planes.data.shape[-2:] != geometry.shape  # worked out in the slit's box alone
        worked = cut_to_box(geometry) if framed else geometry
        factor = 1.0 if calibrated else 1.0 / MJYSR_PER_DN
        if not calibrated:
            planes, true = planes.scaled(factor), true.scaled(factor)
        data, variances, dq = self._spoil(kind, planes, rng)
        missing = np.zeros(worked.shape, dtype=bool)
        if edges:
            missing[[0, -1]] = True
            missing[:, [0, -1]] = True
        if kind == "s2d":
            missing |= ~np.isfinite(true.data)
        for plane in (data, *variances):
            plane[..., missing] = np.nan
        err = np.sqrt(variances[0] + variances[1] + variances[2])
        truths = [np.where(missing, np.nan, plane) for plane in (true.data, background * factor)]
        truths += [
            np.where(missing, np.nan, v) for v in (true.var_poisson, true.var_rnoise, true.var_flat)
        ]
        if framed:
            data, err, *variances = (
                embed_in_detector(p, geometry, np.nan) for p in (data, err, *variances)
            )
            truths = [embed_in_detector(plane, geometry, np.nan) for plane in truths]
            assert dq is not None  # only a cal is embedded
            dq = embed_in_detector(dq, geometry, DO_NOT_USE | _NON_SCIENCE)

        first = self.sources[0]
        wave = geometry.wavelength
        known = np.isfinite(wave)
        flux = np.full(wave.shape, np.nan)
        flux[known] = _evaluate(first.flux, wave[known], "flux")
        if not calibrated:
            flux *= factor / (PIXEL_AREA * MEGA)
        truth = Truth(
            wavelength=wave,
            flux=flux,
            unit=u.Jy if calibrated else u.DN / u.s,
            column=geometry.trace(position + first.position + self.pointing_error),
            negative=negative,
            background=truths[1],
            data=truths[0],
            var_poisson=truths[2],
            var_rnoise=truths[3],
            var_flat=truths[4],
            psf=self.psf,
            halo=first.halo,
            factors=factors,
        )
        wcs = geometry.wcs(pointing)
        row = float(np.mean(geometry.box[1]))
        at_source = geometry.column + (position + first.position) / PIXEL_SCALE
        if geometry.curved:
            at_source += float(geometry.dispersion.shift(row - geometry.row))
        dith_ra, dith_dec, _ = (float(value) for value in wcs(at_source, row))
        header, sci = self._headers(
            kind,
            geometry,
            pointing,
            calibrated,
            datamodel,
            exp_type,
            (dith_ra, dith_dec),
            cards,
        )
        grid = np.broadcast_to(
            np.where(geometry.inside, wave[:, np.newaxis], np.nan), geometry.shape
        )
        image = SlitImage(
            data=data,
            err=err,
            var_poisson=variances[0],
            var_rnoise=variances[1],
            var_flat=variances[2],
            dq=dq,
            wavelength=grid.astype(np.float32),
            unit=u.MJy / u.sr if calibrated else u.DN / u.s,
            exp_type=exp_type,
            calibrated=calibrated,
            pixel_area=PIXEL_AREA if calibrated else None,
            source_type=self.source_type,
            subarray=header["SUBARRAY"],
            source_ra=dith_ra,
            source_dec=dith_dec,
            times=times,
            header=header,
            sci_header=sci,
            kind=kind,
            wcs_source=wcs,
        )
        return Simulated(image, truth)

    def _spoil(
        self, kind: str, planes: Planes, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]], NDArray[np.uint32] | None]:
        """Data, variances and DQ in the file's precision, with bad pixels."""
        data = np.array(planes.data, dtype=np.float32)
        variances = [
            np.array(v, dtype=np.float32)
            for v in (planes.var_poisson, planes.var_rnoise, planes.var_flat)
        ]
        frame = data.shape[-2:]
        lasting = rng.random(frame) < (
            self.bad_fraction / 2 if data.ndim == 3 else self.bad_fraction
        )
        bad = np.broadcast_to(lasting, data.shape).copy()
        if data.ndim == 3 and self.bad_fraction:
            bad |= rng.random(data.shape, dtype=np.float32) < self.bad_fraction / 2
        if kind == "s2d":
            for plane in (data, *variances):
                plane[bad] = np.nan
            return data, variances, None
        dq = np.zeros(data.shape, dtype=np.uint32)
        for flag in _HARMLESS:
            dq[..., rng.random(frame) < 0.02] |= np.uint32(flag)
        where = np.nonzero(bad)
        dq[where] |= np.uint32(DO_NOT_USE)
        gone = rng.random(where[0].size) < 0.5
        data[where] = np.where(gone, np.nan, rng.uniform(-1e4, 1e5, gone.size)).astype(np.float32)
        for plane in variances:
            plane[where] = np.where(gone, np.nan, plane[where])
        return data, variances, dq

    def _headers(
        self,
        kind: str,
        geometry: Geometry,
        pointing: Pointing,
        calibrated: bool,
        datamodel: str,
        exp_type: str,
        dithered: tuple[float, float],
        cards: dict[str, Any],
    ) -> tuple[fits.Header, fits.Header]:
        """Primary and SCI header, with the cards of real products."""
        slit = geometry.dispersion is SLIT
        exposure = self.exposure_time
        integrations = cards.get("INTEND", 1) - cards.get("INTSTART", 1) + 1
        # Scenes of other seeds are other exposures.
        begin = EXPOSURE_START + 1e-4 * self.seed
        duration = exposure * integrations
        done = "COMPLETE" if calibrated else "SKIPPED"
        primary: dict[str, Any] = {
            "DATE": "2025-11-16T00:00:00.000",
            "ORIGIN": "glue_lrs",
            "CAL_VER": "3.0.0",
            "CAL_VCS": "RELEASE",
            "DATAMODL": datamodel,
            "TELESCOP": "JWST",
            "DATE-OBS": "2025-11-15",
            "TIME-OBS": "14:24:00.000",
            "DATE-BEG": "2025-11-15T14:24:00.000",
            "OBS_ID": "V00001001001P0000000001101",
            "VISIT_ID": "00001001001",
            "PROGRAM": "00001",
            "OBSERVTN": "001",
            "VISIT": "001",
            "VISITGRP": "01",
            "SEQ_ID": "1",
            "ACT_ID": "01",
            "EXPOSURE": f"{cards['PATT_NUM']:05d}",
            "TSOVISIT": False,
            "TARGPROP": "SIMULATED",
            "TARGNAME": "SIMULATED",
            "TARG_RA": self.ra,
            "TARG_DEC": self.dec,
            "SRCTYAPT": self.source_type,
            "INSTRUME": "MIRI",
            "DETECTOR": "MIRIMAGE",
            "FILTER": "P750L",
            "EXP_TYPE": exp_type,
            "EXPSTART": begin,
            "EXPMID": begin + duration / 2.0 / 86400.0,
            "EXPEND": begin + duration / 86400.0,
            "READPATT": "FASTR1",
            "NINTS": 1,
            "NGROUPS": 119,
            "EFFINTTM": exposure,
            "EFFEXPTM": duration,
            "TMEASURE": duration,
            "DURATION": duration,
            "SUBARRAY": "FULL" if slit else "SLITLESSPRISM",
            "SUBSTRT1": 1,
            "SUBSTRT2": 1 if slit else 529,
            "SUBSIZE1": 1032 if slit else 72,
            "SUBSIZE2": 1024 if slit else 416,
            "FASTAXIS": 1,
            "SLOWAXIS": 2,
            "DITH_RA": dithered[0],
            "DITH_DEC": dithered[1],
            "APERNAME": "MIRIM_SLIT" if slit else "MIRIM_SLITLESSPRISM",
            "S_WCS": "COMPLETE",
            "S_SRCTYP": "COMPLETE",
            "S_FLAT": "COMPLETE",
            "S_PHOTOM": done,
        }
        if kind == "s2d":
            primary |= {"RESWHT": "ivm", "PIXFRAC": 1.0, "PXSCLRT": 1.0}
        primary |= cards
        corners = pointing.footprint(
            *((edge - geometry.column) * PIXEL_SCALE for edge in geometry.box[0])
        )
        polygon = " ".join(f"{ra:.9f} {dec:.9f}" for ra, dec in zip(*corners, strict=True))
        science: dict[str, Any] = {
            "SRCTYPE": self.source_type,
            "XPOSURE": primary["EFFEXPTM"],
            "TELAPSE": primary["EFFEXPTM"],
            "VA_SCALE": 1.0,
            "BUNIT": "MJy/sr" if calibrated else "DN/s",
        }
        if calibrated:
            science |= {
                "PHOTMJSR": MJYSR_PER_DN,
                "PHOTUJA2": 325.5755920410156,
                "PIXAR_SR": PIXEL_AREA,
                "PIXAR_A2": 0.012170609965075093,
            }
        science |= {
            "RADESYS": "ICRS",
            "PA_V3": self.roll,
            "S_REGION": f"POLYGON ICRS  {polygon}",
            "DISPAXIS": 2,
            "V2_REF": pointing.v2,
            "V3_REF": pointing.v3,
            "VPARITY": -1,
            "V3I_YANG": pointing.yangle,
            "RA_REF": pointing.ra,
            "DEC_REF": pointing.dec,
            "ROLL_REF": self.roll,
            "SPECSYS": "BARYCENT",
        }
        if kind != "s2d" and datamodel == "SlitModel":
            start = (529, 1) if not slit else (1, 1)
            if slit and geometry.shape != DETECTOR.shape:
                start = (DETECTOR_CUT[0] + 1, DETECTOR_CUT[1] + 1)
            science |= {
                "SLTSTRT1": start[1],
                "SLTSIZE1": geometry.shape[1],
                "SLTSTRT2": start[0],
                "SLTSIZE2": geometry.shape[0],
            }
        return fits.Header(primary.items()), fits.Header(science.items())


def demo_scene(seed: int = 1) -> Scene:
    """Make the scene of the demonstration: a supernova with a halo, on a sloping background.

    Parameters
    ----------
    seed : int
        Seed of the noise.
    """
    return Scene(
        sources=(Source(flux=Supernova(), halo=0.05),),
        background_slope=0.02,
        background_drift=0.02,
        bad_fraction=0.001,
        seed=seed,
    )


def _evaluate(value: Spectral, wavelength: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """A number or function of the wavelength, at each wavelength."""
    found = value(wavelength) if callable(value) else value
    result = np.broadcast_to(np.asarray(found, dtype=float), wavelength.shape)
    if not np.isfinite(result).all():
        at = wavelength[~np.isfinite(result)][0]
        raise SceneError(f"{name} is not finite at {at:.2f} um, expected a number")
    return result


def _fill(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest wavelength for rows that have none."""
    known = np.flatnonzero(np.isfinite(wavelength))
    nearest = np.clip(np.arange(wavelength.size), known[0], known[-1])
    return wavelength[nearest]

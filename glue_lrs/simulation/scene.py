"""LRS scenes with a known truth, as images in the form of the pipeline's products.

A `Scene` holds point sources, a background and a detector. Its methods make products: `Scene.s2d`
(level 2b, one nod), `Scene.combined` (level 3, both nods), `Scene.cal` (not resampled),
`Scene.calints` (slitless) and `Scene.slit_calints`. Each returns a `Simulated`: a `SlitImage` and
its `Truth`.

A pixel is simulated in these steps:

- A point spread function (a Gaussian core and a halo) spreads the light of a source over columns.
  It is integrated exactly over each pixel: the noise-free sum of a row is the source's flux.
- Electrons are drawn from a Poisson distribution, read noise is added, the other nod is subtracted,
  and each pixel is multiplied by an error of the flat field.
- The variances are estimated from these noisy data, as the pipeline's are.

The truth follows from the scene alone; no extraction is involved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.simulation.geometry import DETECTOR, Geometry, cut_to_box, slitless
from glue_lrs.simulation.optics import FIXED_SLIT, PIXEL_SCALE, PSF, SLITLESS, SceneError
from glue_lrs.simulation.products import combined_nods, integration_stack, single_nod
from glue_lrs.simulation.spectra import (
    Source,
    Spectral,
    Supernova,
    sensitivity,
    thermal_background,
)
from glue_lrs.simulation.truth import Simulated

__all__ = ["Scene", "demo_scene"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Point sources on a background, seen by LRS.

    Parameters
    ----------
    sources : tuple of Source
        The sources; the first is the target.
    background : float or callable
        Surface brightness in MJy/sr: a number, or a function of the wavelength in micron.
    background_slope : float
        Relative change of the background per arcsec along the slit.
    background_drift : float
        Relative excess of the background in an exposure over that in the nod that is subtracted
        from it.
    psf : PSF
        Point spread function across the slit.
    nod_throw : float
        Distance between the two nods in arcsec.
    pointing_error : float
        Displacement of all sources from the header's position in arcsec, positive towards higher
        columns.
    exposure_time : float
        Duration of an exposure, or of an integration of a stack, in seconds.
    sensitivity : float or callable
        Electrons per second and pixel for 1 MJy/sr: a number, or a function of the wavelength.
    read_noise : float
        Standard deviation in electrons of an exposure or integration; varies by 5% between pixels.
    flat_error : float
        Relative standard deviation of the flat field; one draw for each pixel of a product, so that
        all integrations of a stack share it.
    bad_fraction : float
        Fraction of bad pixels: NaN in a resampled image; in others half of them are NaN and half
        outliers, all with DQ bit 0. In a stack half of them change from one integration to the
        next.
    source_type : str
        SRCTYPE: ``"POINT"`` or ``"EXTENDED"``.
    ra, dec : float
        Sky position of the target in degrees.
    roll : float
        Position angle of the V3 axis in degrees.
    seed : int
        Seed of the noise. The noise is independent between products and the same each time a
        product is made.

    Raises
    ------
    SceneError
        If a value is out of range.

    Examples
    --------
    >>> from glue_lrs.simulation import Scene, Source
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
    psf: PSF = field(default_factory=PSF)
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
            The source is at lower columns in nod 1 (column 13 by default) and at higher columns in
            nod 2 (column 31).
        subtract_nod : bool
            Whether the other nod is subtracted. This leaves a negative trace, no background (except
            for `background_drift`) and more noise.
        calibrated : bool
            False gives DN/s, S_PHOTOM SKIPPED and no PIXAR_SR.
        edges : bool
            Whether the first and last row and column are NaN, as after resampling.
        shape : (int, int)
            Rows and columns.
        column : float
            Column of the middle of the slit.

        Returns
        -------
        Simulated
            The image and its truth. The noise of the pixels is independent, and so is that of the
            two nods, although real nods share their exposures.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        return single_nod(
            self,
            "s2d",
            Geometry.rectified(shape, column),
            nod,
            subtract_nod=subtract_nod,
            calibrated=calibrated,
            edges=edges,
        )

    def cal(
        self,
        nod: Literal[1, 2] = 1,
        *,
        full_frame: bool = True,
        subtract_nod: bool = True,
        calibrated: bool = True,
        datamodel: Literal["SlitModel", "ImageModel"] = "SlitModel",
    ) -> Simulated:
        """Make a cal of one nod: the detector's pixels, with a curved trace and a DQ plane.

        Parameters
        ----------
        nod : {1, 2}
            As for `s2d`.
        full_frame : bool
            Whether the image has the detector's 1024 x 1032 pixels, NaN and flagged outside of the
            slit, or is cut to the slit's bounding box.
        subtract_nod, calibrated
            As for `s2d`.
        datamodel : {"SlitModel", "ImageModel"}
            DATAMODL; older versions of the pipeline write an ImageModel.

        Returns
        -------
        Simulated
            The image and its truth.

        Raises
        ------
        SceneError
            As for `s2d`.
        """
        return single_nod(
            self,
            "cal",
            DETECTOR if full_frame else cut_to_box(DETECTOR),
            nod,
            subtract_nod=subtract_nod,
            calibrated=calibrated,
            datamodel=datamodel,
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
            As for `s2d`; columns outside of both nods are always NaN.
        shape : (int, int)
            Rows and columns.
        column : float
            Column of the target.

        Returns
        -------
        Simulated
            The image and its truth. The noise of the pixels is independent, as the image is not
            drizzled. There is a negative trace on either side of the source, each from one nod.

        Raises
        ------
        SceneError
            As for `s2d`.
        """
        geometry = Geometry.rectified(shape, column)
        return combined_nods(self, geometry, calibrated=calibrated, edges=edges)

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
        """Make slitless calints: the integrations of a time series, with background.

        Parameters
        ----------
        n_int : int
            Number of integrations in the file.
        factors : array_like, optional
            Factor of the flux of all sources in each integration; shape (n_int,).
        calibrated : bool
            False gives DN/s, S_PHOTOM SKIPPED and no PIXAR_SR.
        first : int
            Number of the first integration in the exposure, from 1.
        segment : int
            Number of the segment of the exposure.
        n_total : int, optional
            Number of integrations in the exposure; by default the file ends with the last one.
        column : float
            Column of the reference point; the mean column of the trace is 0.4 less.
        datamodel : {"SlitModel", "CubeModel"}
            DATAMODL; older versions of the pipeline write a CubeModel.

        Returns
        -------
        Simulated
            The stack, 416 x 72 pixels each, and its truth.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        return integration_stack(
            self,
            slitless(column),
            n_int,
            factors=factors,
            calibrated=calibrated,
            first=first,
            segment=segment,
            n_total=n_total,
            datamodel=datamodel,
            exp_type=SLITLESS,
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
        return integration_stack(
            self,
            cut_to_box(DETECTOR),
            n_int,
            factors=factors,
            calibrated=calibrated,
            first=first,
            segment=segment,
            n_total=n_total,
            datamodel=datamodel,
            exp_type=FIXED_SLIT,
        )

    def aperture_correction(
        self,
        subarray: str = "FULL",
        *,
        size: ArrayLike | None = None,
        wavelength: ArrayLike | None = None,
        offset: float = 0.0,
    ) -> ApertureCorrection:
        """Aperture correction of the first source, from the true PSF.

        Parameters
        ----------
        subarray : str
            SUBARRAY of the table: ``"FULL"`` or ``"SLITLESSPRISM"``.
        size : array_like, optional
            Widths in pixels; by default 1 to 30 in steps of 0.5.
        wavelength : array_like, optional
            Wavelengths in micron; by default 2.8 to 14.2 in steps of 0.1.
        offset : float
            Columns from the source to the centre of the aperture, positive to the right.

        Returns
        -------
        ApertureCorrection
            Inverse of the enclosed fraction of the light.
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


def demo_scene(seed: int = 1) -> Scene:
    """Scene of the demonstration: a supernova with a halo, on a sloping background.

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

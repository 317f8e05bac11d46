"""Simulated LRS scenes, and images of these scenes in the format of the pipeline's products.

A `Scene` consists of point sources, a background and the parameters of the detector. Its methods
simulate products: `Scene.s2d` (level 2b, one nod), `Scene.combined` (level 3, both nods),
`Scene.cal` (not resampled), `Scene.calints` (slitless) and `Scene.slit_calints`. Each method
returns a `Simulated` object, which contains a `SlitImage` and the true values (`Truth`).

The pixels are simulated in these steps:

- A point spread function (a Gaussian core and a halo) distributes the flux of a source over the
  columns. It is integrated exactly over each pixel, so that the noise-free sum over a row equals
  the source's flux.
- The brighter-fatter effect, if there is one, moves light to fainter neighbours.
- Electrons are drawn from a Poisson distribution, read noise is added, the other nod is subtracted,
  and each pixel is multiplied by a random flat-field error.
- The variances are estimated from these noisy data, as in the pipeline.

The true values are computed from the scene alone, without an extraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.simulation.bounds import TrueProfile
from glue_lrs.simulation.geometry import DETECTOR, Geometry, cut_to_box, slitless
from glue_lrs.simulation.optics import PIXEL_SCALE, PSF, SLITLESS, PSFLaw, SceneError
from glue_lrs.simulation.products import (
    Product,
    combined_nods,
    integration_stack,
    nod_exposures,
    single_nod,
)
from glue_lrs.simulation.spectra import Source, Spectral, Supernova, sensitivity, thermal_background
from glue_lrs.simulation.truth import Simulated


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Point sources on a background that are observed with LRS.

    Parameters
    ----------
    sources : tuple of Source
        Point sources, of which the first is the target.
    background : float or callable
        Surface brightness of the background in MJy/sr, as a number or a function of the wavelength
        in micron.
    background_slope : float
        Relative change of the background per arcsec along the slit.
    background_drift : float
        Relative difference between the background in an exposure and the background in the exposure
        that is subtracted (ratio minus 1).
    psf : PSFLaw
        Point spread function along the slit, such as one of `glue_lrs.simulation.LAWS`.
    brighter_fatter : float
        Strength of the brighter-fatter effect: fraction of the difference between two neighbouring
        columns that moves to the fainter one, if their mean is 1e5 electrons.
    trace_error : tuple of float
        Displacement of the true traces from those of the WCS in columns: coefficients of a
        polynomial in the row (shift, tilt, bow, ...). The row is scaled to the range from -1 to 1.
    nod_throw : float
        Distance between the two nod positions along the slit in arcsec.
    pointing_error : float
        Displacement of all sources from the position in the header in arcsec, positive towards
        higher columns.
    exposure_time : float
        Duration of an exposure, or of each integration of a stack, in seconds.
    sensitivity : float or callable
        Electrons per second and pixel for 1 MJy/sr, as a number or a function of the wavelength in
        micron.
    read_noise : float
        Standard deviation of the read noise in an exposure or integration, in electrons. It varies
        by 5% between pixels.
    common_noise : float
        Standard deviation, as a fraction of `read_noise`, of an additional noise that all pixels in
        a row have in common, and of another that all pixels in a column have in common. As in real
        products, the variances in the image do not include it; the variances of the truth do.
    hot_columns : mapping of int to float
        Columns with a dark signal, and the signal in MJy/sr. A column is given by its distance from
        the column of the reference point, which is rounded to an integer.
    dead_columns : tuple of int
        Columns in which all pixels are bad, given as in `hot_columns`.
    nod_variance : bool
        Whether the variances in the image include those of the exposures that were subtracted. If
        False, they do not, as in real products, so that the errors of spectra are too small.
    flat_error : float
        Relative standard deviation of the flat-field error. The error is drawn once for each pixel
        of a product, so that it is the same in all integrations of a stack.
    bad_fraction : float
        Fraction of bad pixels. In a resampled image they are NaN. In other images, half of them are
        NaN and half are outliers, and all have DQ bit 0. In a stack, half of the bad pixels differ
        between integrations.
    source_type : str
        SRCTYPE in the header, ``"POINT"`` or ``"EXTENDED"``.
    ra, dec : float
        Right ascension and declination of the target in degrees.
    roll : float
        Position angle of the V3 axis in degrees.
    seed : int
        Seed of the random noise. Different products have independent noise, and the same product
        has the same noise each time it is made.

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
    <SlitImage s2d, SIMULATED, MIR_LRS-FIXEDSLIT, POINT
      387 rows x 45 columns, 3.19 to 14.02 um, MJy / sr>
    >>> float(nod.truth.flux[100])
    0.001
    """

    sources: tuple[Source, ...] = (Source(),)
    background: Spectral = thermal_background
    background_slope: float = 0.0
    background_drift: float = 0.0
    psf: PSFLaw = field(default_factory=PSF)
    brighter_fatter: float = 0.0
    trace_error: tuple[float, ...] = ()
    nod_throw: float = 1.97
    pointing_error: float = 0.0
    exposure_time: float = 332.0
    sensitivity: Spectral = sensitivity
    read_noise: float = 20.0
    common_noise: float = 0.0
    hot_columns: Mapping[int, float] = field(default_factory=dict)
    dead_columns: tuple[int, ...] = ()
    nod_variance: bool = True
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
        object.__setattr__(self, "trace_error", tuple(self.trace_error))
        keys = ("read_noise", "flat_error", "bad_fraction", "common_noise", "brighter_fatter")
        for key in keys:
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
        """Simulate a level-2b s2d, which is the rectified image at one nod.

        Parameters
        ----------
        nod : {1, 2}
            Number of the nod. The source is at lower columns in nod 1 (column 13 by default) and at
            higher columns in nod 2 (column 31).
        subtract_nod : bool
            Whether the other nod is subtracted. The subtraction adds a negative trace and noise,
            and removes the background except for `background_drift`.
        calibrated : bool
            Whether the image is in MJy/sr. If False, it is in DN/s, S_PHOTOM is SKIPPED, and there
            is no PIXAR_SR.
        edges : bool
            Whether the first and the last row and column are NaN, as after resampling.
        shape : (int, int)
            Number of rows and columns.
        column : float
            Column of the middle of the slit.

        Returns
        -------
        Simulated
            The image and its true values. The noise is independent between pixels and between the
            two nods, although real images of the two nods are made from the same two exposures.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        geometry = self._distorted(Geometry.rectified(shape, column))
        product = Product("s2d", geometry, calibrated, edges)
        return single_nod(self, product, nod, subtract_nod)

    def nods(
        self,
        n_exposures: int = 1,
        *,
        calibrated: bool = True,
        edges: bool = True,
        shape: tuple[int, int] = (387, 45),
        column: float = 22.0,
    ) -> list[Simulated]:
        """Simulate the level-2b s2d of all exposures at both nods.

        From each exposure, the mean of all exposures at the other nod is subtracted, as in the
        pipeline. The noise of the subtracted mean is thus common to all exposures at a nod.

        Parameters
        ----------
        n_exposures : int
            Number of exposures at each nod.
        calibrated, edges, shape, column
            Same parameters as in `s2d`.

        Returns
        -------
        list of Simulated
            The exposures at nod 1, followed by those at nod 2. The flat-field error is the same in
            all exposures.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        geometry = self._distorted(Geometry.rectified(shape, column))
        return nod_exposures(self, Product("s2d", geometry, calibrated, edges), n_exposures)

    def cal(
        self,
        nod: Literal[1, 2] = 1,
        *,
        full_frame: bool = True,
        subtract_nod: bool = True,
        calibrated: bool = True,
        datamodel: Literal["SlitModel", "ImageModel"] = "SlitModel",
    ) -> Simulated:
        """Simulate a cal at one nod, in detector pixels with a curved trace and a DQ plane.

        Parameters
        ----------
        nod : {1, 2}
            Number of the nod, as in `s2d`.
        full_frame : bool
            If True, the image has the detector's 1024 x 1032 pixels, which are NaN and flagged
            outside the slit. If False, it is cut to the bounding box of the slit.
        subtract_nod, calibrated
            Same parameters as in `s2d`.
        datamodel : {"SlitModel", "ImageModel"}
            DATAMODL in the header. Older versions of the pipeline write an ImageModel.

        Returns
        -------
        Simulated
            The image and its true values.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        geometry = self._distorted(DETECTOR if full_frame else cut_to_box(DETECTOR))
        product = Product("cal", geometry, calibrated, datamodel=datamodel)
        return single_nod(self, product, nod, subtract_nod)

    def combined(
        self,
        *,
        calibrated: bool = True,
        edges: bool = True,
        shape: tuple[int, int] = (388, 63),
        column: float = 30.5,
    ) -> Simulated:
        """Simulate a level-3 s2d: the mean of two nod images, each minus the other nod.

        Parameters
        ----------
        calibrated, edges
            Same parameters as in `s2d`. Columns outside the slit in both nods are always NaN.
        shape : (int, int)
            Number of rows and columns.
        column : float
            Column of the target.

        Returns
        -------
        Simulated
            The image and its true values. The noise is independent between pixels, because the
            image is not drizzled. The image has a negative trace on either side of the source, one
            from each nod.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        geometry = self._distorted(Geometry.rectified(shape, column))
        product = Product("s2d", geometry, calibrated, edges)
        return combined_nods(self, product)

    def calints(
        self,
        n_int: int = 10,
        *,
        factors: ArrayLike | None = None,
        shifts: ArrayLike | None = None,
        calibrated: bool = True,
        first: int = 1,
        segment: int = 1,
        n_total: int | None = None,
        column: float = 35.9,
        datamodel: Literal["SlitModel", "CubeModel"] = "SlitModel",
    ) -> Simulated:
        """Simulate a slitless calints: the integrations of a time series, including background.

        Parameters
        ----------
        n_int : int
            Number of integrations in the file.
        factors : array_like, optional
            Factor that multiplies the flux of all sources in each integration, shape (n_int,).
        shifts : array_like, optional
            Displacement of all sources in each integration in columns, shape (n_int,). The true
            values are those without it.
        calibrated : bool
            Whether the stack is in MJy/sr, as in `s2d`.
        first : int
            Number of the file's first integration within the exposure, counted from 1.
        segment : int
            Number of the file's segment within the exposure.
        n_total : int, optional
            Number of integrations in the exposure. By default, the exposure ends with the last
            integration in the file.
        column : float
            Column of the reference point. The mean column of the trace is lower by 0.4.
        datamodel : {"SlitModel", "CubeModel"}
            DATAMODL in the header. Older versions of the pipeline write a CubeModel.

        Returns
        -------
        Simulated
            The stack of integrations, with 416 x 72 pixels each, and its true values.

        Raises
        ------
        SceneError
            If a parameter is out of range, or flux and background add up to less than 0.
        """
        geometry = self._distorted(slitless(column))
        product = Product("calints", geometry, calibrated, False, SLITLESS, datamodel)
        return integration_stack(
            self, product, n_int, factors, first, segment, n_total, shifts=shifts
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
        """Simulate a stack of integrations with the fixed slit, cut to the slit's bounding box.

        The parameters are those of `calints`. The source is in the middle of the slit.
        """
        geometry = self._distorted(cut_to_box(DETECTOR))
        product = Product("calints", geometry, calibrated, datamodel=datamodel)
        return integration_stack(self, product, n_int, factors, first, segment, n_total)

    def aperture_correction(
        self,
        subarray: str = "FULL",
        *,
        size: ArrayLike | None = None,
        wavelength: ArrayLike | None = None,
        offset: float = 0.0,
    ) -> ApertureCorrection:
        """Compute the aperture correction for the first source from the true PSF.

        Parameters
        ----------
        subarray : str
            SUBARRAY to which the correction applies, ``"FULL"`` or ``"SLITLESSPRISM"``.
        size : array_like, optional
            Aperture widths in pixels. The default is 1 to 30 in steps of 0.5.
        wavelength : array_like, optional
            Wavelengths in micron. The default is 2.8 to 14.2 in steps of 0.1.
        offset : float
            Distance in columns from the source to the centre of the aperture, positive towards
            higher columns.

        Returns
        -------
        ApertureCorrection
            Aperture correction, whose factor is the inverse of the fraction of the flux inside the
            aperture.
        """
        sizes = np.asarray(np.arange(1.0, 30.25, 0.5) if size is None else size, dtype=float)
        default = np.arange(2.8, 14.25, 0.1)
        waves = np.asarray(default if wavelength is None else wavelength, dtype=float)
        inside = self.psf.enclosed(
            (offset - sizes / 2.0) * PIXEL_SCALE,
            (offset + sizes / 2.0) * PIXEL_SCALE,
            waves[:, np.newaxis],
            self.sources[0].halo,
        )
        return ApertureCorrection(
            wavelength=waves, size=sizes, factor=1.0 / inside, subarray=subarray
        )

    def psf_reference(
        self, *, wavelength: ArrayLike | None = None, subpix: float = 20.0, reach: float = 30.0
    ) -> PSFProfile:
        """Tabulate the true profile of the first source, as in a PSF reference file.

        The brighter-fatter effect is not included.

        Parameters
        ----------
        wavelength : array_like, optional
            Wavelengths in micron. The default is 2.8 to 14.2 in steps of 0.1.
        subpix : float
            Number of columns in the table per detector column.
        reach : float
            Distance in detector columns from the source at which the table ends.
        """
        waves = np.arange(2.8, 14.25, 0.1) if wavelength is None else wavelength
        profile = TrueProfile(self.psf, self.sources[0].halo)
        return PSFProfile.sampled(profile, waves, subpix=subpix, reach=reach)

    def _distorted(self, geometry: Geometry) -> Geometry:
        """Return a copy of the geometry with the trace error of this scene."""
        return replace(geometry, trace_error=self.trace_error)


def demo_scene(seed: int = 1) -> Scene:
    """Return the scene of the demonstration: a supernova on a sloping background.

    Parameters
    ----------
    seed : int
        Seed of the random noise.
    """
    return Scene(
        sources=(Source(flux=Supernova(), halo=0.05),),
        background_slope=0.02,
        background_drift=0.02,
        bad_fraction=0.001,
        seed=seed,
    )

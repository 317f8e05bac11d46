"""Extract1D: operator that extracts spectra from images with given settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from glue_lrs._utils.validation import check_fraction, optional_bool
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.apertures.background import Background
from glue_lrs.apertures.placement import Placement, PlacementRule, aperture_weights
from glue_lrs.errors import ReferenceFileError, warn
from glue_lrs.extraction.base import emit_findings
from glue_lrs.extraction.drift import with_drift
from glue_lrs.extraction.factory import extractor_for, named_as_in_operator, optimal_for
from glue_lrs.extraction.noise import Noise, check_noise_options, with_excess_reported
from glue_lrs.extraction.options import (
    check_profile_options,
    inexpressible,
    prepared_image,
    typed_image,
    unused_options,
)
from glue_lrs.extraction.parameters import operator_parameters, operator_text
from glue_lrs.extraction.time_outliers import with_time_outliers_recorded
from glue_lrs.reference.export import export_reference
from glue_lrs.reference.overrides import arguments_from_parameters, arguments_from_reference
from glue_lrs.reference.schema import IN_MEMORY, OPTIONS, extraction_mode

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.apertures.weights import Weights
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.image.slit_image import ImageSource, SlitImage
    from glue_lrs.profiles.psf import PSFProfile
    from glue_lrs.reference.reference import Reference
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.findings import Finding

#: Function that `Extract1D.check` calls, imported by name because it belongs to a higher layer.
_CHECK = "glue_lrs.findings:check"


@dataclass(frozen=True, kw_only=True)
class Extract1D:
    """Operator that extracts spectra from MIRI LRS images like the pipeline's ``extract_1d``.

    ``operator(image)`` returns a specutils spectrum, and ``operator.run(image)`` all columns.

    Parameters
    ----------
    aperture : Aperture
        Pixels to sum over.
    background : Background, optional
        Regions and fit of the background to subtract. If None, nothing is subtracted.
    aperture_correction : ApertureCorrection, optional
        Factors that account for point-source flux outside the aperture.
    use_source_posn : bool, optional
        Whether the aperture moves to the source position from the header and the WCS. If None, as
        in the pipeline without this step parameter, `reference_source_posn` applies to point
        sources, and the aperture does not move to other sources.
    reference_source_posn : bool, optional
        Value of ``use_source_posn`` in the EXTRACT1D reference file. If None, it is True for the
        slit and False for slitless images.
    position_offset : float
        Additional shift in columns for aperture, background and trace.
    subtract_background : bool, optional
        Whether `background` is subtracted. If None, it is subtracted if it is given.
    apply_apcorr : bool
        Whether `aperture_correction` is applied.
    correction : {"table", "profile"}
        Whether the correction is that of `aperture_correction` for the aperture's size, as in the
        pipeline, or follows from the profile (`psf`, or fitted) at the measured position of a point
        source, scaled to `aperture_correction` (`glue_lrs.extraction.profile_correction`).
    fixed_background : bool
        Whether the background regions keep their columns when the aperture moves. This option
        departs from the pipeline, which moves the regions with the aperture, even off the image.
    max_lost : float, optional
        Largest fraction of the aperture's weight that bad pixels may remove. Rows that lose more
        are masked (DQ bit 0), but keep their values. This option departs from the pipeline.
    extraction_type : {"box", "optimal"}
        Whether the pixels in the aperture are summed ("box"), or the profile of a point source is
        fitted ("optimal"). An optimal extraction uses the aperture only to select the source, and
        applies no aperture correction.
    psf : PSFProfile, optional
        Profile from a PSF reference, for optimal extraction, `bad_pixels` or `correction`.
    optimal_mode : {"pipeline", "psf", "learned"}, optional
        Algorithm for an optimal extraction. ``"pipeline"`` is the algorithm of the pipeline with
        its defects (`~glue_lrs.extraction.pipeline_optimal.PipelineOptimalExtractor`). The other
        modes depart from the pipeline (`~glue_lrs.extraction.optimal.OptimalExtractor`):
        ``"psf"`` uses the profile `psf`, and ``"learned"`` fits a profile to the image. If None,
        the mode is ``"pipeline"`` if `psf` is given, else ``"learned"``.
    model_nod_pair : bool
        Whether an optimal extraction fits negative traces, which result from the subtraction of
        other nods.
    optimize_psf_location : bool
        Whether an optimal extraction fits the position of the source.
    bad_pixels : {"profile"}, optional
        With ``"profile"``, a box extraction estimates the flux on bad pixels from `psf` or, if it
        is None, from a fitted profile. This option departs from the pipeline. An optimal extraction
        always corrects for bad pixels.
    filled_pixels : {"keep", "lost"}
        Whether bad pixels that drizzle filled in from their neighbours (`glue_lrs.image.drizzle`)
        are kept, as in the pipeline, or are lost pixels.
    time_outliers : {"keep", "lost", "replace"}
        Whether pixels of a stack that deviate from the other integrations
        (`glue_lrs.fitting.time_outliers`) are kept, as in the pipeline, or become lost pixels, or
        are replaced, together with lost pixels, by the values expected from other integrations.
    drift : {"keep", "correct"}
        With ``"correct"``, a box extraction of a stack is scaled by the light that the aperture
        gains or loses as the source moves (`glue_lrs.extraction.drift`). The drift is recorded.
    hot_pixels : {"keep", "lost"}
        Whether pixels that differ from the model of the source in the mean of a stack, such as hot
        ones, are kept, as in the pipeline, or become lost pixels in all integrations.
    source_type : {"POINT", "EXTENDED"}, optional
        Type of the source, which replaces SRCTYPE from the header, in capitals or small letters.
        An aperture correction and, by default, the shift to the source position are applied to
        point sources only. This option departs from the pipeline, where the step ``srctype`` sets
        the type.
    noise : {"propagated", "nod", "empirical"}
        Noise in the errors. ``"propagated"`` is that of the variances in the image. ``"nod"`` adds
        the variance of the subtracted background, which the pipeline omits
        (`glue_lrs.uncertainty.nod_variance`). ``"empirical"`` adds the variance by which the noise
        of source-free columns exceeds the variances (`glue_lrs.uncertainty.empirical_variance`).
        The last two depart from the pipeline.
    nods : sequence of str, path-like or SlitImage
        Exposures that the pipeline subtracted, for ``noise="nod"``: those at the other nods (those
        at the nod of the image are ignored), or a dedicated background. If there are none, the
        variance is derived from the source-free columns of the image.
    id : str, optional
        EXP_TYPE or slit name of the aperture in the EXTRACT1D reference file.
    references : tuple of (str, str or None)
        Names of the reference files for the keys ``extract1d``, ``apcorr`` and ``psf``. They are
        recorded in the provenance, and ignored when operators are compared.

    Raises
    ------
    ReferenceFileError
        If a value is out of range.
    """

    aperture: Aperture
    background: Background | None = None
    aperture_correction: ApertureCorrection | None = None
    use_source_posn: bool | None = False
    reference_source_posn: bool | None = None
    position_offset: float = 0.0
    subtract_background: bool | None = None
    apply_apcorr: bool = True
    correction: Literal["table", "profile"] = "table"
    fixed_background: bool = False
    max_lost: float | None = None
    extraction_type: Literal["box", "optimal"] = "box"
    psf: PSFProfile | None = None
    optimal_mode: Literal["pipeline", "psf", "learned"] | None = None
    model_nod_pair: bool = True
    optimize_psf_location: bool = True
    bad_pixels: Literal["profile"] | None = None
    filled_pixels: Literal["keep", "lost"] = "keep"
    time_outliers: Literal["keep", "lost", "replace"] = "keep"
    drift: Literal["keep", "correct"] = "keep"
    hot_pixels: Literal["keep", "lost"] = "keep"
    source_type: str | None = None
    noise: Literal["propagated", "nod", "empirical"] = "propagated"
    nods: Sequence[str | PathLike[str] | SlitImage] = ()
    id: str | None = None
    references: tuple[tuple[str, str | None], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        # The placement rule checks its own parameters.
        object.__setattr__(self, "position_offset", self.placement_rule.position_offset)
        if self.max_lost is not None:
            check_fraction("max_lost", self.max_lost)
        for key in ("subtract_background", "apply_apcorr"):
            optional_bool(key, getattr(self, key))
        check_profile_options(self)
        source_type = OPTIONS["source_type"]("source_type", self.source_type)
        object.__setattr__(self, "source_type", source_type)
        check_noise_options(self)
        object.__setattr__(self, "nods", tuple(self.nods))
        # The recorded names must be those of the references that are actually used.
        recorded = dict(self.references)
        for key, used in (("apcorr", self.aperture_correction), ("psf", self.psf)):
            if used is not None:
                recorded[key] = used.filename or IN_MEMORY
            elif key in recorded:
                recorded[key] = None
        object.__setattr__(self, "references", tuple(recorded.items()))

    @classmethod
    def from_reference(
        cls,
        reference: str | PathLike[str] | Mapping[str, Any] | Reference | None,
        exp_type: str,
        *,
        apcorr: str | PathLike[str] | ApertureCorrection | None = None,
        psf: str | PathLike[str] | PSFProfile | None = None,
        **overrides: Any,
    ) -> Extract1D:
        """Return the operator that an EXTRACT1D reference file defines.

        Parameters
        ----------
        reference : str, path-like, dict, Reference or None
            JSON file, content of such a file, or None for the built-in defaults
            (`Reference.default`).
        exp_type : str
            EXP_TYPE of the images (``image.exp_type``), by which `Reference.entry` selects the
            aperture.
        apcorr : str, path-like, ApertureCorrection or None
            APCORR reference. From a file, the row for SUBARRAY FULL is used for slit exposures, and
            the row for SLITLESSPRISM for slitless exposures. For other subarrays, give
            ``ApertureCorrection.read(path, subarray=...)``.
        psf : str, path-like, PSFProfile or None
            PSF reference for ``extraction_type="optimal"``. From a file, the first profile whose
            APERTURE is `exp_type` or "ANY" is used. For other profiles, give
            ``PSFProfile.read(path, name)``.
        **overrides
            ``subtract_background``, ``apply_apcorr``, ``use_source_posn``, ``position_offset``,
            ``smoothing_length``, ``bkg_fit``, ``bkg_order``, ``extraction_type``,
            ``model_nod_pair`` and ``optimize_psf_location`` are the pipeline's step parameters with
            the same names. If they are None, the reference file applies. Unlike in the pipeline,
            ``use_source_posn`` also applies to extended sources, and ``bkg_fit`` may be "mean".
            Other parameters of `Extract1D` keep their names. All others must be keys of an
            EXTRACT1D aperture, which they replace, or remove if they are None.

        Returns
        -------
        Extract1D
            Operator with the aperture and background from the reference file.

        Raises
        ------
        ReferenceFileError
            If the EXTRACT1D reference file cannot be read or has no aperture for the exposure type,
            or if a key or a value is wrong.
        CorrectionError
            If the APCORR reference cannot be used.
        ProfileError
            If the PSF reference cannot be used.

        Warns
        -----
        LRSWarning
            If background parameters are given but the reference file has no background.
        """
        arguments, warnings = arguments_from_reference(reference, exp_type, apcorr, psf, overrides)
        operator = cls(**arguments)
        for warning in warnings:
            warn(warning)
        return operator

    @classmethod
    def from_parameters(
        cls,
        parameters: Mapping[str, Any],
        *,
        apcorr: str | PathLike[str] | ApertureCorrection | None = None,
        psf: str | PathLike[str] | PSFProfile | None = None,
        references: Mapping[str, str | None] | None = None,
    ) -> Extract1D:
        """Return an operator that is equal to the operator whose parameters were recorded.

        Parameters
        ----------
        parameters : mapping
            Attribute `parameters` of an operator, or ``meta["glue_lrs"]["parameters"]`` from a
            spectrum.
        apcorr : str, path-like, ApertureCorrection or None
            Aperture correction, as for `from_reference`.
        psf : str, path-like, PSFProfile or None
            PSF reference, as for `from_reference`.
        references : mapping, optional
            Names of the reference files, to be recorded in the provenance.

        Returns
        -------
        Extract1D
            Operator with these parameters.

        Raises
        ------
        ReferenceFileError
            If a key is unknown or its value is wrong.
        """
        arguments = arguments_from_parameters(parameters, apcorr, psf, references)
        return cls(**arguments)

    def to_reference(self, image: SlitImage | None = None, *, strict: bool = True) -> Reference:
        """Return an EXTRACT1D reference for the same extraction in the pipeline.

        The pipeline step ``extract_1d`` gives the same spectrum if it is run with this reference as
        ``override_extract1d``, the same APCORR reference, and default step parameters, because the
        effects of the step parameters are included in the aperture limits.

        Parameters
        ----------
        image : SlitImage, optional
            Image to which the reference will be applied. Its source position is needed if the
            aperture follows the source and there is a position offset, the background regions are
            fixed, or the source is not a point source.
        strict : bool
            Whether to raise an error for parameters that the reference cannot express. If False,
            they are omitted with a warning.

        Returns
        -------
        Reference
            Reference with one aperture.

        Raises
        ------
        ReferenceFileError
            If `strict` is True and the reference cannot express a parameter. The message names the
            step parameter to use instead.

        Warns
        -----
        LRSWarning
            If `strict` is False and a parameter was omitted, if the reference is valid for point
            sources only, or if `max_lost` is set, which is always omitted because it changes only
            the mask.
        """
        return export_reference(
            self.aperture,
            self.subtracted_background,
            self.placement_rule,
            None if image is None else prepared_image(self, image),
            id=self.id,
            inexpressible=inexpressible(self, image),
            strict=strict,
        )

    def __call__(self, image: ImageSource) -> Spectrum:
        """Extract a spectrum.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image, stack of integrations, spectrum read with ``format="lrs-s2d"``, or path of an
            s2d, cal or calints file.

        Returns
        -------
        `~specutils.Spectrum`
            Spectrum with the flux in Jy (DN/s without photometric calibration), ascending
            wavelengths in micron, 1-sigma errors, mask and meta, as described in
            `Extraction.to_spectrum`.

        Raises
        ------
        LRSError
            Under the same conditions as in `run`.
        """
        return self.run(image).to_spectrum()

    def run(self, image: ImageSource, *, check: bool = True) -> Extraction:
        """Extract all columns of the spectrum.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image, stack of integrations, spectrum read with ``format="lrs-s2d"``, or path of an
            s2d, cal or calints file.
        check : bool
            Whether to check the result. Without the checks, only findings about parameters and
            about the fit of an optimal extraction are made.

        Returns
        -------
        Extraction
            The columns, shape (n_wave,), or (integration, n_wave) for a stack. Rows without a
            wavelength or without any pixel of the aperture are omitted.

        Raises
        ------
        ApertureError
            If the aperture or the background has no pixel on the image.
        CorrectionError
            If the aperture correction is for a different subarray.
        ProductError
            If the image cannot be extracted, for example because PIXAR_SR is missing or all pixels
            are NaN.
        ProfileError
            If a profile must be fitted, but the source is too faint for this.
        NoiseError
            If the noise that `noise` requests cannot be derived.

        Warns
        -----
        LRSWarning
            For each warning or error in `Extraction.findings`, of the class of its kind.
        """
        image = prepared_image(self, image)
        unused = self._unused_options(image)
        with named_as_in_operator(self, image):
            noise = Noise.for_operator(self, image)
            extraction = extractor_for(self, noise.image).run(noise.image, check=check)
            return self._recorded(noise, extraction, unused, check)

    def _unused_options(self, image: SlitImage) -> list[Finding]:
        """Return findings about parameters without effect, after issuing them as warnings."""
        unused = unused_options(self, image)
        emit_findings(image, unused)
        return unused

    def check(
        self, image: ImageSource, extraction: Extraction | None = None
    ) -> tuple[Finding, ...]:
        """Measure the source, and check whether aperture and background are where they belong.

        Unlike the checks of `run`, these need a fit, which takes about a second.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image to be extracted, as for `run`.
        extraction : Extraction, optional
            Result of `run` for this image, if there is one already.

        Returns
        -------
        tuple of Finding
            All findings, including those of `run`, worst first. They are not issued as warnings.

        Raises
        ------
        LRSError
            Under the same conditions as in `run`.
        """
        return resolve_name(_CHECK)(self, image, extraction)

    def fit(self, image: ImageSource) -> OptimalResult:
        """Run an optimal extraction, and return the fitted model as well.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image, stack of integrations, spectrum read with ``format="lrs-s2d"``, or path of an
            s2d, cal or calints file.

        Returns
        -------
        OptimalResult
            Result of the fit, with the profile, the trace, the rejected pixels, the model and the
            residual. Its ``extractions[0]`` is equal to the result of `run`.

        Raises
        ------
        ReferenceFileError
            If `mode` is not ``"psf"`` or ``"learned"``.
        LRSError
            Under the same conditions as in `run`.
        """
        if self.mode not in ("psf", "learned"):
            raise ReferenceFileError(
                f"the extraction is of the kind {self.mode!r}, expected an optimal one with a "
                "model: extraction_type='optimal' and optimal_mode='psf' or 'learned'"
            )
        image = prepared_image(self, image)
        unused = self._unused_options(image)
        noise = Noise.for_operator(self, image)
        result = self.fit_model(noise.image)
        first, *others = result.extractions
        return replace(result, extractions=(self._recorded(noise, first, unused, True), *others))

    def fit_model(self, image: ImageSource) -> OptimalResult:
        """Fit a model to the extracted source, even if ``extraction_type`` is ``"box"``.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image to fit, as for `run`.

        Returns
        -------
        OptimalResult
            Result of the extractor that `glue_lrs.extraction.factory.optimal_for` returns.

        Raises
        ------
        LRSError
            If the fit fails, as described in
            `glue_lrs.extraction.optimal.OptimalExtractor.fit`.
        """
        image = prepared_image(self, image)
        with named_as_in_operator(self, image):
            return optimal_for(self, image).fit(image)

    def _recorded(
        self, noise: Noise, extraction: Extraction, unused: list[Finding], check: bool
    ) -> Extraction:
        """Return the extraction with noise and parameters of this operator in its provenance.

        `unused` contains the findings that are to be added to those of the extractor. `check` says
        whether the noise is compared with the errors.
        """
        extraction = with_time_outliers_recorded(self, noise.image, noise.recorded(extraction))
        if self.drift != "keep" and noise.image.is_stack:
            extraction = with_drift(self, noise.image, extraction)
        if check and self.noise == "propagated":
            extraction = with_excess_reported(noise.image, extraction)
        assert extraction.provenance is not None  # all extractors record it
        provenance = extraction.provenance.changed(
            partial(getattr, self, "parameters"),
            dict(self.references),
            [*extraction.provenance.findings, *unused],
            extraction.columns,
        )
        return replace(extraction, provenance=provenance)

    @property
    def mode(self) -> Literal["box", "pipeline", "psf", "learned"]:
        """Algorithm of the extraction: ``"box"``, or the mode of the optimal extraction."""
        return extraction_mode(self.extraction_type, self.optimal_mode, self.psf is not None)

    __repr__ = operator_text

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters as JSON values, grouped into ``reference``, ``step`` and ``options``.

        ``reference`` contains the keys of an EXTRACT1D aperture, ``step`` the pipeline's step
        parameters, and ``options`` the parameters that the pipeline does not have. The APCORR and
        PSF references are not included, except for the name of the profile in the PSF reference.
        Writing the numbers to JSON and reading them back does not change them.
        """
        return operator_parameters(self)

    @property
    def fits_profile(self) -> bool:
        """Whether the extraction fits a spatial profile."""
        profile = self.bad_pixels is not None or self.correction == "profile"
        return self.extraction_type == "optimal" or profile

    @property
    def subtracted_background(self) -> Background | None:
        """Background that is subtracted, or None if `subtract_background` is False."""
        return None if self.subtract_background is False else self.background

    # --- placement ---------------------------------------------------------------------------

    @property
    def placement_rule(self) -> PlacementRule:
        """Rule that determines how the aperture follows the source."""
        return PlacementRule(
            use_source_posn=self.use_source_posn,
            reference_source_posn=self.reference_source_posn,
            position_offset=self.position_offset,
            fixed_background=self.fixed_background,
        )

    def positions(self, image: SlitImage) -> bool:
        """Return whether the aperture is moved to the source on this image."""
        return self.placement_rule.follows_source(typed_image(self, image))

    def place(self, image: SlitImage, findings: list[Finding] | None = None) -> Placement:
        """Return the position of the aperture on an image.

        Parameters
        ----------
        image : SlitImage
            Image on which the aperture is placed.
        findings : list of Finding, optional
            List to which findings about the placement are appended.

        Returns
        -------
        Placement
            Offsets and trace that define the position of the aperture.
        """
        return self.placement_rule.place(self.aperture, typed_image(self, image), findings)

    def weights(self, image: SlitImage, placement: Placement) -> Weights:
        """Return the pixel weights of the aperture.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations on which the aperture is placed.
        placement : Placement
            Result of `place` for this image.

        Returns
        -------
        Weights
            Fraction of each pixel that is inside the aperture.

        Raises
        ------
        ApertureError
            If the aperture has no pixel on the image.
        """
        return aperture_weights(self.aperture, image, placement)

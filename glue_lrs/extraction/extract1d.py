"""Extract1D: the recipe of an extraction, SlitImage -> Extraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from glue_lrs._utils.validation import check_fraction, check_number, optional_bool
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.apertures.background import Background
from glue_lrs.apertures.placement import Placement, PlacementRule, aperture_weights
from glue_lrs.errors import LRSWarning, ReferenceFileError, warn
from glue_lrs.extraction.base import emit_notes
from glue_lrs.extraction.factory import extractor_for, named_as_in_recipe, optimal_for
from glue_lrs.extraction.options import check_profile_options, unused_options
from glue_lrs.extraction.parameters import recorded_parameters
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.reference.export import export_reference
from glue_lrs.reference.overrides import arguments_from_parameters, arguments_from_reference
from glue_lrs.reference.schema import IN_MEMORY, extraction_mode

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.apertures.weights import Weights
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.profiles.psf import PSFProfile
    from glue_lrs.reference.reference import Reference
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["Extract1D"]


@dataclass(frozen=True, kw_only=True)
class Extract1D:
    """Recipe of an extraction of MIRI LRS spectra, equal to the JWST pipeline's ``extract_1d``.

    An operator: ``extract(image)`` gives a specutils spectrum, ``extract.run(image)`` all columns.

    Parameters
    ----------
    aperture : Aperture
        The pixels to sum over.
    background : Background, optional
        The background to subtract.
    aperture_correction : ApertureCorrection, optional
        Factors that account for point-source flux outside the aperture.
    use_source_posn : bool, optional
        Whether the aperture moves to the position of the source by header and WCS. None: as the
        pipeline does when its step parameter is not given: `reference_source_posn`, and never for a
        source that is not a point source.
    reference_source_posn : bool, optional
        ``use_source_posn`` of the reference. None: True for the slit, False for slitless images.
    position_offset : float
        Additional shift of aperture, background and trace in columns.
    subtract_background : bool, optional
        False ignores `background`.
    apply_apcorr : bool
        False ignores `aperture_correction`.
    fixed_background : bool
        Departure from the pipeline: background regions stay when the aperture moves. The pipeline
        moves them along, even off the image.
    max_lost : float, optional
        Departure from the pipeline: rows in which bad pixels remove more than this fraction of the
        aperture's weight are masked (DQ bit 0). Their values are kept.
    extraction_type : {"box", "optimal"}
        Whether the pixels of the aperture are summed, or weighted with the profile of a point
        source. An optimal extraction uses the aperture only to select the source, and has no
        aperture correction.
    psf : PSFProfile, optional
        The PSF reference, for optimal extraction or `bad_pixels`.
    optimal_mode : {"pipeline", "psf", "learned"}, optional
        Arithmetic of an optimal extraction. ``"pipeline"``: that of the pipeline, with its defects
        (`~glue_lrs.extraction.pipeline_optimal.PipelineOptimalExtractor`). The others are
        departures from it (`~glue_lrs.extraction.optimal.OptimalExtractor`): ``"psf"`` uses the
        profile of `psf`, ``"learned"`` fits one to the image. None: ``"pipeline"`` with a `psf`,
        which the pipeline always has, and ``"learned"`` without.
    model_nod_pair : bool
        Whether an optimal extraction fits the negative traces of other nods.
    optimize_psf_location : bool
        Whether an optimal extraction fits the position of the source.
    bad_pixels : {"profile"}, optional
        Departure from the pipeline: the flux of bad pixels in a box is restored from the profile,
        that of `psf` or a fitted one. An optimal extraction always does that.
    id : str, optional
        EXP_TYPE or slit name of the reference's entry.
    references : tuple of (str, str or None)
        Names of the reference files: ``extract1d``, ``apcorr`` and ``psf``. They are passed on to
        the provenance and do not count when operators are compared.

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
    fixed_background: bool = False
    max_lost: float | None = None
    extraction_type: Literal["box", "optimal"] = "box"
    psf: PSFProfile | None = None
    optimal_mode: Literal["pipeline", "psf", "learned"] | None = None
    model_nod_pair: bool = True
    optimize_psf_location: bool = True
    bad_pixels: Literal["profile"] | None = None
    id: str | None = None
    references: tuple[tuple[str, str | None], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        offset = check_number("position_offset", self.position_offset)
        object.__setattr__(self, "position_offset", offset)
        if self.max_lost is not None:
            check_fraction("max_lost", self.max_lost)
        for key in (
            "use_source_posn",
            "reference_source_posn",
            "subtract_background",
            "apply_apcorr",
            "fixed_background",
        ):
            optional_bool(key, getattr(self, key))
        check_profile_options(self)
        # The recorded names must be those of the references in use.
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
        """Return the recipe of an EXTRACT1D reference.

        Parameters
        ----------
        reference : str, path-like, dict, Reference or None
            A JSON file, its content, or None for the built-in defaults (`Reference.default`).
        exp_type : str
            EXP_TYPE of the images (``image.exp_type``), which selects the aperture: see
            `Reference.entry`.
        apcorr : str, path-like, ApertureCorrection or None
            An APCORR reference. From a file, the row for SUBARRAY FULL is used for the slit and
            that for SLITLESSPRISM for slitless exposures; for other subarrays give
            ``ApertureCorrection.read(path, subarray=...)``.
        psf : str, path-like, PSFProfile or None
            A PSF reference, for ``extraction_type="optimal"``. From a file, the first profile whose
            APERTURE is `exp_type` or any is used; for others give ``PSFProfile.read(path, name)``.
        **overrides
            ``subtract_background``, ``apply_apcorr``, ``use_source_posn``, ``position_offset``,
            ``smoothing_length``, ``bkg_fit``, ``bkg_order``, ``extraction_type``,
            ``model_nod_pair`` and ``optimize_psf_location`` are the pipeline's step parameters of
            these names: None leaves the choice to the reference, ``use_source_posn`` also works for
            extended sources, and ``bkg_fit`` may be "mean". ``fixed_background``, ``max_lost``,
            ``optimal_mode`` and ``bad_pixels`` are those of `Extract1D`. Any other key of an
            EXTRACT1D aperture replaces the reference's; None removes it.

        Returns
        -------
        Extract1D
            The operator.

        Raises
        ------
        ReferenceFileError
            If the reference cannot be read, has no aperture for the exposure type, or a key or its
            value is wrong.
        CorrectionError
            If the APCORR reference cannot be used.
        ProfileError
            If the PSF reference cannot be used.

        Warns
        -----
        LRSWarning
            If there is no aperture correction (unless ``apply_apcorr=False``), or parameters of the
            background are given and the reference has none.
        """
        return cls(
            **arguments_from_reference(reference, exp_type, apcorr=apcorr, psf=psf, **overrides)
        )

    @classmethod
    def from_parameters(
        cls,
        parameters: Mapping[str, Any],
        *,
        apcorr: str | PathLike[str] | ApertureCorrection | None = None,
        psf: str | PathLike[str] | PSFProfile | None = None,
        references: Mapping[str, str | None] | None = None,
    ) -> Extract1D:
        """Return the recipe that `parameters` describes: equal to the one they came from.

        Parameters
        ----------
        parameters : mapping
            `parameters` of an operator, or ``meta["glue_lrs"]["parameters"]`` of a spectrum.
        apcorr : str, path-like, ApertureCorrection or None
            The aperture correction, as for `from_reference`.
        psf : str, path-like, PSFProfile or None
            The PSF reference, as for `from_reference`.
        references : mapping, optional
            Names of the reference files, to be passed on.

        Returns
        -------
        Extract1D
            The operator.

        Raises
        ------
        ReferenceFileError
            If a key is unknown or its value is wrong.
        """
        return cls(
            **arguments_from_parameters(parameters, apcorr=apcorr, psf=psf, references=references)
        )

    def to_reference(self, image: SlitImage | None = None, *, strict: bool = True) -> Reference:
        """Return the EXTRACT1D reference with which the pipeline does what this recipe does.

        With default step parameters, the same APCORR reference and this one given by
        ``override_extract1d``, ``extract_1d`` gives the same spectrum: step parameters are absorbed
        into the aperture.

        Parameters
        ----------
        image : SlitImage, optional
            The image that the reference is for. It gives the position of the source, so that an
            offset from it, fixed background regions, and ``use_source_posn`` for a source that is
            not a point source can be absorbed into the limits as well.
        strict : bool
            Whether to raise if something cannot be expressed; otherwise it is omitted, with a
            warning.

        Returns
        -------
        Reference
            With one aperture.

        Raises
        ------
        ReferenceFileError
            If something cannot be expressed. The message names the step parameter to use instead.

        Warns
        -----
        LRSWarning
            If `strict` is False and something was omitted; if it holds for point sources only; if
            there is `max_lost`, which changes no value but the mask.
        """
        return export_reference(
            self.aperture,
            self.subtracted_background,
            self.placement_rule,
            image,
            id=self.id,
            inexpressible=self._inexpressible(image),
            strict=strict,
        )

    def _inexpressible(self, image: SlitImage | None) -> list[str]:
        """List parameters that no reference can express; warn of `max_lost`."""
        found = []
        if not self.apply_apcorr and (image is None or image.is_point_source):
            found.append("apply_apcorr=False (run the step with --apply_apcorr=false)")
        if self.mode == "pipeline":
            found.append("extraction_type='optimal' (run the step with --extraction_type=optimal)")
        elif self.mode != "box":
            found.append(
                f"optimal_mode={self.mode!r}, which the pipeline does not have (its own is "
                "that with a PSF reference)"
            )
        if self.bad_pixels is not None:
            found.append(f"bad_pixels={self.bad_pixels!r}, which the pipeline does not have")
        if self.max_lost is not None:
            warn(
                LRSWarning("max_lost is omitted: the pipeline does not mask rows with lost pixels")
            )
        return found

    def __call__(self, image: SlitImage | Spectrum) -> Spectrum:
        """Extract a spectrum.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        `~specutils.Spectrum`
            Flux in Jy (DN/s without photometric calibration), wavelength ascending in micron,
            standard deviations, mask, meta: see `Extraction.to_spectrum`.

        Raises
        ------
        LRSError
            As `run`.
        """
        return self.run(image).to_spectrum()

    def run(self, image: SlitImage | Spectrum) -> Extraction:
        """Extract all columns.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        Extraction
            The 18 columns, of shape (n_wave,), or (integration, n_wave) for a stack; rows without
            a wavelength or without any pixel of the aperture are omitted.

        Raises
        ------
        ApertureError
            If the aperture or the background has no pixel on the image.
        CorrectionError
            If the aperture correction belongs to another subarray.
        ProductError
            If the image cannot be extracted: no PIXAR_SR, nothing but NaN.
        ProfileError
            If a profile is to be fitted, and there is too little light.

        Warns
        -----
        LRSWarning
            If the source position is not known, bad pixels reduce the aperture of a row, or a row
            has no background to subtract.
        """
        image = SlitImage.from_any(image)
        if self.extraction_type == "optimal":
            emit_notes(image, unused_options(self, image))
        with named_as_in_recipe(self, image):
            return self._recorded(extractor_for(self, image).run(image))

    def fit(self, image: SlitImage | Spectrum) -> OptimalResult:
        """Extract optimally, and keep the model.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        OptimalResult
            ``extractions[0]`` is the result of `run`; with the profile, the trace, the rejected
            pixels, the model and the residual.

        Raises
        ------
        ReferenceFileError
            If `mode` is neither ``"psf"`` nor ``"learned"``.
        LRSError
            As `run`.
        """
        if self.mode not in ("psf", "learned"):
            raise ReferenceFileError(
                f"the extraction is of the kind {self.mode!r}, expected an optimal one with a "
                "model: extraction_type='optimal' and optimal_mode='psf' or 'learned'"
            )
        image = SlitImage.from_any(image)
        emit_notes(image, unused_options(self, image))
        result = self.fit_model(image)
        first, *others = result.extractions
        return replace(result, extractions=(self._recorded(first), *others))

    def fit_model(self, image: SlitImage) -> OptimalResult:
        """Fit a model of the source that this recipe is about, whatever its extraction type.

        Parameters
        ----------
        image : SlitImage
            An image or a stack of them.

        Returns
        -------
        OptimalResult
            The fit of `glue_lrs.extraction.factory.optimal_for`.

        Raises
        ------
        LRSError
            If nothing can be fitted: see `glue_lrs.extraction.optimal.OptimalExtractor.fit`.
        """
        with named_as_in_recipe(self, image):
            return optimal_for(self, image).fit(image)

    def _recorded(self, extraction: Extraction) -> Extraction:
        """Return an extraction whose provenance holds the parameters of this recipe."""
        if extraction.provenance is None:
            return extraction
        provenance = extraction.provenance.changed(
            partial(getattr, self, "parameters"), dict(self.references)
        )
        return replace(extraction, provenance=provenance)

    @property
    def mode(self) -> Literal["box", "pipeline", "psf", "learned"]:
        """Kind of extraction: a box, or one of the modes of optimal extraction."""
        return extraction_mode(self.extraction_type, self.optimal_mode, self.psf is not None)

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, ready for JSON: those of ``reference``, ``step`` and ``options``.

        ``reference`` has the keys of an EXTRACT1D entry, ``step`` the pipeline's step parameters,
        ``options`` the parameters that the pipeline does not have.
        """
        return recorded_parameters(self)

    @property
    def subtracted_background(self) -> Background | None:
        """The background that is subtracted; None if `subtract_background` is False."""
        return None if self.subtract_background is False else self.background

    # --- placement ---------------------------------------------------------------------------

    @property
    def placement_rule(self) -> PlacementRule:
        """The rule by which the aperture follows the source."""
        return PlacementRule(
            use_source_posn=self.use_source_posn,
            reference_source_posn=self.reference_source_posn,
            position_offset=self.position_offset,
            fixed_background=self.fixed_background,
        )

    def positions(self, image: SlitImage) -> bool:
        """Whether the aperture moves to the source on this image."""
        return self.placement_rule.follows_source(image)

    def place(self, image: SlitImage, notes: list[LRSWarning] | None = None) -> Placement:
        """Place the aperture on an image.

        Parameters
        ----------
        image : SlitImage
            The image.
        notes : list of LRSWarning, optional
            Notes are appended to it.

        Returns
        -------
        Placement
            Offsets and trace.
        """
        return self.placement_rule.place(self.aperture, image, notes)

    def weights(self, image: SlitImage, placement: Placement) -> Weights:
        """Return the weights of the aperture's pixels.

        Parameters
        ----------
        image : SlitImage
            An image or a stack of them.
        placement : Placement
            Result of `place` for it.

        Returns
        -------
        Weights
            Fractions of pixels inside the aperture.

        Raises
        ------
        ApertureError
            If it has no pixel on the image.
        """
        return aperture_weights(self.aperture, image, placement)

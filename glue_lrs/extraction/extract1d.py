"""Extract1D, the operator: SlitImage -> Extraction.

The sums of a box are here. For optimal extraction, and where bad pixels are made up for, `run`
hands over to `glue_lrs.extraction.factory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.validation import check_number
from glue_lrs.apertures.placement import Placement
from glue_lrs.errors import ApertureError, ProductError, ReferenceFileError
from glue_lrs.extraction.base import (
    NO_PIXELS,
    NO_VARIANCES,
    REPORTED_LOSS,
    emit_notes,
    jansky_per_sum,
)
from glue_lrs.extraction.box_plan import BoxPlan, WeightedColumns, align_rows
from glue_lrs.extraction.box_sums import sum_box
from glue_lrs.extraction.keywords import BoxKeywords, integration_times, position_record
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.image.trace import expected_trace
from glue_lrs.instrument import DO_NOT_USE, FIXED_SLIT
from glue_lrs.reference.schema import IN_MEMORY
from glue_lrs.spectra.columns import COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.weights import Weights
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.profiles.psf import PSFProfile
    from glue_lrs.reference.reference import Reference

__all__ = ["Extract1D"]


@dataclass(frozen=True, kw_only=True)
class Extract1D:
    """Extraction of MIRI LRS spectra, equal to the JWST pipeline's ``extract_1d``.

    Made once, called with images: ``extract(image)`` gives a specutils spectrum,
    ``extract.run(image)`` all the columns.

    Parameters
    ----------
    aperture : Aperture
        The pixels to sum over.
    background : Background, optional
        What to subtract first.
    aperture_correction : ApertureCorrection, optional
        Factors for the light of a point source outside the aperture.
    use_source_posn : bool, optional
        Whether the aperture moves to where the header and the WCS put the source. None means what
        the pipeline does when its step parameter is not given: `reference_source_posn`, and never
        for a source that is not a point.
    reference_source_posn : bool, optional
        ``use_source_posn`` of the reference: None means True for the slit, False for slitless.
    position_offset : float
        Columns to move aperture, background and trace by, on top of the source's position.
    subtract_background : bool, optional
        False ignores `background`.
    apply_apcorr : bool
        False ignores `aperture_correction`.
    fixed_background : bool
        Departure from the pipeline: background regions stay where they were drawn when the
        aperture moves. The pipeline moves them along, even off the image.
    max_lost : float, optional
        Departure from the pipeline: rows in which bad pixels took more than this fraction of the
        aperture's weight are masked (DQ bit 0). Their numbers stay.
    extraction_type : {"box", "optimal"}
        Whether pixels of the aperture are summed, or weighted with the profile of a point source.
        Then the aperture only tells where the source is, and there is no aperture correction.
    psf : PSFProfile, optional
        The PSF reference, for optimal extraction or `bad_pixels`.
    optimal_mode : {"pipeline", "psf", "learned"}, optional
        Arithmetic of an optimal extraction. ``"pipeline"`` is the pipeline's, with its faults
        (`~glue_lrs.extraction.pipeline_optimal.PipelineOptimalExtractor`). The others are departures from it
        (`~glue_lrs.extraction.optimal.OptimalExtractor`): ``"psf"`` with the profile of `psf`, ``"learned"``
        with one that is learned from the image. None: ``"pipeline"`` where there is a `psf`, which
        the pipeline always has, and ``"learned"`` where there is none.
    model_nod_pair : bool
        Whether an optimal extraction fits the negative traces that other nods left.
    optimize_psf_location : bool
        Whether an optimal extraction fits where the source is.
    bad_pixels : {"profile"}, optional
        Departure from the pipeline: the light that bad pixels took from a box is made up for from
        the profile, of `psf` or learned. An optimal extraction always does that.
    id : str, optional
        EXP_TYPE or slit name of the reference's entry.
    references : tuple of (str, str or None)
        Names of the reference files: ``extract1d``, ``apcorr`` and ``psf``. They are passed on to
        the provenance and do not count when operators are compared.

    Raises
    ------
    ReferenceFileError
        If a value is out of range.

    Notes
    -----
    A spectrum at row r is S = sum w (data - background), with w the aperture's weights, 0 at pixels
    without a value; its variances are sum w^2 var + sum K^2 var, where K is the response of the
    summed background to each pixel of the regions.
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
        object.__setattr__(
            self, "position_offset", check_number("position_offset", self.position_offset)
        )
        if self.max_lost is not None and not 0.0 <= check_number("max_lost", self.max_lost) <= 1.0:
            raise ReferenceFileError(
                f"max_lost is {self.max_lost!r}, expected a fraction between 0 and 1"
            )
        for key in (
            "use_source_posn",
            "reference_source_posn",
            "subtract_background",
            "apply_apcorr",
            "fixed_background",
        ):
            value = getattr(self, key)
            if not (value is None or isinstance(value, bool)):
                raise ReferenceFileError(f"{key} is {value!r}, expected True, False or None")
        if self.extraction_type != "box" or self.optimal_mode or self.bad_pixels or self.psf:
            from glue_lrs.extraction.options import check

            check(self)
        # What is recorded must be what is used, however the operator was made.
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
        """Make the operator of an EXTRACT1D reference.

        Parameters
        ----------
        reference : str, path-like, dict, Reference or None
            A JSON file, what one would hold, or None for the built-in defaults
            (`Reference.default`).
        exp_type : str
            EXP_TYPE of the images (``image.exp_type``), which selects the aperture: see
            `Reference.entry`.
        apcorr : str, path-like, ApertureCorrection or None
            An APCORR reference. Of a file the row for SUBARRAY FULL is taken for the slit, that for
            SLITLESSPRISM for slitless exposures; for other subarrays give
            ``ApertureCorrection.read(path, subarray=...)``.
        psf : str, path-like, PSFProfile or None
            A PSF reference, for ``extraction_type="optimal"``. Of a file the first profile is taken
            whose APERTURE is `exp_type` or any; for others give ``PSFProfile.read(path, name)``.
        **overrides
            ``subtract_background``, ``apply_apcorr``, ``use_source_posn``, ``position_offset``,
            ``smoothing_length``, ``bkg_fit``, ``bkg_order``, ``extraction_type``,
            ``model_nod_pair`` and ``optimize_psf_location`` are what the pipeline's step parameters
            of these names are: None leaves the choice to the reference, ``use_source_posn`` works
            for extended sources as well, and ``bkg_fit`` may be "mean". ``fixed_background``,
            ``max_lost``, ``optimal_mode`` and ``bad_pixels`` are those of `Extract1D`. Any other
            key of an EXTRACT1D aperture replaces the reference's; None takes it away.

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
        from glue_lrs.reference.overrides import operator_from_reference

        return operator_from_reference(
            cls, reference, exp_type, apcorr=apcorr, psf=psf, **overrides
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
        """Make the operator that `parameters` tells of: equal to the one they came from.

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
        from glue_lrs.reference.overrides import operator_from_parameters

        return operator_from_parameters(
            cls, parameters, apcorr=apcorr, psf=psf, references=references
        )

    def to_reference(self, image: SlitImage | None = None, *, strict: bool = True) -> Reference:
        """Make the EXTRACT1D reference that has the pipeline do what this operator does.

        With default step parameters, the same APCORR reference and this one given by
        ``override_extract1d``, ``extract_1d`` gives the same spectrum: parameters of the step are
        folded into the aperture.

        Parameters
        ----------
        image : SlitImage, optional
            The image that the reference is for. It tells where the source is: then an offset on
            top of the source's position, regions that stay, and ``use_source_posn`` for a source
            that is not a point can be folded into the limits as well.
        strict : bool
            Whether to raise where something cannot be folded; otherwise it is left out, with a
            warning.

        Returns
        -------
        Reference
            With one aperture.

        Raises
        ------
        ReferenceFileError
            If something cannot be folded. The message names the step's parameter to use
            instead.

        Warns
        -----
        LRSWarning
            If `strict` is False and something was left out; if it holds for point sources only; if
            there is `max_lost`, which changes no number but masks.
        """
        from glue_lrs.reference.export import to_reference

        return to_reference(self, image, strict=strict)

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
            a wavelength or without any pixel of the aperture are left out.

        Raises
        ------
        ApertureError
            If the aperture or the background has no pixel on the image.
        CorrectionError
            If the aperture correction belongs to another subarray.
        ProductError
            If the image cannot be extracted: no PIXAR_SR, nothing but NaN.
        ProfileError
            If a profile is to be learned, and there is too little light.

        Warns
        -----
        LRSWarning
            If the source position is not known, a row lost much of the aperture to bad pixels, or
            had no background to subtract.
        """
        image = SlitImage.from_any(image)
        if self.extraction_type != "box" or self.bad_pixels is not None:
            from glue_lrs.extraction.factory import run_profile_extraction

            return run_profile_extraction(self, image)
        notes: list[str] = []
        scale = jansky_per_sum(image)
        placement = self.place(image, notes)
        plan = self._plan(image, placement)
        if plan.limits[0] < -0.5 or plan.limits[1] > image.shape[1] - 0.5:
            notes.append(
                f"the aperture ({plan.limits[0]:.2f} to {plan.limits[1]:.2f}) reaches beyond the "
                f"image, whose columns are 0 to {image.shape[1] - 1}"
            )
        columns, regionless = sum_box(image, plan, scale)
        total, wavelength = plan.total, plan.wavelength
        if plan.kept is not None:
            columns = {name: values[..., plan.kept] for name, values in columns.items()}
            total, wavelength = total[plan.kept], wavelength[plan.kept]
        if image.is_stack:
            wavelength = np.broadcast_to(wavelength, columns["FLUX"].shape)
        columns["WAVELENGTH"] = wavelength
        self._look(columns, total, image, regionless, notes)
        if not image.has_variances:
            notes.append(NO_VARIANCES)
        emit_notes(image, notes)
        if plan.correction is None and (image.source_type or "").upper() == "POINT":
            notes.append("no aperture correction was applied")  # told when the operator was made
        header = LazyHeader.from_header(image.header)
        return Extraction(
            columns={name: columns[name] for name in COLUMNS},
            units=column_units(image.calibrated),
            header=header,
            keywords_source=BoxKeywords.from_plan(image, plan, header),
            times=integration_times(image),
            int_times=None if image.times is None else image.times.copy(),
            provenance=Provenance(
                partial(getattr, self, "parameters"),
                image.path or image.filename,
                dict(self.references),
                position_record(placement),
                notes,
            ),
            aperture_weight=total,
        )

    def fit(self, image: SlitImage | Spectrum) -> OptimalResult:
        """Extract optimally, and keep the model.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        OptimalResult
            ``extractions[0]`` is what `run` gives; with the profile, the trace, the rejected
            pixels, the model and the residual.

        Raises
        ------
        ReferenceFileError
            If `mode` is neither ``"psf"`` nor ``"learned"``.
        LRSError
            As `run`.
        """
        from glue_lrs.extraction.factory import fit

        return fit(self, SlitImage.from_any(image))

    @property
    def mode(self) -> Literal["box", "pipeline", "psf", "learned"]:
        """What `run` does: sum over a box, or one of the modes of optimal extraction."""
        if self.extraction_type == "box":
            return "box"
        return self.optimal_mode or ("learned" if self.psf is None else "pipeline")

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, ready for JSON: those of ``reference``, ``step`` and ``options``.

        ``reference`` has the keys of an EXTRACT1D entry, ``step`` the pipeline's step parameters,
        ``options`` what the pipeline does not have.
        """
        from glue_lrs.reference.overrides import operator_parameters

        return operator_parameters(self)

    # --- where the aperture goes -------------------------------------------------------------

    def positions(self, image: SlitImage) -> bool:
        """Whether the aperture is to move to the source on this image."""
        if self.use_source_posn is not None:
            return self.use_source_posn
        if image.source_type != "POINT":
            return False
        if self.reference_source_posn is not None:
            return self.reference_source_posn
        return image.exp_type == FIXED_SLIT

    def place(self, image: SlitImage, notes: list[str] | None = None) -> Placement:
        """Find where the aperture goes on an image.

        Parameters
        ----------
        image : SlitImage
            The image.
        notes : list of str, optional
            Gets what a user would want to know.

        Returns
        -------
        Placement
            Offsets and trace.
        """
        notes = [] if notes is None else notes
        offset = self.position_offset
        position, trace = None, None
        if self.positions(image):
            found = expected_position(image)
            if isinstance(found, SourcePosition):
                position = found
                offset += found.column - self._nominal_column(image, found.row, notes)
                if self.aperture.extract_width is not None and self.aperture.src_coeff is None:
                    trace = expected_trace(image) + self.position_offset
            else:
                notes.append(f"the aperture stays where it is: {found}")
        return Placement(position, offset, 0.0 if self.fixed_background else offset, trace)

    def _nominal_column(self, image: SlitImage, row: int, notes: list[str]) -> float:
        """Weighted mean column of the aperture, not yet moved, at the reference row."""
        weights = self.aperture.weights(image.wavelength)
        inside = weights.rows.start <= row < weights.rows.stop
        at_row = np.zeros(0)
        if inside:
            at_row = weights.values[0 if weights.uniform else row - weights.rows.start]
        if not at_row.any():
            notes.append(
                f"the aperture has no pixel in row {row}, where the source's position is measured; "
                "the offset counts from the middle of the image, as in the pipeline"
            )
            return (image.shape[1] - 1) / 2.0
        columns = np.arange(weights.columns.start, weights.columns.stop)
        return float(np.average(columns, weights=at_row))

    # --- what is summed ----------------------------------------------------------------------

    def weights(self, image: SlitImage, placement: Placement) -> Weights:
        """Give the weights of the aperture's pixels.

        Parameters
        ----------
        image : SlitImage
            An image or a stack of them.
        placement : Placement
            What `place` gave for it.

        Returns
        -------
        Weights
            Fractions of pixels that are in the aperture.

        Raises
        ------
        ApertureError
            If it has no pixel on the image.
        """
        weights = self.aperture.weights(image.wavelength, placement.trace, placement.offset)
        if weights.empty:
            raise ApertureError(
                f"{image.label}: the source aperture ({weights.lower:.2f} to {weights.upper:.2f}) "
                f"has no pixel on the image, whose columns are 0 to {image.shape[1] - 1} and "
                f"rows 0 to {image.shape[0] - 1}"
            )
        return weights

    def _plan(self, image: SlitImage, placement: Placement) -> BoxPlan:
        wavelength = image.wavelength
        weights = self.weights(image, placement)
        rows, source, total, wave = align_rows(
            WeightedColumns.from_weights(weights, weights.rows), wavelength, weights.rows
        )
        if not (total > 0).any():
            raise ProductError(f"{image.label}: no pixel of the aperture has a wavelength")
        kept = total > 0
        region = None
        if self.background is not None and self.subtract_background is not False:
            found = self.background.weights(wavelength, placement.background_offset)
            region = WeightedColumns.from_weights(found, rows)
        correction = None
        if (
            self.aperture_correction is not None
            and self.apply_apcorr
            and (image.source_type or "").upper() == "POINT"
        ):
            self.aperture_correction.check(image.subarray, image.label)
            correction = self.aperture_correction
        return BoxPlan(
            rows=rows,
            source=source,
            total=total,
            wavelength=wave,
            kept=None if kept.all() else kept,
            limits=(weights.lower, weights.upper),
            background=self.background if region is not None else None,
            region=region,
            correction=correction,
        )

    def _look(
        self,
        columns: dict[str, NDArray[Any]],
        total: NDArray[np.float64],
        image: SlitImage,
        regionless: int,
        notes: list[str],
    ) -> None:
        """Tell what a user would want to know of the result; mask what is asked to be masked."""
        pixels = columns["NPIXELS"]
        if not (pixels > NO_PIXELS).any():
            raise ProductError(f"{image.label}: every pixel of the aperture is NaN or flagged")
        # Half a pixel where nothing is asked: at the trace's peak that is a tenth of the light.
        allowed = REPORTED_LOSS if self.max_lost is None else self.max_lost * total
        few = pixels < total - allowed - NO_PIXELS  # rounding apart
        if few.any():
            few &= pixels > NO_PIXELS  # without any pixel the flux is NaN: nothing to be misled by
            if self.max_lost is not None:
                columns["DQ"][few] |= np.uint32(DO_NOT_USE)
            number = int(few.sum())
            if number:
                lost = np.where(few, total - pixels, 0.0)
                worst = np.unravel_index(int(lost.argmax()), lost.shape)
                done = "max_lost=0 would mask them" if self.max_lost is None else "they are masked"
                notes.append(
                    f"bad pixels took part of the aperture in {number} of {pixels.size} rows, at "
                    f"most {lost[worst]:.1f} of its {total[worst[-1]]:.1f} pixels at "
                    f"{columns['WAVELENGTH'][worst]:.2f} um; their light is missing from the flux "
                    f"({done})"
                )
        unknown = int(np.count_nonzero(np.isnan(columns["FLUX_ERROR"]) & (columns["DQ"] == 0)))
        if unknown:
            notes.append(
                f"{unknown} of {pixels.size} rows have a flux and no error: their variances "
                "(VAR_POISSON, VAR_RNOISE, VAR_FLAT) are negative, expected 0 or more"
            )
        if regionless:
            notes.append(
                f"{regionless} of {pixels.size} rows have too few pixels in the background "
                "regions; "
                + (
                    "they have no flux"
                    if self.background is not None and self.background.bkg_fit == "median"
                    else "nothing was subtracted there"
                )
            )

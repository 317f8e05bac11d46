"""Extract1D, the operator: SlitImage -> Extraction.

The sums of a box are here. For optimal extraction, and where bad pixels are made up for, `run`
hands over to `glue_lrs.methods`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.aperture import Aperture, Weights, check_number, weighted_sum
from glue_lrs.aperture_correction import ApertureCorrection
from glue_lrs.background import Background, BackgroundFit, spread
from glue_lrs.errors import ApertureError, LRSWarning, ProductError, ReferenceFileError
from glue_lrs.extraction import COLUMNS, Extraction, Provenance, column_units
from glue_lrs.header import OwnHeader
from glue_lrs.image import DO_NOT_USE, FIXED_SLIT, SlitImage, load_wcs
from glue_lrs.position import SourcePosition, expected_position, expected_trace
from glue_lrs.reference import IN_MEMORY

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.optimal import OptimalResult
    from glue_lrs.profile import PSFProfile
    from glue_lrs.reference import Reference

__all__ = ["Extract1D", "Placement"]

#: Pixels of a window that are worked on at once: few enough to stay in the processor's cache and
#: far below the image's own memory, enough to hide the cost of a call.
_BLOCK_PIXELS = 3 << 15
#: Whole rows of a stack are read where they have up to so many times the columns that are wanted.
_WHOLE_ROWS = 3
#: What a run may add to the memory of the six planes (SCI, ERR, three variances, WAVELENGTH).
_MEMORY = 0.25
#: Bytes that a run takes apart from arrays, and that a row takes apart from its pixels.
_OVERHEAD, _ROW_BYTES = 6_000, 20
#: The least rows of a block: with fewer it would be calls that take the time.
_LEAST_ROWS = 64
#: Rows that lost more than so many pixels to bad ones are told of, whether or not they are masked.
_TELL_LOST = 0.5

#: What is said of an image without them.
NO_VARIANCES = "there are no variances (VAR_POISSON, VAR_RNOISE, VAR_FLAT): the errors are 0"
#: An aperture with less weight than this has no pixel (`numpy.isclose` to 0).
_NO_PIXELS = 1e-8
#: MJy to Jy.
_MEGA = 1e6

_VARIANCES = ("var_poisson", "var_rnoise", "var_flat")
#: Columns in double precision: flux, surface brightness and background, each with its error and the
#: three variances; and the number of pixels.
_NUMBERS = tuple(name for name in COLUMNS if name not in ("WAVELENGTH", "DQ"))
#: Where they stand among the sums that they are made from.
_PIXELS, _FLUX, _BACK, _SUMS = 0, slice(1, 6), slice(6, 11), 11


def tell(image: SlitImage, notes: Sequence[str]) -> None:
    """Warn the caller's caller of all but what was told when a file was read."""
    for note in notes:
        if note != NO_VARIANCES or image.path is None:
            warnings.warn(f"{image.label}: {note}", LRSWarning, stacklevel=3)


@dataclass(frozen=True)
class Placement:
    """Where the source was found and what that did to the aperture.

    Parameters
    ----------
    position : SourcePosition, optional
        Where the header puts the source; None where it was not asked or is not known.
    offset : float
        Columns that the aperture was moved by, `position_offset` included.
    background_offset : float
        Columns that the background regions were moved by.
    trace : ndarray, optional
        Column of the source in each row.
    """

    position: SourcePosition | None = None
    offset: float = 0.0
    background_offset: float = 0.0
    trace: NDArray[np.float64] | None = None


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
        (`~glue_lrs.optimal_pipeline.PipelineOptimal`). The others are departures from it
        (`~glue_lrs.optimal.OptimalExtraction`): ``"psf"`` with the profile of `psf`, ``"learned"``
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
            from glue_lrs.methods import check

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
        from glue_lrs.parameters import operator_from_reference

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
        from glue_lrs.parameters import operator_from_parameters

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
        from glue_lrs.folding import to_reference

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
        image = SlitImage.of(image)
        if self.extraction_type != "box" or self.bad_pixels is not None:
            from glue_lrs.methods import run_other

            return run_other(self, image)
        notes: list[str] = []
        scale = _jansky_per_sum(image)
        placement = self.place(image, notes)
        plan = self._plan(image, placement)
        if plan.limits[0] < -0.5 or plan.limits[1] > image.shape[1] - 0.5:
            notes.append(
                f"the aperture ({plan.limits[0]:.2f} to {plan.limits[1]:.2f}) reaches beyond the "
                f"image, whose columns are 0 to {image.shape[1] - 1}"
            )
        columns, regionless = _extract(image, plan, scale)
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
        tell(image, notes)
        if plan.correction is None and (image.source_type or "").upper() == "POINT":
            notes.append("no aperture correction was applied")  # told when the operator was made
        header = OwnHeader.of(image.header)
        return Extraction(
            columns={name: columns[name] for name in COLUMNS},
            units=column_units(image.calibrated),
            header=header,
            keywords_source=_BoxKeywords.of(image, plan, header),
            times=_integration_times(image),
            int_times=None if image.times is None else image.times.copy(),
            provenance=Provenance(
                partial(getattr, self, "parameters"),
                image.path or image.filename,
                dict(self.references),
                _position_record(placement),
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
        from glue_lrs.methods import fit

        return fit(self, SlitImage.of(image))

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
        from glue_lrs.parameters import operator_parameters

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

    def _plan(self, image: SlitImage, placement: Placement) -> _Plan:
        wavelength = image.wavelength
        weights = self.weights(image, placement)
        rows, source, total, wave = _along(
            _Part.of(weights, weights.rows), wavelength, weights.rows
        )
        if not (total > 0).any():
            raise ProductError(f"{image.label}: no pixel of the aperture has a wavelength")
        kept = total > 0
        region = None
        if self.background is not None and self.subtract_background is not False:
            found = self.background.weights(wavelength, placement.background_offset)
            region = _Part.of(found, rows)
        correction = None
        if (
            self.aperture_correction is not None
            and self.apply_apcorr
            and (image.source_type or "").upper() == "POINT"
        ):
            self.aperture_correction.check(image.subarray, image.label)
            correction = self.aperture_correction
        return _Plan(
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
        if not (pixels > _NO_PIXELS).any():
            raise ProductError(f"{image.label}: every pixel of the aperture is NaN or flagged")
        # Half a pixel where nothing is asked: at the trace's peak that is a tenth of the light.
        allowed = _TELL_LOST if self.max_lost is None else self.max_lost * total
        few = pixels < total - allowed - _NO_PIXELS  # rounding apart
        if few.any():
            few &= pixels > _NO_PIXELS  # without any pixel the flux is NaN: nothing to be misled by
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


@dataclass(frozen=True, eq=False)
class _Part:
    """The columns of an image that have any weight, as runs of neighbours, and their weights.

    `values` has the shape (row, column) for the rows of the plan, or (1, column) where all are
    alike.
    """

    runs: tuple[slice, ...]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, weights: Weights, rows: slice) -> _Part:
        values = weights.values
        if not weights.uniform:
            values = values[rows.start - weights.rows.start : rows.stop - weights.rows.start]
        used = values.any(axis=0)
        if used.all():
            return cls((weights.columns,), values)
        edges = np.zeros(used.size + 2, dtype=bool)
        edges[1:-1] = used
        turns = np.flatnonzero(edges[1:] != edges[:-1]).tolist()
        first = weights.columns.start
        runs = tuple(
            slice(first + start, first + stop)
            for start, stop in zip(turns[::2], turns[1::2], strict=True)
        )
        return cls(runs, values[:, used])

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.values.shape[1]

    @property
    def uniform(self) -> bool:
        """Whether all rows are alike."""
        return self.values.shape[0] == 1

    @cached_property
    def full(self) -> bool:
        """Whether all pixels have some weight."""
        return bool(self.values.all())

    def weights(self, block: slice) -> NDArray[np.float64]:
        """The weights of a block of rows."""
        return self.values if self.uniform else self.values[block]


def _index(runs: tuple[slice, ...]) -> NDArray[np.intp]:
    """Column numbers."""
    return np.concatenate([np.arange(run.start, run.stop) for run in runs])


@dataclass(frozen=True, eq=False)
class _Columns:
    """Runs of columns of a plane, and where they go in an array of these columns alone."""

    places: tuple[tuple[slice, slice], ...]
    width: int

    @classmethod
    def of(cls, runs: tuple[slice, ...]) -> _Columns:
        places, done = [], 0
        for run in runs:
            places.append((run, slice(done, done + run.stop - run.start)))
            done += run.stop - run.start
        return cls(tuple(places), done)

    def whole_rows(self, columns: int) -> bool:
        """Whether whole rows of a stack are copied before they are cut.

        Memory is read fastest from end to end, unless most of it is not wanted.
        """
        return columns <= _WHOLE_ROWS * self.width

    def cut(self, plane: NDArray[Any], where: tuple[slice, ...]) -> NDArray[Any]:
        """A copy of the columns of a part of a plane, in the machine's byte order."""
        part = plane[where]
        native = part.dtype if part.dtype.isnative else part.dtype.newbyteorder("=")
        if part.ndim == 2 or part.strides[-1] != part.itemsize:
            out = np.empty((*part.shape[:-1], self.width), native)
            for run, place in self.places:
                out[..., place] = part[..., run]
            return out
        # In a stack each row's run is copied as one item, many times faster than number by number;
        # for a single image that is not worth it.
        if self.whole_rows(part.shape[-1]):
            part = part.astype(native, order="C")
        out = np.empty((*part.shape[:-1], self.width), part.dtype)
        for run, place in self.places:
            item = f"V{(run.stop - run.start) * part.itemsize}"
            out[..., place].view(item)[...] = part[..., run].view(item)
        return out if part.dtype.isnative else out.byteswap(inplace=True).view(native)


def _along(
    part: _Part, wavelength: NDArray[Any], within: slice
) -> tuple[slice, _Part, NDArray[np.float64], NDArray[np.float64]]:
    """Rows from the first to the last with any weight; weights, their sums and mean wavelengths.

    `part` is for the rows `within`. A pixel without a finite wavelength has no weight.
    """
    window = _Columns.of(part.runs).cut(np.asarray(wavelength), (within,))
    finite = np.isfinite(window)
    first, values = within.start, part.values
    if not finite.all():
        some = np.flatnonzero((finite & (values > 0)).any(axis=1))
        inner = slice(int(some[0]), int(some[-1]) + 1) if some.size else slice(0, 0)
        within = slice(first + inner.start, first + inner.stop)
        window, finite = window[inner], finite[inner]
        values = part.weights(inner)
    if part.uniform and finite.all():
        total = np.full(len(window), values.sum())
        return within, part, total, weighted_sum(window, values) / values.sum()
    if part.uniform or not finite.all():
        values = values * finite
    total = values.sum(axis=1)
    np.copyto(window, 0, where=~finite)
    sums = weighted_sum(window, values)
    mean = np.divide(sums, total, out=np.ones_like(total), where=total > 0)
    return within, replace(part, values=values), total, mean


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be summed on one image: rows and weights.

    `total` and `wavelength` have a value for each of the rows; `kept` tells which of them have any
    weight (None: all).
    """

    rows: slice
    source: _Part
    total: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    kept: NDArray[np.bool_] | None
    limits: tuple[float, float]
    background: Background | None
    region: _Part | None
    correction: ApertureCorrection | None

    @property
    def number_of_rows(self) -> int:
        return self.rows.stop - self.rows.start

    @cached_property
    def columns(self) -> _Columns:
        """Columns of the aperture, then those of the regions."""
        return _Columns.of(self.source.runs + (() if self.region is None else self.region.runs))

    @property
    def halo(self) -> int:
        """Rows on either side that smoothing looks at."""
        return 0 if self.background is None else self.background.smoothing_length // 2


def _steps(image: SlitImage, plan: _Plan) -> tuple[int, int]:
    """Integrations and rows of a block."""
    rows, width = plan.number_of_rows, plan.columns.width
    size, beside = image.data.itemsize, 0 if plan.region is None else plan.region.width
    # What lasts is taken from the memory that may be added: columns, wavelengths, totals, weights.
    free = _MEMORY * 6 * image.data.nbytes - _OVERHEAD - 16 * rows - plan.source.values.nbytes
    free -= 8 * len(COLUMNS) * rows * len(image.data) if image.is_stack else 8 * _SUMS * rows
    # Measured: when planes are read; when variances are summed; when a background is fitted.
    double = 8 * max(plan.source.width, min(beside, 24))
    at_once = [2 * (size + 1) * width, (size + 1) * width + double]
    order = 0
    if plan.background is not None and plan.region is not None:
        free -= plan.region.values.nbytes
        order = plan.background.bkg_order if plan.background.bkg_fit == "poly" else 0
        if plan.background.bkg_fit == "poly":
            at_once.append(size * width + 11 * beside + (130 + 10 * order if order else 20))
        if plan.halo:
            at_once.append(size * width + (4 * size + 2) * beside)
    a_row = max(at_once) + _ROW_BYTES + (0 if plan.source.uniform else 8 * plan.source.width)
    if image.is_stack:  # variances are kept; there may be many patterns of pixels
        a_row += 3 * size * width + (40 * (order + 1) ** 2 if order else 0)
        if plan.columns.whole_rows(image.shape[1]):
            a_row += size * image.shape[1]
    most = max(int(free / a_row) - 2 * plan.halo, _LEAST_ROWS)
    most = max(min(most, _BLOCK_PIXELS // width), 1)
    if image.is_stack:
        row_step = min(rows, most)
        return most // row_step, row_step
    number = -(-rows // most)
    return 1, -(-rows // number)


def _extract(image: SlitImage, plan: _Plan, scale: float) -> tuple[dict[str, NDArray[Any]], int]:
    """The columns but for WAVELENGTH, and the number of rows that have no background."""
    planes = {
        name: np.asarray(plane)  # slicing a memory map costs more than reading it
        for name in ("data", "err", *_VARIANCES, "dq")
        for plane in [getattr(image, name)]
        if plane is not None
    }
    rows = plan.number_of_rows
    number = len(image.data) if image.is_stack else 1
    shape = (number, rows) if image.is_stack else (rows,)
    step, row_step = _steps(image, plan)
    sums = np.empty((_SUMS, *shape))
    regionless = 0
    for first in range(0, number, step):
        at = (slice(first, min(first + step, number)),) if image.is_stack else ()
        part = sums[(slice(None), *at)]
        for start in range(0, rows, row_step):
            block = slice(start, min(start + row_step, rows))
            regionless += _sum_block(image, planes, plan, part[..., block], at, block)
        factor = _factor(plan, part[_PIXELS])
        if first == 0:  # not before the sums of a single image: they take memory as well
            bright, flags = np.empty((5, *shape)), np.empty(shape, dtype=np.uint32)
        _scale(scale, factor, part, bright[(slice(None), *at)], flags[at])
    numbers = (*sums[_FLUX], *bright, *sums[_BACK], sums[_PIXELS])
    return dict(zip(_NUMBERS, numbers, strict=True)) | {"DQ": flags}, regionless


@dataclass(frozen=True, eq=False)
class _Window:
    """The pixels of a block: columns of the aperture first, then those of the background."""

    planes: dict[str, NDArray[Any]]
    where: tuple[slice, ...]
    columns: _Columns
    kept: dict[str, NDArray[Any]] = field(default_factory=dict)

    def read(self) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The data, NaN where a pixel has no value; and where a variance is infinite, if anywhere.

        NaN in any plane, or DQ bit 0, takes the value from a pixel.
        """
        data = self.columns.cut(self.planes["data"], self.where)
        bad = np.isnan(data)
        infinite = None
        for name, plane in self.planes.items():
            if name in ("data", "dq"):
                continue
            values = self.columns.cut(plane, self.where)
            odd = np.isfinite(values)
            number = odd.size - np.count_nonzero(odd)
            if number:  # seldom: then it matters which
                np.isnan(values, out=odd)
                bad |= odd
                if number > np.count_nonzero(odd) and name != "err":
                    odd = np.isinf(values)
                    infinite = odd if infinite is None else infinite | odd
            if values.ndim == 3 and name != "err":
                self.kept[name] = values  # cheap beside a stack, and dear to read twice
            del values, odd
        if "dq" in self.planes:
            flags = self.columns.cut(self.planes["dq"], self.where)
            flags &= flags.dtype.type(DO_NOT_USE)
            if np.count_nonzero(flags):
                bad |= flags.astype(bool)
        if np.count_nonzero(bad):
            np.copyto(data, np.nan, where=bad)
        return data, infinite

    def variance(self, name: str, inner: slice) -> NDArray[Any] | None:
        """One of the variances, for the inner rows; None where the image has none."""
        if name in self.kept:
            return self.kept.pop(name)[..., inner, :]
        if name not in self.planes:
            return None
        rows = self.where[-1]
        rows = slice(rows.start + inner.start, rows.start + inner.stop)
        return self.columns.cut(self.planes[name], (*self.where[:-1], rows))


def _sum_block(
    image: SlitImage,
    planes: dict[str, NDArray[Any]],
    plan: _Plan,
    sums: NDArray[np.float64],
    at: tuple[slice, ...],
    block: slice,
) -> int:
    """Sum up a block of rows; return the number of rows without background.

    Sums are the pixels; the data less background, and the variances of that without those of the
    background; and the background and its variances.
    """
    rows = slice(plan.rows.start + block.start, plan.rows.start + block.stop)
    wide = slice(max(rows.start - plan.halo, 0), min(rows.stop + plan.halo, image.shape[0]))
    inner = slice(rows.start - wide.start, rows.stop - wide.start)
    split, weights = plan.source.width, plan.source.weights(block)
    pixels, flux, back = sums[_PIXELS], sums[_FLUX][0], sums[_BACK][0]

    window = _Window(planes, (*at, wide), plan.columns)
    data, infinite = window.read()
    fit = None
    if plan.background is not None and plan.region is not None:
        smoothed = None
        if plan.halo:
            smoothed = plan.background.smooth(data[..., split:])[..., inner, :]
            data = data[..., inner, :]
            infinite = None if infinite is None else infinite[..., inner, :]
        invalid = np.isfinite(data)  # all columns, as numpy takes memory to work on some of them
        np.logical_not(invalid, out=invalid)
        if infinite is not None:
            invalid |= infinite
        fit = _fit_background(image, plan, data, invalid, smoothed, block)
        del smoothed, invalid
    del infinite
    source = data[..., :split]
    regionless = 0
    if fit is not None and np.count_nonzero(fit.empty):
        # of no matter where the aperture has no pixel either
        regionless = int(np.count_nonzero(fit.empty & np.isfinite(source).any(axis=-1)))
    if fit is not None and fit.level is not None:
        with np.errstate(invalid="ignore"):
            source -= fit.level[..., np.newaxis]
    discard = np.isfinite(data)  # of all columns: see above
    np.logical_not(discard, out=discard)
    drop = discard[..., :split]
    if not plan.source.full:
        drop |= weights == 0
    dropped = bool(drop.any())
    if dropped:
        np.copyto(source, 0, where=drop)
        pixels[...] = weighted_sum(~drop, weights)
    else:
        pixels[...] = weights.sum(axis=-1)
    flux[...] = weighted_sum(source, weights)
    del data, source
    if fit is None:
        sums[_BACK] = 0.0
    elif fit.coefficients is not None:
        terms = fit.coefficients.shape[-1]
        if terms == 1:
            np.multiply(fit.coefficients[..., 0], pixels, out=back)
        else:
            reach = (~drop * weights if dropped else weights) @ _basis(image, plan.source, terms)
            back[...] = (fit.coefficients * reach).sum(axis=-1)
        flux -= back
    elif fit.level is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            np.multiply(fit.level, pixels, out=back)
        back[~np.isfinite(back)] = 0.0

    squared = weights**2
    if fit is not None:
        np.logical_not(fit.used, out=discard[..., split:])
        gain = np.square(fit.response)
        del fit
    for in_flux, in_back, name in zip(sums[_FLUX][2:], sums[_BACK][2:], _VARIANCES, strict=True):
        variance = window.variance(name, inner)
        if variance is None:
            in_flux[...] = in_back[...] = 0.0
            continue
        np.copyto(variance, 0.0, where=discard)
        in_flux[...] = weighted_sum(variance[..., :split], squared)
        if plan.region is not None:
            in_back[...] = spread(variance[..., split:], gain)
        del variance
    return regionless


def _fit_background(
    image: SlitImage,
    plan: _Plan,
    data: NDArray[Any],
    invalid: NDArray[np.bool_],
    smoothed: NDArray[Any] | None,
    block: slice,
) -> BackgroundFit:
    """The background of a block, of the columns that come after those of the aperture."""
    assert plan.background is not None  # the caller has looked
    assert plan.region is not None
    split = plan.source.width
    order = plan.background.bkg_order if plan.background.bkg_fit == "poly" else 0
    return plan.background.fit(
        data[..., split:],
        plan.region.weights(block) != 0,
        invalid[..., split:],
        _axis(image)[_index(plan.region.runs)] if order else np.empty(0),
        plan.source.weights(block) @ _basis(image, plan.source, order + 1),
        smoothed,
    )


def _factor(plan: _Plan, pixels: NDArray[np.float64]) -> NDArray[np.float64] | float:
    """The aperture correction, which the pipeline reads at the pixels that are left."""
    if plan.correction is None:
        return 1.0
    if pixels.ndim == 1:
        return plan.correction(plan.wavelength, pixels)
    whole = plan.correction(plan.wavelength, plan.total[:1] if plan.source.uniform else plan.total)
    factor = np.array(np.broadcast_to(whole, pixels.shape))
    fewer = np.nonzero(plan.total - pixels > _NO_PIXELS)  # of a stack these are few
    factor[fewer] = plan.correction(plan.wavelength[fewer[-1]], pixels[fewer])
    return factor


def _scale(
    scale: float,
    factor: NDArray[np.float64] | float,
    sums: NDArray[np.float64],
    bright: NDArray[np.float64],
    flags: NDArray[np.uint32],
) -> None:
    """Turn sums into what the columns mean, in place; fill surface brightness and DQ."""
    pixels, flux, back = sums[_PIXELS], sums[_FLUX], sums[_BACK]
    flux[2:] += back[2:]
    none = pixels <= _NO_PIXELS
    area = pixels
    if none.any():
        np.copyto(flux, np.nan, where=none)
        np.copyto(back[2:], np.nan, where=none)
        area = np.where(pixels > 0, pixels, 1.0)
    flags[...] = np.isnan(flux[0])
    to_flux = factor * scale
    np.divide(factor, area, out=bright[0])
    np.multiply(flux[2:], bright[0], out=bright[2:])
    bright[2:] *= bright[0]
    bright[0] *= flux[0]
    flux[0] *= to_flux
    flux[2:] *= to_flux
    flux[2:] *= to_flux
    back[0] /= area
    back[2:] /= area
    back[2:] /= area
    with np.errstate(invalid="ignore"):  # negative variances, which are told of
        for _, error, poisson, rnoise, flat in (flux, bright, back):
            np.add(poisson, rnoise, out=error)
            error += flat
            np.sqrt(error, out=error)


def _axis(image: SlitImage) -> NDArray[np.float64]:
    """The coordinate that backgrounds are polynomials of: -1 to 1 over the columns."""
    return np.linspace(-1.0, 1.0, image.shape[1])


def _basis(image: SlitImage, part: _Part, terms: int) -> NDArray[np.float64]:
    """Powers of the coordinate at the columns of a part, shape (column, terms)."""
    if terms == 1:
        return np.ones((part.values.shape[1], 1))
    return np.vander(_axis(image)[_index(part.runs)], terms, increasing=True)


def _jansky_per_sum(image: SlitImage) -> float:
    """What a sum of pixels is multiplied by to become a flux."""
    if not image.calibrated:
        return 1.0
    if image.pixel_area is None or not image.pixel_area > 0:
        found = "missing" if image.pixel_area is None else f"{image.pixel_area:g}"
        raise ProductError(
            f"{image.label}: PIXAR_SR is {found}, expected a solid angle in sr, as S_PHOTOM says "
            "that the file is photometrically calibrated"
        )
    return image.pixel_area * _MEGA


def _position_record(placement: Placement) -> dict[str, Any]:
    record: dict[str, Any] = {
        "offset": placement.offset,
        "background_offset": placement.background_offset,
    }
    if placement.position is not None:
        record["column"] = placement.position.column
        record["row"] = placement.position.row
        record["wavelength"] = placement.position.wavelength
    return record


def _integration_times(image: SlitImage) -> Table | None:
    """INT_NUM, SEGMENT and the times of each integration of a stack, under the x1dints' names."""
    if not image.is_stack:
        return None
    number = image.data.shape[0]
    table = Table()
    table["INT_NUM"] = np.arange(1, number + 1, dtype=np.int32)
    segment = OwnHeader.peek(image.header).get("EXSEGNUM", 1)
    table["SEGMENT"] = np.full(number, segment, dtype=np.int32)
    names = {
        "MJD-BEG": "int_start_MJD_UTC",
        "MJD-AVG": "int_mid_MJD_UTC",
        "MJD-END": "int_end_MJD_UTC",
        "TDB-BEG": "int_start_BJD_TDB",
        "TDB-MID": "int_mid_BJD_TDB",
        "TDB-END": "int_end_BJD_TDB",
    }
    known = image.times is not None and len(image.times) == number
    if known and image.times is not None:
        table["INT_NUM"] = np.asarray(image.times["integration_number"], dtype=np.int32)
    for name, source in names.items():
        if known and image.times is not None:
            table[name] = np.asarray(image.times[source], dtype=float)
        else:
            table[name] = np.full(number, np.nan)
        table[name].unit = "d"
    return table


@dataclass(frozen=True, eq=False)
class _Keywords:
    """The cards of the EXTRACT1D extension: worked out when asked for, as they need the WCS.

    It must not hold the image: a spectrum would keep a whole stack, or an open file, alive.
    """

    cards: dict[str, Any]
    wcs_source: Any
    column: float
    row: float

    def __call__(self) -> dict[str, Any]:
        cards = dict(self.cards)
        wcs = load_wcs(self.wcs_source)
        if wcs is not None:
            ra, dec = (float(v) for v in wcs(self.column, self.row)[:2])
            if np.isfinite(ra) and np.isfinite(dec):
                cards |= {"SLIT_RA": ra, "SLIT_DEC": dec}
        return cards


@dataclass(frozen=True, eq=False)
class _BoxKeywords:
    """Those of a box, of which nothing is worked out before."""

    slit_name: str
    source_type: str | None
    spectral_order: int
    dispaxis: int | None
    header: OwnHeader
    wcs_source: Any
    limits: tuple[float, float]
    rows: slice
    runs: tuple[slice, ...]
    weights: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def of(cls, image: SlitImage, plan: _Plan, header: OwnHeader) -> _BoxKeywords:
        return cls(
            image.slit_name,
            image.source_type,
            image.spectral_order,
            image.dispaxis,
            header,
            image.__dict__.get("wcs", image.wcs_source),
            plan.limits,
            plan.rows,
            plan.source.runs,
            plan.source.values.sum(axis=0),
            plan.total,
        )

    @property
    def cards(self) -> dict[str, Any]:
        """The cards that need no WCS."""
        cards: dict[str, Any] = {"SLTNAME": self.slit_name}
        if self.source_type:
            cards["SRCTYPE"] = self.source_type
        cards |= {
            "EXTRXSTR": self.limits[0] + 1,
            "EXTRXSTP": self.limits[1] + 1,
            "EXTRYSTR": self.rows.start + 1,
            "EXTRYSTP": self.rows.stop,
            "SPORDER": self.spectral_order,
            "DISPAXIS": self.dispaxis,
        }
        header = OwnHeader.peek(self.header)
        if "DETECTOR" in header:
            cards["DETECTOR"] = header["DETECTOR"]
        return cards

    def __call__(self) -> dict[str, Any]:
        column = float(_index(self.runs) @ self.weights / self.weights.sum())
        row = float(np.arange(self.rows.start, self.rows.stop) @ self.total / self.total.sum())
        return _Keywords(self.cards, self.wcs_source, column, row)()

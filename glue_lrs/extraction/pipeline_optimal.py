"""PipelineOptimalExtractor: optimal extraction with a PSF reference, equal to the pipeline's.

It is there to be compared with. `glue_lrs.extraction.optimal.OptimalExtractor` gives better spectra: here, as
in the pipeline, all pixels weigh the same, the profile is half a pixel off unless its position is
fitted, and a fit that starts in the wrong place stays there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import ProductError
from glue_lrs.extraction.base import NO_VARIANCES, emit_notes, jansky_per_sum
from glue_lrs.extraction.keywords import SpectrumKeywords, integration_times
from glue_lrs.extraction.psf_location import (
    ProfileReader,
    PSFLocation,
    box_bounds,
    fit_row,
    normalise_rows,
)
from glue_lrs.fitting.least_squares import invert_symmetric, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.image.source_position import nod_column
from glue_lrs.image.trace import expected_trace, slit_centre_trace
from glue_lrs.spectra.columns import COLUMNS, COMPONENTS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.psf import PSFProfile

__all__ = ["PipelineOptimalExtractor"]

#: Patterns of dithers in which the other nod leaves one negative trace.
_NOD_PATTERNS = ("ALONG-SLIT-NOD", "2-POINT-NOD")

#: Columns that two nods must be apart at least.
_NOD_APART = 2.0

#: Pixels that are worked on at once.
_BLOCK_PIXELS = 1 << 17

_NO_PIXELS = 1e-8


@dataclass(frozen=True, kw_only=True)
class PipelineOptimalExtractor:
    """Optimal extraction as the pipeline's ``extract_1d`` does it with a PSF reference.

    Parameters
    ----------
    box : Extract1D
        Says where the source is (``use_source_posn``, ``position_offset``) and gives the background
        with its regions; its aperture only tells how far regions move.
    psf : PSFProfile
        The PSF reference.
    model_nod_pair : bool
        Whether to fit a negative trace where the header tells of one; needs an image that was not
        resampled and a position of the source.
    optimize_psf_location : bool
        Whether to fit where the source is.
    bkg_order : int
        Order of the background's polynomial where ``box.subtract_background`` is True and `box` has
        no background.
    psf_reference : str, optional
        Name of the PSF reference for the provenance; None: the profile's own.

    Notes
    -----
    There is no aperture correction. The pipeline's BKGD_ERROR and background variances are NaN in
    each row that has a bad pixel anywhere; here they are not.
    """

    box: Extract1D
    psf: PSFProfile
    model_nod_pair: bool = True
    optimize_psf_location: bool = True
    bkg_order: int = 0
    psf_reference: str | None = None

    def run(self, image: SlitImage) -> Extraction:
        """Extract all columns.

        Parameters
        ----------
        image : SlitImage
            An image or a stack of them.

        Returns
        -------
        Extraction
            The 18 columns; SURF_BRIGHT and its errors are 0. NPIXELS is the number of pixels that
            the profile is worth.

        Raises
        ------
        ProductError
            If the image cannot be extracted.

        Warns
        -----
        LRSWarning
            If the source position is not known.
        """
        notes = [] if image.has_variances else [NO_VARIANCES]
        scale = jansky_per_sum(image)
        placement = self.box.place(image, notes)
        location = self.locate(image, placement, notes)
        profile = location.profiles[0]
        lit = (profile > 0) & ~np.isnan(image.wavelength)
        rows = np.flatnonzero(lit.any(axis=1))
        if rows.size == 0:
            raise ProductError(f"{image.label}: the PSF profile has no light on the image")
        weight = np.where(lit, profile, 0.0)[rows]
        wavelength = np.where(lit[rows], image.wavelength[rows], 0.0).astype(float)
        wavelength = (wavelength * weight).sum(axis=1) / weight.sum(axis=1)
        columns = self._columns(image, placement, location, rows)
        _scale(columns, scale)
        columns["WAVELENGTH"] = np.broadcast_to(wavelength, columns["FLUX"].shape)
        if np.isnan(columns["FLUX"]).all():
            raise ProductError(f"{image.label}: every pixel of the profile is NaN or flagged")
        emit_notes(image, notes)
        (left, right), _ = box_bounds(image)
        total = np.maximum(profile, 0.0).sum(axis=1)
        cards: dict[str, Any] = {"SLTNAME": image.slit_name}
        if image.source_type:
            cards["SRCTYPE"] = image.source_type
        cards |= {
            "EXTRXSTR": left + 1,
            "EXTRXSTP": right + 1,
            "EXTRYSTR": int(rows[0]) + 1,
            "EXTRYSTP": int(rows[-1]) + 1,
            "SPORDER": image.spectral_order,
            "DISPAXIS": image.dispaxis,
        }
        header = LazyHeader.view(image.header)
        if "DETECTOR" in header:
            cards["DETECTOR"] = header["DETECTOR"]
        positive = np.maximum(profile, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            whole = (profile[rows].sum(axis=1)) / (profile[rows] ** 2).sum(axis=1)
        return Extraction(
            columns={name: columns[name] for name in COLUMNS},
            units=column_units(image.calibrated),
            header=LazyHeader.from_header(image.header),
            keywords_source=SpectrumKeywords(
                cards,
                image.__dict__.get("wcs", image.wcs_source),
                float(positive.sum(axis=0) @ np.arange(profile.shape[1]) / positive.sum()),
                float(total @ np.arange(profile.shape[0]) / total.sum()),
            ),
            times=integration_times(image),
            int_times=None if image.times is None else image.times.copy(),
            provenance=Provenance(
                partial(_parameters, self),
                image.path or image.filename,
                {**dict(self.box.references), "psf": self.psf_reference or self.psf.filename},
                {
                    "offset": placement.offset,
                    "background_offset": placement.background_offset,
                    "shift": location.shift,
                    "nod_offset": location.nod_offset,
                },
                notes,
            ),
            aperture_weight=whole,
        )

    # --- where -------------------------------------------------------------------------------

    def trace(self, image: SlitImage, placement: Placement) -> NDArray[np.float64] | None:
        """Column of the source in each row; None where its position is not known."""
        if placement.position is None:
            return None
        return expected_trace(image) + self.box.position_offset

    def middle_trace(self, image: SlitImage) -> NDArray[np.float64]:
        """The trace of a source in the middle of the slit, for want of a position."""
        return slit_centre_trace(image)

    def locate(
        self, image: SlitImage, placement: Placement, notes: list[str] | None = None
    ) -> PSFLocation:
        """Find where the profile goes.

        Parameters
        ----------
        image : SlitImage
            The image.
        placement : Placement
            What `Extract1D.place` found.
        notes : list of str, optional
            Gets what a user would want to know.

        Returns
        -------
        PSFLocation
            The profile and its position.
        """
        notes = [] if notes is None else notes
        (left, right), (bottom, top) = box_bounds(image)
        cut = slice(bottom, top), slice(left, right)
        edge, middle_row = image.bounding_box[0][0], sum(image.bounding_box[1]) / 2.0
        trace = self.trace(image, placement)
        nod_offset = None
        if trace is None:
            trace = self.middle_trace(image)
        elif self.model_nod_pair:
            nod_offset = self._nod_offset(image, float(trace[round(middle_row)]), notes)
        wavelength = np.asarray(image.wavelength[cut], dtype=float)
        read = ProfileReader.from_psf(self.psf, wavelength)
        place = np.arange(right - left) - (trace[bottom:top] - edge)[:, np.newaxis]
        place = place * self.psf.subpix + self.psf.center

        def profiles(shift: float, nod: float | None) -> list[NDArray[np.float64]]:
            moved = place + shift * self.psf.subpix
            both = [normalise_rows(read(moved))]
            if nod is not None:
                both.append(-normalise_rows(read(moved + nod * self.psf.subpix)))
            return both

        shift = 0.0
        if self.optimize_psf_location:
            shift, nod_offset = fit_row(image, cut, profiles, nod_offset)
        found = []
        for part in profiles(shift, nod_offset):
            full = np.zeros(image.shape)
            full[cut] = part
            found.append(full)
        return PSFLocation(trace, shift, nod_offset, tuple(found))

    def _nod_offset(self, image: SlitImage, location: float, notes: list[str]) -> float | None:
        """Columns from the negative trace to the source, by the header; None without one."""
        header = LazyHeader.view(image.header)
        if str(header.get("S_BKDSUB")) != "COMPLETE":
            return None
        if str(header.get("PATTTYPE")) not in _NOD_PATTERNS:
            return None
        column = nod_column(image)
        if column is None or not abs(location - column) >= _NOD_APART:
            notes.append(
                "a negative trace is not modelled: the WCS does not tell where the other nod is"
            )
            return None
        return location - column

    # --- what --------------------------------------------------------------------------------

    def _columns(
        self,
        image: SlitImage,
        placement: Placement,
        location: PSFLocation,
        rows: NDArray[np.intp],
    ) -> dict[str, NDArray[Any]]:
        """Sums in the image's own unit, not scaled: the columns serve as accumulators."""
        background = self.box.background
        subtract = self.box.subtract_background
        order = None
        region = np.zeros(image.shape, dtype=bool)
        if background is not None and subtract is not False:
            order = background.bkg_order
            region = background.weights(image.wavelength, placement.background_offset).full(
                image.shape
            )
            region = region != 0
        elif subtract:
            order = self.bkg_order
        known = np.isfinite(image.wavelength)
        fields = [np.where(known, profile, 0.0) for profile in location.profiles]
        used = region
        for field in fields:
            used = used | (field != 0)
        some = np.flatnonzero(used[rows].any(axis=0))
        part = slice(int(some[0]), int(some[-1]) + 1)
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        kept = rows - span.start
        used = used[span, part][kept]
        lit = [field[span, part][kept] for field in fields]
        x = np.linspace(-1.0, 1.0, image.shape[1])[part]
        behind: list[NDArray[np.float64]] = []
        if order is not None:
            behind = [np.broadcast_to(x**i, used.shape) for i in range(order + 1)]
        shape: tuple[int, ...] = (rows.size,)
        if image.is_stack:
            shape = (image.data.shape[0], rows.size)
        columns: dict[str, NDArray[Any]] = {name: np.zeros(shape) for name in COLUMNS}
        number = image.data.shape[0] if image.is_stack else 1
        step = max(_BLOCK_PIXELS // used.size, 1)
        for first in range(0, number, step):
            block: Any = slice(first, min(first + step, number)) if image.is_stack else slice(None)

            def read(plane: NDArray[Any] | None, block: Any = block) -> NDArray[Any] | None:
                if plane is None:
                    return None
                one = plane[block, span, part] if image.is_stack else plane[span, part]
                return one[..., kept, :]

            data, variances, good = read_pixels(image, read)
            out = {name: values[block] for name, values in columns.items()}
            _extract(data, variances, good, used, lit, behind, out)
        return columns


def _parameters(operator: PipelineOptimalExtractor) -> dict[str, Any]:
    made = dict(operator.box.parameters)
    made["step"] = dict(made.get("step", {})) | {
        "extraction_type": "optimal",
        "model_nod_pair": operator.model_nod_pair,
        "optimize_psf_location": operator.optimize_psf_location,
    }
    return made


def _extract(
    data: NDArray[np.float64],
    variances: list[NDArray[np.float64] | None],
    good: NDArray[np.bool_],
    used: NDArray[np.bool_],
    lit: list[NDArray[np.float64]],
    behind: list[NDArray[np.float64]],
    out: dict[str, NDArray[Any]],
) -> None:
    """Least squares of each row with unit weights, and what follows from it."""
    basis = behind + lit
    mask = (good & used).astype(float)
    weighted = [field * mask for field in basis]
    inverse, _ = invert_symmetric(normal(basis, weighted))
    vector = np.stack([np.einsum("...c,...c->...", field, data) for field in weighted], axis=-1)
    coefficients = np.einsum("...ij,...j->...i", inverse, vector)
    source = len(behind)
    response = np.zeros_like(data)
    for i, field in enumerate(weighted):
        response += inverse[..., source, i, np.newaxis] * field
    out["FLUX"][...] = coefficients[..., source]
    profile = lit[0]
    kept = profile * good
    with np.errstate(invalid="ignore", divide="ignore"):
        out["NPIXELS"][...] = kept.sum(axis=-1) / (profile**2).sum(axis=-1)
        alone = kept / (profile * kept).sum(axis=-1)[..., np.newaxis]
    alone[~np.isfinite(alone)] = 0.0
    response *= response
    for component, values in zip(COMPONENTS, variances, strict=True):
        if values is None:
            continue
        total = np.einsum("...c,...c->...", response, values)
        out[f"FLUX_VAR_{component}"][...] = total
        if behind:
            own = np.einsum("...c,...c,...c->...", alone, alone, values)
            out[f"BKGD_VAR_{component}"][...] = np.maximum(total - own, 0.0)
    for i, field in enumerate(behind):
        out["BACKGROUND"] += coefficients[..., i] * (alone * field).sum(axis=-1)


def _scale(columns: dict[str, NDArray[Any]], scale: float) -> None:
    """Turn sums into what the columns mean."""
    none = ~(np.abs(columns["NPIXELS"]) > _NO_PIXELS)
    pixels = np.where(columns["NPIXELS"] > 0, columns["NPIXELS"], 1.0)
    columns["FLUX"][none] = np.nan
    columns["DQ"] = np.isnan(columns["FLUX"]).astype(np.uint32)
    columns["FLUX"] *= scale
    columns["BACKGROUND"] /= pixels
    for component in COMPONENTS:
        columns[f"FLUX_VAR_{component}"] *= scale**2
        columns[f"BKGD_VAR_{component}"] /= pixels**2
        for name in ("FLUX", "SB", "BKGD"):
            columns[f"{name}_VAR_{component}"][none] = np.nan
    for name in ("FLUX", "SB", "BKGD"):
        total = sum(columns[f"{name}_VAR_{component}"] for component in COMPONENTS)
        columns[f"{name}_ERROR"] = np.sqrt(total)

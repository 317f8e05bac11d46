"""PipelineOptimal: optimal extraction with a PSF reference, equal to the pipeline's.

It is there to be compared with. `glue_lrs.optimal.OptimalExtraction` gives better spectra: here, as
in the pipeline, all pixels weigh the same, the profile is half a pixel off unless its position is
fitted, and a fit that starts in the wrong place stays there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.extract import (
    NO_VARIANCES,
    Extract1D,
    Placement,
    _integration_times,
    _jansky_per_sum,
    _Keywords,
    tell,
)
from glue_lrs.extraction import COLUMNS, COMPONENTS, Extraction, Provenance, column_units
from glue_lrs.header import OwnHeader
from glue_lrs.image import DO_NOT_USE, FIXED_SLIT, SlitImage
from glue_lrs.learn import invert, normal
from glue_lrs.optimal_view import PLANES
from glue_lrs.position import SourcePosition, expected_position, expected_trace
from glue_lrs.profile import PSFProfile, read_rows

__all__ = ["PSFLocation", "PipelineOptimal"]

#: Patterns of dithers in which the other nod leaves one negative trace.
_NOD_PATTERNS = ("ALONG-SLIT-NOD", "2-POINT-NOD")
#: Columns that two nods must be apart at least.
_NOD_APART = 2.0
#: Pixels that are worked on at once.
_BLOCK_PIXELS = 1 << 17
_NO_PIXELS = 1e-8


@dataclass(frozen=True, eq=False)
class PSFLocation:
    """Where the profile was put.

    Parameters
    ----------
    trace : ndarray
        Column that the header gives for each row of the image, NaN outside the bounding box.
    shift : float
        Columns that the profile was moved by: to the left where positive, as in the pipeline.
    nod_offset : float, optional
        Columns from the negative trace to the source; None: there is none.
    profiles : tuple of ndarray
        Profile of the source and, times -1, of the negative trace, on the whole image.
    """

    trace: NDArray[np.float64]
    shift: float
    nod_offset: float | None
    profiles: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, kw_only=True)
class PipelineOptimal:
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
        scale = _jansky_per_sum(image)
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
        tell(image, notes)
        (left, right), _ = _bounds(image)
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
        header = OwnHeader.peek(image.header)
        if "DETECTOR" in header:
            cards["DETECTOR"] = header["DETECTOR"]
        positive = np.maximum(profile, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            whole = (profile[rows].sum(axis=1)) / (profile[rows] ** 2).sum(axis=1)
        return Extraction(
            columns={name: columns[name] for name in COLUMNS},
            units=column_units(image.calibrated),
            header=OwnHeader.of(image.header),
            keywords_source=_Keywords(
                cards,
                image.__dict__.get("wcs", image.wcs_source),
                float(positive.sum(axis=0) @ np.arange(profile.shape[1]) / positive.sum()),
                float(total @ np.arange(profile.shape[0]) / total.sum()),
            ),
            times=_integration_times(image),
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
        return _middle_trace(image)

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
        (left, right), (bottom, top) = _bounds(image)
        cut = slice(bottom, top), slice(left, right)
        edge, middle_row = image.bounding_box[0][0], sum(image.bounding_box[1]) / 2.0
        trace = self.trace(image, placement)
        nod_offset = None
        if trace is None:
            trace = self.middle_trace(image)
        elif self.model_nod_pair:
            nod_offset = self._nod_offset(image, float(trace[round(middle_row)]), notes)
        wavelength = np.asarray(image.wavelength[cut], dtype=float)
        read = _Reader.of(self.psf, wavelength)
        place = np.arange(right - left) - (trace[bottom:top] - edge)[:, np.newaxis]
        place = place * self.psf.subpix + self.psf.center

        def profiles(shift: float, nod: float | None) -> list[NDArray[np.float64]]:
            moved = place + shift * self.psf.subpix
            both = [_normalised(read(moved))]
            if nod is not None:
                both.append(-_normalised(read(moved + nod * self.psf.subpix)))
            return both

        shift = 0.0
        if self.optimize_psf_location:
            shift, nod_offset = _fit(image, cut, profiles, nod_offset)
        found = []
        for part in profiles(shift, nod_offset):
            full = np.zeros(image.shape)
            full[cut] = part
            found.append(full)
        return PSFLocation(trace, shift, nod_offset, tuple(found))

    def _nod_offset(self, image: SlitImage, location: float, notes: list[str]) -> float | None:
        """Columns from the negative trace to the source, by the header; None without one."""
        header = OwnHeader.peek(image.header)
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


def _parameters(operator: PipelineOptimal) -> dict[str, Any]:
    made = dict(operator.box.parameters)
    made["step"] = dict(made.get("step", {})) | {
        "extraction_type": "optimal",
        "model_nod_pair": operator.model_nod_pair,
        "optimize_psf_location": operator.optimize_psf_location,
    }
    return made


def read_pixels(
    image: SlitImage, read: Any
) -> tuple[NDArray[np.float64], list[NDArray[np.float64] | None], NDArray[np.bool_]]:
    """Data, variances and which pixels have a value; 0 at those that have none.

    Parameters
    ----------
    image : SlitImage
        The image.
    read : callable
        Cuts a part out of a plane.
    """
    data = read(image.data).astype(float)
    bad = ~np.isfinite(data)
    err = read(image.err)
    if err is not None:
        bad |= np.isnan(err)
    flags = read(image.dq)
    if flags is not None:
        bad |= (flags & DO_NOT_USE) != 0
    variances: list[NDArray[np.float64] | None] = []
    for name in PLANES:
        values = read(getattr(image, name))
        if values is not None:
            values = values.astype(float)
            bad |= ~np.isfinite(values)
        variances.append(values)
    if bad.any():
        data[bad] = 0.0
        for values in variances:
            if values is not None:
                values[bad] = 0.0
    return data, variances, ~bad


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
    inverse, _ = invert(normal(basis, weighted))
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


# --- geometry -------------------------------------------------------------------------------------


def _bounds(image: SlitImage) -> tuple[tuple[int, int], tuple[int, int]]:
    """Columns and rows of the bounding box: the first, and one after the last."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        (max(math.ceil(left), 0), min(math.ceil(right), columns)),
        (max(math.ceil(bottom), 0), min(math.ceil(top), rows)),
    )


def _middle_trace(image: SlitImage) -> NDArray[np.float64]:
    """The trace of a source in the middle of the box, NaN outside of it."""
    (_, right), (bottom, top) = image.bounding_box
    middle = (bottom + top) / 2.0
    column = (round(right) - 1) / 2.0
    if image.wcs is not None:
        columns = np.arange(round(right), dtype=float)
        waves = np.asarray(image.wcs(columns, np.full_like(columns, middle))[2], dtype=float)
        order = np.argsort(waves)
        order = order[np.isfinite(waves[order])]
        mean = float(np.nanmean(waves)) if order.size else np.nan
        # A NaN among them makes the pipeline look for the mean even where all are alike.
        if order.size and not np.allclose(waves, mean):
            column = float(np.interp(mean, waves[order], columns[order]))
        if image.exp_type == FIXED_SLIT:
            ra, dec = (float(value) for value in image.wcs(column, middle)[:2])
            moved = replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs)
            return expected_trace(moved)
    trace = np.full(image.shape[0], np.nan)
    first = math.ceil(bottom)
    trace[max(first, 0) : first + int(top - bottom)] = column
    return trace


def nod_column(image: SlitImage) -> float | None:
    """Column of the other nod at the middle wavelength, by dither offsets and an unresampled WCS.

    Parameters
    ----------
    image : SlitImage
        An image whose WCS has the frame ``v2v3``, and whose header has XOFFSET and YOFFSET.

    Returns
    -------
    float or None
        The column; None where it cannot be told.
    """
    wcs = image.wcs
    if wcs is None or "v2v3" not in wcs.available_frames:
        return None
    found = expected_position(image)
    if not isinstance(found, SourcePosition):
        return None
    try:
        header = OwnHeader.peek(image.header)
        x, y = -float(header["XOFFSET"]), float(header["YOFFSET"])
        keys = ("V3I_YANG", "V2_REF", "V3_REF", "VPARITY")
        science = OwnHeader.peek(image.sci_header)
        angle, v2, v3, parity = (float(science[key]) for key in keys)
    except (KeyError, TypeError, ValueError):
        return None
    # From the aperture's ideal frame to V2, V3: the pointing is the mirror image of this one's.
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    v2 += parity * x * cosine + y * sine
    v3 += -parity * x * sine + y * cosine
    ra, dec = wcs.get_transform("v2v3", "world")(v2, v3, 0.0)[:2]
    column = float(wcs.backward_transform(ra, dec, found.wavelength)[0])
    return column if math.isfinite(column) else None


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads the PSF image at the wavelengths of some pixels, bilinearly; 0 outside."""

    psf: PSFProfile
    table: NDArray[np.float64] | None
    low: NDArray[np.intp]
    part: NDArray[np.float64]
    inside: NDArray[np.bool_] | None

    @classmethod
    def of(cls, psf: PSFProfile, wavelength: NDArray[np.float64]) -> _Reader:
        known = np.isfinite(wavelength)
        first = np.take_along_axis(wavelength, known.argmax(axis=1)[:, np.newaxis], axis=1)
        some = known.any(axis=1, keepdims=True)
        if np.array_equal(np.where(known, wavelength, 0.0), np.where(known, first, 0.0)):
            # All pixels of a row have the same wavelength: interpolated once for all shifts.
            table = psf.rows(np.where(some, first, np.nan)[:, 0])
            nothing = np.zeros(0)
            return cls(psf, table, nothing.astype(np.intp), nothing, _unless_all(known | ~some))
        low, part, inside = psf.between(wavelength)
        return cls(psf, None, low, part, inside)

    def __call__(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.table is not None:
            value = read_rows(self.table, column)
        else:
            width = self.psf.data.shape[1]
            fits = (column >= 0.0) & (column <= width - 1.0)
            where = np.where(fits, column, 0.0)
            left = np.minimum(where.astype(np.intp), width - 2)
            where -= left
            at = self.low * width + left
            flat = self.psf.data.ravel()
            near = flat[at] * (1.0 - where) + flat[at + 1] * where
            far = flat[at + width] * (1.0 - where) + flat[at + width + 1] * where
            value = (near * (1.0 - self.part) + far * self.part) * fits
        return value if self.inside is None else value * self.inside


def _unless_all(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if mask.all() else mask


def _normalised(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows add up to 1, in place; rows without light stay 0."""
    total = profile.sum(axis=1, keepdims=True)
    np.divide(profile, total, out=profile, where=total != 0)
    return profile


# --- the fit of the position ----------------------------------------------------------------------


def _fit(
    image: SlitImage, cut: tuple[slice, slice], profiles: Any, nod_offset: float | None
) -> tuple[float, float | None]:
    """Shift, and offset of the negative trace, at the least squares of the first integration."""
    from scipy.optimize import minimize

    if image.var_rnoise is None:
        raise ProductError(
            f"{image.label}: has no VAR_RNOISE, expected one as the position is fitted with it "
            "(optimize_psf_location)"
        )
    cost = _cost(image, cut, profiles)
    start = [0.0] if nod_offset is None else [0.0, nod_offset]
    best = minimize(cost, start, method="Nelder-Mead").x
    return float(best[0]), None if nod_offset is None else float(best[1])


def _cost(image: SlitImage, cut: tuple[slice, slice], profiles: Any) -> Any:
    """Sum of (model - data)^2 / VAR_RNOISE as a function of the shifts."""

    def read(plane: NDArray[Any] | None) -> NDArray[Any] | None:
        if plane is None:
            return None
        return plane[(0, *cut)] if plane.ndim == 3 else plane[cut]

    data, variances, good = read_pixels(image, read)
    variance = variances[1]
    assert variance is not None
    good &= variance > 0
    weight = np.zeros_like(data)
    np.divide(1.0, variance, out=weight, where=good)
    mask = good.astype(float)
    one = np.ones_like(data)

    def cost(shifts: Any) -> float:
        lit = profiles(float(shifts[0]), float(shifts[1]) if len(shifts) > 1 else None)
        dark = lit[0] == 0
        for field in lit[1:]:
            dark &= field == 0
        used = np.where(dark, 0.0, mask) if dark.any() else mask
        basis = [one, *lit]
        weighted = [used, *(field * used for field in lit)]
        inverse, _ = invert(normal(basis, weighted))
        vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
        coefficients = np.einsum("rij,rj->ri", inverse, vector)
        residual = data - coefficients[:, 0, np.newaxis]
        for i, field in enumerate(lit, start=1):
            residual -= coefficients[:, i, np.newaxis] * field
        return float(np.einsum("rc,rc,rc->", residual, residual, weight))

    return cost

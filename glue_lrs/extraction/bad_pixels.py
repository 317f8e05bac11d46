"""Light lost to bad pixels, made up for from the profile: ``bad_pixels="profile"`` for the box."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.base import jansky_per_sum
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.fitting.least_squares import inverse_normal, normal
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.spectra.columns import COMPONENTS

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.provenance import Provenance

__all__ = ["extract_corrected"]

#: What a row may lose of the aperture's weight without being mended: rounding.
_NOTHING = 1e-8

#: A row whose good pixels hold less of the profile's power than this cannot be mended.
_LEAST = 0.02


def extract_corrected(
    extract: Extract1D, image: SlitImage, optimal: OptimalExtractor | None = None
) -> Extraction:
    """Extract with a box, and make up for the light that fell on bad pixels.

    Parameters
    ----------
    extract : Extract1D
        The box.
    image : SlitImage
        An image or a stack of them.
    optimal : OptimalExtractor, optional
        How the profile is had: by default it is learned from the image, and the background is
        fitted as a polynomial of the box's order, or of order 0.

    Returns
    -------
    Extraction
        As `Extract1D.run` gives it, but for rows in which bad pixels took part of the aperture:
        these have the light of the profile at the lost pixels as well, the aperture's whole weight
        as NPIXELS, its aperture correction, and larger errors.

    Raises
    ------
    LRSError
        As `Extract1D.run` and `OptimalExtraction.fit`.

    Notes
    -----
    The flux is S = sum_good w (D - B) + L f: f is the flux that an optimal fit of the row finds,
    f = sum k D, and L = sum_bad w P the light lost of a source of flux 1. Both are sums over the
    same pixels, so that the variance is sum (w + L k)^2 var, and not the sum of two variances. Rows
    whose good pixels hold too little of the profile to tell are left as they are, with DQ bit 0.
    """
    told: set[str] = set()
    with _once(told):
        box = extract.run(image)
    image = SlitImage.from_any(image)
    assert box.aperture_weight is not None
    pixels = np.atleast_2d(box.columns["NPIXELS"])
    lost = pixels < box.aperture_weight - _NOTHING
    if not lost.any():
        return box
    if optimal is None:
        optimal = OptimalExtractor(bkg_order=_order(extract), fit_shift=True)
    with _once(told):
        model = optimal.fit(image)
    columns = {name: np.array(np.atleast_2d(values)) for name, values in box.columns.items()}
    mended, hopeless = _mend(extract, image, model, columns, lost, box)
    if not image.is_stack:
        columns = {name: values[0] for name, values in columns.items()}
    notes = []
    if mended:
        notes.append(
            f"light lost to bad pixels was made up for from the profile in {mended} of "
            f"{pixels.size} rows"
        )
    if hopeless:
        notes.append(
            f"{hopeless} of {pixels.size} rows have too few good pixels to make up for what the "
            "others lost; they are masked"
        )
        warnings.warn(f"{image.label}: {notes[-1]}", LRSWarning, stacklevel=2)
    return replace(box, columns=columns, provenance=_with_notes(box.provenance, extract, notes))


@contextlib.contextmanager
def _once(told: set[str]) -> Iterator[None]:
    """Warn of what was not told before, and not of the light that will be made up for."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        text = str(warning.message)
        if text not in told and "bad pixels took part of the aperture" not in text:
            told.add(text)
            warnings.warn_explicit(text, warning.category, warning.filename, warning.lineno)


def _order(extract: Extract1D) -> Any:
    if extract.background is None or extract.subtract_background is False:
        return "auto"
    return extract.background.bkg_order


def _with_notes(
    provenance: Provenance | None, extract: Extract1D, notes: list[str]
) -> Provenance | None:
    if provenance is None:
        return None
    kept = [note for note in provenance.notes if "bad pixels took part of the aperture" not in note]

    def parameters() -> dict[str, Any]:
        made = dict(extract.parameters)
        made["options"] = dict(made.get("options", {})) | {"bad_pixels": "profile"}
        return made

    return provenance.changed(parameters, notes=[*kept, *notes])


def _mend(
    extract: Extract1D,
    image: SlitImage,
    model: OptimalResult,
    columns: dict[str, NDArray[Any]],
    lost: NDArray[np.bool_],
    box: Extraction,
) -> tuple[int, int]:
    """Change the columns where something was lost; count rows that were mended, and not."""
    scale = jansky_per_sum(image)
    placement = extract.place(image)
    weights = extract.aperture.weights(image.wavelength, placement.trace, placement.offset)
    w = weights.full(image.shape) * np.isfinite(image.wavelength)
    rows = np.flatnonzero(w.sum(axis=1) > 0)  # the rows that the box has
    work, view = model._work, model._work.view
    total = box.aperture_weight
    assert total is not None
    wave = box.wavelength
    factor_whole: Any = np.ones(total.shape)
    correction = extract.aperture_correction
    if not extract.apply_apcorr or (image.source_type or "").upper() != "POINT":
        correction = None
    if correction is not None:
        factor_whole = correction(wave, total)
    inner = slice(view.rows.start, view.rows.stop)
    mended = hopeless = 0
    for i in np.flatnonzero(lost.any(axis=1)).tolist():
        which = np.flatnonzero(lost[i])
        at = rows[which]
        inside = (at >= inner.start) & (at < inner.stop)
        hopeless += int((columns["NPIXELS"][i, which[~inside]] > _NOTHING).sum())
        columns["DQ"][i, which[~inside]] |= np.uint32(1)
        which, at = which[inside], at[inside]
        local = at - inner.start
        _, good, variances = view.read(i if image.is_stack else None, work.columns)
        good, planes = good[local], [v if v is None else v[local] for v in variances]
        shift = 0.0 if model.shifts is None else float(model.shifts[i])
        basis = [field[local] for field in work.basis(shift)]
        weight = good * work.inverse[local]
        for row, column in _rejected(model, i, image.is_stack):
            where = np.flatnonzero(at == row)
            weight[where, column - work.columns.start] = 0.0
        response = _response(basis, weight)
        profile = basis[0]
        here = w[at][:, work.columns]
        light = (here * profile * ~good).sum(axis=1)
        power = (profile**2 * (weight > 0)).sum(axis=1) / (profile**2).sum(axis=1)
        able = power > _LEAST
        coefficients = model._coefficients[i] if image.is_stack else model._coefficients
        flux = coefficients[local, 0]
        old = columns["NPIXELS"][i, which].copy()
        factor_old: Any = np.ones(which.size)
        if correction is not None:
            factor_old = correction(wave[which], old)
        whole, new = total[which], factor_whole[which]
        found = columns["FLUX"][i, which] / (scale * factor_old)
        found = np.where(np.isnan(found), 0.0, found) + light * flux
        spread = here * good + light[:, np.newaxis] * response
        done = which[able]
        columns["FLUX"][i, done] = (found * scale * new)[able]
        columns["SURF_BRIGHT"][i, done] = (found * new / whole)[able]
        columns["NPIXELS"][i, done] = whole[able]
        columns["DQ"][i, done] &= (
            ~np.uint32(1) if extract.max_lost is None else np.uint32(2**32 - 1)
        )
        sums = np.zeros((2, which.size))
        for component, plane in zip(COMPONENTS, planes, strict=True):
            behind = columns[f"BKGD_VAR_{component}"][i, which] * np.maximum(old, 1e-30) ** 2
            variance = np.where(np.isnan(behind), 0.0, behind)
            if plane is not None:
                variance = variance + np.einsum("rc,rc,rc->r", spread, spread, plane)
            by_flux, by_bright = variance * (scale * new) ** 2, variance * (new / whole) ** 2
            columns[f"FLUX_VAR_{component}"][i, done] = by_flux[able]
            columns[f"SB_VAR_{component}"][i, done] = by_bright[able]
            sums += by_flux, by_bright
        columns["FLUX_ERROR"][i, done] = np.sqrt(sums[0][able])
        columns["SB_ERROR"][i, done] = np.sqrt(sums[1][able])
        columns["DQ"][i, which[~able]] |= np.uint32(1)
        mended += int(able.sum())
        hopeless += int((~able & (old > _NOTHING)).sum())  # without any pixel it is NaN anyway
    return mended, hopeless


def _rejected(model: OptimalResult, integration: int, stack: bool) -> list[tuple[int, int]]:
    """Row and column of the pixels that the fit of an integration left out."""
    where = model.rejected
    if stack:
        some = where[0] == integration
        where = (where[1][some], where[2][some])
    return list(zip(where[0].tolist(), where[1].tolist(), strict=True))


def _response(basis: list[NDArray[np.float64]], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the fitted flux of the first source responds to each pixel, shape (row, column)."""
    weighted = [field * weight for field in basis]
    inverse = inverse_normal(normal(basis, weighted))
    return np.sum(
        [inverse[:, 0, j, np.newaxis] * field for j, field in enumerate(weighted)], axis=0
    )

"""Between this package and specutils: `Extraction` and `SlitImage` to `Spectrum` and back.

On the way to specutils
-----------------------
The wavelength ascends and there is no mask where nothing is masked, because some of specutils'
analysis gives 0 or NaN otherwise, without a word. For the same reason flux and error of masked rows
are interpolated from their neighbours in wavelength; the mask tells which rows that are.

What specutils then does with the mask, found by trying (version 2.4): `equivalent_width`, `snr`
and `centroid` leave masked rows out, and so does `fit_generic_continuum` after a median filter
that does not look at the mask. `line_flux` draws its own straight lines across masked rows, with 0
beyond the last good ones, but counts their errors. The three resamplers do not look at the mask:
the interpolated values take part like any others, and the result has no mask any more (and no
meta). The smoothers do not look at it either, but keep it. Where that matters, read with
``fill="nan"`` and drop the rows.

On the way back
---------------
A spectrum remembers where it came from. What it remembers counts only as long as its flux, its
error, its mask and its axis are still those that were given out: otherwise the spectrum's own
values are taken, and what no longer belongs to them is left out.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.modeling.tabular import Tabular1D
from astropy.nddata import StdDevUncertainty
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import LRSError, nearest
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import ERROR_OF

if TYPE_CHECKING:
    from gwcs.wcs import WCS as GWCS
    from specutils import SpectralAxis, Spectrum

    from glue_lrs.spectra.extraction import Extraction

__all__ = ["Meta", "ascending_rows", "parsed_unit", "spectrum_arrays", "to_spectrum"]

#: Columns that count something: a value made up from the neighbours would make no sense.
_COUNTS = ("DQ", "NPIXELS")


class Meta(dict[str, Any]):
    """Meta of a spectrum. It is a dict; but a deep copy shares where the spectrum came from.

    specutils copies meta at every step. The image or the extraction is only looked into to see
    whether the spectrum is still what it was, and may be of any size. Everything else is copied.
    """

    _shared = ("extraction", "image")

    def __deepcopy__(self, memo: dict[int, Any]) -> Meta:
        made = Meta()
        memo[id(self)] = made
        for key, value in self.items():
            made[key] = value if key in self._shared else deepcopy(value, memo)
        return made

    def copy(self) -> Meta:
        """Make a shallow copy."""
        return Meta(self)


# --- 1-D: a column of an extraction ---------------------------------------------------------------


def to_spectrum(
    extraction: Extraction,
    column: str = "FLUX",
    order: str = "ascending",
    fill: str = "interpolate",
) -> Spectrum:
    """Make a specutils spectrum of a column and its error; see `Extraction.to_spectrum`.

    Parameters
    ----------
    extraction : Extraction
        The columns.
    column : str
        Any of the columns but WAVELENGTH.
    order : {"ascending", "file"}
        Order of the wavelength.
    fill : {"interpolate", "nan"}
        What stands in flux and error of masked rows. Integrations without any good row have nothing
        to interpolate from: they are NaN. DQ and NPIXELS are never filled.

    Returns
    -------
    `~specutils.Spectrum`
        Flux of shape (n_wave,) or (integration, n_wave), wavelength in micron; rows without a
        finite wavelength are left out. Only ``meta`` shares memory with the extraction.

    Raises
    ------
    LRSError
        If there is no such column, or a keyword has a value that is not known.
    """
    from specutils import SpectralAxis, Spectrum

    _check_choice("order", order, ("ascending", "file"))
    _check_choice("fill", fill, ("interpolate", "nan"))
    if column not in extraction.columns or column == "WAVELENGTH":
        known = [name for name in extraction.columns if name != "WAVELENGTH"]
        hint = nearest(str(column), [name.lower() for name in known])
        for name in known:  # columns are in capitals
            hint = hint.replace(repr(name.lower()), repr(name))
        raise LRSError(f"column: found {column!r}{hint}, expected one of {', '.join(known)}")
    rows = ascending_rows(extraction.wavelength)
    wave, flux, error, mask = spectrum_arrays(extraction, column, fill, rows)
    if order == "file":
        back = _file_order(extraction, rows)
        wave, flux = wave[back], flux[..., back]
        error = None if error is None else error[..., back]
        mask = None if mask is None else mask[..., back]
    unit = parsed_unit(extraction.units.get(column, ""))
    meta = Meta(
        header=LazyHeader.from_header(extraction.header),
        glue_lrs=extraction.provenance,
        extraction=extraction,
        column=column,
    )
    if extraction.times is not None:
        meta["times"] = extraction.times.copy()
    axis = SpectralAxis(u.Quantity(wave, u.um, copy=False))
    return Spectrum(
        flux=u.Quantity(flux, unit, copy=False),
        spectral_axis=axis,
        spectral_axis_index=flux.ndim - 1,
        wcs=_lookup_wcs(axis) if flux.ndim == 1 else None,
        uncertainty=None if error is None else StdDevUncertainty(error, unit=unit, copy=False),
        mask=mask,
        meta=meta,
    )


class SpectralTabular1D(Tabular1D):
    """The wavelength of each row, as `specutils.utils.wcs_utils.gwcs_from_array` has it."""

    input_units_equivalencies = {"x0": u.spectral()}  # noqa: RUF012 - astropy's name and kind


def _lookup_wcs(axis: SpectralAxis) -> GWCS:
    """Make the WCS that specutils gives to a spectrum without one.

    It is made of the same parts. But specutils defines a class for each spectrum and copies the
    parts in depth, which takes longer than the extraction; and a class of its own cannot be
    pickled.
    """
    from gwcs import coordinate_frames as cf
    from specutils.utils.wcs_utils import SpectralGWCS

    axis, rows = axis.copy(), np.arange(len(axis))
    turn = slice(None) if len(axis) == 0 or axis[-1] > axis[0] else slice(None, None, -1)
    forward = SpectralTabular1D(rows, lookup_table=axis)
    forward.inverse = SpectralTabular1D(axis[turn], lookup_table=rows[turn])
    detector = cf.CoordinateFrame(
        naxes=1, name="detector", unit=[""], axes_order=[0], axes_type=["SPECTRAL"]
    )
    spectral = cf.SpectralFrame(unit=axis.unit, axes_order=(0,), axes_names=["wavelength"])
    return SpectralGWCS(
        original_unit=axis.unit, forward_transform=[(detector, forward), (spectral, None)]
    )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise LRSError(
            f"{name}: found {value!r}{nearest(str(value), known)}, "
            f"expected {' or '.join(map(repr, known))}"
        )


@lru_cache(maxsize=64)
def parsed_unit(text: str) -> u.UnitBase:
    """A unit by its name; parsing one costs more than all the arithmetic here."""
    return u.Unit(text)


def ascending_rows(wave: NDArray[np.float64]) -> slice | NDArray[np.intp]:
    """The rows with a finite wavelength, in ascending order of it."""
    if wave.size and np.isfinite(wave[0]) and np.isfinite(wave[-1]):
        step = wave[1:] - wave[:-1]
        if (step <= 0).all():  # False where there is a NaN
            return slice(None, None, -1)
        if (step >= 0).all():
            return slice(None)
    finite = np.flatnonzero(np.isfinite(wave))
    if finite.size == 0:
        raise LRSError("the extraction has no row with a finite wavelength")
    if wave[finite[0]] > wave[finite[-1]]:
        finite = finite[::-1]
    return finite[np.argsort(wave[finite], kind="stable")]


def _file_order(extraction: Extraction, rows: slice | NDArray[np.intp]) -> Any:
    """What brings ascending rows back to the file's order."""
    if isinstance(rows, slice):
        return rows  # both slices are their own inverse
    back = np.argsort(rows)
    step = np.diff(extraction.wavelength[rows[back]])
    if (step < 0).any() and (step > 0).any():
        raise LRSError(
            f"order: found 'file', but the wavelengths of {extraction.filename or 'the extraction'}"
            " neither rise nor fall all along, which specutils does not take; expected 'ascending'"
        )
    return back


def spectrum_arrays(
    extraction: Extraction, column: str, fill: str, rows: slice | NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64] | None, NDArray[np.bool_] | None]:
    """Wavelength, values, errors and mask (None: nothing) in ascending order; copies."""
    columns = extraction.columns
    wave = np.array(extraction.wavelength[rows], dtype=float)
    flux = np.array(columns[column][..., rows], dtype=float, order="C")
    bad = np.isnan(flux)
    if "FLUX" in columns and column != "FLUX":
        bad |= np.isnan(columns["FLUX"][..., rows])
    if "DQ" in columns:
        bad |= (columns["DQ"][..., rows] & DO_NOT_USE) != 0
    name = ERROR_OF.get(column)
    error = None
    if name is not None and name in columns:
        error = np.array(columns[name][..., rows], dtype=float, order="C")
    if not bad.any():
        return wave, flux, error, None
    if column not in _COUNTS:
        if fill == "interpolate":
            _interpolate(wave, bad, flux, error)
        else:
            flux[bad] = np.nan
            if error is not None:
                error[bad] = np.nan
    return wave, flux, error, bad


def _interpolate(
    wave: NDArray[np.float64],
    bad: NDArray[np.bool_],
    *arrays: NDArray[np.float64] | None,
) -> None:
    """Fill bad rows in place, linearly between the nearest good rows on either side.

    `wave` ascends; `bad` and the arrays have the shape (n_wave,) or (integration, n_wave). At the
    ends the nearest good row counts; without any good row all is NaN.
    """
    # One rule for a spectrum and a stack: a slice of the one must equal the other to the last bit.
    count = wave.size
    place = np.flatnonzero(bad)  # the integrations in a row
    column = place % count
    first = place - column
    for array in arrays:
        if array is None:
            continue
        values = array.reshape(-1)  # a view: the arrays are contiguous
        # A good row may have an infinite error.
        good = np.flatnonzero(np.isfinite(values) & ~bad.reshape(-1))
        if not good.size:
            values[place] = np.nan
            continue
        after = good.searchsorted(place)
        left = good.take(after - 1, mode="clip")  # of the same integration, or none
        right = good.take(after, mode="clip")
        none_left, none_right = (left < first) | (left > place), right >= first + count
        none_right |= right < place
        left, right = np.where(none_left, right, left), np.where(none_right, left, right)
        span = wave.take(right % count) - wave.take(left % count)
        share = np.zeros(span.shape)
        np.divide(wave.take(column) - wave.take(left % count), span, out=share, where=span > 0)
        filled = values[left] * (1.0 - share) + values[right] * share
        filled[none_left & none_right] = np.nan
        values[place] = filled

"""Conversion of extractions to specutils spectra.

To specutils
------------
By default, the wavelengths of a spectrum ascend, and flux and error in masked rows are interpolated
between the valid rows. The mask marks these rows, and is None if no row is masked. Otherwise
several functions in `specutils.analysis` would silently return 0 or NaN.

Functions of specutils differ in their treatment of masked rows (tested with version 2.4):
`equivalent_width`, `snr` and `centroid` exclude masked rows. `fit_generic_continuum` excludes them
from the fit, but not from the median filter before the fit. `line_flux` interpolates the flux
linearly across masked rows, with 0 beyond the last valid rows, but includes the errors in masked
rows. The three resamplers ignore the mask and use the interpolated values, and their result has
neither mask nor meta. The smoothers ignore the mask but keep it. To exclude masked rows in all
cases, use ``fill="nan"`` and remove them from the spectrum.

From specutils
--------------
The meta of a spectrum refers to the original extraction or image. `glue_lrs.spectra.from_specutils`
uses the original only if flux, error, mask and spectral axis of the spectrum are unmodified.
Otherwise it uses the values of the spectrum, and omits columns that no longer apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from astropy import units as u
from astropy.modeling.mappings import Identity, Mapping
from astropy.modeling.tabular import Tabular1D
from astropy.nddata import StdDevUncertainty
from gwcs import coordinate_frames as cf
from numpy.typing import NDArray
from specutils import SpectralAxis, Spectrum
from specutils.utils.wcs_utils import SpectralGWCS

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.validation import check_choice
from glue_lrs.errors import LRSError, nearest, quoted
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import ERROR_OF, FLAGS, QUALITY

if TYPE_CHECKING:
    from gwcs.wcs import WCS as GWCS

    from glue_lrs._utils.typing import Array
    from glue_lrs.spectra.extraction import Extraction

#: Index that selects rows and determines their order.
Index: TypeAlias = slice | NDArray[np.intp]

#: Columns with flags and counts, which must not be interpolated.
_COUNTS = (*FLAGS, "NPIXELS")


class Meta(dict[str, Any]):
    """Meta of a spectrum: a dict whose deep copies share the original image or extraction.

    Specutils copies meta in every operation, and a copy of the original would need much memory. The
    original can be shared because it is never modified. All other items are copied.
    """

    _shared = ("combination", "extraction", "image")

    def __deepcopy__(self, memo: dict[int, object]) -> Meta:
        made = Meta()
        memo[id(self)] = made
        for key, value in self.items():
            made[key] = value if key in self._shared else deepcopy(value, memo)
        return made

    def copy(self) -> Meta:
        """Return a shallow copy."""
        return Meta(self)


class StackSpectrum(Spectrum):
    """Spectrum of shape (integration, n_wave) whose ``meta["times"]`` is sliced with it.

    Arithmetic of specutils returns spectra of the base class. Slices of these keep the times of all
    integrations.
    """

    def __getitem__(self, item: Any) -> Spectrum:
        """Return selected integrations or wavelengths, with the times of the integrations."""
        made = super().__getitem__(item)
        times = self.meta.get("times")
        part = item[0] if isinstance(item, tuple) else item
        if self.flux.ndim != 2 or times is None or len(times) != self.shape[0]:
            return made
        if isinstance(part, int | np.integer):
            part = [int(part)]
        elif part is Ellipsis or (isinstance(part, slice) and isinstance(part.start, u.Quantity)):
            return made
        made.meta["times"] = times[part]
        return made


class SpectrumArrays(NamedTuple):
    """Arrays of a spectrum: wavelengths in micron, values with their unit, errors and mask.

    The last axis of all arrays is the spectral axis. The errors are None if the spectrum has no
    errors, and the mask is None if no row is masked.
    """

    wave: NDArray[np.float64]
    flux: NDArray[Any]
    unit: u.UnitBase
    error: NDArray[Any] | None
    mask: NDArray[np.bool_] | None

    def select(self, rows: Index) -> SpectrumArrays:
        """Select and reorder rows along the spectral axis."""
        error = None if self.error is None else self.error[..., rows]
        mask = None if self.mask is None else self.mask[..., rows]
        if mask is not None and not mask.any():
            mask = None
        return SpectrumArrays(self.wave[rows], self.flux[..., rows], self.unit, error, mask)


def to_spectrum(
    extraction: Extraction,
    column: str = "FLUX",
    order: str = "ascending",
    fill: str = "interpolate",
    mask_quality: Sequence[str] = (),
) -> Spectrum:
    """Convert a column and its error to a specutils spectrum, as in `Extraction.to_spectrum`.

    Parameters
    ----------
    extraction : Extraction
        Extraction to convert.
    column : str
        Name of any column except WAVELENGTH.
    order : {"ascending", "file"}
        Order of the wavelengths.
    fill : {"interpolate", "nan"}
        Whether flux and error in masked rows are interpolated or NaN. In integrations without a
        valid row they are always NaN. DQ, QUALITY and NPIXELS are not changed.
    mask_quality : sequence of str
        Names of quality bits whose rows are masked, besides those with DQ bit 0.

    Returns
    -------
    `~specutils.Spectrum`
        Spectrum with a flux of shape (n_wave,) or (integration, n_wave) and wavelengths in micron.
        Rows without a finite wavelength are omitted. The arrays are copies, whereas ``meta`` refers
        to the extraction.

    Raises
    ------
    LRSError
        If there is no column or quality bit with this name, or if `order` or `fill` is invalid.
    """
    check_choice("order", order, ("ascending", "file"))
    check_choice("fill", fill, ("interpolate", "nan"))
    if column not in extraction.columns or column == "WAVELENGTH":
        known = [name for name in extraction.columns if name != "WAVELENGTH"]
        hint = nearest(str(column), known)
        raise LRSError(
            f"found {quoted(column)}{hint}, expected one of {', '.join(known)}", subject="column"
        )
    rows = ascending_rows(extraction.wavelength)
    mask_quality = [mask_quality] if isinstance(mask_quality, str) else list(mask_quality)
    arrays = spectrum_arrays(extraction, column, fill, rows, mask_quality)
    bits = extraction.columns.get(QUALITY)
    bits = None if bits is None else bits[..., rows]
    if order == "file":
        in_file = _file_order(extraction, rows)
        arrays, bits = arrays.select(in_file), None if bits is None else bits[..., in_file]
    wave, flux, unit, error, mask = arrays
    meta = Meta(
        header=LazyHeader.from_header(extraction.header),
        glue_lrs=extraction.provenance,
        extraction=extraction,
        column=column,
    )
    if bits is not None:
        # Slices and functions of specutils keep the meta unchanged. The wavelengths are stored with
        # the bits, so that the bits can still be assigned to the rows of a slice.
        meta["quality"] = {"WAVELENGTH": wave.copy(), QUALITY: bits.copy()}
    if mask_quality:
        meta["mask_quality"] = mask_quality
    if extraction.times is not None:
        meta["times"] = extraction.times.copy()
    axis = SpectralAxis(u.Quantity(wave, u.um, copy=False))
    kind = Spectrum if extraction.times is None else StackSpectrum
    return kind(
        flux=u.Quantity(flux, unit, copy=False),
        spectral_axis=axis,
        spectral_axis_index=flux.ndim - 1,
        wcs=lookup_wcs(axis, flux.ndim),
        uncertainty=None if error is None else StdDevUncertainty(error, unit=unit, copy=False),
        mask=mask,
        meta=meta,
    )


class SpectralTabular1D(Tabular1D):
    """Lookup table for wavelengths, as in `specutils.utils.wcs_utils.gwcs_from_array`."""

    input_units_equivalencies = {"x0": u.spectral()}  # noqa: RUF012 - as in astropy


def lookup_wcs(axis: SpectralAxis, ndim: int) -> GWCS:
    """Return the WCS that specutils would make for a spectrum without a WCS.

    It is made here because specutils would define a new class for each spectrum, so that spectra
    could not be pickled, and would make deep copies that take longer than the extraction. Unlike
    the WCS from specutils, it also has an inverse if the flux has several axes.

    Parameters
    ----------
    axis : `~specutils.SpectralAxis`
        Wavelengths.
    ndim : int
        Number of axes of the flux. The spectral axis is the last one, and the first one of the WCS.
    """
    axis, rows = axis.copy(), np.arange(len(axis))
    turn = slice(None) if len(axis) == 0 or axis[-1] > axis[0] else slice(None, None, -1)
    forward = SpectralTabular1D(rows, lookup_table=axis)
    forward.inverse = SpectralTabular1D(axis[turn], lookup_table=rows[turn])
    others = ndim - 1
    detector = cf.CoordinateFrame(
        naxes=ndim,
        name="detector",
        unit=[""] * ndim,
        axes_order=list(range(ndim)),
        axes_type=["SPECTRAL"] + ["SPATIAL"] * others,
    )
    world = cf.SpectralFrame(unit=axis.unit, axes_order=(0,), axes_names=["wavelength"])
    if others:
        spatial = cf.CoordinateFrame(
            naxes=others,
            unit=[""] * others,
            axes_order=list(range(1, ndim)),
            axes_type=["Spatial"] * others,
        )
        world = cf.CompositeFrame([spatial, world])
        last, first = (*range(1, ndim), 0), (others, *range(others))
        forward = Mapping(last) | Identity(others) & forward | Mapping(first)
    return SpectralGWCS(
        original_unit=axis.unit, forward_transform=[(detector, forward), (world, None)]
    )


@lru_cache(maxsize=64)
def parsed_unit(text: str) -> u.UnitBase:
    """Return the unit with a given name. The result is cached because parsing is slow."""
    return u.Unit(text)


def ascending_rows(wave: NDArray[np.float64]) -> Index:
    """Return an index that selects rows with a finite wavelength, in ascending order."""
    if wave.size and np.isfinite(wave[0]) and np.isfinite(wave[-1]):
        step = wave[1:] - wave[:-1]
        if (step <= 0).all():  # False if any wavelength is NaN
            return slice(None, None, -1)
        if (step >= 0).all():
            return slice(None)
    finite = np.flatnonzero(np.isfinite(wave))
    if finite.size == 0:
        raise LRSError("the extraction has no row with a finite wavelength")
    if wave[finite[0]] > wave[finite[-1]]:
        finite = finite[::-1]
    return finite[np.argsort(wave[finite], kind="stable")]


def _file_order(extraction: Extraction, rows: Index) -> Index:
    """Return an index that puts rows with ascending wavelengths into the order of the file."""
    if isinstance(rows, slice):
        return rows  # reversing the rows again restores their order
    in_file = np.argsort(rows)
    step = np.diff(extraction.wavelength[rows[in_file]])
    if (step < 0).any() and (step > 0).any():
        raise LRSError(
            f"found 'file', but the wavelengths of {extraction.filename or 'the extraction'} are "
            "not monotonic, as specutils requires; expected 'ascending'",
            subject="order",
        )
    return in_file


def spectrum_arrays(
    extraction: Extraction, column: str, fill: str, rows: Index, mask_quality: Sequence[str] = ()
) -> SpectrumArrays:
    """Return copies of the values, errors and mask of a column in the selected rows.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack.
    column : str
        Name of the column.
    fill : {"interpolate", "nan"}
        Whether values and errors in masked rows are interpolated or NaN.
    rows : slice or ndarray
        Index that selects the rows and puts them into the order of ascending wavelength.
    mask_quality : sequence of str
        Names of quality bits whose rows are masked.
    """
    columns = extraction.columns
    wave = np.array(extraction.wavelength[rows], dtype=float)
    flux = np.array(columns[column][..., rows], dtype=float, order="C")
    bad = np.isnan(flux)
    if "FLUX" in columns and column != "FLUX":
        bad |= np.isnan(columns["FLUX"][..., rows])
    if "DQ" in columns:
        bad |= (columns["DQ"][..., rows] & DO_NOT_USE) != 0
    if mask_quality:
        bad |= extraction.quality_mask(*mask_quality)[..., rows]
    name = ERROR_OF.get(column)
    error = None
    if name is not None and name in columns:
        error = np.array(columns[name][..., rows], dtype=float, order="C")
        if np.isnan(error).all() and not np.isnan(flux).all():
            error = None  # spectra without errors are written with a column of NaN
    mask = bad if bad.any() else None
    if mask is not None and column not in _COUNTS:
        for values in (flux,) if error is None else (flux, error):
            if fill == "interpolate":
                _interpolate(wave, bad, values)
            else:
                values[bad] = np.nan
    unit = parsed_unit(extraction.units.get(column, ""))
    return SpectrumArrays(wave, flux, unit, error, mask)


def _interpolate(wave: Array, bad: NDArray[np.bool_], array: Array) -> None:
    """Interpolate bad rows in place, linearly between the nearest good rows on either side.

    The wavelengths must ascend. `bad` and `array` have the shape (n_wave,) or (integration,
    n_wave). Bad rows before the first or after the last good row get the value of that good row. In
    integrations without a good row, bad rows become NaN.
    """
    # A spectrum is treated as a stack of one integration, so that the results are exactly equal.
    count = wave.size
    place = np.flatnonzero(bad)  # indices into the flattened array of integrations
    column = place % count
    first = place - column
    values = array.reshape(-1)  # a view because the arrays are contiguous
    # Good rows with an infinite error are not used for the interpolation.
    good = np.flatnonzero(np.isfinite(values) & ~bad.reshape(-1))
    if not good.size:
        values[place] = np.nan
        return
    after = good.searchsorted(place)
    # These neighbours may be in other integrations, which is checked below.
    left = good.take(after - 1, mode="clip")
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

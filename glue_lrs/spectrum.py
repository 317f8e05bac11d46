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
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.modeling.tabular import Tabular1D
from astropy.nddata import StdDevUncertainty
from numpy.typing import NDArray

from glue_lrs.errors import LRSError, nearest
from glue_lrs.extraction import COLUMNS, ERROR_OF, Extraction, Provenance
from glue_lrs.header import OwnHeader
from glue_lrs.image import DO_NOT_USE, SlitImage

if TYPE_CHECKING:
    from gwcs.wcs import WCS as GWCS
    from specutils import SpectralAxis, Spectrum

__all__ = [
    "Meta",
    "image_to_spectrum",
    "single",
    "spectrum_to_extraction",
    "spectrum_to_image",
    "to_spectrum",
]

#: Columns that count something: a value made up from the neighbours would make no sense.
_COUNTS = ("DQ", "NPIXELS")
#: Wavelengths that differ by less than this fraction are the same row; rows are 1e-3 apart, and the
#: way to another unit and back costs 1e-15.
_SAME = 1e-10
#: What the provenance says of a spectrum that was changed.
_CHANGED = (
    "the spectrum was changed after the extraction; columns that no longer belong are left out"
)


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
    rows = _ascending(extraction.wavelength)
    wave, flux, error, mask = _arrays(extraction, column, fill, rows)
    if order == "file":
        back = _file_order(extraction, rows)
        wave, flux = wave[back], flux[..., back]
        error = None if error is None else error[..., back]
        mask = None if mask is None else mask[..., back]
    unit = _unit(extraction.units.get(column, ""))
    meta = Meta(
        header=OwnHeader.of(extraction.header),
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
def _unit(text: str) -> u.UnitBase:
    """A unit by its name; parsing one costs more than all the arithmetic here."""
    return u.Unit(text)


def _ascending(wave: NDArray[np.float64]) -> slice | NDArray[np.intp]:
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


def _arrays(
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


def single(extraction: Extraction, integration: int) -> Extraction:
    """One spectrum of a stack, with its row of the times.

    Parameters
    ----------
    extraction : Extraction
        A stack.
    integration : int
        Which of its integrations, from 0.

    Returns
    -------
    Extraction
        Columns of shape (n_wave,); the same memory.
    """
    return _integrations(extraction, slice(integration, integration + 1), drop=True)


def _integrations(extraction: Extraction, part: slice, drop: bool) -> Extraction:
    columns = {name: values[part] for name, values in extraction.columns.items()}
    if drop:
        columns = {name: values[0] for name, values in columns.items()}
    times = None if extraction.times is None else extraction.times[part]
    return replace(extraction, columns=columns, times=times)


# --- back: what may be written --------------------------------------------------------------------


def spectrum_to_extraction(spectrum: Spectrum) -> Extraction:
    """Make the columns of an x1d table from a spectrum.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Flux of shape (n_wave,) or (integration, n_wave).

    Returns
    -------
    Extraction
        All columns that the spectrum was made from, for the rows that it has, where it is still as
        it was made. Otherwise WAVELENGTH, FLUX, FLUX_ERROR and DQ, from the spectrum's own flux (in
        Jy where its unit can be converted, else in its own), uncertainty and mask. Rows without
        flux have DQ 1, and masked rows whose value had only been interpolated are NaN again.

    Raises
    ------
    LRSError
        If it is not a spectrum of one or two axes over a wavelength, or has been made from a column
        that is not a flux and was changed.
    """
    wave, flux, unit, error, mask = _own(spectrum, (1, 2))
    header = _header(spectrum)
    remembered = spectrum.meta.get("extraction")
    column = spectrum.meta.get("column", "FLUX")
    if not isinstance(remembered, Extraction) or column not in remembered.columns:
        return _changed(wave, flux, unit, error, mask, header, None)

    rows = _ascending(remembered.wavelength)
    place = _match(remembered.wavelength[rows], wave)
    if place is None:
        keep: Any = slice(None)
        origin = None
        if (wave[:1] > wave[-1:]) != (remembered.wavelength[:1] > remembered.wavelength[-1:]):
            keep = slice(None, None, -1)
    else:
        index = np.arange(remembered.wavelength.size)[rows][place]
        keep = np.argsort(index)  # to the file's order
        origin = index[keep]
        kept = _unchanged(remembered, column, rows, place, (flux, unit, error, mask))
        if kept is not None:
            columns = {name: values[..., origin] for name, values in kept.columns.items()}
            weight = kept.aperture_weight
            return replace(
                kept,
                columns=columns,
                header=header,
                aperture_weight=None if weight is None else weight[origin],
            )
    if column != "FLUX":
        raise LRSError(
            f"the spectrum was made from the column {column} and changed since, expected FLUX, as "
            "nothing else can take the place of the flux in an x1d"
        )
    wave, flux = wave[keep], flux[..., keep]
    error = None if error is None else error[..., keep]
    mask = None if mask is None else mask[..., keep]
    if origin is not None:
        wave = remembered.wavelength[origin]  # the same to rounding
        own = remembered.columns[column][..., origin]
        if mask is not None and own.shape == flux.shape:
            made_up = mask & remembered.mask[..., origin]  # was filled, not measured
            flux[made_up] = np.nan
            if error is not None:
                error[made_up] = np.nan
    return _changed(wave, flux, unit, error, mask, header, remembered)


def _own(
    spectrum: Spectrum, dimensions: tuple[int, ...]
) -> tuple[
    NDArray[np.float64],
    NDArray[Any],
    u.UnitBase,
    NDArray[Any] | None,
    NDArray[np.bool_] | None,
]:
    """Copies of wavelength in micron, flux, unit, error and mask; the spectral axis last."""
    flux = spectrum.flux
    if flux.ndim not in dimensions:
        raise LRSError(
            f"the spectrum has {flux.ndim} axes, "
            f"expected {' or '.join(map(str, dimensions))}, the wavelength one of them"
        )
    axis = spectrum.spectral_axis_index
    try:
        if spectrum.spectral_axis.unit == u.um:
            wave = np.array(spectrum.spectral_axis.value, dtype=float)
        else:
            wave = np.array(u.Quantity(spectrum.spectral_axis).to_value(u.um, u.spectral()))
    except u.UnitConversionError:
        raise LRSError(
            f"the spectral axis is in {spectrum.spectral_axis.unit}, expected something that "
            "corresponds to a wavelength"
        ) from None
    error = None
    if spectrum.uncertainty is not None:
        sigma = spectrum.uncertainty
        if not isinstance(sigma, StdDevUncertainty):
            sigma = sigma.represent_as(StdDevUncertainty)
        error = sigma.quantity.to_value(flux.unit)
        error = np.array(np.moveaxis(error, axis, -1))
    mask = None
    if spectrum.mask is not None:
        mask = np.moveaxis(np.broadcast_to(spectrum.mask, flux.shape).astype(bool), axis, -1)
        mask = mask if mask.any() else None
    return wave, np.array(np.moveaxis(flux.value, axis, -1)), flux.unit, error, mask


def _header(spectrum: Spectrum) -> fits.Header:
    header = spectrum.meta.get("header")
    if header is None:
        return fits.Header()
    return header if isinstance(header, fits.Header) else fits.Header(header)


def _match(known: NDArray[np.float64], wave: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Which of the known, ascending wavelengths the given ones are; None if any is another one."""
    if wave.size == 0 or not np.isfinite(wave).all():
        return None
    if wave[0] > wave[-1]:
        place = _match(known, wave[::-1])
        return None if place is None else place[::-1]
    place = np.searchsorted(known, wave * (1.0 - _SAME))
    # Rows of one and the same wavelength come in the order that they have.
    _, first, times = np.unique(place, return_index=True, return_counts=True)
    place = place + np.arange(wave.size) - np.repeat(first, times)
    if (place >= known.size).any() or (np.abs(known[place] - wave) > _SAME * known[place]).any():
        return None
    return place


def _unchanged(
    remembered: Extraction,
    column: str,
    rows: slice | NDArray[np.intp],
    place: NDArray[np.intp],
    own: tuple[NDArray[Any], u.UnitBase, NDArray[Any] | None, NDArray[np.bool_] | None],
) -> Extraction | None:
    """The extraction, or those integrations, whose numbers a spectrum still has; else None."""
    flux, unit, error, mask = own
    if unit != _unit(remembered.units.get(column, "")):
        return None
    for fill in ("interpolate", "nan"):
        _, *given = _arrays(remembered, column, fill, rows)
        parts = [None if values is None else values[..., place] for values in given]
        known, known_error, known_mask = parts
        found = remembered
        if known.shape != flux.shape:  # type: ignore[union-attr]
            part = _which_integrations(known, flux)  # type: ignore[arg-type]
            if part is None:
                continue
            known, known_error, known_mask = (
                None if values is None else values[part].reshape(flux.shape)
                for values in (known, known_error, known_mask)
            )
            found = _integrations(remembered, part, drop=flux.ndim == 1)
        if known_mask is not None and not known_mask.any():
            known_mask = None
        pairs = ((flux, known), (error, known_error), (mask, known_mask))
        if all(_equal(one, other) for one, other in pairs):
            return found
    return None


def _which_integrations(known: NDArray[Any], flux: NDArray[Any]) -> slice | None:
    """Where in a stack the first of the given integrations is, with as many as there are given."""
    if known.ndim != 2 or flux.shape[-1] != known.shape[-1]:
        return None
    lines = np.atleast_2d(flux)
    same = (known == lines[0]) | (np.isnan(known) & np.isnan(lines[0]))
    starts = np.flatnonzero(same.all(axis=1))
    places = [
        slice(int(start), int(start) + len(lines))
        for start in starts
        if start + len(lines) <= len(known)
        and np.array_equal(known[start : start + len(lines)], lines, equal_nan=True)
    ]
    return places[0] if len(places) == 1 else None  # of equal ones nobody knows which it was


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(
        np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )


def _changed(
    wave: NDArray[np.float64],
    flux: NDArray[Any],
    unit: u.UnitBase,
    error: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    header: fits.Header,
    remembered: Extraction | None,
) -> Extraction:
    """The spectrum's own columns."""
    if unit != u.Jy:
        try:
            factor = unit.to(u.Jy, np.ones_like(wave), u.spectral_density(wave * u.um))
        except u.UnitConversionError:
            pass
        else:
            flux, unit = flux * factor, u.Jy
            error = None if error is None else error * factor
    if unit not in (u.Jy, u.DN / u.s):
        raise LRSError(
            f"the flux is in {unit.to_string() or 'no unit'}, expected something that converts to "
            "Jy, or DN/s, as an x1d holds a flux"
        )
    columns: dict[str, NDArray[Any]] = {"FLUX": np.asarray(flux, dtype=float)}
    if error is not None:
        columns["FLUX_ERROR"] = np.asarray(error, dtype=float)
    bad = ~np.isfinite(flux)
    if mask is not None:
        bad |= mask
    columns["WAVELENGTH"] = np.broadcast_to(wave, flux.shape)
    columns["DQ"] = bad.astype(np.uint32)
    text = {u.MJy / u.sr: "MJy/sr", u.DN / u.s: "DN/s"}.get(unit)  # as the pipeline spells them
    text = unit.to_string() if text is None else text
    made = Extraction(
        columns={key: columns[key] for key in COLUMNS if key in columns},
        units={"WAVELENGTH": "um"}
        | {key: text for key in ("FLUX", "FLUX_ERROR") if text and key in columns},
        header=header,
    )
    if remembered is None:
        return made
    provenance = remembered.provenance
    if provenance is not None:
        stored = dict(provenance)
        provenance = Provenance.from_dict(
            stored | {"notes": [*(stored.get("notes") or []), _CHANGED]}
        )
    times = remembered.times
    fits_times = times is not None and flux.ndim == 2 and len(times) == len(flux)
    return replace(
        made,
        keywords_source=remembered.keywords_source,
        provenance=provenance,
        times=times if fits_times else None,
        int_times=remembered.int_times if fits_times else None,
    )


# --- 2-D: an image --------------------------------------------------------------------------------


def image_to_spectrum(image: SlitImage) -> Spectrum:
    """Make a specutils spectrum of two axes of an image.

    Parameters
    ----------
    image : SlitImage
        An image, or a stack of them.

    Returns
    -------
    `~specutils.Spectrum`
        Flux of shape (column, row), or (integration, column, row), in the image's unit; the
        spectral axis is the last one and ascends. The wavelength of a row, in micron, is the median
        of those of its pixels; rows without any are left out. The uncertainty is ERR. The mask says
        where a pixel has no value: NaN in any plane, infinite data, or DQ bit 0; None where all
        have one.
        ``meta["header"]`` is a copy of the primary header, ``meta["image"]`` the image.

    Raises
    ------
    LRSError
        If no row has a wavelength.
    """
    from specutils import Spectrum

    _, wave, flux, error, mask = _image_arrays(image)
    unit = image.unit
    return Spectrum(
        flux=u.Quantity(flux, unit, copy=False),
        spectral_axis=u.Quantity(wave, u.um, copy=False),
        spectral_axis_index=flux.ndim - 1,
        uncertainty=None if error is None else StdDevUncertainty(error, unit=unit, copy=False),
        mask=mask,
        meta=Meta(
            header=OwnHeader.of(image.header),
            sci_header=OwnHeader.of(image.sci_header),
            image=image,
        ),
    )


def _image_arrays(
    image: SlitImage,
) -> tuple[
    NDArray[np.intp],
    NDArray[np.float64],
    NDArray[Any],
    NDArray[Any] | None,
    NDArray[np.bool_] | None,
]:
    """Rows by ascending wavelength, that wavelength, flux, error and mask, transposed copies."""
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        raise LRSError(f"{image.label}: no pixel has a wavelength")
    plane = np.asarray(image.wavelength, dtype=float)[rows]
    if (plane == plane[:, :1]).all():  # resampled: a row has one wavelength
        wave = plane[:, 0].copy()
    else:
        wave = np.nanmedian(np.where(np.isfinite(plane), plane, np.nan), axis=1)
    order = np.argsort(wave, kind="stable")
    rows, wave = rows[order], wave[order]
    bad = ~np.isfinite(image.data)
    for values in (image.err, image.var_poisson, image.var_rnoise, image.var_flat):
        if values is not None:
            bad |= np.isnan(values)
    if image.dq is not None:
        bad |= (image.dq & DO_NOT_USE) != 0
    mask = _turn(bad, rows)
    error = None if image.err is None else _turn(image.err, rows)
    return rows, wave, _turn(image.data, rows), error, mask if mask.any() else None


def _turn(plane: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """(row, column) to (column, row) for some rows: a copy in the machine's byte order."""
    turned = np.swapaxes(plane[..., rows, :], -1, -2)
    return np.array(turned, dtype=turned.dtype.newbyteorder("="), order="C")


def spectrum_to_image(spectrum: Spectrum) -> SlitImage:
    """Make an image from a spectrum of two axes that was made from one.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        What `image_to_spectrum` or ``Spectrum.read(path, format="lrs-s2d")`` gave, changed or not.

    Returns
    -------
    SlitImage
        The image itself if flux, uncertainty, mask and axis are as they were given out. Otherwise
        an image of the spectrum's own values: the square of its uncertainty is the one variance
        (VAR_POISSON, no others), its mask is DQ bit 0. Where it has all columns of the image, and
        its wavelengths are rows of it, the WCS still holds, and the other rows have no wavelength.
        If not, there is no WCS, so that the source's position is not known.

    Raises
    ------
    LRSError
        If it does not come from an image, or is no surface brightness any more.
    """
    image = spectrum.meta.get("image")
    if not isinstance(image, SlitImage):
        raise LRSError(
            f"the spectrum of shape {spectrum.flux.shape} has no meta['image'], expected one read "
            "with format='lrs-s2d' or made by SlitImage.to_spectrum"
        )
    wave, flux, unit, error, mask = _own(spectrum, (2, 3))
    rows, known_wave, known, known_error, known_mask = _image_arrays(image)
    if (
        unit == image.unit
        and np.array_equal(wave, known_wave)
        and _equal(flux, known)
        and _equal(error, known_error)
        and _equal(mask, known_mask)
    ):
        return image
    if unit != image.unit:
        try:
            factor = unit.to(image.unit, np.ones_like(wave), u.spectral_density(wave * u.um))
        except u.UnitConversionError:
            raise LRSError(
                f"{image.label}: the spectrum is in {unit}, expected something that can be "
                f"converted to {image.unit}"
            ) from None
        flux = flux * factor
        error = None if error is None else error * factor
    columns = flux.shape[-2]
    place = _match(known_wave, wave) if columns == image.shape[1] else None
    if place is not None:
        at, height = rows[place], image.shape[0]
        wavelength = np.full(image.shape, np.nan)
        wavelength[at] = image.wavelength[at]
    else:
        # As in a file of LRS, the wavelength descends along the rows.
        at, height = np.argsort(np.argsort(-wave, kind="stable")), wave.size
        wavelength = np.empty((height, columns))
        wavelength[at] = wave[:, np.newaxis]

    def plane(values: NDArray[Any], empty: float) -> NDArray[Any]:
        made = np.full((*values.shape[:-2], height, columns), empty, dtype=values.dtype)
        made[..., at, :] = np.swapaxes(values, -1, -2)
        return made

    stack_kept = image.is_stack and flux.ndim == 3 and len(flux) == len(image.data)
    return replace(
        image,
        data=plane(flux, np.nan),
        wavelength=wavelength,
        err=None if error is None else plane(error, np.nan),
        var_poisson=None if error is None else plane(error.astype(float) ** 2, np.nan),
        var_rnoise=None,
        var_flat=None,
        dq=None if mask is None else plane(mask.astype(np.uint32) * np.uint32(DO_NOT_USE), 0),
        times=image.times if stack_kept else None,
        header=_header(spectrum),
        filename=None,  # the numbers are not the file's any more
        path=None,
        wcs_source=image.wcs_source if place is not None else None,
    )

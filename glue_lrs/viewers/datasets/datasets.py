"""LRS images and spectra as glue datasets.

An image becomes a dataset of the shape (row, column), or (integration, row, column), whose
components are views of the image's own planes: nothing is copied. A spectrum becomes a dataset
of the shape (element,), or (integration, element), in ascending order of wavelength. The names of
components are ``flux``, ``uncertainty`` and ``wavelength`` in both, ``dq`` as well, and ``masked``,
``row`` and the other columns of an x1d in a spectrum.

What glue has no place for (headers, variances, the WCS, how a spectrum was made) is kept beside the
dataset: `slit_image` gives the image behind one, `extraction_of` the extraction.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from glue.core import Data
from glue.core.component import Component
from numpy.typing import NDArray

from glue_lrs.errors import LRSError, ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.spectra.columns import COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.viewers.datasets.coordinates import (
    LRSCoordinates,
    SpectrumCoordinates,
    image_coordinates,
)
from glue_lrs.viewers.datasets.session_meta import KEY, SessionMeta

if TYPE_CHECKING:
    from specutils import Spectrum

__all__ = [
    "add_spectrum",
    "component_name",
    "elements_of",
    "extraction_of",
    "header_cards",
    "image_data",
    "is_as_extracted",
    "is_lrs_image",
    "is_lrs_spectrum",
    "no_image",
    "other_columns",
    "slit_image",
    "spectrum_data",
    "update_spectrum_data",
]

#: Component of an image -> field of `SlitImage`.
_PLANES = {"flux": "data", "uncertainty": "err", "wavelength": "wavelength", "dq": "dq"}

#: Column of an x1d -> component of a spectrum, where it is not the name in lower case.
_COMPONENTS = {"FLUX_ERROR": "uncertainty"}

#: The components that come first: glue's viewers show the very first one unless told otherwise.
_FIRST = ("flux", "uncertainty", "wavelength", "row", "masked")

#: Columns that are no floating-point numbers: their type, and what they are without a spectrum.
_KINDS: dict[str, tuple[type, int]] = {"DQ": (np.uint32, 1), "MASKED": (np.uint8, 1)}

#: Cards that tell nothing of a dataset.
_NOT_SHOWN: tuple[str, ...] = (
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "NAXIS3",
    "EXTEND",
)

_NOT_SHOWN += ("PCOUNT", "GCOUNT", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM", "COMMENT", "HISTORY")

#: Wavelengths that differ by less than this fraction are the same row.
_SAME = 1e-10


# --- images ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Behind:
    """The image behind a dataset, and the arrays that its components had when it was made."""

    image: SlitImage
    arrays: dict[str, NDArray[Any]]


# By the component, not the dataset: a session restores a dataset with the components that its file
# was just read into.
_behind: weakref.WeakKeyDictionary[Component, _Behind] = weakref.WeakKeyDictionary()


def image_data(image: SlitImage, label: str | None = None) -> Data:
    """Make a glue dataset of an image.

    To open a file, use `open_image` (or glue's own ways): a session then keeps the name of the
    file, where it keeps all pixels of an image that came from somewhere else.

    Parameters
    ----------
    image : SlitImage
        The image, or stack of images. Its WCS is read.
    label : str, optional
        Name of the dataset; by default that of the file.

    Returns
    -------
    `~glue.core.data.Data`
        Shape (row, column) or (integration, row, column). Components ``flux``, ``uncertainty`` (if
        there is ERR), ``wavelength`` (in micron; of a stack the one plane, broadcast) and ``dq``
        (if there is DQ), which share their memory with the image but cannot be written to.
        ``coords`` is an `LRSCoordinates`; ``meta`` has the cards of both headers, ``filename``
        (the path, or None) and ``kind``.

    Raises
    ------
    LRSError
        If no pixel has a wavelength.
    """
    coordinates = image_coordinates(image)
    data = Data(label=label or _label(image.filename) or "LRS image", coords=coordinates)
    unit = "MJy/sr" if image.calibrated else "DN/s"
    units = {"flux": unit, "uncertainty": unit, "wavelength": "um"}
    arrays = {}
    for name, plane in _PLANES.items():
        values = getattr(image, plane)
        if values is not None:
            # A view, as a component makes its array read-only, and the image's is the caller's.
            arrays[name] = np.broadcast_to(values, image.data.shape)
            data.add_component(Component(arrays[name], units=units.get(name)), name)
    coordinates.owner = weakref.ref(data)
    data.meta.update(header_cards(image.header) | header_cards(image.sci_header))
    data.meta.update({"filename": image.path, "kind": image.kind})
    _behind[data.get_component("flux")] = _Behind(image, arrays)
    return data


def is_lrs_image(data: Any) -> bool:
    """Tell whether something is a dataset that `image_data` made, in this session or another."""
    return (
        isinstance(data, Data)
        and isinstance(data.coords, LRSCoordinates)
        and data.find_component_id("flux") is not None
    )


def no_image(data: Any) -> str:
    """Why something is no dataset of an LRS image, in a line.

    Parameters
    ----------
    data : object
        Something for which `is_lrs_image` does not hold.
    """
    label = getattr(data, "label", None) or type(data).__name__
    if "glue_lrs_residual" in getattr(data, "meta", {}):
        return f"{label}: is the residual of an LRS image, expected the image"
    ours = isinstance(getattr(data, "coords", None), LRSCoordinates | SpectrumCoordinates)
    if ours and not _has(data, "flux"):
        return (
            f"{label}: has no component flux, expected one image; if glue has merged several "
            "datasets into it, open the files again and do not merge them (glue-lrs combine adds "
            "the spectra of nods); if flux was renamed, name it so again"
        )
    return f"{label}: is no LRS image, expected an s2d, cal or calints"


def slit_image(data: Data) -> SlitImage:
    """The image behind a dataset.

    Parameters
    ----------
    data : `~glue.core.data.Data`
        A dataset for which `is_lrs_image` holds.

    Returns
    -------
    SlitImage
        The same object each time. Where components were given other values since, an image with
        these. Where it is not known (a session that has the pixels in it), the file is read.

    Raises
    ------
    ProductError
        If it is no such dataset, or the file is gone, or there never was one.
    """
    if not is_lrs_image(data):
        raise ProductError(no_image(data))
    component = data.get_component("flux")
    behind = _behind.get(component)
    arrays = {name: data.get_component(name).data for name in _PLANES if _has(data, name)}
    if behind is None:
        behind = _read_again(data)
    elif all(arrays.get(name) is one for name, one in behind.arrays.items()):
        return behind.image
    changed = {}
    for name, values in arrays.items():
        known = behind.arrays.get(name)
        if known is None or not np.array_equal(values, known, equal_nan=name != "dq"):
            changed[_PLANES[name]] = (
                values[0] if name == "wavelength" and data.ndim == 3 else values
            )
    image = replace(behind.image, **changed) if changed else behind.image
    _behind[component] = _Behind(image, arrays)
    return image


def _has(data: Data, name: str) -> bool:
    return data.find_component_id(name) is not None


def _read_again(data: Data) -> _Behind:
    """The image in the file that a dataset was made from."""
    path = data.meta.get("filename")
    if not path:
        raise ProductError(
            f"{data.label}: the image was never a file, so that the session has its pixels only; "
            "expected one that was opened from a file (SlitImage.write makes one)"
        )
    image = SlitImage.read(path)
    planes = {name: getattr(image, plane) for name, plane in _PLANES.items()}
    return _Behind(
        image,
        {
            name: np.broadcast_to(values, image.data.shape)
            for name, values in planes.items()
            if values is not None
        },
    )


def _label(filename: str | None) -> str | None:
    return None if filename is None else Path(filename).name.partition(".fits")[0]


def header_cards(header: fits.Header) -> dict[str, Any]:
    """The cards of a header that a session can keep, for glue's view of a dataset's metadata."""
    cards: dict[str, Any] = {}
    for card in header.cards:
        if card.keyword and card.keyword not in _NOT_SHOWN:
            value = card.value
            plain = isinstance(value, str | bool | int | float)
            cards[card.keyword] = value if plain else str(value)
    return cards


# --- spectra --------------------------------------------------------------------------------------


def spectrum_data(
    spectrum: Extraction | Spectrum | None,
    label: str | None = None,
    image: SlitImage | None = None,
) -> Data:
    """Make a glue dataset of a spectrum.

    Parameters
    ----------
    spectrum : Extraction, `~specutils.Spectrum` or None
        The spectrum, or a stack of them (integration, wavelength). None, with an image, for one
        that is yet to come.
    label : str, optional
        Name of the dataset; by default that of the file.
    image : SlitImage, optional
        The image that an extraction was made of. The dataset then has one element for every row of
        the image that has a wavelength, whatever the extraction has, so that its shape stays the
        same through `update_spectrum_data`. Elements without a spectrum are NaN, with ``dq`` 1 and
        ``masked`` 1, and have the median wavelength of their row.

    Returns
    -------
    `~glue.core.data.Data`
        Shape (element,), or (integration, element), in ascending order of wavelength (in its own
        order, if it is a `~specutils.Spectrum`). Components ``flux``, ``uncertainty``,
        ``wavelength`` (micron), ``masked`` (1 where the flux must not be
        used, else 0), ``row`` (row of the image, from 0; where it is known), and the other columns
        of the x1d under their names in lower case. The flux of an extraction is that of its column,
        NaN where there is none; that of a `~specutils.Spectrum` is its own. ``coords`` is a
        `SpectrumCoordinates`, and ``meta["uncertainty_type"]`` what the uncertainty is ("std").

    Raises
    ------
    LRSError
        If there is no finite wavelength, or an image is given for a stack of spectra.
    """
    if spectrum is not None and not isinstance(spectrum, Extraction):
        from glue_lrs.viewers.datasets.translators import spectrum_to_data

        return spectrum_to_data(spectrum, label)
    if image is None:
        if spectrum is None:
            raise LRSError("the spectrum is None, expected one, or the image it will be made of")
        order = _ascending(spectrum)
        integrations = None
        if spectrum.is_stack:
            integrations = np.arange(1, len(spectrum.columns["FLUX"]) + 1, dtype=float)
            if spectrum.times is not None and "INT_NUM" in spectrum.times.colnames:
                integrations = np.asarray(spectrum.times["INT_NUM"], dtype=float)
        coordinates = SpectrumCoordinates(spectrum.wavelength[order], integrations)
        arrays = _arrays(spectrum, tuple(spectrum.columns), order)
        rows = _rows(spectrum)
        if rows is not None:
            arrays["row"] = np.broadcast_to(rows[order].astype(float), arrays["flux"].shape)
        units = spectrum.units
        label = label or _label(spectrum.filename)
        header = spectrum.header
    else:
        if spectrum is not None and spectrum.is_stack:
            raise LRSError(
                f"{image.label}: found a stack of spectra, expected the spectrum of one image, as "
                "an image was given"
            )
        finite, base = _rows_of(image)
        coordinates = SpectrumCoordinates(base, base=base)
        arrays = {
            component_name(name): np.full(finite.size, 1 if name == "DQ" else np.nan)
            for name in (COLUMNS if spectrum is None else spectrum.columns)
        }
        arrays |= {"row": finite.astype(float), "masked": np.ones(finite.size)}
        units = column_units(image.calibrated) if spectrum is None else spectrum.units
        label = label or _label(image.filename)
        header = image.header
    data = Data(label=label or "LRS spectrum", coords=coordinates)
    add_spectrum(data, arrays, {component_name(name): unit for name, unit in units.items()})
    coordinates.owner = weakref.ref(data)
    data.meta.update(header_cards(header))
    if image is not None:
        update_spectrum_data(data, spectrum)
    else:
        _remember(data, spectrum)
    return data


def add_spectrum(data: Data, arrays: Mapping[str, NDArray[Any]], units: Mapping[str, str]) -> None:
    """Add the components of a spectrum in the order in which glue shows them."""
    units = {"row": "pix", **units}
    first = [name for name in _FIRST if name in arrays]
    for name in (*first, *(name for name in arrays if name not in first)):
        data.add_component(Component(arrays[name], units=units.get(name)), name)
    data.meta["uncertainty_type"] = "std"


def is_lrs_spectrum(data: Any) -> bool:
    """Tell whether something is a dataset that `spectrum_data` made, in this session or another."""
    return (
        isinstance(data, Data)
        and isinstance(data.coords, SpectrumCoordinates)
        and data.find_component_id("flux") is not None
    )


def update_spectrum_data(data: Data, extraction: Extraction | None) -> None:
    """Put another extraction into a dataset; glue tells all viewers.

    Parameters
    ----------
    data : `~glue.core.data.Data`
        What `spectrum_data` has made, best with an image.
    extraction : Extraction or None
        A single spectrum of the same image; it may have other rows. None empties the dataset.

    Raises
    ------
    LRSError
        If the dataset was made without an image and the number of wavelengths is another one, or
        the extraction does not fit the dataset.
    """
    coordinates = data.coords
    components = {cid.label: cid for cid in data.main_components}
    if not isinstance(coordinates, SpectrumCoordinates):
        raise LRSError(f"{data.label}: is no LRS spectrum, expected what spectrum_data has made")
    gone = [name for name in ("wavelength", "flux") if name not in components]
    if gone:
        raise LRSError(
            f"{data.label}: {' and '.join(gone)} was renamed or removed, expected under that name; "
            "the dataset is not kept up to date"
        )
    names = [name for name in COLUMNS if component_name(name) in components]
    shape = data.shape
    if extraction is not None and extraction.is_stack != (len(shape) == 2):
        raise LRSError(
            f"{data.label}: found an extraction of shape {extraction.columns['FLUX'].shape}, "
            f"expected {'a stack of spectra' if len(shape) == 2 else 'a single spectrum'}"
        )
    wave = coordinates.values if coordinates.base is None else coordinates.base
    if extraction is None:
        arrays = _arrays(None, names, slice(0), slice(0), shape)
    else:
        place, order = elements_of(data, extraction)
        arrays = _arrays(extraction, names, order, place, shape)
        wave = wave.copy()
        wave[place] = extraction.wavelength[order]
    arrays["wavelength"] = np.broadcast_to(wave, shape)
    coordinates.update(wave)
    _remember(data, extraction)
    data.update_components({components[name]: values for name, values in arrays.items()})


def extraction_of(data: Data) -> Extraction | None:
    """The extraction that a dataset of a spectrum was last filled with; None if there is none."""
    memory = data.meta.get(KEY)
    found = memory.get("extraction") if isinstance(memory, SessionMeta) else None
    return found if isinstance(found, Extraction) else None


def _remember(data: Data, extraction: Extraction | None) -> None:
    if extraction is None:
        data.meta.pop(KEY, None)
    else:
        memory = SessionMeta({"extraction": extraction})
        memory.owner = data.coords.owner
        data.meta[KEY] = memory


def component_name(column: str) -> str:
    """Name of the component that holds a column of an x1d."""
    return _COMPONENTS.get(column, column.lower())


def _ascending(extraction: Extraction) -> NDArray[np.intp]:
    """The elements with a finite wavelength, in ascending order of it."""
    wave = extraction.wavelength
    finite = np.flatnonzero(np.isfinite(wave))
    if finite.size == 0:
        raise LRSError("the extraction has no row with a finite wavelength")
    if wave[finite[0]] > wave[finite[-1]]:
        finite = finite[::-1]
    return finite[np.argsort(wave[finite], kind="stable")]


def _arrays(
    extraction: Extraction | None,
    names: Iterable[str],
    order: Any,
    place: Any = slice(None),
    shape: tuple[int, ...] | None = None,
) -> dict[str, NDArray[Any]]:
    """Components of the given columns, with the values `order` of an extraction at `place`.

    Without a shape there is nothing but these values.
    """
    made: dict[str, NDArray[Any]] = {}
    array: NDArray[Any]
    values = {} if extraction is None else dict(extraction.columns)
    if extraction is not None:
        values["MASKED"] = extraction.mask
    for name in (*names, "MASKED"):
        kind, empty = _KINDS.get(name, (float, np.nan))
        some = values.get(name)
        if shape is None:
            assert some is not None  # the names are the extraction's
            made[component_name(name)] = np.array(some[..., order], dtype=kind)
            continue
        made[component_name(name)] = array = np.full(shape, empty, dtype=kind)
        if some is not None:
            array[..., place] = some[..., order]
    return made


def _rows_of(image: SlitImage) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows of an image with a wavelength, in ascending order of it, and the median of each."""
    plane = np.asarray(image.wavelength, dtype=float)
    rows = np.flatnonzero(np.isfinite(plane).any(axis=1))
    if rows.size == 0:
        raise LRSError(f"{image.label}: no pixel has a wavelength")
    base = np.nanmedian(plane[rows], axis=1)
    order = np.argsort(base, kind="stable")
    if base[0] > base[-1]:
        order = rows.size - 1 - np.argsort(base[::-1], kind="stable")
    return rows[order], base[order]


def _rows(extraction: Extraction) -> NDArray[np.intp] | None:
    """Row of the image, from 0, of each element of an extraction; None where it is not known."""
    source = extraction.keywords_source
    # Not `keywords`, which reads the WCS.
    cards = source if isinstance(source, Mapping) else getattr(source, "cards", {})
    first, last = cards.get("EXTRYSTR"), cards.get("EXTRYSTP")
    if not isinstance(first, int | float) or not isinstance(last, int | float):
        return None
    rows = np.arange(int(first) - 1, int(last))
    return rows if rows.size == extraction.wavelength.size else None  # else there are gaps


def elements_of(data: Data, extraction: Extraction) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which element of a dataset is which of an extraction: indices of both, in pairs.

    Raises
    ------
    LRSError
        If the extraction does not fit.
    """
    order = _ascending(extraction)
    size, base = data.shape[-1], data.coords.base
    if base is None:
        if order.size != size:
            raise LRSError(
                f"{data.label}: found {order.size} wavelengths, expected {size}; make a new "
                "dataset, or one with an image"
            )
        return np.arange(size), order
    rows = _rows(extraction)
    if rows is None:  # rows in between are left out: they are told by their wavelengths
        place = np.interp(extraction.wavelength[order], base, np.arange(size))
        found = np.rint(place).astype(int)
    else:
        known = data["row"].astype(int)
        element = np.full(max(int(known.max()), int(rows.max())) + 1, -1)
        element[known] = np.arange(size)
        found = element[rows[order]]
    if (found < 0).any() or np.unique(found).size < found.size:
        raise LRSError(
            f"{data.label}: the rows of the extraction are not those of the image that the dataset "
            "was made with"
        )
    return found, order


def other_columns(
    extraction: Extraction, wave: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Components of all columns of an extraction, with their units, for a spectrum made of it.

    Nothing, where `wave` (in micron, in either order) and `shape` are not the extraction's.
    """
    order = _ascending(extraction)
    if wave[0] > wave[-1]:
        order = order[::-1]
    known = extraction.wavelength[order]
    if known.size != wave.size or not np.allclose(known, wave, rtol=_SAME, atol=0):
        return {}, {}
    if extraction.columns["FLUX"].shape[:-1] != shape[:-1]:
        return {}, {}
    arrays = _arrays(extraction, tuple(extraction.columns), order)
    rows = _rows(extraction)
    if rows is not None:
        arrays["row"] = np.broadcast_to(rows[order].astype(float), shape)
    return arrays, {component_name(name): unit for name, unit in extraction.units.items()}


def is_as_extracted(data: Data, extraction: Extraction) -> bool:
    """Tell whether a dataset still has the flux, error and mask of an extraction."""
    try:
        place, order = elements_of(data, extraction)
    except LRSError:
        return False
    names = [name for name in ("FLUX", "FLUX_ERROR") if name in extraction.columns]
    expected = _arrays(extraction, names, order, place, data.shape)
    return data.ndim == extraction.columns["FLUX"].ndim and all(
        _has(data, name) and np.array_equal(data[name], values, equal_nan=name != "masked")
        for name, values in expected.items()
    )

"""LRS spectra as glue datasets.

A spectrum becomes a dataset of shape (wavelength,), or (integration, wavelength), with ascending
wavelengths. Its components are ``flux``, ``uncertainty``, ``wavelength``, ``row``, ``masked`` and
the other columns of an x1d file under their names in lower case. The `Extraction` itself, with
header and provenance, is kept in the metadata and returned by `extraction_of`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from glue.core import Data
from glue.core.component import Component
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.spectra.columns import COLUMNS, OPTIONAL_COLUMNS, QUALITY, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.to_specutils import ascending_rows
from glue_lrs.viewers.datasets import session_meta as meta
from glue_lrs.viewers.datasets.coordinates import (
    SpectrumCoordinates,
    has_coordinates,
    integration_numbers,
)

if TYPE_CHECKING:
    from astropy.io import fits

    from glue_lrs.image.slit_image import SlitImage

#: Columns of an x1d file whose component is not named like the column in lower case.
_COMPONENTS = {"FLUX_ERROR": "uncertainty"}

#: Components that are added first, because glue's viewers show the first component by default.
_FIRST = ("flux", "uncertainty", "wavelength", "row", "masked")

#: Type of columns that contain integers, and their value where there is no spectrum.
_INTEGER_COLUMNS: dict[str, tuple[type, int]] = {
    "DQ": (np.uint32, 1), "QUALITY": (np.uint32, 0), "MASKED": (np.uint8, 1),
}  # fmt: skip

#: Largest relative difference between wavelengths that are considered equal.
_WAVELENGTH_TOLERANCE = 1e-10


def spectrum_data(
    extraction: Extraction | None, label: str | None = None, image: SlitImage | None = None
) -> Data:
    """Make a glue dataset from an extraction.

    Parameters
    ----------
    extraction : Extraction or None
        Spectrum, or a stack of spectra with one wavelength axis. None, together with an image,
        makes an empty dataset.
    label : str, optional
        Name of the dataset; by default, the name of the file.
    image : SlitImage, optional
        Image from which the spectrum was extracted. The dataset then has one wavelength bin for
        each row of the image with a wavelength, whether or not the row is extracted, so that
        `update_spectrum_data` never changes its shape. Bins without a spectrum are NaN, with ``dq``
        1 and ``masked`` 1, and have the median wavelength of their row.

    Returns
    -------
    `~glue.core.data.Data`
        Dataset of shape (wavelength,) or (integration, wavelength), with ascending wavelengths. Its
        components are ``flux``, ``uncertainty``, ``wavelength`` (in micron), ``masked`` (1 where
        the flux must not be used, else 0), ``row`` (the row of the image, from 0, if it is known),
        and the other columns of the x1d file under their names in lower case. ``coords`` is a
        `SpectrumCoordinates`, and ``meta["uncertainty_type"]`` is "std".

    Raises
    ------
    LRSError
        If no wavelength is finite, or an image is given for a stack of spectra.
    """
    if image is None:
        if extraction is None:
            raise LRSError("the spectrum is None, expected one, or the image it will be made of")
        data = _extracted_rows(extraction, label)
        _store_extraction(data, extraction)
    else:
        if extraction is not None and extraction.is_stack:
            raise LRSError(
                "found a stack of spectra, expected the spectrum of one image, as "
                "an image was given",
                subject=image.label,
            )
        data = _all_rows(image, extraction, label)
        update_spectrum_data(data, extraction)
    return data


def _extracted_rows(extraction: Extraction, label: str | None) -> Data:
    """Make a dataset with one wavelength bin for each extracted row that has a wavelength."""
    order = _ascending(extraction)
    integrations = None
    if extraction.is_stack:
        number = len(extraction.columns["FLUX"])
        integrations = integration_numbers(extraction.times, "INT_NUM", number)
    coordinates = SpectrumCoordinates(extraction.wavelength[order], integrations)
    arrays, units = _ordered_components(extraction, order)
    label = label or meta.file_label(extraction.filename)
    return make_data(label, coordinates, arrays, units, extraction.header)


def _all_rows(image: SlitImage, extraction: Extraction | None, label: str | None) -> Data:
    """Make an empty dataset with one bin for each row of an image that has a wavelength."""
    rows, wavelength = _rows_with_wavelength(image)
    columns = (*COLUMNS, QUALITY) if extraction is None else tuple(extraction.columns)
    arrays = _components(None, columns, slice(0), slice(0), (rows.size,))
    arrays["row"] = rows.astype(float)
    units = column_units(image.calibrated) if extraction is None else extraction.units
    units = {component_name(name): unit for name, unit in units.items()}
    coordinates = SpectrumCoordinates(wavelength, base=wavelength)
    label = label or meta.file_label(image.filename)
    return make_data(label, coordinates, arrays, units, image.header)


def make_data(
    label: str | None,
    coordinates: SpectrumCoordinates,
    arrays: Mapping[str, NDArray[Any]],
    units: Mapping[str, str],
    header: fits.Header | None,
) -> Data:
    """Make the dataset of a spectrum, with components in the order in which glue shows them."""
    data = Data(label=label or "LRS spectrum", coords=coordinates)
    coordinates.owner = weakref.ref(data)
    units = {"row": "pix", **units}
    for name in dict.fromkeys((*(name for name in _FIRST if name in arrays), *arrays)):
        data.add_component(Component(arrays[name], units=units.get(name)), name)
    data.meta.update({} if header is None else meta.header_cards(header))
    data.meta["uncertainty_type"] = "std"
    return data


def is_lrs_spectrum(data: object) -> TypeGuard[Data]:
    """Return whether an object is the dataset of an LRS spectrum, from this or another session."""
    return has_coordinates(data, SpectrumCoordinates)


def update_spectrum_data(data: Data, extraction: Extraction | None) -> None:
    """Replace the spectrum in a dataset, so that glue updates all its viewers.

    Parameters
    ----------
    data : `~glue.core.data.Data`
        Dataset made by `spectrum_data`, preferably with an image.
    extraction : Extraction or None
        Extraction of the same image, possibly of other rows. None empties the dataset.

    Raises
    ------
    LRSError
        If the dataset was made without an image and the number of wavelengths differs, or the rows
        of the extraction do not match the dataset.
    """
    coordinates = data.coords
    components = {cid.label: cid for cid in data.main_components}
    if not isinstance(coordinates, SpectrumCoordinates):
        raise LRSError(
            "is not an LRS spectrum, expected a dataset made by spectrum_data", subject=data.label
        )
    missing = [name for name in ("wavelength", "flux") if name not in components]
    if missing:
        raise LRSError(
            f"{' and '.join(missing)} was renamed or removed, expected under that "
            "name; the dataset is not kept up to date",
            subject=data.label,
        )
    columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if component_name(name) in components]
    shape = data.shape
    if extraction is not None and extraction.is_stack != (len(shape) == 2):
        raise LRSError(
            f"found an extraction of shape {extraction.columns['FLUX'].shape}, "
            f"expected {'a stack of spectra' if len(shape) == 2 else 'a single spectrum'}",
            subject=data.label,
        )
    wavelength = coordinates.values if coordinates.base is None else coordinates.base
    if extraction is None:
        arrays = _components(None, columns, slice(0), slice(0), shape)
    else:
        elements, order = elements_of(data, extraction)
        arrays = _components(extraction, columns, order, elements, shape)
        wavelength = wavelength.copy()
        wavelength[elements] = extraction.wavelength[order]
    arrays["wavelength"] = np.broadcast_to(wavelength, shape)
    coordinates.update(wavelength)
    _store_extraction(data, extraction)
    data.update_components({components[name]: values for name, values in arrays.items()})


def extraction_of(data: Data) -> Extraction | None:
    """Return the extraction whose values a dataset contains, or None."""
    extraction = meta.session_meta(data).get("extraction")
    return extraction if isinstance(extraction, Extraction) else None


def _store_extraction(data: Data, extraction: Extraction | None) -> None:
    data.meta.pop(meta.KEY, None)
    if extraction is not None:
        data.meta[meta.KEY] = meta.SessionMeta(extraction=extraction)
        data.meta[meta.KEY].owner = data.coords.owner


def component_name(column: str) -> str:
    """Return the name of the component that contains a column of an x1d file."""
    return _COMPONENTS.get(column, column.lower())


def elements_of(data: Data, extraction: Extraction) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match the wavelength bins of a dataset with the rows of an extraction.

    Returns
    -------
    elements, order : ndarray
        Indices of bins in the dataset, and indices of the corresponding rows in the extraction,
        both with ascending wavelengths.

    Raises
    ------
    LRSError
        If the rows of the extraction do not match the dataset.
    """
    order = _ascending(extraction)
    size, base = data.shape[-1], data.coords.base
    if base is None:
        if order.size != size:
            raise LRSError(
                f"found {order.size} wavelengths, expected {size}, as the dataset was made without "
                "an image; make a new dataset",
                subject=data.label,
            )
        return np.arange(size), order
    rows = _extracted_row_numbers(extraction)
    if rows is None:  # without row numbers, the wavelengths identify the rows
        position = np.interp(extraction.wavelength[order], base, np.arange(size))
        elements = np.rint(position).astype(int)
    else:
        known = data["row"].astype(int)
        element_of_row = np.full(max(int(known.max()), int(rows.max())) + 1, -1)
        element_of_row[known] = np.arange(size)
        elements = element_of_row[rows[order]]
    if (elements < 0).any() or np.unique(elements).size < elements.size:
        raise LRSError(
            "the rows of the extraction are not those of the image that the dataset was made with",
            subject=data.label,
        )
    return elements, order


def other_columns(
    extraction: Extraction, wavelength: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the columns of an extraction as components for a spectrum derived from it.

    Parameters
    ----------
    extraction : Extraction
        Extraction with the columns.
    wavelength : ndarray
        Wavelengths of the spectrum in micron, ascending or descending.
    shape : tuple of int
        Shape of the flux of the spectrum.

    Returns
    -------
    arrays, units : dict
        Components and their units. They are empty if wavelengths or shape of the extraction differ
        from those of the spectrum.
    """
    order = _ascending(extraction)
    if wavelength[0] > wavelength[-1]:
        order = order[::-1]
    known = extraction.wavelength[order]
    same = (*extraction.columns["FLUX"].shape[:-1], known.size) == shape and np.allclose(
        known, wavelength, rtol=_WAVELENGTH_TOLERANCE, atol=0
    )
    return _ordered_components(extraction, order) if same else ({}, {})


def is_as_extracted(data: Data, extraction: Extraction) -> bool:
    """Return whether a dataset still contains the flux, error and mask of an extraction."""
    try:
        elements, order = elements_of(data, extraction)
    except LRSError:
        return False
    columns = [name for name in ("FLUX", "FLUX_ERROR") if name in extraction.columns]
    expected = _components(extraction, columns, order, elements, data.shape)
    return data.ndim == extraction.columns["FLUX"].ndim and all(
        data.find_component_id(name) is not None
        and np.array_equal(data[name], values, equal_nan=name != "masked")
        for name, values in expected.items()
    )


def _ascending(extraction: Extraction) -> NDArray[np.intp]:
    """Return the indices of rows with a finite wavelength, in ascending order of wavelength."""
    return np.arange(extraction.wavelength.size)[ascending_rows(extraction.wavelength)]


def _ordered_components(
    extraction: Extraction, order: NDArray[np.intp]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return all columns of an extraction as components, sorted by `order`, with their units."""
    shape = extraction.columns["FLUX"][..., order].shape
    arrays = _components(extraction, tuple(extraction.columns), order, slice(None), shape)
    rows = _extracted_row_numbers(extraction)
    if rows is not None:
        arrays["row"] = np.broadcast_to(rows[order].astype(float), shape)
    return arrays, {component_name(name): unit for name, unit in extraction.units.items()}


def _components(
    extraction: Extraction | None,
    columns: Iterable[str],
    order: NDArray[np.intp] | slice,
    elements: NDArray[np.intp] | slice,
    shape: tuple[int, ...],
) -> dict[str, NDArray[Any]]:
    """Return the components for columns of an extraction.

    The rows `order` of the extraction are copied to the wavelength bins `elements`. Other bins are
    masked and NaN.
    """
    components: dict[str, NDArray[Any]] = {}
    values: dict[str, NDArray[Any]] = {}
    if extraction is not None:
        values = {**extraction.columns, "MASKED": extraction.mask}
    for name in (*columns, "MASKED"):
        kind, empty = _INTEGER_COLUMNS.get(name, (float, np.nan))
        array: NDArray[Any] = np.full(shape, empty, dtype=kind)
        if name in values:
            array[..., elements] = values[name][..., order]
        components[component_name(name)] = array
    return components


def _rows_with_wavelength(image: SlitImage) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the rows with a wavelength and their median wavelengths, in ascending order."""
    plane = np.asarray(image.wavelength, dtype=float)
    rows = np.flatnonzero(np.isfinite(plane).any(axis=1))
    if rows.size == 0:
        raise LRSError("no pixel has a wavelength", subject=image.label)
    wavelength = np.nanmedian(plane[rows], axis=1)
    order = ascending_rows(wavelength)
    return rows[order], wavelength[order]


def _extracted_row_numbers(extraction: Extraction) -> NDArray[np.intp] | None:
    """Return the row number, from 0, of each wavelength; None if unknown or rows are missing."""
    source = extraction.keywords_source
    # `keywords` is not used here, because it would read the WCS.
    cards = source if isinstance(source, Mapping) else getattr(source, "cards", {})
    first, last = cards.get("EXTRYSTR"), cards.get("EXTRYSTP")
    if not isinstance(first, int | float) or not isinstance(last, int | float):
        return None
    rows = np.arange(int(first) - 1, int(last))
    return rows if rows.size == extraction.wavelength.size else None

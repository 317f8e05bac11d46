"""Conversions between glue datasets of LRS and specutils spectra, with errors and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from astropy import nddata
from astropy import units as u
from glue.core import Data, Subset
from glue.core.component_id import ComponentID
from numpy.typing import NDArray
from specutils import Spectrum

from glue_lrs.errors import LRSError, quoted
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import ERROR_OF
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.viewers.datasets import spectra
from glue_lrs.viewers.datasets.coordinates import SpectrumCoordinates, integration_numbers
from glue_lrs.viewers.datasets.images import is_lrs_image, slit_image
from glue_lrs.viewers.datasets.session_meta import KEY, SessionMeta, session_meta

#: Key in the ``meta`` of a dataset for those properties of a `Spectrum` that components cannot
#: contain.
_FORM = "lrs_spectrum"

_UNCERTAINTIES: dict[str, type[nddata.NDUncertainty]] = {
    "std": nddata.StdDevUncertainty,
    "var": nddata.VarianceUncertainty,
    "ivar": nddata.InverseVariance,
    "unknown": nddata.UnknownUncertainty,
}

_STATISTICS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "mean": np.nanmean,
    "median": np.nanmedian,
    "sum": np.nansum,
    "minimum": np.nanmin,
    "maximum": np.nanmax,
}


# --- to glue --------------------------------------------------------------------------------------


def is_convertible(spectrum: Spectrum) -> bool:
    """Return whether a spectrum, or a stack of spectra on one axis, comes from this package."""
    meta = spectrum.meta
    return (
        spectrum.flux.ndim in (1, 2)
        and spectrum.spectral_axis_index == spectrum.flux.ndim - 1
        and (
            isinstance(meta.get("extraction"), Extraction)
            or isinstance(meta.get("glue_lrs"), Provenance)
        )
        and (
            spectrum.uncertainty is None or spectrum.uncertainty.uncertainty_type in _UNCERTAINTIES
        )
    )


def spectrum_to_data(spectrum: Spectrum, label: str | None = None) -> Data:
    """Make a glue dataset from a spectrum.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Spectrum with a flux of shape (n_wave,) or (integration, n_wave). The spectral axis may be
        any quantity that can be converted to a wavelength.
    label : str, optional
        Name of the dataset.

    Returns
    -------
    `~glue.core.data.Data`
        Dataset with the components that `glue_lrs.viewers.datasets.spectra.spectrum_data` makes, in
        the order of the spectral axis. The other columns of an extraction are included only if the
        spectrum still has the values of the extraction. `data_to_spectrum` returns the spectrum
        again.

    Raises
    ------
    LRSError
        If the spectral axis cannot be converted to a wavelength, or is not the last axis of the
        flux.
    """
    flux = spectrum.flux
    if flux.ndim not in (1, 2) or spectrum.spectral_axis_index != flux.ndim - 1:
        raise LRSError(
            f"the spectrum has the shape {flux.shape} with the spectral axis at "
            f"{spectrum.spectral_axis_index}, expected (wavelength,) or (integration, wavelength)"
        )
    axis = u.Quantity(spectrum.spectral_axis)
    try:
        wavelength = axis.to_value(u.um, u.spectral())
    except u.UnitConversionError:
        raise LRSError(
            f"the spectral axis is in {axis.unit}, expected something that corresponds to a "
            "wavelength"
        ) from None
    numbers = None
    if flux.ndim == 2:
        numbers = integration_numbers(spectrum.meta.get("times"), "INT_NUM", len(flux))
    coordinates = SpectrumCoordinates(axis, numbers)
    unit = str(spectrum.unit)
    units = {"wavelength": "um", "flux": unit}
    form: dict[str, Any] = {"mask": spectrum.mask is not None}
    arrays = {"wavelength": np.broadcast_to(wavelength, flux.shape), "flux": np.array(flux.value)}
    uncertainty = spectrum.uncertainty
    if uncertainty is not None:
        arrays["uncertainty"] = np.array(uncertainty.array)
        units["uncertainty"] = str(uncertainty.unit or unit)
        form["uncertainty"] = None if uncertainty.unit is None else str(uncertainty.unit)
    mask = False if spectrum.mask is None else np.asarray(spectrum.mask, dtype=bool)
    arrays["masked"] = np.broadcast_to(mask, flux.shape).astype(np.uint8)
    if spectrum.radial_velocity is not None and spectrum.radial_velocity.to_value(u.km / u.s) != 0:
        form["radial_velocity"] = float(spectrum.radial_velocity.to_value(u.km / u.s))
    columns, column_units = _extraction_columns(spectrum, wavelength)
    columns.pop("uncertainty", None)  # is taken from the spectrum, if at all
    arrays = columns | arrays
    units = column_units | units
    data = spectra.make_data(label, coordinates, arrays, units, spectrum.meta.get("header"))
    data.meta["uncertainty_type"] = "std" if uncertainty is None else uncertainty.uncertainty_type
    data.meta[_FORM] = form
    data.meta[KEY] = SessionMeta(spectrum.meta)
    return data


def _extraction_columns(
    spectrum: Spectrum, wavelength: NDArray[np.float64]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the columns of the extraction from which a spectrum was made, with their units.

    They are empty if the spectrum no longer has the values of the extraction.
    """
    if isinstance(spectrum.meta.get("extraction"), Extraction):
        try:
            extraction = spectrum_to_extraction(spectrum)
            return spectra.other_columns(extraction, wavelength, spectrum.flux.shape)
        except LRSError:
            pass  # the spectrum cannot be an x1d file, but it can be displayed
    return {}, {}


# --- from glue ------------------------------------------------------------------------------------


def data_and_mask(data_or_subset: Data | Subset) -> tuple[Data, NDArray[np.bool_] | None]:
    """Return a dataset, or the dataset and the mask of a subset, True where it selects values."""
    if isinstance(data_or_subset, Subset):
        return data_or_subset.data, data_or_subset.to_mask()
    return data_or_subset, None


def data_to_spectrum(
    data_or_subset: Data | Subset,
    attribute: ComponentID | str | None = None,
    statistic: str | None = None,
) -> Spectrum:
    """Make a spectrum from a glue dataset with LRS data.

    Parameters
    ----------
    data_or_subset : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        Dataset of a spectrum, a stack of spectra or an image. Everything outside a subset is
        masked.
    attribute : `~glue.core.component_id.ComponentID` or str, optional
        Component to use as the flux; by default ``flux``. Only ``flux``, ``surf_bright`` and
        ``background`` have an uncertainty.
    statistic : {"mean", "median", "sum", "minimum", "maximum"}, optional
        Statistic over the integrations in a stack of spectra, excluding masked values; by default
        all integrations are kept. Only the mean and the sum have an uncertainty, and only if the
        dataset contains standard deviations.

    Returns
    -------
    `~specutils.Spectrum`
        The spectrum from which the dataset was made. If the dataset was filled with an extraction,
        the result of `Extraction.to_spectrum`, without wavelength bins that have no spectrum.

    Raises
    ------
    LRSError
        If there is no such component or statistic, or the dataset does not contain LRS data.
    """
    data, selected = data_and_mask(data_or_subset)
    name = getattr(attribute, "label", attribute) or "flux"
    if is_lrs_image(data):
        return _image_to_spectrum(data, name, statistic, selected)
    extraction = _valid_extraction(data)
    if data.find_component_id(name) is None:
        known = ", ".join(cid.label for cid in data.main_components)
        raise LRSError(f"attribute is {quoted(name)}, expected one of {known}", subject=data.label)
    if name == "flux" and extraction is not None:
        spectrum = extraction.to_spectrum()
        spectrum.meta.update(_other_meta(data))
        if selected is not None:
            elements, _ = spectra.elements_of(data, extraction)
            selected = selected[..., elements]
    else:
        spectrum = _component_to_spectrum(data, name)
    if selected is not None and not selected.all():
        mask = False if spectrum.mask is None else spectrum.mask
        spectrum.mask = mask | ~selected
    return spectrum if statistic is None else _collapsed(spectrum, statistic)


def _valid_extraction(data: Data) -> Extraction | None:
    """Return the extraction in a dataset, if the dataset still has its values, else None."""
    if not spectra.is_lrs_spectrum(data):
        raise LRSError("is not an LRS spectrum", subject=data.label)
    extraction = spectra.extraction_of(data)
    if _FORM in data.meta or extraction is None or not spectra.is_as_extracted(data, extraction):
        return None
    return extraction


def _other_meta(data: Data) -> dict[str, Any]:
    return {key: value for key, value in session_meta(data).items() if key != "extraction"}


def _component_to_spectrum(data: Data, name: str) -> Spectrum:
    """Make a spectrum from one component, with its uncertainty and the mask."""
    form = data.meta.get(_FORM, {})
    name_of = spectra.component_name
    errors = {name_of(column): name_of(one) for column, one in ERROR_OF.items()}
    error = errors.get(name)
    kind = data.meta.get("uncertainty_type", "std") if name == "flux" else "std"
    uncertainty = None
    if error is not None and data.find_component_id(error) is not None:
        unit = data.get_component(error).units
        if name == "flux" and "uncertainty" in form:
            unit = form["uncertainty"]
        uncertainty = _UNCERTAINTIES[kind](
            np.array(data[error]), unit=None if unit is None else u.Unit(unit)
        )
    flux = np.array(data[name])
    mask = None
    if data.find_component_id("masked") is not None:
        mask = np.array(data["masked"], dtype=bool)
        if not mask.any() and not form.get("mask"):
            mask = None
    velocity = form.get("radial_velocity")
    return Spectrum(
        flux=u.Quantity(flux, u.Unit(data.get_component(name).units), copy=False),
        spectral_axis=data.coords.spectral_axis,
        spectral_axis_index=flux.ndim - 1,
        uncertainty=uncertainty,
        mask=mask,
        meta=dict(session_meta(data)),
        radial_velocity=None if velocity is None else velocity * u.km / u.s,
    )


def _image_to_spectrum(
    data: Data, name: str, statistic: str | None, selected: NDArray[np.bool_] | None
) -> Spectrum:
    for key, found, expected in (("attribute", name, "flux"), ("statistic", statistic, None)):
        if found != expected:
            raise LRSError(
                f"{key} is {quoted(found)}, expected {expected!r} for an image", subject=data.label
            )
    spectrum = masked_outside(slit_image(data), selected).to_spectrum()
    spectrum.meta.update(_other_meta(data))
    return spectrum


def masked_outside(image: SlitImage, selected: NDArray[np.bool_] | None) -> SlitImage:
    """Return an image with DQ bit 0 (DO_NOT_USE) set in all pixels that are not selected.

    If `selected` is None, the image is returned unchanged.
    """
    if selected is None:
        return image
    flags = np.zeros(image.data.shape, np.uint32) if image.dq is None else image.dq
    return replace(image, dq=flags | np.where(selected, 0, DO_NOT_USE).astype(np.uint32))


def _collapsed(spectrum: Spectrum, statistic: str) -> Spectrum:
    """Compute a statistic over the integrations of a stack of spectra."""
    if statistic not in _STATISTICS:
        raise LRSError(
            f"statistic is {quoted(statistic)}, expected one of {', '.join(_STATISTICS)}"
        )
    if spectrum.flux.ndim == 1:
        return spectrum
    bad = np.zeros(spectrum.flux.shape, dtype=bool) if spectrum.mask is None else spectrum.mask
    bad = bad | np.isnan(spectrum.flux.value)
    empty = bad.all(axis=0)
    # Wavelengths without any valid value get a temporary 0 to avoid warnings from numpy's nan
    # functions. It is replaced by NaN below.
    values = np.where(bad, np.nan, spectrum.flux.value)
    values[0, empty] = 0.0
    flux = _STATISTICS[statistic](values, axis=0)
    flux[empty] = np.nan
    uncertainty = None
    if statistic in ("mean", "sum") and isinstance(spectrum.uncertainty, nddata.StdDevUncertainty):
        error = np.sqrt(np.where(bad, 0.0, spectrum.uncertainty.array**2).sum(axis=0))
        if statistic == "mean":
            error /= np.maximum(np.count_nonzero(~bad, axis=0), 1)
        error[empty] = np.nan
        uncertainty = nddata.StdDevUncertainty(error, unit=spectrum.uncertainty.unit)
    return Spectrum(
        flux=u.Quantity(flux, spectrum.unit, copy=False),
        spectral_axis=spectrum.spectral_axis,
        uncertainty=uncertainty,
        mask=empty if empty.any() else None,
        meta={key: spectrum.meta[key] for key in ("header",) if key in spectrum.meta},
    )


def data_to_extraction(
    data_or_subset: Data | Subset, components: list[ComponentID | str] | None = None
) -> Extraction:
    """Make an extraction, with the columns of an x1d file, from the glue dataset of a spectrum.

    Parameters
    ----------
    data_or_subset : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        Dataset of a spectrum or a stack of spectra. For a subset, wavelengths that are not selected
        in any integration are omitted, and other values that are not selected get DQ 1.
    components : list of `~glue.core.component_id.ComponentID` or str, optional
        Components whose columns to include in addition to wavelength, flux and DQ; all by default.

    Returns
    -------
    Extraction
        The extraction with which the dataset was filled, if the dataset still has its values.
        Otherwise an extraction made from the flux, uncertainty and mask of the dataset.

    Raises
    ------
    LRSError
        If the dataset cannot be expressed as the columns of an x1d file.
    """
    data, selected = data_and_mask(data_or_subset)
    extraction = _valid_extraction(data)
    if extraction is not None:
        elements, order = spectra.elements_of(data, extraction)
    else:
        extraction = spectrum_to_extraction(data_to_spectrum(data))
        elements = np.argsort(data["wavelength"].reshape(-1, data.shape[-1])[0], kind="stable")
        order = np.argsort(extraction.wavelength, kind="stable")
    if selected is not None:
        inside = np.zeros(extraction.columns["FLUX"].shape, dtype=bool)
        inside[..., order] = selected[..., elements]
        kept = inside if inside.ndim == 1 else inside.any(axis=0)
        if not kept.any():
            raise LRSError(f"has no element of {data.label}", subject=data_or_subset.label)
        columns = {name: values[..., kept] for name, values in extraction.columns.items()}
        columns["DQ"] = columns["DQ"] | np.where(inside[..., kept], 0, DO_NOT_USE).astype(np.uint32)
        weight = extraction.aperture_weight
        extraction = replace(
            extraction,
            columns=columns,
            aperture_weight=None if weight is None else weight[kept],
        )
    if components is None:
        return extraction
    chosen = {getattr(component, "label", component) for component in components}
    chosen |= {"wavelength", "flux", "dq"}
    names = [name for name in extraction.columns if spectra.component_name(name) in chosen]
    return replace(
        extraction,
        columns={name: extraction.columns[name] for name in names},
        units={name: unit for name, unit in extraction.units.items() if name in names},
    )

"""Between glue's datasets and specutils: spectra of LRS keep their errors, mask and history.

glue asks the translator with the highest priority first, which is this one. What does not come from
this package goes on to glue-astronomy's, if that is installed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import specutils
from astropy import units as u
from astropy.nddata import (
    InverseVariance,
    NDUncertainty,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from glue.config import data_translator
from glue.core import Data, Subset
from glue.core.component_id import ComponentID
from numpy.typing import NDArray
from specutils import Spectrum

from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import ERROR_OF
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.viewers.datasets.coordinates import SpectrumCoordinates
from glue_lrs.viewers.datasets.datasets import (
    add_spectrum,
    component_name,
    elements_of,
    extraction_of,
    header_cards,
    image_data,
    is_as_extracted,
    is_lrs_image,
    is_lrs_spectrum,
    other_columns,
    slit_image,
    spectrum_data,
)
from glue_lrs.viewers.datasets.session_meta import KEY, SessionMeta

__all__ = [
    "ExtractionTranslator",
    "ImageTranslator",
    "SpectrumTranslator",
    "data_to_extraction",
    "data_to_spectrum",
    "register",
    "spectrum_to_data",
]

#: glue-astronomy's translators have 0.
_PRIORITY = 100

#: Key of a dataset's meta with what components cannot tell of a `Spectrum`.
_FORM = "lrs_spectrum"

#: Components that are the spectrum's own.
_OWN = ("wavelength", "flux", "uncertainty", "masked")

_UNCERTAINTIES: dict[str, type[NDUncertainty]] = {
    "std": StdDevUncertainty,
    "var": VarianceUncertainty,
    "ivar": InverseVariance,
    "unknown": UnknownUncertainty,
}

_STATISTICS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "mean": np.nanmean,
    "median": np.nanmedian,
    "sum": np.nansum,
    "minimum": np.nanmin,
    "maximum": np.nanmax,
}


# --- in -------------------------------------------------------------------------------------------


def is_ours(spectrum: Spectrum) -> bool:
    """Tell whether a spectrum of one axis, or a stack of them, comes from this package."""
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
    """Make a glue dataset of a spectrum.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Flux of shape (n_wave,) or (integration, n_wave), over anything that corresponds to a
        wavelength.
    label : str, optional
        Name of the dataset.

    Returns
    -------
    `~glue.core.data.Data`
        With the components of `glue_lrs.viewers.datasets.datasets.spectrum_data` in the spectrum's own order;
        other columns only where its numbers are still those that were extracted.
        `data_to_spectrum` gives the spectrum back.

    Raises
    ------
    LRSError
        If the spectral axis does not correspond to a wavelength, or has another place in the flux.
    """
    flux = spectrum.flux
    if flux.ndim not in (1, 2) or spectrum.spectral_axis_index != flux.ndim - 1:
        raise LRSError(
            f"the spectrum has the shape {flux.shape} with the spectral axis at "
            f"{spectrum.spectral_axis_index}, expected (wavelength,) or (integration, wavelength)"
        )
    axis = u.Quantity(spectrum.spectral_axis)
    try:
        wave = axis.to_value(u.um, u.spectral())
    except u.UnitConversionError:
        raise LRSError(
            f"the spectral axis is in {axis.unit}, expected something that corresponds to a "
            "wavelength"
        ) from None
    integrations = None
    if flux.ndim == 2:
        times = spectrum.meta.get("times")
        known = times is not None and "INT_NUM" in times.colnames and len(times) == len(flux)
        integrations = np.asarray(times["INT_NUM"]) if known else np.arange(1, len(flux) + 1)
    coordinates = SpectrumCoordinates(axis, integrations)
    unit = str(spectrum.unit)
    units = {"wavelength": "um", "flux": unit}
    form: dict[str, Any] = {"mask": spectrum.mask is not None}
    arrays = {"wavelength": np.broadcast_to(wave, flux.shape), "flux": np.array(flux.value)}
    uncertainty = spectrum.uncertainty
    if uncertainty is not None:
        arrays["uncertainty"] = np.array(uncertainty.array)
        units["uncertainty"] = str(uncertainty.unit or unit)
        form["uncertainty"] = None if uncertainty.unit is None else str(uncertainty.unit)
    mask = False if spectrum.mask is None else np.asarray(spectrum.mask, dtype=bool)
    arrays["masked"] = np.broadcast_to(mask, flux.shape).astype(np.uint8)
    if spectrum.radial_velocity is not None and spectrum.radial_velocity.to_value(u.km / u.s) != 0:
        form["radial_velocity"] = float(spectrum.radial_velocity.to_value(u.km / u.s))
    others, other_units = _others(spectrum, wave)
    arrays |= {name: values for name, values in others.items() if name not in _OWN}
    units = other_units | units
    data = Data(label=label or "LRS spectrum", coords=coordinates)
    add_spectrum(data, arrays, units)
    coordinates.owner = weakref.ref(data)
    header = spectrum.meta.get("header")
    if header is not None:
        data.meta.update(header_cards(header))
    data.meta["uncertainty_type"] = "std" if uncertainty is None else uncertainty.uncertainty_type
    data.meta[_FORM] = form
    data.meta[KEY] = SessionMeta(spectrum.meta)
    return data


def _others(
    spectrum: Spectrum, wave: NDArray[np.float64]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The other columns of the x1d, with their units, that still belong to a spectrum."""
    if not isinstance(spectrum.meta.get("extraction"), Extraction):
        return {}, {}
    try:
        return other_columns(spectrum_to_extraction(spectrum), wave, spectrum.flux.shape)
    except LRSError:  # it could not be written as an x1d, but it can be shown
        return {}, {}


# --- out ------------------------------------------------------------------------------------------


def data_to_spectrum(
    data_or_subset: Data | Subset,
    attribute: ComponentID | str | None = None,
    statistic: str | None = None,
) -> Spectrum:
    """Make a spectrum of a glue dataset of LRS.

    Parameters
    ----------
    data_or_subset : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        A spectrum, a stack of spectra, or an image. Outside a subset all is masked.
    attribute : `~glue.core.component_id.ComponentID` or str, optional
        The component to take, ``flux`` by default. Only ``flux``, ``surf_bright`` and
        ``background`` have an uncertainty.
    statistic : {"mean", "median", "sum", "minimum", "maximum"}, optional
        What to make of the integrations of a stack of spectra, leaving out what is masked; by
        default they are all kept. Only the mean and the sum of standard deviations have an
        uncertainty.

    Returns
    -------
    `~specutils.Spectrum`
        The very spectrum that a dataset was made of. Of a dataset that was filled from an
        extraction, `Extraction.to_spectrum`, without the elements that have no spectrum.

    Raises
    ------
    LRSError
        If there is no such component or statistic, or it is no dataset of LRS.
    """
    if isinstance(data_or_subset, Subset):
        data, state = data_or_subset.data, data_or_subset.subset_state
    else:
        data, state = data_or_subset, None
    selected = None if state is None else data.get_mask(state)
    name = getattr(attribute, "label", attribute) or "flux"
    if is_lrs_image(data):
        return _image_to_spectrum(data, name, statistic, selected)
    if not is_lrs_spectrum(data):
        raise LRSError(f"{data.label}: is no spectrum of LRS")
    if data.find_component_id(name) is None:
        known = ", ".join(cid.label for cid in data.main_components)
        raise LRSError(f"{data.label}: attribute is {name!r}, expected one of {known}")
    extraction = extraction_of(data)
    if (
        name == "flux"
        and _FORM not in data.meta
        and extraction is not None
        and is_as_extracted(data, extraction)
    ):
        spectrum = extraction.to_spectrum()
        spectrum.meta.update(_other_meta(data))
        if selected is not None:
            place, _ = elements_of(data, extraction)
            selected = selected[..., place]
    else:
        spectrum = _of_components(data, name)
    if selected is not None and not selected.all():
        old = False if spectrum.mask is None else spectrum.mask
        spectrum.mask = old | ~selected
    return spectrum if statistic is None else _collapsed(spectrum, statistic)


def _other_meta(data: Data) -> dict[str, Any]:
    memory = data.meta.get(KEY)
    if not isinstance(memory, SessionMeta):
        return {}
    return {key: value for key, value in memory.items() if key != "extraction"}


def _of_components(data: Data, name: str) -> Spectrum:
    form = data.meta.get(_FORM, {})
    if name == "flux":
        error: str | None = "uncertainty"
        kind = data.meta.get("uncertainty_type", "std")
    else:
        errors = {component_name(column): component_name(ERROR_OF[column]) for column in ERROR_OF}
        error, kind = errors.get(name), "std"
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
    memory = data.meta.get(KEY)
    return Spectrum(
        flux=u.Quantity(flux, u.Unit(data.get_component(name).units), copy=False),
        spectral_axis=data.coords.spectral_axis,
        spectral_axis_index=flux.ndim - 1,
        uncertainty=uncertainty,
        mask=mask,
        meta=dict(memory) if isinstance(memory, SessionMeta) else {},
        **({} if velocity is None else {"radial_velocity": velocity * u.km / u.s}),
    )


def _image_to_spectrum(
    data: Data, name: str, statistic: str | None, selected: NDArray[np.bool_] | None
) -> Spectrum:
    for key, found, expected in (("attribute", name, "flux"), ("statistic", statistic, None)):
        if found != expected:
            raise LRSError(f"{data.label}: {key} is {found!r}, expected {expected!r} for an image")
    image = slit_image(data)
    if selected is not None:
        image = _only(image, selected)
    spectrum = image.to_spectrum()
    spectrum.meta.update(_other_meta(data))
    return spectrum


def _only(image: SlitImage, selected: NDArray[np.bool_]) -> SlitImage:
    """An image whose other pixels must not be used."""
    flags = np.zeros(image.data.shape, np.uint32) if image.dq is None else image.dq
    return replace(image, dq=flags | np.where(selected, 0, DO_NOT_USE).astype(np.uint32))


def _collapsed(spectrum: Spectrum, statistic: str) -> Spectrum:
    """One spectrum of a stack."""
    if statistic not in _STATISTICS:
        raise LRSError(f"statistic is {statistic!r}, expected one of {', '.join(_STATISTICS)}")
    if spectrum.flux.ndim == 1:
        return spectrum
    bad = np.zeros(spectrum.flux.shape, dtype=bool) if spectrum.mask is None else spectrum.mask
    bad = bad | np.isnan(spectrum.flux.value)
    empty = bad.all(axis=0)
    # One value where there is none, so that nothing warns of empty slices; it is removed again.
    values = np.where(bad, np.nan, spectrum.flux.value)
    values[0, empty] = 0.0
    flux = _STATISTICS[statistic](values, axis=0)
    flux[empty] = np.nan
    uncertainty = None
    if statistic in ("mean", "sum") and isinstance(spectrum.uncertainty, StdDevUncertainty):
        error = np.sqrt(np.where(bad, 0.0, spectrum.uncertainty.array**2).sum(axis=0))
        if statistic == "mean":
            error /= np.maximum(np.count_nonzero(~bad, axis=0), 1)
        error[empty] = np.nan
        uncertainty = StdDevUncertainty(error, unit=spectrum.uncertainty.unit)
    kept = {key: spectrum.meta[key] for key in ("header",) if key in spectrum.meta}
    return Spectrum(
        flux=u.Quantity(flux, spectrum.unit, copy=False),
        spectral_axis=spectrum.spectral_axis,
        uncertainty=uncertainty,
        mask=empty if empty.any() else None,
        meta=kept,
    )


def data_to_extraction(
    data_or_subset: Data | Subset, components: list[ComponentID | str] | None = None
) -> Extraction:
    """Make the columns of an x1d of a glue dataset of a spectrum.

    Parameters
    ----------
    data_or_subset : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        A spectrum, or a stack of them. Of a subset, wavelengths without any selected element are
        left out, and other elements that are not selected have DQ 1.
    components : list of `~glue.core.component_id.ComponentID` or str, optional
        The components whose columns to take, besides wavelength, flux and DQ; by default all that
        there are.

    Returns
    -------
    Extraction
        What the dataset was filled with, as long as it has these numbers; otherwise the columns
        of its own flux, uncertainty and mask.

    Raises
    ------
    LRSError
        If it cannot be the columns of an x1d.
    """
    whole = data_or_subset.data if isinstance(data_or_subset, Subset) else data_or_subset
    if not is_lrs_spectrum(whole):
        raise LRSError(f"{whole.label}: is no spectrum of LRS")
    extraction = extraction_of(whole)
    if _FORM not in whole.meta and extraction is not None and is_as_extracted(whole, extraction):
        place, order = elements_of(whole, extraction)
    else:
        extraction = spectrum_to_extraction(data_to_spectrum(whole))
        place = np.argsort(whole["wavelength"].reshape(-1, whole.shape[-1])[0], kind="stable")
        order = np.argsort(extraction.wavelength, kind="stable")
    if isinstance(data_or_subset, Subset):
        selected = data_or_subset.to_mask()[..., place]
        inside = np.zeros(extraction.columns["FLUX"].shape, dtype=bool)
        inside[..., order] = selected
        kept = inside if inside.ndim == 1 else inside.any(axis=0)
        if not kept.any():
            raise LRSError(f"{data_or_subset.label}: has no element of {whole.label}")
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
    names = [
        name
        for name in extraction.columns
        if name in ("WAVELENGTH", "FLUX", "DQ") or component_name(name) in chosen
    ]
    return replace(
        extraction,
        columns={name: extraction.columns[name] for name in names},
        units={name: unit for name, unit in extraction.units.items() if name in names},
    )


# --- glue's registry ------------------------------------------------------------------------------


class SpectrumTranslator:
    """What glue calls to translate a `~specutils.Spectrum`.

    Parameters are those of `data_to_spectrum`; what is not of LRS is left to the translator that
    glue would have asked otherwise, with whatever parameters that takes.
    """

    target: ClassVar[type] = Spectrum

    def to_data(self, obj: Spectrum) -> Data:
        """Make a dataset of a spectrum."""
        image = obj.meta.get("image")
        if isinstance(image, SlitImage):
            try:
                image = SlitImage.from_spectrum(obj)
            except LRSError:
                return self._next(obj).to_data(obj)
            data = image_data(image)
            known = ("image", "header", "sci_header")
            data.meta[KEY] = SessionMeta({k: v for k, v in obj.meta.items() if k not in known})
            return data
        if is_ours(obj):
            try:
                return spectrum_to_data(obj)
            except LRSError:
                pass
        return self._next(obj).to_data(obj)

    def to_object(self, data_or_subset: Data | Subset, **options: Any) -> Spectrum:
        """Make a spectrum of a dataset or a subset."""
        data = data_or_subset.data if isinstance(data_or_subset, Subset) else data_or_subset
        if is_lrs_image(data) or is_lrs_spectrum(data):
            return data_to_spectrum(data_or_subset, **options)
        return self._next(self.target).to_object(data_or_subset, **options)

    def _next(self, wanted: Any) -> Any:
        """The translator that glue would have asked, were this one not there."""
        for item in data_translator:
            if not isinstance(item.handler, SpectrumTranslator) and (
                wanted is item.target_cls
                or (not isinstance(wanted, type) and isinstance(wanted, item.target_cls))
            ):
                return item.handler
        raise TypeError(
            "the Spectrum is not of MIRI LRS (glue_lrs), and no other translator for it is "
            "registered: install glue-astronomy"
        )


class _OldSpectrumTranslator(SpectrumTranslator):
    """For the old name of `~specutils.Spectrum`, a subclass of it."""

    target = getattr(specutils, "Spectrum1D", Spectrum)


class ImageTranslator:
    """What glue calls to translate a `SlitImage`."""

    target: ClassVar[type] = SlitImage

    def to_data(self, obj: SlitImage) -> Data:
        """Make a dataset of an image."""
        return image_data(obj)

    def to_object(self, data_or_subset: Data | Subset) -> SlitImage:
        """Take the image behind a dataset; outside of a subset, DQ has bit 0 set."""
        if not isinstance(data_or_subset, Subset):
            return slit_image(data_or_subset)
        return _only(slit_image(data_or_subset.data), data_or_subset.to_mask())


class ExtractionTranslator:
    """What glue calls to translate an `Extraction`: see `data_to_extraction`."""

    target: ClassVar[type] = Extraction

    def to_data(self, obj: Extraction) -> Data:
        """Make a dataset of an extraction."""
        return spectrum_data(obj)

    def to_object(
        self,
        data_or_subset: Data | Subset,
        components: list[ComponentID | str] | None = None,
    ) -> Extraction:
        """Make the columns of an x1d."""
        return data_to_extraction(data_or_subset, components)


def register() -> None:
    """Put the translators into glue's registry, once."""
    known = {type(item.handler) for item in data_translator.members}
    handlers: tuple[Any, ...] = (
        SpectrumTranslator,
        _OldSpectrumTranslator,
        ImageTranslator,
        ExtractionTranslator,
    )
    for handler in handlers:
        if handler not in known:
            data_translator(handler.target, priority=_PRIORITY)(handler)

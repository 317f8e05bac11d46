"""Translators between glue datasets and spectra or images of LRS.

glue uses the translator with the highest priority, which for these classes is a translator defined
here. Objects that do not come from this package are passed on to the translators from
glue-astronomy, if it is installed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import specutils
from glue.config import data_translator
from glue.core import Data, Subset
from specutils import Spectrum

from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.viewers.datasets import conversions
from glue_lrs.viewers.datasets.images import image_data, is_lrs_image, slit_image
from glue_lrs.viewers.datasets.session_meta import KEY, SessionMeta
from glue_lrs.viewers.datasets.spectra import is_lrs_spectrum, spectrum_data

#: Priority of the translators, above the 0 of those from glue-astronomy.
_PRIORITY = 100


class SpectrumTranslator:
    """Translator between glue datasets and `~specutils.Spectrum`.

    The options are those of `data_to_spectrum`. Objects that are not from LRS are passed on, with
    their own options, to the translator that glue would use if this class did not exist.
    """

    target: ClassVar[type] = Spectrum

    def to_data(self, obj: Spectrum) -> Data:
        """Make a glue dataset from a spectrum."""
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
        with suppress(LRSError):
            if conversions.is_convertible(obj):
                return conversions.spectrum_to_data(obj)
        return self._next(obj).to_data(obj)

    def to_object(self, data_or_subset: Data | Subset, **options: Any) -> Spectrum:
        """Make a spectrum from a dataset or a subset."""
        data = data_or_subset.data if isinstance(data_or_subset, Subset) else data_or_subset
        if is_lrs_image(data) or is_lrs_spectrum(data):
            return conversions.data_to_spectrum(data_or_subset, **options)
        return self._next(self.target).to_object(data_or_subset, **options)

    def _next(self, obj: Any) -> Any:
        """Return the translator of glue for `obj` if `SpectrumTranslator` were not registered."""
        for item in data_translator:
            if not isinstance(item.handler, SpectrumTranslator) and (
                obj is item.target_cls
                or (not isinstance(obj, type) and isinstance(obj, item.target_cls))
            ):
                return item.handler
        raise TypeError(
            "the Spectrum is not from MIRI LRS, and glue has no other translator for it: install "
            "glue-astronomy"
        )


class _Spectrum1D(SpectrumTranslator):
    """Translator for ``Spectrum1D``, the former name of `~specutils.Spectrum`."""

    target = getattr(specutils, "Spectrum1D", Spectrum)


class ImageTranslator:
    """Translator between glue datasets and `SlitImage`."""

    target: ClassVar[type] = SlitImage

    to_data = staticmethod(image_data)

    def to_object(self, data_or_subset: Data | Subset) -> SlitImage:
        """Return the image of a dataset; for a subset, DQ bit 0 is set in all other pixels."""
        data, selected = conversions.data_and_mask(data_or_subset)
        return conversions.masked_outside(slit_image(data), selected)


class ExtractionTranslator:
    """Translator between glue datasets and `Extraction`."""

    target: ClassVar[type] = Extraction

    to_data = staticmethod(spectrum_data)
    to_object = staticmethod(conversions.data_to_extraction)


def register() -> None:
    """Add the translators to glue's registry, if they are not in it yet."""
    known = {type(item.handler) for item in data_translator.members}
    for handler in (SpectrumTranslator, _Spectrum1D, ImageTranslator, ExtractionTranslator):
        if handler not in known:
            data_translator(handler.target, priority=_PRIORITY)(handler)

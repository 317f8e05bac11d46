"""Readers and writers. Importing this package registers all formats."""

from __future__ import annotations

from glue_lrs.io import apcorr, c1d, formats, psf, reference

for _register in (
    formats.register_images,
    apcorr.register,
    psf.register,
    reference.register,
    formats.register_extractions,
    c1d.register,
    formats.register_spectra,
):
    _register()

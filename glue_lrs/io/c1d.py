"""c1d files: combined spectra, in the pipeline's layout."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits, registry

from glue_lrs.combination.combination import (
    COLUMNS,
    Combination,
    CombinationProvenance,
    CombineInput,
)
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.files import Source, asdf_hdu, atomic_write, opened
from glue_lrs.io.identify import IMAGE_KINDS, claims, identify_product
from glue_lrs.io.x1d_layout import without_structure
from glue_lrs.io.x1d_reader import read_x1d
from glue_lrs.io.x1d_writer import plain_value, set_card, spectral_wcs
from glue_lrs.spectra.extraction import Extraction

if TYPE_CHECKING:
    from specutils import Spectrum, SpectrumList

__all__ = ["combine_files", "identify_c1d", "read_c1d", "read_inputs", "register", "write_c1d"]

#: The extension that holds a combined spectrum, and ours that says what was clipped.
EXTENSION, CLIPPED = "COMBINE1D", "CLIPPED"
#: specutils' JWST readers have 10, and a tie is an error.
_PRIORITY = 20
#: Comments of the extension's cards, as the pipeline has them.
_COMMENTS = {
    "SPORDER": "Spectral order number",
    "SOURCEID": "Source ID",
    "SRCTYPE": "Source type used for calibration",
    "SRCRA": "Right Ascension of the source",
    "SRCDEC": "Declination of the source",
    "DISPAXIS": "Dispersion direction",
}


# --- reading --------------------------------------------------------------------------------------


def read_c1d(source: Source) -> Combination:
    """Read a combined spectrum.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        A c1d of MIRI LRS, of the pipeline or of this package.

    Returns
    -------
    Combination
        What the file has. The pipeline's files do not tell what was combined: ``inputs`` is empty,
        ``clipped`` and ``provenance`` are None.

    Raises
    ------
    ProductError
        If it is no such file, or holds several spectra.
    """
    with opened(source) as (hdulist, label):
        header = hdulist[0].header
        exp_type = header.get("EXP_TYPE")
        if exp_type is not None and not str(exp_type).startswith("MIR_LRS"):
            raise ProductError(
                f"{label}: EXP_TYPE is {exp_type} ({header.get('INSTRUME', 'no INSTRUME')}), "
                "expected MIR_LRS-FIXEDSLIT or MIR_LRS-SLITLESS"
            )
        tables = [hdu for hdu in hdulist if hdu.name == EXTENSION]
        if len(tables) != 1:
            found = ", ".join(hdu.name for hdu in hdulist[1:] if hdu.name) or "no extension"
            raise ProductError(
                f"{label}: found {found}, expected a c1d with one extension {EXTENSION}"
            )
        hdu = tables[0]
        if not isinstance(hdu, fits.BinTableHDU):
            raise ProductError(f"{label}: {EXTENSION} is an image, expected a table")
        names = {name.upper(): name for name in hdu.columns.names}
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise ProductError(
                f"{label}: the table {EXTENSION} has no column {missing[0]}, found "
                f"{', '.join(hdu.columns.names) or 'none'}"
            )
        try:
            data = hdu.data
            columns = {
                name: np.array(data[names[name]], dtype=np.uint32 if name == "DQ" else float)
                for name in COLUMNS
            }
            clipped = None
            if CLIPPED in hdulist:
                clipped = np.array(hdulist[CLIPPED].data) != 0
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ProductError(
                f"{label}: the table {EXTENSION} cannot be read, {reason}"
            ) from error
        shape = columns["FLUX"].shape
        if len(shape) != 1 or shape[0] == 0:
            raise ProductError(
                f"{label}: FLUX has the shape {shape}, expected that of a spectrum with rows"
            )
        if clipped is not None and clipped.shape[1:] != shape:
            raise ProductError(
                f"{label}: {CLIPPED} has the shape {clipped.shape}, expected (input, {shape[0]})"
            )
        units = {name: hdu.columns[names[name]].unit for name in COLUMNS}
        keywords = {name: hdu.header[name] for name in _COMMENTS if name in hdu.header}
        record = None
        if "ASDF" in hdulist:
            raw = hdulist["ASDF"].data["ASDF_METADATA"].tobytes()
            if b"\nglue_lrs:" in raw:
                record = _stored_record(raw, label)
        return Combination(
            columns=columns,
            units={name: unit for name, unit in units.items() if unit},
            clipped=clipped,
            header=without_structure(header),
            keywords=keywords,
            inputs_source=() if record is None else _Inputs(record),
            provenance=record,
            filename=label,
        )


def _stored_record(raw: bytes, label: str) -> CombinationProvenance:
    """What a file says of how it was made; parsed when first looked at."""

    @cache
    def source() -> dict[str, Any]:
        from asdf.util import load_yaml

        try:
            found = load_yaml(io.BytesIO(raw))["glue_lrs"]
            return dict(found)
        except Exception as error:  # whatever a YAML parser stumbles over
            reason = " ".join(str(error).split())
            raise ProductError(
                f"{label}: the record in the ASDF extension cannot be read, {reason}"
            ) from error

    return CombinationProvenance(source)


class _Inputs:
    """The inputs that a stored record tells of."""

    def __init__(self, record: CombinationProvenance) -> None:
        self._record = record

    def __call__(self) -> list[CombineInput]:
        return [CombineInput.from_dict(one) for one in self._record["inputs"] or ()]


# --- writing --------------------------------------------------------------------------------------


def write_c1d(
    combination: Combination, path: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Write a combined spectrum in the pipeline's layout.

    Parameters
    ----------
    combination : Combination
        What to write.
    path : str or path-like
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    Besides what the pipeline writes there are an extension CLIPPED, of shape (input, row) and 1
    where an input was clipped, and the record of inputs and parameters in the ASDF extension.
    """
    with atomic_write(path, overwrite) as temporary:
        header = without_structure(combination.header)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6]
        set_card(header, "DATE", now, "UTC date file created")
        set_card(header, "FILENAME", Path(path).name, "Name of the file")
        set_card(header, "DATAMODL", "MultiCombinedSpecModel", "Type of data model")
        set_card(header, "S_EXTR1D", "COMPLETE", "1-D Spectral Extraction")
        set_card(header, "S_COMB1D", "COMPLETE", "1-D Spectral Combination")
        hdulist = fits.HDUList([fits.PrimaryHDU(header=header), _table(combination)])
        if combination.clipped is not None:
            hdulist.append(fits.ImageHDU(combination.clipped.astype(np.uint8), name=CLIPPED))
        hdulist.append(asdf_hdu(_tree(combination)))
        hdulist.writeto(temporary, output_verify="silentfix")


def _table(combination: Combination) -> fits.BinTableHDU:
    columns = [
        fits.Column(
            name=name,
            format="J" if name == "DQ" else "D",
            unit=combination.units.get(name),
            array=combination.columns[name],
            bzero=1 << 31 if name == "DQ" else None,  # FITS has no unsigned integers
        )
        for name in COLUMNS
    ]
    table = fits.BinTableHDU.from_columns(columns, name=EXTENSION)
    table.ver = 1
    for name, value in combination.keywords.items():
        if not (isinstance(value, float) and not np.isfinite(value)):  # FITS has no NaN in cards
            set_card(table.header, name, value, _COMMENTS.get(name, ""))
    return table


def _tree(combination: Combination) -> dict[str, Any]:
    """What the ASDF extension holds: the WCS that the pipeline writes, and the record."""
    header = combination.header
    ra, dec = (float(header.get(card) or 0.0) for card in ("TARG_RA", "TARG_DEC"))
    tree: dict[str, Any] = {"meta": {"wcs": spectral_wcs(ra, dec, combination.wavelength)}}
    if combination.provenance is not None:
        stored = json.dumps(dict(combination.provenance), default=plain_value, ensure_ascii=False)
        # YAML has no words for names of files that are not UTF-8: they are written as \\udc..
        tree["glue_lrs"] = json.loads(
            re.sub("[\ud800-\udfff]", lambda match: rf"\\u{ord(match[0]):04x}", stored)
        )
    return tree


# --- from files -----------------------------------------------------------------------------------


def read_inputs(paths: Iterable[str | os.PathLike[str]]) -> list[Extraction | SlitImage]:
    """Read what is to be combined: spectra and images.

    Parameters
    ----------
    paths : iterable of str or path-like
        x1d, x1dints, s2d, cal and calints files of MIRI LRS, in any mixture.

    Returns
    -------
    list of Extraction or SlitImage
        In the order of the files; an x1d with several spectra gives several.

    Raises
    ------
    ProductError
        If a file is none of them.
    """
    found: list[Extraction | SlitImage] = []
    for path in paths:
        if identify_product(path) in IMAGE_KINDS:
            found.append(SlitImage.read(path))
        else:
            found += read_x1d(path)
    return found


def combine_files(
    paths: Iterable[str | os.PathLike[str]], *, extract: Any = None, **options: Any
) -> Combination:
    """Combine the spectra of files: what ``glue-lrs combine`` does.

    Parameters
    ----------
    paths : iterable of str or path-like
        x1d, x1dints, s2d, cal and calints files of MIRI LRS, in any mixture.
    extract : Extract1D, callable, or a sequence of them, optional
        What extracts the images, see `glue_lrs.combination.combine.combine`.
    **options
        ``weights``, ``sigma_clip`` and ``mode`` of `glue_lrs.combination.combine.combine`.

    Returns
    -------
    Combination
        The combined spectrum.

    Raises
    ------
    LRSError
        If a file cannot be used, or as `glue_lrs.combination.combine.combine`.
    """
    paths = [os.fspath(path) for path in paths]
    if not paths:
        raise LRSError("no files were given, expected at least one")
    return combine(read_inputs(paths), extract=extract, **options)


# --- the registry ---------------------------------------------------------------------------------


def identify_c1d(origin: str, *args: Any, **kwargs: Any) -> bool:
    """Tell whether something is a c1d file of MIRI LRS; never raises."""
    return claims(("c1d",), origin, args)


def register() -> None:
    """Register the format ``lrs-c1d``, for `Combination` and with specutils."""
    from specutils import Spectrum, SpectrumList
    from specutils.io.registers import data_loader

    registry.register_writer("lrs-c1d", Combination, write_c1d, force=True)
    registry.register_reader("lrs-c1d", Combination, read_c1d, force=True)
    options: dict[str, Any] = {"extensions": ["fits"], "priority": _PRIORITY, "force": True}
    data_loader(
        "lrs-c1d",
        identifier=identify_c1d,
        dtype=Spectrum,
        autogenerate_spectrumlist=False,
        **options,
    )(_read_spectrum)
    data_loader("lrs-c1d", identifier=identify_c1d, dtype=SpectrumList, **options)(_read_list)


def _read_spectrum(source: Source, column: str = "FLUX", fill: str = "interpolate") -> Spectrum:
    """Read a c1d as a spectrum; see `Combination.to_spectrum` for the keywords."""
    return read_c1d(source).to_spectrum(column, fill=fill)  # type: ignore[arg-type]


def _read_list(source: Source, column: str = "FLUX", fill: str = "interpolate") -> SpectrumList:
    """Read a c1d as a list of one spectrum."""
    from specutils import SpectrumList

    return SpectrumList([_read_spectrum(source, column, fill)])

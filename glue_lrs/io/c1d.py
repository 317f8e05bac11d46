"""Reader and writer of c1d files: combined spectra in the layout of the pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from glue_lrs.combination.combination import COLUMNS, Combination, CombineInput
from glue_lrs.errors import ProductError
from glue_lrs.io.files import Source, asdf_hdu, atomic_write, one_line, opened
from glue_lrs.io.headers import check_exp_type, current_date, set_card, without_structure
from glue_lrs.io.provenance import PROVENANCE_KEY, provenance_tree, stored_provenance
from glue_lrs.io.x1d_writer import spectral_wcs
from glue_lrs.spectra.provenance import CombinationProvenance

__all__ = ["read_c1d", "write_c1d"]

#: Extension of the combined spectrum, and that of this package with the clipped elements.
EXTENSION, CLIPPED = "COMBINE1D", "CLIPPED"
#: Cards that the pipeline writes to the extension, with their comments.
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
        A c1d of MIRI LRS, written by the pipeline or this package.

    Returns
    -------
    Combination
        The combined spectrum. Files of the pipeline do not list what was combined: ``inputs`` is
        empty, ``clipped`` and ``provenance`` are None.

    Raises
    ------
    ProductError
        If it is another file, is damaged, or holds several spectra.
    """
    with opened(source) as (hdulist, label):
        header = hdulist[0].header
        check_exp_type(header, label)
        tables = [hdu for hdu in hdulist if hdu.name == EXTENSION]
        if len(tables) != 1:
            found = ", ".join(hdu.name for hdu in hdulist[1:] if hdu.name) or "no extension"
            raise ProductError(
                f"found {found}, expected a c1d with one extension {EXTENSION}", subject=label
            )
        hdu = tables[0]
        if not isinstance(hdu, fits.BinTableHDU):
            raise ProductError(f"{EXTENSION} is an image, expected a table", subject=label)
        names = {name.upper(): name for name in hdu.columns.names}
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise ProductError(
                f"the table {EXTENSION} has no column {missing[0]}, found "
                f"{', '.join(hdu.columns.names) or 'none'}",
                subject=label,
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
            raise ProductError(
                f"the table {EXTENSION} cannot be read, {one_line(error)}", subject=label
            ) from error
        shape = columns["FLUX"].shape
        if len(shape) != 1 or shape[0] == 0:
            raise ProductError(
                f"FLUX has the shape {shape}, expected that of a spectrum with rows", subject=label
            )
        if clipped is not None and clipped.shape[1:] != shape:
            raise ProductError(
                f"{CLIPPED} has the shape {clipped.shape}, expected (input, {shape[0]})",
                subject=label,
            )
        units = {name: hdu.columns[names[name]].unit for name in COLUMNS}
        keywords = {name: hdu.header[name] for name in _COMMENTS if name in hdu.header}
        stored = stored_provenance(hdulist, label)
        provenance = None if stored is None else CombinationProvenance(stored)
        return Combination(
            columns=columns,
            units={name: unit for name, unit in units.items() if unit},
            clipped=clipped,
            header=without_structure(header),
            keywords=keywords,
            inputs_source=() if provenance is None else _Inputs(provenance),
            provenance=provenance,
            filename=label,
        )


class _Inputs:
    """The inputs in a stored provenance, parsed when called."""

    def __init__(self, provenance: CombinationProvenance) -> None:
        self._provenance = provenance

    def __call__(self) -> list[CombineInput]:
        return [CombineInput.from_dict(one) for one in self._provenance["inputs"] or ()]


# --- writing --------------------------------------------------------------------------------------


def write_c1d(
    combination: Combination, path: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Write a combined spectrum in the layout of the pipeline.

    Parameters
    ----------
    combination : Combination
        The combined spectrum.
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
    In addition to the extensions of the pipeline there are CLIPPED, of shape (input, row) and 1
    where an input was clipped, and the provenance in the ASDF extension.
    """
    with atomic_write(path, overwrite) as temporary:
        header = without_structure(combination.header)
        set_card(header, "DATE", current_date(), "UTC date file created")
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
            bzero=1 << 31 if name == "DQ" else None,  # unsigned integers in FITS
        )
        for name in COLUMNS
    ]
    table = fits.BinTableHDU.from_columns(columns, name=EXTENSION)
    table.ver = 1
    for name, value in combination.keywords.items():
        if not (isinstance(value, float) and not np.isfinite(value)):  # cards cannot hold NaN
            set_card(table.header, name, value, _COMMENTS.get(name, ""))
    return table


def _tree(combination: Combination) -> dict[str, Any]:
    """Return the ASDF tree: the WCS, as the pipeline writes it, and the provenance."""
    header = combination.header
    ra, dec = (float(header.get(card) or 0.0) for card in ("TARG_RA", "TARG_DEC"))
    tree: dict[str, Any] = {"meta": {"wcs": spectral_wcs(ra, dec, combination.wavelength)}}
    if combination.provenance is not None:
        tree[PROVENANCE_KEY] = provenance_tree(combination.provenance)
    return tree

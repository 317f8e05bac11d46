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

#: Name of the extension with the combined spectrum (first value), and of the extension with the
#: mask of clipped values, which only this package writes (second value).
EXTENSION, CLIPPED = "COMBINE1D", "CLIPPED"
#: Comments of the cards that the pipeline writes to the COMBINE1D extension.
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
    """Read a combined spectrum from a c1d file.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        A c1d file of MIRI LRS, written by the pipeline or this package.

    Returns
    -------
    Combination
        The combined spectrum. Files written by the pipeline do not list the inputs; for these files
        ``inputs`` is empty, and ``clipped`` and ``provenance`` are None.

    Raises
    ------
    ProductError
        If the file is not a c1d, is damaged, or holds several spectra.
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
    """Callable that returns the inputs in a stored provenance, which is parsed when needed."""

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
        Combined spectrum to write.
    path : str or path-like
        Path of the file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    In addition to the content of the pipeline's files, there is an extension CLIPPED of shape
    (input, row), which is 1 where the value of an input was clipped, and the ASDF extension holds
    the provenance.
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
            bzero=1 << 31 if name == "DQ" else None,  # FITS: unsigned via offset
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
    """Make the ASDF tree: the WCS, as the pipeline writes it, and the provenance."""
    header = combination.header
    ra, dec = (float(header.get(card) or 0.0) for card in ("TARG_RA", "TARG_DEC"))
    tree: dict[str, Any] = {"meta": {"wcs": spectral_wcs(ra, dec, combination.wavelength)}}
    if combination.provenance is not None:
        tree[PROVENANCE_KEY] = provenance_tree(combination.provenance)
    return tree

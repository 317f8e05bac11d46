"""Result of a combination: the combined spectrum and descriptions of the inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy.io import fits, registry
from astropy.table import QTable
from numpy.typing import NDArray

from glue_lrs._utils.display import described, joined, span_text
from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.registry import unified_io
from glue_lrs._utils.source_file import SourceFile
from glue_lrs._utils.validation import check_choice
from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import file_record
from glue_lrs.spectra.summary import exposure_text, median_ratio, noise_text
from glue_lrs.spectra.tables import column_table
from glue_lrs.spectra.to_specutils import to_spectrum

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.io.files import Source
    from glue_lrs.spectra.findings import Finding
    from glue_lrs.spectra.provenance import CombinationProvenance

#: Names of the columns in a c1d table, in the order in the file.
COLUMNS = ("WAVELENGTH", "FLUX", "ERROR", "SURF_BRIGHT", "SB_ERROR", "DQ", "WEIGHT", "N_INPUT")


class InputFile:
    """File from which spectra were read or extracted. The checksum is computed when first accessed.

    Parameters
    ----------
    name : str, optional
        Path of the file.
    provenance : mapping, optional
        Provenance of the spectra, whose value of the key ``"input"`` is a mapping with the keys
        ``filename`` and ``sha256``. It is used if `name` is None.
    """

    def __init__(self, name: str | None, provenance: Mapping[str, Any] | None) -> None:
        # The path must be absolute because the working directory may change later.
        self._path = name
        if name is not None and os.path.exists(name):
            file = name if isinstance(name, SourceFile) else SourceFile.from_path(name)
            self._path = file.absolute()
        self._provenance = provenance

    @cached_property
    def record(self) -> dict[str, Any]:
        """File name and SHA-256 checksum as a dictionary, in which unknown values are None."""
        known = self._path is not None
        found = file_record(self._path) if known else (self._provenance or {}).get("input")
        return {"filename": None, "sha256": None} | dict(found or {})


@dataclass(frozen=True, eq=False, kw_only=True)
class CombineInput:
    """Description of an input spectrum of a combination.

    Parameters
    ----------
    label : str
        Name of the spectrum in messages.
    file_source : InputFile
        File from which the spectrum was read or extracted, with its checksum.
    integration : int, optional
        Index of the integration in a stack, counted from 0. None if the spectrum is not from a
        stack of integrations.
    target : str, optional
        Name of the target: TARGNAME, or else TARGPROP.
    exposure_time : float, optional
        Effective exposure time in seconds: EFFINTTM for an integration of a stack, else EFFEXPTM.
    rows_used, rows_clipped : int
        Number of wavelength bins in which the spectrum was used, and number of wavelength bins in
        which it was clipped.
    """

    label: str
    file_source: InputFile = field(repr=False)
    integration: int | None = None
    target: str | None = None
    exposure_time: float | None = None
    rows_used: int = 0
    rows_clipped: int = 0

    @property
    def filename(self) -> str | None:
        """Name of the x1d or image from which the spectrum was made, or None if unknown."""
        return self.file_source.record["filename"]

    @property
    def sha256(self) -> str | None:
        """SHA-256 checksum of the file `filename`, or None if unknown."""
        return self.file_source.record["sha256"]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary for JSON."""
        names = ("label", "filename", "sha256", "integration", "target", "exposure_time")
        return {name: getattr(self, name) for name in (*names, "rows_used", "rows_clipped")}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CombineInput:
        """Create an instance from the dictionary that is stored in a c1d."""
        known = ("integration", "target", "exposure_time", "rows_used", "rows_clipped")
        return cls(
            label=str(stored.get("label")),
            file_source=InputFile(None, {"input": stored}),
            **{name: stored[name] for name in known if name in stored},
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Combination:
    """Combined spectrum: the columns of a c1d table, and descriptions of the inputs.

    Parameters
    ----------
    columns : dict of ndarray
        The columns named in `COLUMNS`, shape (n_wave,), in ascending order of wavelength, and
        QUALITY (`glue_lrs.spectra.quality`) unless no input has it. At wavelengths without a
        usable flux in any input, FLUX and ERROR are NaN, DQ bit 0 is set and N_INPUT is 0.
    units : dict of str
        Units of the columns. Columns without a unit are omitted.
    clipped : ndarray of bool, optional
        Mask of the clipped values of each input, shape (n_input, n_wave). None if the combination
        was read from a file without such a mask.
    header : `~astropy.io.fits.Header`
        Primary header of the first input, stored as a copy (`LazyHeader`).
    keywords : dict
        Header cards for the COMBINE1D extension, such as SPORDER and SRCTYPE.
    inputs_source : sequence of CombineInput, or callable that returns the sequence
        Descriptions of the inputs, or a function that returns them. The function is called when
        `inputs` is first accessed.
    provenance : CombinationProvenance, optional
        Parameters, inputs and versions with which the combination was made. None if it was read
        from a file without this information.
    filename : str, optional
        Name of the c1d from which the combination was read.
    """

    columns: dict[str, NDArray[Any]]
    units: dict[str, str]
    clipped: Bools | None = None
    header: fits.Header = field(default_factory=fits.Header)
    keywords: Mapping[str, Any] = field(default_factory=dict)
    inputs_source: Sequence[CombineInput] | Callable[[], Sequence[CombineInput]] = ()
    provenance: CombinationProvenance | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", LazyHeader.from_header(self.header))

    @unified_io("lrs-c1d")
    @classmethod
    def read(cls, path: Source, **options: Any) -> Combination:
        """Read a combined spectrum from a c1d file.

        Parameters
        ----------
        path : str or path-like
            A c1d file of MIRI LRS, written by the pipeline or by this package.

        Returns
        -------
        Combination
            The combined spectrum.

        Raises
        ------
        ProductError
            If the file is not a c1d of MIRI LRS, or is damaged.
        """
        return registry.read(cls, path, **options)

    @unified_io("lrs-c1d")
    def write(self, path: str | PathLike[str], overwrite: bool = False, **options: Any) -> None:
        """Write the combined spectrum to a c1d file, in the format of the pipeline.

        Parameters
        ----------
        path : str or path-like
            Path of the file to write.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        WriteError
            If the file exists or cannot be written.
        """
        registry.write(self, path, overwrite=overwrite, **options)

    @cached_property
    def inputs(self) -> tuple[CombineInput, ...]:
        """Descriptions of the combined spectra, in the order of the first axis of `clipped`."""
        source = self.inputs_source
        return tuple(source() if callable(source) else source)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings about the inputs, the most severe first; empty if the record is unreadable."""
        if self.provenance is not None:
            with suppress(LRSError):  # the record in the file is damaged
                return self.provenance.findings
        return ()

    @property
    def wavelength(self) -> Floats:
        """Wavelength in micron, ascending, shape (n_wave,)."""
        return self.columns["WAVELENGTH"]

    @property
    def mask(self) -> Bools:
        """Mask of the wavelengths without a usable flux, shape (n_wave,)."""
        return ((self.columns["DQ"] & DO_NOT_USE) != 0) | np.isnan(self.columns["FLUX"])

    @cached_property
    def table(self) -> QTable:
        """Table of all columns with their units, as described in `Extraction.table`."""
        return column_table(self.columns, self.units, self.header, self.provenance)

    def to_spectrum(
        self,
        column: Literal["FLUX", "SURF_BRIGHT"] = "FLUX",
        *,
        fill: Literal["interpolate", "nan"] = "interpolate",
    ) -> Spectrum:
        """Convert flux or surface brightness and its error to a `~specutils.Spectrum`.

        Parameters
        ----------
        column : {"FLUX", "SURF_BRIGHT"}
            Name of the column to convert.
        fill : {"interpolate", "nan"}
            How masked values are filled. See `Extraction.to_spectrum`.

        Returns
        -------
        `~specutils.Spectrum`
            Spectrum of shape (n_wave,) with ascending wavelength in micron, a
            `~astropy.nddata.StdDevUncertainty` and a mask (None if nothing is masked).
            ``meta["header"]`` is the header, ``meta["glue_lrs"]`` the `CombinationProvenance`,
            ``meta["combination"]`` this object, and ``meta["column"]`` the column name.

        Raises
        ------
        LRSError
            If `column` is neither of these names.
        """
        check_choice("column", column, ("FLUX", "SURF_BRIGHT"))
        spectrum = to_spectrum(self.to_extraction(), column, fill=fill)
        quality = {key: one for key, one in spectrum.meta.items() if key == "quality"}
        spectrum.meta.clear()
        spectrum.meta.update(
            quality
            | {
                "header": LazyHeader.from_header(self.header),
                "glue_lrs": self.provenance,
                "combination": self,
                "column": column,
            }
        )
        return spectrum

    def to_extraction(self) -> Extraction:
        """Convert to an `Extraction` with the columns that an x1d also has, for example to plot it.

        Returns
        -------
        Extraction
            Extraction with the columns WAVELENGTH (ascending), FLUX, FLUX_ERROR, SURF_BRIGHT,
            SB_ERROR, DQ and, if known, QUALITY, and without provenance.
        """
        names = {name: name for name in self.columns if name not in ("WEIGHT", "N_INPUT")}
        names["ERROR"] = "FLUX_ERROR"  # name of the column in an x1d
        return Extraction(
            columns={new: self.columns[name] for name, new in names.items()},
            units={new: self.units[name] for name, new in names.items() if name in self.units},
            header=self.header,
            keywords_source=self.keywords,
            filename=self.filename,
        )

    def __repr__(self) -> str:
        columns = self.columns
        ratio = median_ratio(columns["FLUX"], columns["ERROR"], self.mask)
        return described(
            self,
            joined(
                None if self.clipped is None else f"of {len(self.clipped)} spectra",
                exposure_text(self.header),
            ),
            f"{self.wavelength.size} wavelengths, {span_text(self.wavelength, 'um')}",
            joined(noise_text(ratio), f"flux in {self.units['FLUX']}"),
            self.filename,
        )

    def __deepcopy__(self, memo: dict[int, object]) -> Combination:
        names = ["columns", "units", "clipped", "keywords"]
        made = replace(self, **{name: deepcopy(getattr(self, name), memo) for name in names})
        memo[id(self)] = made
        return made

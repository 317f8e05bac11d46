"""Extraction: the columns of an extracted spectrum or of a stack of spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy.io import fits, registry
from astropy.table import QTable, Table
from numpy.typing import NDArray

from glue_lrs._utils.display import html
from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.registry import unified_io
from glue_lrs.errors import LRSError
from glue_lrs.spectra.column_checks import column_findings
from glue_lrs.spectra.columns import COLUMNS, OPTIONAL_COLUMNS, QUALITY
from glue_lrs.spectra.findings import Finding, worst_first
from glue_lrs.spectra.quality import has_bits
from glue_lrs.spectra.summary import extraction_text
from glue_lrs.spectra.tables import column_table
from glue_lrs.spectra.to_specutils import to_spectrum

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.io.files import Source
    from glue_lrs.spectra.provenance import Provenance


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Extraction:
    """Extracted spectrum or stack of spectra, with the columns of an x1d, header and provenance.

    Parameters
    ----------
    columns : dict of ndarray
        Columns with the names `COLUMNS`, shape (n_wave,), or (integration, n_wave) for a stack of
        integrations, and possibly some of `glue_lrs.spectra.columns.OPTIONAL_COLUMNS`. QUALITY is
        in all extractions of this package. The rows are in the order of the file. Error and
        variance columns are NaN where the flux is NaN.
    units : dict of str
        Units, with the names of the columns as keys. Columns without a unit are omitted.
    header : `~astropy.io.fits.Header`
        Primary header from the image or the x1d file, stored as a copy (`LazyHeader`).
    keywords_source : dict, or callable that returns a dict
        Header cards for the EXTRACT1D extension. A callable is called when `keywords` is first
        accessed.
    times : `~astropy.table.Table`, optional
        Columns INT_NUM, SEGMENT, MJD-BEG, ... of an x1dints, with one row per integration.
    int_times : `~astropy.table.Table`, optional
        INT_TIMES table from the image, which is copied to x1dints files.
    provenance : Provenance, optional
        Record of the extraction, or None if the spectrum was read from a file without a record.
    filename : str, optional
        File from which the spectrum was read.
    aperture_weight : ndarray, optional
        Sum of the aperture weights in each row, including bad pixels, shape (n_wave,).
    """

    columns: dict[str, NDArray[Any]]
    units: dict[str, str]
    header: fits.Header = field(default_factory=fits.Header)
    keywords_source: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(
        default_factory=dict
    )
    times: Table | None = None
    int_times: Table | None = None
    provenance: Provenance | None = None
    filename: str | None = None
    aperture_weight: NDArray[np.float64] | None = None

    @unified_io("lrs-x1d")
    @classmethod
    def read(cls, path: Source | Sequence[Source], **options: Any) -> Extraction:
        """Read a spectrum from an x1d file, or a stack of spectra from an x1dints file.

        Parameters
        ----------
        path : str, path-like, or a list of these
            An x1d or x1dints file of MIRI LRS, written by the pipeline or by this package, or the
            x1dints files of the segments of an exposure, in any order.

        Returns
        -------
        Extraction
            Spectrum or stack with all columns of the file.

        Raises
        ------
        ProductError
            If a file is not an x1d or x1dints of MIRI LRS, is damaged, or contains several
            spectra that do not have the same wavelengths, or if several files are not those of the
            segments of one exposure.

        Warns
        -----
        LRSWarning
            If integrations are missing between the segments, or segments were not extracted alike.
        """
        return registry.read(cls, path, **options)

    @unified_io("lrs-x1d")
    def write(self, path: str | PathLike[str], overwrite: bool = False, **options: Any) -> None:
        """Write a spectrum to an x1d file, or a stack to an x1dints file, as in the pipeline.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", LazyHeader.from_header(self.header))

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Wavelength in micron, shape (n_wave,), in the order of the file."""
        wave = self.columns["WAVELENGTH"]
        return wave if wave.ndim == 1 else wave[0]

    @property
    def is_stack(self) -> bool:
        """Whether the columns have an axis of integrations, of which there may be only one."""
        return self.columns["FLUX"].ndim == 2

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask with the shape of the flux, True where DQ bit 0 is set or the flux is NaN."""
        return ((self.columns["DQ"] & 1) != 0) | np.isnan(self.columns["FLUX"])

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the checks, the most severe first.

        These are the findings recorded in the provenance. If there is no readable record, as in a
        spectrum from the pipeline, they are the findings of a check of the columns.
        """
        if self.provenance is not None:
            with suppress(LRSError):  # the record in the file is damaged
                return self.provenance.findings
        return worst_first(column_findings(self.columns, self.units.get("FLUX", "")))

    def quality_mask(self, *names: str) -> NDArray[np.bool_]:
        """Return the mask of the values that have any of the named quality bits.

        Parameters
        ----------
        *names : str
            Keys of `glue_lrs.spectra.quality.QUALITY_BITS`, such as ``"filled"``.

        Raises
        ------
        LRSError
            If a name is not that of a quality bit, or if the spectrum has no column QUALITY,
            because another program extracted it.
        """
        if QUALITY in self.columns:
            return has_bits(self.columns[QUALITY], names)
        if names:
            raise LRSError("the spectrum has no column QUALITY, which this package writes")
        return np.zeros(self.columns["FLUX"].shape, dtype=bool)

    def with_findings(self, findings: Iterable[Finding]) -> Extraction:
        """Return a copy of the extraction in which the recorded findings are replaced.

        Parameters
        ----------
        findings : iterable of Finding
            Findings to record, such as those of `Extract1D.check`.

        Raises
        ------
        LRSError
            If the extraction has no provenance, in which findings are recorded.
        """
        if self.provenance is None:
            raise LRSError("the spectrum has no provenance, in which findings are recorded")
        return replace(self, provenance=self.provenance.changed(findings=tuple(findings)))

    @cached_property
    def keywords(self) -> dict[str, Any]:
        """Header cards for the EXTRACT1D extension, such as SLTNAME, defined as in the pipeline."""
        source = self.keywords_source
        return dict(source() if callable(source) else source)

    @property
    def lost_fraction(self) -> NDArray[np.float64]:
        """Fraction of the aperture weight that is lost to bad pixels, with the shape of the flux.

        Raises
        ------
        LRSError
            If the spectrum was read from a file, because files do not contain the weights.
        """
        if self.aperture_weight is None:
            raise LRSError("lost_fraction is not known for a spectrum that was read from a file")
        # The fraction is clipped, because a fitted profile may be negative in the wings, so that
        # the loss of pixels there would give a negative fraction.
        return np.clip(1.0 - self.columns["NPIXELS"] / self.aperture_weight, 0.0, 1.0)

    @cached_property
    def table(self) -> QTable:
        """Table with all columns and their units, to be written in a format of astropy.

        For a stack, the table has one row per integration, and each value is an array. The times of
        a single integration are the dict ``meta["times"]``. DQ and
        QUALITY are signed integers because VOTable has no unsigned ones. ``meta["header"]`` is a
        dict of the header cards, and ``meta["glue_lrs"]`` a dict of the provenance, or None; the
        values of both are those of JSON. The checksums in the provenance are computed at the first
        access.
        """
        times = {} if self.times is None else dict(self.times.columns)
        single = self.columns["FLUX"].ndim == 1
        known = self.columns if single else times | self.columns
        names = dict.fromkeys(("INT_NUM", *COLUMNS, *OPTIONAL_COLUMNS, *times))
        columns = {name: known[name] for name in names if name in known}
        table = column_table(columns, self.units, self.header, self.provenance)
        if single and times:
            table.meta["times"] = {name: column[0].item() for name, column in times.items()}
        return table

    def to_spectrum(
        self,
        column: str = "FLUX",
        *,
        order: Literal["ascending", "file"] = "ascending",
        fill: Literal["interpolate", "nan"] = "interpolate",
        mask_quality: Sequence[str] = (),
    ) -> Spectrum:
        """Convert a column and its error to a specutils `~specutils.Spectrum`.

        Parameters
        ----------
        column : str
            Name of the column, any of `COLUMNS` except WAVELENGTH. Only FLUX, SURF_BRIGHT and
            BACKGROUND have an uncertainty.
        order : {"ascending", "file"}
            Order of the wavelengths. In LRS files, wavelengths descend. The default is ascending
            because several functions in `specutils.analysis` silently return 0 or NaN for
            descending wavelengths.
        fill : {"interpolate", "nan"}
            Values of flux and error in masked rows. With "interpolate", they are interpolated
            linearly between the valid neighbours, or copied from the nearest valid row at the ends.
            With "nan", they are NaN, which several functions in `specutils.analysis` do not
            support.
        mask_quality : sequence of str
            Names of quality bits (`glue_lrs.spectra.quality.QUALITY_BITS`) whose rows are masked,
            besides those with DQ bit 0.

        Returns
        -------
        `~specutils.Spectrum`
            Spectrum with a flux of shape (n_wave,) or (integration, n_wave), wavelengths in micron,
            and errors as `~astropy.nddata.StdDevUncertainty`. The mask is None if no row is masked.
            ``meta["header"]`` is a copy of the header, ``meta["glue_lrs"]`` is the `Provenance`,
            ``meta["quality"]`` has the quality bits and their wavelengths in micron, and
            ``meta["extraction"]`` is this object (see `glue_lrs.spectra.to_specutils.Meta`).

        Raises
        ------
        LRSError
            If there is no column or quality bit with this name.
        """
        return to_spectrum(self, column, order=order, fill=fill, mask_quality=mask_quality)

    __repr__ = extraction_text
    _repr_html_ = html

    def __deepcopy__(self, memo: dict[int, object]) -> Extraction:
        names = ["columns", "units", "times", "int_times", "aperture_weight"]
        if not callable(self.keywords_source):  # a callable returns a new dict at each call
            names.append("keywords_source")
        made = replace(self, **{name: deepcopy(getattr(self, name), memo) for name in names})
        memo[id(self)] = made
        return made

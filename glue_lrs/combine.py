"""Combination: several spectra of a target, nods or exposures, made one without resampling."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray

from glue_lrs.errors import LRSError, LRSWarning, nearest
from glue_lrs.extraction import Extraction
from glue_lrs.image import DO_NOT_USE, SlitImage
from glue_lrs.provenance import file_record
from glue_lrs.unified import reader, writer

if TYPE_CHECKING:
    from specutils import Spectrum

__all__ = ["COLUMNS", "WEIGHTS", "Combination", "CombinedInput", "Record", "combine"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

#: The columns of a c1d table, in the file's order.
COLUMNS = (
    "WAVELENGTH",
    "FLUX",
    "ERROR",
    "SURF_BRIGHT",
    "SB_ERROR",
    "DQ",
    "WEIGHT",
    "N_INPUT",
)
#: What spectra may be weighted by.
WEIGHTS = ("exposure_time", "integration_time", "unit", "inverse_variance")
#: Header cards of the times.
_TIME_CARDS = {"exposure_time": "EFFEXPTM", "integration_time": "EFFINTTM"}
#: Elements of the running median through the variances.
_SMOOTHED = 31
#: A variance this many times above what its neighbours and the other inputs let expect is real.
_JUMP = 4.0
#: And so many times the scatter of the logarithm of the variances about their running median.
_STANDS_OUT = 6.0
#: Elements over which an input's disagreement with the others is looked at before clipping.
_DISAGREES = 51
#: S/N of an element above which their ratio is.
_SEEN = 3.0
#: Fraction of an input's own spacing beyond which its element gets a place of its own in the grid.
_OWN_PLACE = 0.75


# --- what comes out -------------------------------------------------------------------------------


class _File:
    """A file that spectra came from; its checksum is computed when it is first looked at."""

    def __init__(self, extraction: Extraction) -> None:
        name = extraction.filename
        # Relative names are those of the folder in which the spectrum was read.
        self._path = os.path.abspath(name) if name is not None and os.path.exists(name) else name
        self._provenance = extraction.provenance

    @cached_property
    def record(self) -> dict[str, Any]:
        found: Any = None
        if self._path is not None:
            found = file_record(self._path)
        elif self._provenance is not None:
            found = self._provenance["input"]
        return {"filename": None, "sha256": None} | dict(found or {})


@dataclass(frozen=True, eq=False, kw_only=True)
class CombinedInput:
    """One of the spectra that were combined.

    Parameters
    ----------
    label : str
        What messages call it.
    file_source : object
        Where `filename` and `sha256` come from: something with a mapping ``record``.
    integration : int, optional
        Which integration of its stack it is, from 0.
    target : str, optional
        TARGNAME, or TARGPROP.
    exposure_time : float, optional
        Effective exposure time in seconds: EFFEXPTM, or EFFINTTM of an integration of a stack.
    rows_used, rows_clipped : int
        Elements of the common grid that it has a part in, and those where it was clipped.
    """

    label: str
    file_source: Any = field(repr=False)
    integration: int | None = None
    target: str | None = None
    exposure_time: float | None = None
    rows_used: int = 0
    rows_clipped: int = 0

    @property
    def filename(self) -> str | None:
        """The x1d that it was read from, or the image that it was extracted from."""
        return self.file_source.record["filename"]

    @property
    def sha256(self) -> str | None:
        """Checksum of that file."""
        return self.file_source.record["sha256"]

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        names = ("label", "filename", "sha256", "integration", "target", "exposure_time")
        return {name: getattr(self, name) for name in (*names, "rows_used", "rows_clipped")}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CombinedInput:
        """Take over what a file has stored."""
        known = ("integration", "target", "exposure_time", "rows_used", "rows_clipped")
        return cls(
            label=str(stored.get("label")),
            file_source=_Stored(stored),
            **{name: stored[name] for name in known if name in stored},
        )


class _Stored:
    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.record = {name: stored.get(name) for name in ("filename", "sha256")}


class Record(Mapping[str, Any]):
    """How a combination was made: a mapping that is ready for JSON.

    Keys: ``parameters`` (``weights``, ``sigma_clip``, ``mode``), ``inputs`` (a dict for each
    spectrum, see `CombinedInput`), ``extractions`` (what is known of how each of the objects that
    were given to `combine` was made, see `glue_lrs.extraction.Provenance`), ``notes`` (what the
    user was warned of), ``versions``, ``date``.

    Parameters
    ----------
    source : callable
        Returns the mapping; called when it is first looked at, as checksums take their time.
    """

    _keys = ("parameters", "inputs", "extractions", "notes", "versions", "date")

    def __init__(self, source: Callable[[], Mapping[str, Any]]) -> None:
        self._source = source

    @cached_property
    def _values(self) -> dict[str, Any]:
        found = self._source()
        return {key: found.get(key) for key in self._keys}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return "<Record of a combination>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Record:
        return self  # nothing in it changes


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Combination:
    """A combined spectrum: the columns of a c1d table, and what was combined.

    Parameters
    ----------
    columns : dict of ndarray
        The columns of `COLUMNS`, shape (n_wave,), in ascending order of wavelength. FLUX and ERROR
        are NaN, DQ has bit 0, and N_INPUT is 0 where no input has a usable flux.
    units : dict of str
        Unit of each column that has one.
    clipped : ndarray of bool, optional
        What was clipped, shape (n_input, n_wave); None for a file that does not tell.
    header : `~astropy.io.fits.Header`
        Primary header of the first input.
    keywords : dict
        Cards of the COMBINE1D extension: SPORDER, SRCTYPE, ...
    inputs_source : sequence of CombinedInput, or callable that returns one
        Where `inputs` come from.
    provenance : Record, optional
        How it was made; None for a file that does not tell.
    filename : str, optional
        The c1d it was read from.
    """

    columns: dict[str, NDArray[Any]]
    units: dict[str, str]
    clipped: Bools | None = None
    header: fits.Header = field(default_factory=fits.Header)
    keywords: Mapping[str, Any] = field(default_factory=dict)
    inputs_source: Sequence[CombinedInput] | Callable[[], Sequence[CombinedInput]] = ()
    provenance: Record | None = None
    filename: str | None = None

    read: ClassVar[Callable[..., Combination]]
    write: ClassVar[Callable[..., None]]

    @cached_property
    def inputs(self) -> tuple[CombinedInput, ...]:
        """What was combined, one for each spectrum, in the order of `clipped`."""
        source = self.inputs_source
        return tuple(source() if callable(source) else source)

    @property
    def wavelength(self) -> Floats:
        """Wavelength in micron, ascending, shape (n_wave,)."""
        return self.columns["WAVELENGTH"]

    @property
    def mask(self) -> Bools:
        """Where there is no flux to be used, shape (n_wave,)."""
        return ((self.columns["DQ"] & DO_NOT_USE) != 0) | np.isnan(self.columns["FLUX"])

    @cached_property
    def table(self) -> QTable:
        """The columns with units."""
        table = QTable()
        for name, values in self.columns.items():
            unit = self.units.get(name)
            table[name] = np.array(values) if unit is None else u.Quantity(values, u.Unit(unit))
        table.meta = {"header": self.header, "glue_lrs": self.provenance}
        return table

    def to_spectrum(
        self,
        column: Literal["FLUX", "SURF_BRIGHT"] = "FLUX",
        *,
        fill: Literal["interpolate", "nan"] = "interpolate",
    ) -> Spectrum:
        """Make a specutils `~specutils.Spectrum` of flux or surface brightness and its error.

        Parameters
        ----------
        column : {"FLUX", "SURF_BRIGHT"}
            Which of them.
        fill : {"interpolate", "nan"}
            What stands in masked rows, as for `Extraction.to_spectrum`.

        Returns
        -------
        `~specutils.Spectrum`
            Shape (n_wave,), wavelength ascending in micron,
            `~astropy.nddata.StdDevUncertainty`, and a mask, or None where nothing is masked.
            ``meta["header"]`` is the header, ``meta["glue_lrs"]`` the `Record` of inputs and
            parameters, ``meta["combination"]`` this object.

        Raises
        ------
        LRSError
            If there is no such column.
        """
        from glue_lrs.spectrum import to_spectrum

        _check_choice("column", column, ("FLUX", "SURF_BRIGHT"))
        spectrum = to_spectrum(self.to_extraction(), column, fill=fill)
        spectrum.meta.clear()
        spectrum.meta.update(
            {
                "header": self.header,
                "glue_lrs": self.provenance,
                "combination": self,
                "column": column,
            }
        )
        return spectrum

    def to_extraction(self) -> Extraction:
        """Make an `Extraction` of those columns that an x1d has too, for pictures and the like.

        Returns
        -------
        Extraction
            WAVELENGTH (ascending), FLUX, FLUX_ERROR, SURF_BRIGHT, SB_ERROR and DQ; without
            provenance.
        """
        names = {name: name for name in COLUMNS if name not in ("WEIGHT", "N_INPUT")}
        names["ERROR"] = "FLUX_ERROR"  # what an x1d calls it
        return Extraction(
            columns={new: self.columns[name] for name, new in names.items()},
            units={new: self.units[name] for name, new in names.items() if name in self.units},
            header=self.header,
            keywords_source=self.keywords,
            filename=self.filename,
        )

    def __repr__(self) -> str:
        wave = self.wavelength
        span = f"{wave[0]:.2f} to {wave[-1]:.2f} um" if wave.size else "empty"
        count = "" if self.clipped is None else f" of {len(self.clipped)} spectra"
        return f"<Combination{count}, {wave.size}, {span}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Combination:
        return self  # nothing in it changes


Combination.read = reader(
    "lrs-c1d",
    """Read a c1d.

    Parameters
    ----------
    path : str or path-like
        A c1d file of MIRI LRS, of the pipeline or of this package.

    Returns
    -------
    Combination
        The combined spectrum.

    Raises
    ------
    ProductError
        If the file is no such file.
    """,
)
Combination.write = writer(
    "lrs-c1d",
    """Write a c1d that the pipeline's models and specutils read.

    Parameters
    ----------
    path : str or path-like
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.
    """,
)


# --- what goes in ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Block:
    """One of the objects that were given: a spectrum, or a stack with the same wavelengths.

    Arrays have the shape (integration, element); elements are in ascending order of wavelength.
    """

    extraction: Extraction
    label: str
    wave: Floats  # (element,)
    order: NDArray[np.intp]  # (element,): rows of the extraction
    usable: Bools  # flux that may be used

    @classmethod
    def of(cls, extraction: Extraction, label: str) -> _Block:
        wave = np.asarray(extraction.wavelength, dtype=float)
        order = np.flatnonzero(np.isfinite(wave))
        order = order[np.argsort(wave[order], kind="stable")]
        usable = np.isfinite(np.atleast_2d(extraction.columns["FLUX"])[:, order])
        if "DQ" in extraction.columns:
            usable &= (np.atleast_2d(extraction.columns["DQ"])[:, order] & DO_NOT_USE) == 0
        return cls(extraction, label, wave[order], order, usable)

    def __len__(self) -> int:
        return len(self.usable)

    def column(self, name: str) -> Floats:
        """A column, NaN where the spectrum does not have it."""
        if name not in self.extraction.columns:
            return np.full(self.usable.shape, np.nan)
        return np.atleast_2d(self.extraction.columns[name])[:, self.order].astype(float)

    def dq(self) -> NDArray[np.uint32]:
        """The DQ column."""
        if "DQ" not in self.extraction.columns:
            return np.zeros(self.usable.shape, dtype=np.uint32)
        return np.atleast_2d(self.extraction.columns["DQ"])[:, self.order].astype(np.uint32)

    def name(self, integration: int) -> str:
        """What messages call one of its spectra."""
        if not self.extraction.is_stack:
            return self.label
        return f"{self.label}, integration {integration + 1}"

    @property
    def target(self) -> str | None:
        header = self.extraction.header
        found = header.get("TARGNAME") or header.get("TARGPROP")
        return None if found is None else str(found)

    @property
    def kind(self) -> str | None:
        """SRCTYPE; None where it is not known."""
        found = str(self.extraction.keywords.get("SRCTYPE") or "").upper()
        return found if found in ("POINT", "EXTENDED") else None

    @property
    def whole(self) -> bool | None:
        """Whether the flux is all of the light of a point source; None where that is not known."""
        provenance = self.extraction.provenance
        if provenance is None or self.kind != "POINT":
            return None
        step = provenance["parameters"].get("step", {})
        corrected = provenance.has_reference("apcorr") and step.get("apply_apcorr", True)
        return bool(step.get("extraction_type") == "optimal" or corrected)

    @property
    def exposure(self) -> tuple[Any, ...] | None:
        """What tells an exposure, or the part of it, from others."""
        header = self.extraction.header
        if header.get("EXPSTART") is None or not self.usable.any():
            return None
        cards = ("EXPSTART", "OBSERVTN", "EXPOSURE", "PATT_NUM", "EXPSEGNUM", "INTSTART")
        return tuple(header.get(card) for card in cards)

    def time(self, card: str) -> float | None:
        """A time of the header in seconds; None where there is none."""
        value = self.extraction.header.get(card)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        return None


def _blocks(spectra: Any, extract: Any) -> list[_Block]:
    """All that was given, extracted where it is an image."""
    if isinstance(spectra, Extraction | SlitImage | Combination) or hasattr(
        spectra, "spectral_axis"
    ):
        spectra = [spectra]
    try:
        given = list(spectra)
    except TypeError:
        raise LRSError(
            f"spectra is a {type(spectra).__name__}, expected a sequence of spectra"
        ) from None
    if not given:
        raise LRSError("spectra is empty, expected at least one spectrum")
    images = [number for number, one in enumerate(given) if _is_image(one)]
    operators = _operators(extract, len(images))
    which = dict(zip(images, operators, strict=True))
    return [
        _block(one, f"spectrum {number + 1}", which.get(number)) for number, one in enumerate(given)
    ]


def _is_image(one: Any) -> bool:
    if isinstance(one, SlitImage):
        return True
    return isinstance(getattr(one, "meta", {}).get("image"), SlitImage)


def _operators(extract: Any, number: int) -> list[Any]:
    """What extracts each of the images."""
    if isinstance(extract, Sequence):
        if len(extract) != number:
            raise LRSError(
                f"extract has {len(extract)} operators, expected one, or one for each of the "
                f"{number} images"
            )
        found = list(extract)
    else:
        found = [extract] * number
    for one in found:
        if not callable(one) and not hasattr(one, "run"):
            raise LRSError(
                f"extract is {one if one is None else 'a ' + type(one).__name__}, expected an "
                "Extract1D, as there are images to be extracted"
            )
    return found


def _block(one: Any, label: str, extract: Any) -> _Block:
    from glue_lrs.spectrum import spectrum_to_extraction

    if extract is not None:
        one = extract.run(one) if hasattr(extract, "run") else extract(one)
    if isinstance(one, Combination) or "combination" in getattr(one, "meta", {}):
        raise LRSError(
            f"{label}: is a combination already, expected the spectra it was made of, whose "
            "exposure times count"
        )
    if not isinstance(one, Extraction):
        if not hasattr(one, "spectral_axis"):
            raise LRSError(
                f"{label}: is a {type(one).__name__}, expected a Spectrum, an Extraction or a "
                "SlitImage"
            )
        try:
            one = spectrum_to_extraction(one)
        except LRSError as error:
            raise LRSError(f"{label}: {error}") from None
    name = one.filename or one.header.get("FILENAME")
    return _Block.of(one, f"{label} ({os.path.basename(name)})" if name else label)


def _check_alike(blocks: Sequence[_Block], notes: list[str]) -> None:
    """Refuse what does not belong together; note what probably does not."""
    first = blocks[0]
    for name in ("FLUX", "SURF_BRIGHT"):
        units = [(block, block.extraction.units.get(name)) for block in blocks]
        known = [(block, unit) for block, unit in units if unit is not None]
        for block, unit in known[1:]:
            if u.Unit(unit) != u.Unit(known[0][1]):
                raise LRSError(
                    f"{block.label}: {name} is in {unit}, expected {known[0][1]} as in "
                    f"{known[0][0].label}"
                )
    modes = [(block, block.extraction.header.get("EXP_TYPE")) for block in blocks]
    known = [(block, mode) for block, mode in modes if mode is not None]
    for block, mode in known[1:]:
        if mode != known[0][1]:
            raise LRSError(
                f"{block.label}: EXP_TYPE is {mode}, expected {known[0][1]} as in "
                f"{known[0][0].label}"
            )
    for block in blocks[1:]:
        if None not in (block.target, first.target) and block.target != first.target:
            notes.append(
                f"{block.label}: the target is {block.target}, that of {first.label} is "
                f"{first.target}"
            )
        if None not in (block.kind, first.kind) and block.kind != first.kind:
            notes.append(
                f"{block.label}: the source is {block.kind}, that of {first.label} is {first.kind}"
            )
        if None not in (block.whole, first.whole) and block.whole != first.whole:
            some, other = (block, first) if first.whole else (first, block)
            notes.append(
                f"{some.label} has no aperture correction, {other.label} has all of the light"
            )
    exposures: dict[tuple[Any, ...], str] = {}
    twice = []
    for block in blocks:
        if block.exposure is None:
            continue
        if block.exposure in exposures:
            twice.append((block.label, exposures[block.exposure]))
        exposures.setdefault(block.exposure, block.label)
    if twice:
        again, first_of_it = twice[0]
        others = "" if len(twice) == 1 else f" (and {len(twice) - 1} more)"
        notes.append(
            f"{again} is of the same exposure as {first_of_it}{others}: what is combined twice "
            "gives errors that are too small"
        )
    seen: dict[bytes, str] = {}
    for block in blocks:
        for number, flux in enumerate(block.column("FLUX")):
            if block.usable[number].any():
                key = flux.tobytes()
                if key in seen:
                    notes.append(
                        f"{block.name(number)} has the same flux as {seen[key]}: what is combined "
                        "twice gives errors that are too small"
                    )
                seen.setdefault(key, block.name(number))


def _without_errors(blocks: Sequence[_Block]) -> list[str]:
    """What is to be said of spectra whose errors are 0, as those of images without variances."""
    notes = []
    for block in blocks:
        error = block.column("FLUX_ERROR")[block.usable]
        told = error[np.isfinite(error)]
        if told.size and not (told > 0).any():
            notes.append(
                f"{block.label} has errors of 0, expected some: those of the combination are too "
                "small"
            )
    return notes


def _check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise LRSError(
            f"{name}: found {value!r}{nearest(str(value), known)}, "
            f"expected {', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
        )


def _times(blocks: Sequence[_Block], weights: str, mode: str) -> list[float]:
    """Weight of each spectrum of a block; 1 where no time counts."""
    if weights not in _TIME_CARDS:
        return [1.0] * len(blocks)
    found = []
    for block in blocks:
        card = _TIME_CARDS[weights]
        if mode == "default" and block.extraction.is_stack:
            card = "EFFINTTM"  # that of the exposure is the sum over its integrations
        time = block.time(card)
        if time is None:
            raise LRSError(
                f"{block.label}: {card} is {block.extraction.header.get(card, 'missing')}, "
                f"expected seconds for weights={weights!r} (weights='unit' needs none)"
            )
        found.append(time)
    return found


# --- the function ---------------------------------------------------------------------------------


def combine(
    spectra: Iterable[Spectrum | Extraction | SlitImage],
    *,
    weights: str = "exposure_time",
    sigma_clip: float | None = None,
    mode: str = "default",
    extract: Any = None,
) -> Combination:
    """Combine spectra of one target, such as nods or exposures, without resampling.

    Every element of an input goes, whole, to one element of the common grid.

    Parameters
    ----------
    spectra : sequence
        Each a `~specutils.Spectrum`, an `Extraction`, or a `SlitImage`. Integrations of a stack are
        spectra of their own.
    weights : {"exposure_time", "integration_time", "unit", "inverse_variance"}
        EFFEXPTM, EFFINTTM, 1, or the inverse of the variance, smoothed along the wavelength.
    sigma_clip : float, optional
        An element of an input is left out where it is farther from the median of the inputs than
        this many times the error. The default is not to clip.
    mode : {"default", "pipeline"}
        ``"pipeline"`` gives the numbers of the pipeline's combine_1d step, with its faults, which
        are listed in the notes. It does not know ``"inverse_variance"``.
    extract : Extract1D, callable, or a sequence of them, optional
        What makes an `Extraction` of each `SlitImage`: an operator with a method ``run``, or a
        function of the image; or one of them for each image.

    Returns
    -------
    Combination
        The combined columns, what was clipped, and what was combined.

    Raises
    ------
    LRSError
        If spectra are of different units or modes (EXP_TYPE), none has a usable flux, a time or
        error that the weights need is missing, or a parameter is wrong.

    Warns
    -----
    LRSWarning
        If targets differ, two spectra are the same, one has no usable flux, or there are fewer than
        three spectra to clip.

    Notes
    -----
    The grid is that of the input with the most elements. Elements of other inputs go to the
    nearest; where there is none within 3/4 of their own spacing they add one. The wavelength
    of an element is the mean of those of the elements in it, weighted as the flux.

    With values f, errors s and weights w of n inputs in an element the flux is
    sum(w f) / sum(w), and the error sqrt(sum(w^2 s^2)) / sum(w). Integrations of a stack share
    their pixels, so that the part of the error that the flat field has is the same in all of them
    and is not averaged down: s^2 is then FLUX_ERROR^2 - FLUX_VAR_FLAT, and (sum of w sqrt
    (FLUX_VAR_FLAT) of each stack)^2 is added.

    What the default mode does other than the pipeline's step (jwst 3.0):

    - several elements of an input in one element of the grid are averaged; there the last one wins;
    - elements beyond the outermost output wavelengths, which are means, are not lost;
    - rows where no input is usable stay, as NaN with DQ bit 0; there they are gone;
    - clipping compares with the median in units of the errors of the element and the median, after
      what an input differs by from the others all along (in running medians over 51 elements), and
      not at all where there are fewer than three; there the limit is one median of
      abs(flux * weight - median) for all wavelengths and inputs, so that unequal exposure times and
      steep spectra lose what is good, and of two inputs both go or none;
    - a surface brightness or error that is NaN does not count as 0;
    - an integration's exposure time is EFFINTTM; there it is EFFEXPTM, that of all integrations;
    - inverse variances come from a running median over 31 elements, as the variance of a pixel that
      happens to be low is low as well, which draws the mean down.

    Examples
    --------
    >>> from glue_lrs import Aperture, Extract1D
    >>> from glue_lrs.combine import combine
    >>> from glue_lrs.simulate import Scene
    >>> scene = Scene(seed=1)
    >>> nods = [scene.s2d(nod=1).image, scene.s2d(nod=2).image]
    >>> extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    >>> combine(nods, extract=extract)
    <Combination of 2 spectra, 387, 3.19 to 14.02 um>
    """
    _check_choice("weights", weights, WEIGHTS)
    _check_choice("mode", mode, ("default", "pipeline"))
    if mode == "pipeline" and weights == "inverse_variance":
        raise LRSError(
            "weights is 'inverse_variance', which the pipeline does not know: expected "
            "mode='default', or another weight"
        )
    if sigma_clip is not None:
        number = isinstance(sigma_clip, int | float | np.number)
        if not number or isinstance(sigma_clip, bool) or not 0 < sigma_clip < np.inf:
            raise LRSError(f"sigma_clip is {sigma_clip!r}, expected a number above 0, or None")
        sigma_clip = float(sigma_clip)
    notes: list[str] = []
    blocks = _blocks(spectra, extract)
    _check_alike(blocks, notes)
    if weights != "inverse_variance":
        notes += _without_errors(blocks)
    times = _times(blocks, weights, mode)
    work = _pipeline if mode == "pipeline" else _default
    made = work(blocks, times, weights, sigma_clip, notes)
    for note in notes:
        warnings.warn(note, LRSWarning, stacklevel=2)
    inputs = _inputs(blocks, made)
    parameters = {"weights": weights, "sigma_clip": sigma_clip, "mode": mode}
    return Combination(
        columns={name: made.columns[name] for name in COLUMNS},
        units=_units(blocks, weights),
        clipped=made.clipped[:, made.kept],
        header=_header(blocks[0], inputs, mode),
        keywords=_keywords(blocks[0]),
        inputs_source=inputs,
        provenance=_record(parameters, inputs, blocks, notes),
    )


@dataclass(frozen=True, eq=False)
class _Made:
    """Columns of the result, and which input was used and clipped in which element of the grid."""

    columns: dict[str, NDArray[Any]]  # (n_wave,)
    used: Bools  # (n_input, grid)
    clipped: Bools  # (n_input, grid)
    kept: Any  # the elements of the grid that the columns have


def _inputs(blocks: Sequence[_Block], made: _Made) -> tuple[CombinedInput, ...]:
    found: list[CombinedInput] = []
    for block in blocks:
        file = _File(block.extraction)
        stack = block.extraction.is_stack
        for integration in range(len(block)):
            number = len(found)
            found.append(
                CombinedInput(
                    label=block.name(integration),
                    file_source=file,
                    integration=integration if stack else None,
                    target=block.target,
                    exposure_time=block.time("EFFINTTM" if stack else "EFFEXPTM"),
                    rows_used=int(made.used[number].sum()),
                    rows_clipped=int(made.clipped[number].sum()),
                )
            )
    return tuple(found)


def _record(
    parameters: dict[str, Any],
    inputs: Sequence[CombinedInput],
    blocks: Sequence[_Block],
    notes: Sequence[str],
) -> Record:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # Not the blocks: they would keep all columns alive.
    provenances = [block.extraction.provenance for block in blocks]

    def source() -> dict[str, Any]:
        return {
            "parameters": parameters,
            "inputs": [one.to_dict() for one in inputs],
            "extractions": [None if one is None else dict(one) for one in provenances],
            "notes": list(notes),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("glue-lrs", "numpy", "astropy", "specutils")
            },
            "date": now,
        }

    return Record(source)


def _units(blocks: Sequence[_Block], weights: str) -> dict[str, str]:
    units = {"WAVELENGTH": "um"}
    for name, error in (("FLUX", "ERROR"), ("SURF_BRIGHT", "SB_ERROR")):
        known = [block.extraction.units.get(name) for block in blocks]
        unit = next((one for one in known if one is not None), None)
        if unit is not None:
            units[name] = units[error] = unit
    if weights in _TIME_CARDS:
        units["WEIGHT"] = "s"
    elif weights == "inverse_variance" and "FLUX" in units:
        units["WEIGHT"] = (u.Unit(units["FLUX"]) ** -2).to_string()
    return units


def _header(first: _Block, inputs: Sequence[CombinedInput], mode: str) -> fits.Header:
    header = first.extraction.header.copy()
    used = [one.exposure_time for one in inputs if one.rows_used]
    times = [time for time in used if time is not None]
    if mode == "default" and len(times) == len(used) and "EFFEXPTM" in header:
        header["EFFEXPTM"] = sum(times)  # as the pipeline does where it resamples
    return header


def _keywords(first: _Block) -> dict[str, Any]:
    """What the pipeline takes over from the first input."""
    known = first.extraction.keywords
    names = ("SPORDER", "SOURCEID", "SRCTYPE", "SRCRA", "SRCDEC", "DISPAXIS")
    return {name: known[name] for name in names if known.get(name) is not None}


# --- our own way ----------------------------------------------------------------------------------


def _default(
    blocks: Sequence[_Block],
    times: Sequence[float],
    weights: str,
    sigma_clip: float | None,
    notes: list[str],
) -> _Made:
    inverse = weights == "inverse_variance"
    filled = [block for block in blocks if block.usable.any()]
    for block in blocks:
        empty = np.flatnonzero(~block.usable.any(axis=1))
        if empty.size:
            notes.append(f"{block.name(int(empty[0]))} has no usable flux{_more(empty.size)}")
    if not filled:
        raise LRSError(
            f"no spectrum has a usable flux, expected one of the {len(blocks)} to have some"
        )
    grid = _grid([block.wave for block in filled])
    gathered = [_Gathered.of(block, grid, inverse) for block in blocks]
    flux, variance, flat, bright, bright_variance, bright_flat, offset = (
        np.concatenate([getattr(one, name) for one in gathered])
        for name in (
            "flux", "variance", "flat", "bright", "bright_variance", "bright_flat", "offset",
        )
    )  # fmt: skip
    dq = np.concatenate([one.dq for one in gathered])
    usable = np.concatenate([one.usable for one in gathered])
    group = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    if inverse:
        for block, one in zip(blocks, gathered, strict=True):
            lost = np.flatnonzero(block.usable.any(axis=1) & ~one.usable.any(axis=1))
            if lost.size and usable.any():
                notes.append(
                    f"{block.name(int(lost[0]))} has no usable error{_more(lost.size)}: left out"
                )
    if inverse and not usable.any():
        raise LRSError(
            "no spectrum has an error, expected some for weights='inverse_variance' "
            "(weights='unit' needs none)"
        )
    clipped = np.zeros(usable.shape, dtype=bool)
    if sigma_clip is not None:
        if len(flux) < 3:
            notes.append(
                f"sigma_clip: {'one spectrum is' if len(flux) == 1 else 'two spectra are'} not "
                "clipped, as nobody knows which of two is wrong; expected at least 3"
            )
        elif not (variance[usable] > 0).any():
            raise LRSError("sigma_clip needs errors, expected spectra that have some")
        else:
            clipped = _clip(flux, variance, usable, sigma_clip)
    used = usable & ~clipped
    if inverse:
        weight = _inverse_variance(variance, used)
    else:
        weight = np.repeat(np.asarray(times), [len(block) for block in blocks])[:, np.newaxis]
        weight = np.where(used, weight, 0.0)
    total = weight.sum(axis=0)
    some = used.any(axis=0)
    everywhere = np.concatenate([one.offset_of_all for one in gathered])
    with np.errstate(invalid="ignore", divide="ignore"):
        # Where nothing is used the elements still have a wavelength.
        middle = np.where(some, _mean(offset, weight), np.nanmean(_some(everywhere), axis=0))
    flags = np.bitwise_or.reduce(np.where(used, dq, np.uint32(0)), axis=0)
    left_out = np.bitwise_or.reduce(dq, axis=0) | np.uint32(DO_NOT_USE)
    bright_weight = np.where(np.isfinite(bright), weight, 0.0)
    columns = {
        "WAVELENGTH": grid + middle,
        "FLUX": _mean(flux, weight),
        "ERROR": _error(variance, flat, weight, group),
        "SURF_BRIGHT": _mean(bright, bright_weight),
        "SB_ERROR": _error(bright_variance, bright_flat, bright_weight, group),
        "DQ": np.where(some, flags, left_out).astype(np.uint32),
        "WEIGHT": total,
        "N_INPUT": used.sum(axis=0).astype(float),
    }
    return _Made(columns, used, clipped, slice(None))


def _more(number: int) -> str:
    return "" if number == 1 else f", nor have {number - 1} more of them"


def _some(values: Floats) -> Floats:
    """The same, with 0 in columns that are all NaN."""
    return np.where(np.isnan(values).all(axis=0), 0.0, values)


def _grid(waves: Sequence[Floats]) -> Floats:
    """The common grid, ascending: that of the longest input, and what others have beside it."""
    longest = max(range(len(waves)), key=lambda number: waves[number].size)
    grid = np.unique(waves[longest])
    if grid.size < 2:
        raise LRSError("no spectrum has more than one wavelength, expected at least 2")
    for number, wave in enumerate(waves):
        if number == longest or wave.size == 0 or np.array_equal(wave, grid):
            continue
        own = np.unique(wave)
        gap = np.diff(own if own.size > 1 else grid)
        # At a hole in the input the nearer neighbour tells its spacing.
        spacing = np.minimum(np.append(gap, np.inf), np.insert(gap, 0, np.inf))
        if own.size == 1:
            spacing = spacing[_nearest(grid, own)]
        away = np.abs(grid[_nearest(grid, own)] - own)
        beside = own[away > _OWN_PLACE * spacing]
        if beside.size:
            grid = np.unique(np.concatenate([grid, beside]))
    return grid


def _nearest(grid: Floats, wave: Floats) -> NDArray[np.intp]:
    """Which element of an ascending grid is the nearest."""
    return np.searchsorted((grid[1:] + grid[:-1]) / 2.0, wave)


@dataclass(frozen=True, eq=False)
class _Gathered:
    """The spectra of a block on the common grid, shape (integration, grid)."""

    usable: Bools
    flux: Floats
    variance: Floats
    flat: Floats  # the part of the variance that all integrations share
    bright: Floats
    bright_variance: Floats
    bright_flat: Floats
    dq: NDArray[np.uint32]  # of usable elements where there are some, else of all
    offset: Floats  # wavelength of the usable elements, less the grid's
    offset_of_all: Floats  # of all elements

    @classmethod
    def of(cls, block: _Block, grid: Floats, need_variance: bool) -> _Gathered:
        place = _nearest(grid, block.wave)
        first = np.flatnonzero(np.diff(place, prepend=-1))  # of each run of the same place
        shape = (len(block), grid.size)

        def gather(function: Any, values: NDArray[Any], empty: Any) -> NDArray[Any]:
            out = np.full(shape, empty, dtype=values.dtype)
            if first.size:
                out[:, place[first]] = function.reduceat(values, first, axis=1)
            return out

        usable = block.usable
        variance = block.column("FLUX_ERROR") ** 2
        if need_variance:
            usable = usable & np.isfinite(variance) & (variance > 0)
        count = gather(np.add, usable.astype(float), 0.0)

        def mean(values: Floats, power: int = 1) -> Floats:
            # Not multiplied by 0: what is not used may be NaN. What is used and NaN stays so.
            total = gather(np.add, np.where(usable, values, 0.0), 0.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(count > 0, total / count**power, np.nan)

        offset = np.broadcast_to(block.wave - grid[place], usable.shape)
        number = gather(np.add, np.ones(usable.shape), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            offset_of_all = gather(np.add, offset, 0.0) / number
        dq = block.dq()
        used_dq = gather(np.bitwise_or, np.where(usable, dq, np.uint32(0)), np.uint32(0))
        return cls(
            usable=count > 0,
            flux=mean(block.column("FLUX")),
            variance=mean(variance, 2),
            flat=mean(_flat(block, "FLUX_VAR_FLAT"), 2),
            bright=mean(block.column("SURF_BRIGHT")),
            bright_variance=mean(block.column("SB_ERROR") ** 2, 2),
            bright_flat=mean(_flat(block, "SB_VAR_FLAT"), 2),
            dq=np.where(count > 0, used_dq, gather(np.bitwise_or, dq, np.uint32(0))),
            offset=mean(offset),
            offset_of_all=offset_of_all,
        )


def _flat(block: _Block, name: str) -> Floats:
    """The variance of the flat field where it is shared: by the integrations of a stack."""
    values = block.column(name)
    return np.nan_to_num(values, nan=0.0) if len(block) > 1 else np.zeros_like(values)


def _mean(values: Floats, weight: Floats) -> Floats:
    """Weighted mean over the inputs; NaN where nothing has a weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.where(weight > 0, values, 0.0) * weight, axis=0) / weight.sum(axis=0)


def _error(variance: Floats, flat: Floats, weight: Floats, group: NDArray[np.intp]) -> Floats:
    """Error of a weighted mean; `flat` is the same in all inputs of a group."""
    used = weight > 0
    own = np.sum(np.where(used, variance - flat, 0.0) * weight**2, axis=0)
    shared = np.where(used, np.sqrt(flat), 0.0) * weight
    together = np.add.reduceat(shared, np.flatnonzero(np.diff(group, prepend=-1)), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(own + np.sum(together**2, axis=0)) / weight.sum(axis=0)


def _inverse_variance(variance: Floats, used: Bools) -> Floats:
    """Weights from variances that are smoothed along the wavelength; 0 where nothing is used."""
    if len(variance) == 1:
        return np.where(used, 1.0, 0.0) / np.where(used, variance, 1.0)
    # Without the element itself, whose noise must not make its own weight, and its neighbours,
    # which share their noise where an image was resampled.
    smooth = _running_median(variance, used, _SMOOTHED, without=3)
    # A line in the spectrum raises the variances of all inputs; a cut ramp that of one.
    ratio = np.where(used, variance, 1.0) / np.where(used, smooth, 1.0)
    excess = ratio / np.where(used, ratio, np.inf).min(axis=0)
    # What noise in the variances does is no jump: it would be the bias again.
    noise = [
        np.median(np.abs(np.log(line[kept]))) if kept.any() else 0.0
        for line, kept in zip(ratio, used, strict=True)
    ]
    limit = np.maximum(_JUMP, np.exp(_STANDS_OUT * np.array(noise) / 0.6745))[:, np.newaxis]
    smooth = np.where(used & (excess > limit), smooth * excess, smooth)
    return np.where(used, 1.0, 0.0) / np.where(used, smooth, 1.0)


def _running_median(values: Floats, good: Bools, size: int, without: int = 0) -> Floats:
    """Running median along each line, past what is not good; NaN in lines without anything good.

    The `without` elements in the middle of the window do not count.
    """
    from scipy.ndimage import median_filter

    place = np.arange(values.shape[1])
    whole = np.full(values.shape, np.nan)
    for line, kept, out in zip(values, good, whole, strict=True):
        if kept.any():
            out[:] = np.interp(place, place[kept], line[kept])
    window = np.abs(np.arange(size) - size // 2) > (without - 1) // 2
    # mirror: at the ends no value counts more often than twice
    found: Floats = median_filter(whole, footprint=window[np.newaxis], mode="mirror")
    return found


def _clip(flux: Floats, variance: Floats, usable: Bools, limit: float) -> Bools:
    """Where an input is too far from the median of at least three."""
    number = usable.sum(axis=0)
    enough = number >= 3
    known = usable & np.isfinite(variance)
    flux = np.where(usable, flux, np.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # elements without any input
        # Nods of a bright source differ by more than their noise, all along: that is no outlier.
        level = np.nanmedian(flux, axis=0)
        signal = np.abs(level) / np.sqrt(variance)
        bright = _smooth_medians(signal, known & enough) > _SEEN  # False where there is a NaN
        ratio = flux / level
        ratio = _smooth_medians(ratio, known & enough & np.isfinite(ratio))
        scale = np.where(bright & (ratio > 0), ratio, 1.0)
        flux, variance = flux / scale, variance / scale**2
        median = np.nanmedian(flux, axis=0)
        # pi / 2: the median of normal values is that much less certain than their mean
        of_median = np.pi / 2.0 * np.sum(np.where(known, variance, 0.0), axis=0) / number**2
        pull = np.abs(flux - median) / np.sqrt(variance + of_median)
    known &= np.isfinite(pull) & enough
    # What else they differ by all along, such as a background.
    spread = _smooth_medians(np.where(known, pull, 0.0), known) / 0.6745
    pull = pull / np.where(spread > 1.0, spread, 1.0)
    return known & (pull > limit)


def _smooth_medians(values: Floats, good: Bools) -> Floats:
    return _running_median(values, good, _DISAGREES)


# --- the pipeline's way ---------------------------------------------------------------------------


def _pipeline(
    blocks: Sequence[_Block],
    times: Sequence[float],
    weights: str,
    sigma_clip: float | None,
    notes: list[str],
) -> _Made:
    """What the pipeline's combine_1d step computes (jwst 3.0, jwst/combine_1d/combine1d.py)."""
    kept: list[tuple[_Block, int, float] | None] = []
    for block, time in zip(blocks, times, strict=True):
        wave = np.asarray(block.extraction.wavelength, dtype=float)
        step = np.diff(wave)
        monotonic = bool((step > 0).all() or (step < 0).all())
        flux = np.atleast_2d(block.extraction.columns["FLUX"])
        for integration in range(len(block)):
            reason = None
            if not np.isfinite(flux[integration]).any():
                reason = "has no usable flux"
            elif not monotonic:
                reason = "has wavelengths that neither rise nor fall all along"
            if reason is not None:
                notes.append(f"{block.name(integration)} {reason}, it is left out")
            kept.append(None if reason is not None else (block, integration, time))
    some = [one for one in kept if one is not None]
    if not some:
        raise LRSError(f"none of the {len(kept)} spectra can be used by the pipeline's way")
    grid = _pipeline_grid([block.extraction.wavelength for block, *_ in some])
    columns = ("FLUX", "FLUX_ERROR", "SURF_BRIGHT", "SB_ERROR")
    values = {name: np.zeros((len(kept), grid.size)) for name in columns}
    weight = np.zeros((len(kept), grid.size))
    count = np.zeros((len(kept), grid.size))
    dq = np.zeros(grid.size, dtype=np.uint32)
    for number, one in enumerate(kept):
        if one is None:
            continue
        block, integration, time = one
        rows = {
            name: np.atleast_2d(column)[integration]
            for name, column in block.extraction.columns.items()
        }
        place = _pipeline_place(grid, np.asarray(block.extraction.wavelength, dtype=float))
        flags = rows.get("DQ", np.zeros(place.shape, dtype=np.uint32)).astype(np.uint32)
        good = ((flags & DO_NOT_USE) == 0) & ~np.isnan(rows["FLUX"]) & ~np.isnan(place)
        index = np.rint(place[good]).astype(int)
        np.bitwise_or.at(dq, index, flags[good])
        # Of several elements in one place the last one stays.
        for name, target in values.items():
            target[number, index] = rows[name][good] if name in rows else np.nan
        weight[number, index] = time
        count[number, index] = 1.0
    used = count > 0
    clipped = np.zeros(used.shape, dtype=bool)
    if sigma_clip is not None:
        clipped = _pipeline_clip(values["FLUX"] * weight, used, sigma_clip)
        weight[clipped] = count[clipped] = 0.0
    total = weight.sum(axis=0)
    divisor = np.where(total > 0, total, 1.0)
    made: dict[str, NDArray[Any]] = {"WAVELENGTH": grid}
    for name, error in (("FLUX", "FLUX_ERROR"), ("SURF_BRIGHT", "SB_ERROR")):
        own = np.where(clipped, 0.0, values[name])
        made[name] = np.nansum(own * weight, axis=0) / divisor
        own = np.where(clipped, 0.0, values[error])
        made["ERROR" if name == "FLUX" else error] = (
            np.sqrt(np.nansum((own * weight) ** 2, axis=0)) / divisor
        )
    for name, source in (("ERROR", "FLUX_ERROR"), ("SURF_BRIGHT",) * 2, ("SB_ERROR",) * 2):
        if any(source not in block.extraction.columns for block, *_ in some):
            made[name] = np.full(grid.size, np.nan)  # the pipeline has no spectra without them
    made |= {"DQ": dq, "WEIGHT": total, "N_INPUT": count.sum(axis=0)}
    left = np.flatnonzero(made["N_INPUT"] > 0)
    if left.size == 0:
        raise LRSError(
            f"no spectrum has a usable flux, expected one of the {len(kept)} to have some"
        )
    if left.size < grid.size:
        notes.append(
            f"{grid.size - left.size} of {grid.size} elements have no input, they are gone"
        )
    return _Made(
        {name: column[left] for name, column in made.items()}, used & ~clipped, clipped, left
    )


def _pipeline_clip(scaled: Floats, used: Bools, limit: float) -> Bools:
    """One limit for all wavelengths and inputs; a flux of 0 counts as missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # elements without any input
        known = np.where(used & (scaled != 0.0), scaled, np.nan)
        median = np.nanmedian(known, axis=0)
        deviation = np.nanmedian(np.abs(known - median))
        return used & (np.abs(scaled - median) > limit * deviation)


def _pipeline_place(grid: Floats, wave: Floats) -> Floats:
    """Place of wavelengths in the grid, a fraction between two; NaN beyond its ends."""
    from scipy.interpolate import interpn

    if not (np.diff(grid) > 0).all():
        raise LRSError(
            "the pipeline's grid has the same wavelength twice, with which it fails; expected "
            "mode='default'"
        )
    # The same routine as behind the pipeline's WCS: a last bit may decide on either side of 1/2.
    place = np.arange(grid.size, dtype=float)
    found: Floats = interpn((grid,), place, wave, bounds_error=False, fill_value=np.nan)
    return found


def _pipeline_grid(waves: Sequence[Floats]) -> Floats:
    """The common grid of the pipeline, ascending.

    All wavelengths are sorted. At each the number n of inputs that cover it is known; the spread of
    n neighbours is small where they are the same element of the n inputs, and their mean becomes an
    element of the grid. Where no such clump is found the means of n in a row are taken.
    """
    long = [np.asarray(wave, dtype=float) for wave in waves if len(wave) > 1]
    if not long:
        raise LRSError("no spectrum has more than one wavelength, expected at least 2")
    every = np.sort(np.concatenate(long))
    size = every.size
    cover = np.zeros(size, dtype=int)
    for wave in long:
        rising = wave if wave[1] > wave[0] else wave[::-1]
        below = rising[0] - 0.5 * (rising[1] - rising[0])
        above = rising[-1] + 0.5 * (rising[-1] - rising[-2])
        cover += (every >= below) & (every < above)

    # Slice by slice, with numpy's own mean and std: whether a spread is 0 hangs on the last bit.
    spread, mean = np.full(size, 9999.0), np.full(size, -99.0)
    for k, n in enumerate(cover):
        last = k + n // 2 + 1
        if n == 1:
            spread[k], mean[k] = 0.0, every[k]
        elif last - n >= 0 and last <= size:
            part = every[last - n : last]
            spread[k], mean[k] = part.std(), part.mean()

    neighbours = np.empty(size)
    neighbours[1:-1] = (spread[:-2] + spread[2:]) / 2.0
    neighbours[0], neighbours[-1] = spread[1], spread[-2]
    clump = (spread == 0.0) | (spread < 0.8 * neighbours)
    found = np.where(clump, mean, -99.0)

    k = 0
    while k < size:
        n = cover[k]
        if k + n // 2 < size:
            n = cover[k + n // 2]
            if k + n < size:
                around = found[max(k - 1, 0) : min(k + n + 1, size - 1)]
                if around.max() <= 0.0:
                    found[k] = every[k : k + n].mean()
        k += n
    return np.sort(found[found > 0.0])

"""Summaries of files for ``glue-lrs info``, and of spectra for ``glue-lrs extract``."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from glue_lrs.cli.console import option
from glue_lrs.cli.tasks import base_name
from glue_lrs.errors import LRSError, LRSWarning, escaped, quoted, warn
from glue_lrs.extraction.base import new_findings
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.drizzle import filled_fraction
from glue_lrs.image.pixels import lost_by_plane, lost_pixels, lost_text
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import source_position
from glue_lrs.io.identify import identify_file
from glue_lrs.io.open import open as open_file
from glue_lrs.io.spectra import is_spectrum, read_combined
from glue_lrs.io.x1d_reader import read_x1d
from glue_lrs.reference.reference import Reference
from glue_lrs.spectra.columns import QUALITY
from glue_lrs.spectra.findings import Finding, worst_first
from glue_lrs.spectra.quality import quality_counts
from glue_lrs.spectra.segments import complete_times, integration_numbers
from glue_lrs.spectra.summary import signal_to_noise

if TYPE_CHECKING:
    from astropy.table import Table

    from glue_lrs.combination.combination import Combination
    from glue_lrs.spectra.extraction import Extraction

#: Line of text: a label and the parts of the text. Parts that are None or empty are omitted.
Line: TypeAlias = tuple[str | None, ...]

_PRODUCTS = {
    "s2d": "rectified spectral image",
    "cal": "spectral image on the detector's pixels",
    "calints": "stack of integrations on the detector's pixels",
    "x1d": "extracted spectrum",
    "x1dints": "extracted spectra, one for each integration",
    "c1d": "spectra combined to one",
}


#: Reference files.
_REFERENCES = {
    "extract1d": "EXTRACT1D reference: apertures",
    "apcorr": "APCORR reference: aperture corrections",
    "psf": "PSF reference: spatial profile",
}


def describe_file(path: str) -> tuple[dict[str, Any], str]:
    """Collect facts about a file, and format them as lines of text.

    Parameters
    ----------
    path : str
        Path of an s2d, cal, calints, x1d, x1dints or c1d file, or of a reference file.

    Returns
    -------
    dict
        Facts that can be converted to JSON. Columns and rows are pixel numbers from 0, with
        inclusive limits (``limits``, ``rows``, ``bounding_box``). ``edges`` are positions, where
        pixel i extends from i - 0.5 to i + 0.5. Integrations are counted from 1, as in the file.
    str
        The facts as text.

    Raises
    ------
    LRSError
        If the file is a product of another kind, or is damaged.

    Warns
    -----
    LRSWarning
        If the file has no variances.
    """
    kind = identify_file(path)
    is_damaged = kind == "extract1d" and base_name(path) != path  # the name of a FITS file
    if kind in _REFERENCES and not is_damaged:
        return _reference_facts(path, kind)
    if not is_spectrum(path):
        facts = _image_facts(path, SlitImage.read(path))
        lines = _image_lines(facts)
    else:
        combined = read_combined(path)
        if combined is None:
            facts = _spectrum_facts(path, read_x1d(path))
        else:
            facts = _combined_facts(path, combined)
        lines = _spectrum_lines(facts)
    names = (f"{key}={value}" for key, value in facts["references"].items())
    references = " ".join(names).replace("crds://", "") or "none named in the header"
    every = chain(
        _product_lines(facts), lines, _finding_lines(facts),
        [("references", references)],
    )  # fmt: skip
    text = [escaped(path)]
    for label, *parts in every:
        text += textwrap.wrap(
            ", ".join(str(part) for part in parts if part not in (None, "")), 100,
            initial_indent=f"  {label:<18}", subsequent_indent=" " * 20,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return facts, "\n".join(text)


def _reference_facts(path: str, kind: str) -> tuple[dict[str, Any], str]:
    """Return the facts about a reference file, as data and as text."""
    content = open_file(path)
    lines = [line.strip(" <>") for line in str(content).splitlines()]
    facts: dict[str, Any] = {"file": path, "product": kind, "content": lines}
    text = [f"  {'product':<18}{kind}, {_REFERENCES[kind]}"]
    text += [f"  {'content' if n == 0 else '':<18}{line}" for n, line in enumerate(lines)]
    if isinstance(content, Reference):
        facts["issues"] = [str(issue) for issue in content.check()]
        text += [f"  {'check':<18}{issue}" for issue in facts["issues"]]
    return facts, "\n".join([escaped(path), *text])


def _image_facts(path: str, image: SlitImage) -> dict[str, Any]:
    header = image.header
    wave = image.wavelength[np.isfinite(image.wavelength)]
    columns, rows = image.bounding_box
    dither = [image.source_ra, image.source_dec]
    facts: dict[str, Any] = {
        "file": path,
        "product": image.kind,
        **_exposure(header),
        "exp_type": image.exp_type,
        "subarray": image.subarray,
        "shape": [int(n) for n in image.data.shape],
        "unit": image.unit.to_string(),
        "calibrated": image.calibrated,
        "pixel_area_sr": image.pixel_area,
        "wavelength_um": [float(wave.min()), float(wave.max())] if wave.size else None,
        "bounding_box": {"columns": _inside(columns), "rows": _inside(rows)},
        "source_type": image.source_type,
        "dither_deg": None if None in dither else dither,
    }
    facts |= _default_aperture(image)
    if image.is_stack:
        facts["integrations"] = image.data.shape[0]
        facts["times"] = _times(image)
    return facts | {"references": _references(header)}


def _inside(edges: tuple[float, float]) -> list[int]:
    """Return the first and the last pixel whose centre is between two positions."""
    return [math.ceil(edges[0]), math.floor(edges[1])]


def _exposure(header: Any) -> dict[str, Any]:
    cards = {
        "target": "TARGNAME", "label": "OBSLABEL", "program": "PROGRAM",
        "observation": "OBSERVTN", "date": "DATE-OBS", "pattern": "PATTTYPE", "dither": "PATT_NUM",
        "pipeline": "CAL_VER",
    }  # fmt: skip
    return {key: header[card] for key, card in cards.items() if header.get(card) not in (None, "")}


def _references(header: Any) -> dict[str, str]:
    return {
        key: str(value)
        for key, value in header.items()
        if key.startswith("R_") and value not in (None, "", "N/A")
    }


def _default_aperture(image: SlitImage) -> dict[str, Any]:
    """Return facts about the default aperture, the expected source position and bad pixels."""
    operator = Extract1D.from_reference(None, image.exp_type, apply_apcorr=False)
    placement = operator.place(image)
    weights = operator.aperture.weights(image.wavelength, placement.trace, placement.offset)
    bad = lost_pixels(image)
    inside = (weights.full(image.shape) > 0) & np.isfinite(image.wavelength)
    pixels = {
        "bad": bad.sum(),
        "bad_in_aperture": (bad & inside).sum(),
        "in_aperture": np.broadcast_to(inside, image.data.shape).sum(),
        "all": image.data.size,
    }
    found: dict[str, Any] = {
        "default_aperture": {
            **_limits(weights.lower, weights.upper, weights.rows.start, weights.rows.stop - 1),
            "moved_by": placement.offset,
        }
    }
    source = placement.position or source_position(image)
    if source is not None:
        found["expected_source"] = {
            "column": source.column,
            "row": source.row,
            "wavelength_um": source.wavelength,
        }
    found["pixels"] = {key: int(number) for key, number in pixels.items()}
    found["pixels"]["by_plane"] = lost_by_plane(image)
    filled = filled_fraction(image)
    if filled is not None:
        found["pixels"]["filled"] = int((filled > 0).sum())
        found["pixels"]["filled_in_aperture"] = int(((filled > 0) & inside).sum())
    try:
        findings = new_findings(image, operator.check(image))
    except LRSError as error:
        findings = (Finding("not_extracted", f"cannot be extracted: {error.text}"),)
    return found | {"findings": [one.to_dict() for one in findings]}


def _finding_lines(facts: dict[str, Any]) -> Iterator[Line]:
    """Yield a line for each finding."""
    for stored in facts["findings"]:
        yield stored["severity"], Finding.from_dict(stored).message.render(option)


def _limits(lower: float, upper: float, first: int, last: int) -> dict[str, Any]:
    """Return the columns of an aperture as inclusive limits and as edges, and the rows."""
    return {"limits": [lower, upper], "edges": [lower - 0.5, upper + 0.5], "rows": [first, last]}


def _times(image: SlitImage) -> dict[str, Any] | None:
    """Return facts about the integrations of a stack, or None if it has no INT_TIMES."""
    if image.times is None or len(image.times) == 0:
        return None
    names = ("integration_number", "int_start_MJD_UTC", "int_end_MJD_UTC")
    return _time_span(image.times, names, image.header)


def _time_span(times: Table, names: tuple[str, str, str], header: Any) -> dict[str, Any]:
    """Return facts about the integrations in a table with their number, begin and end."""
    numbers, begin, end = (np.asarray(times[name]) for name in names)
    known = np.isfinite(begin) & np.isfinite(end)
    total = header.get("NINTS")
    return {
        "first_integration": int(numbers[0]),
        "last_integration": int(numbers[-1]),
        "exposure_integrations": total if isinstance(total, int) else None,
        "begin_mjd": float(begin[known].min()) if known.any() else None,
        "end_mjd": float(end[known].max()) if known.any() else None,
        "without_time": int((~known).sum()),
    }


def _spectrum_facts(path: str, spectra: list[Extraction]) -> dict[str, Any]:
    first = spectra[0]
    wave = np.concatenate([one.wavelength for one in spectra])
    keywords = first.keywords
    facts: dict[str, Any] = {
        "file": path,
        "product": "x1dints" if first.is_stack else "x1d",
        **_exposure(first.header),
        "exp_type": first.header.get("EXP_TYPE"),
        "spectra": len(spectra),
        "shape": [list(one.mask.shape) for one in spectra],
        "wavelength_um": [float(np.nanmin(wave)), float(np.nanmax(wave))],
        "source_type": keywords.get("SRCTYPE"),
        "aperture": _aperture_of(keywords),
        "median_sn": [signal_to_noise(one) for one in spectra],
        "lost_rows": [int(one.mask.sum()) for one in spectra],
        "quality": _quality(spectra),
        "columns": {name: first.units.get(name, "") for name in first.columns},
        "references": _references(first.header),
        "findings": [one.to_dict() for one in _findings_of(spectra)],
    }
    if len(spectra) == 1 and first.is_stack:
        times = complete_times(first, integration_numbers(first))
        facts["times"] = _time_span(times, ("INT_NUM", "MJD-BEG", "MJD-END"), first.header)
    keys = [key for key in first.provenance or () if key != "findings"]
    return facts | _record(first.provenance, path, keys)


def _quality(spectra: list[Extraction]) -> dict[str, int] | None:
    """Return the number of values with each quality bit, or None if the bits are unknown."""
    bits = [one.columns[QUALITY].ravel() for one in spectra if QUALITY in one.columns]
    return quality_counts(np.concatenate(bits)) if bits else None


def _combined_facts(path: str, combined: Combination) -> dict[str, Any]:
    facts = _spectrum_facts(path, [combined.to_extraction()])
    facts["product"] = "c1d"
    facts["columns"] = {name: combined.units.get(name, "") for name in combined.columns}
    facts["findings"] = [one.to_dict() for one in combined.findings]
    keys = ("parameters", "inputs", "versions", "date")
    return facts | _record(combined.provenance, path, keys)


def _record(provenance: Mapping[str, Any] | None, path: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return the facts about how a spectrum was made, or warn if the record cannot be read."""
    try:
        found = provenance and {key: provenance[key] for key in keys}
    except LRSError as error:
        warn(LRSWarning(f"{error.text}; how the spectrum was made is unknown", subject=path))
        return {}
    return {"made_by_glue_lrs": found} if found else {}


def _findings_of(spectra: list[Extraction]) -> tuple[Finding, ...]:
    """Return the findings about all spectra of a file, which may be about one of them."""
    if len(spectra) == 1:
        return spectra[0].findings
    return worst_first(
        one if spectra[0].provenance is not None else replace(one, text=f"#{number}: {one.text}")
        for number, spectrum in enumerate(spectra, start=1)
        for one in spectrum.findings
    )


def _aperture_of(keywords: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the aperture from the header cards of an x1d, in which pixels are counted from 1."""
    cards = [keywords.get(key) for key in ("EXTRXSTR", "EXTRXSTP", "EXTRYSTR", "EXTRYSTP")]
    if any(isinstance(card, bool) or not isinstance(card, int | float) for card in cards):
        return None
    lower, upper, first, last = (float(card) - 1.0 for card in cards)  # type: ignore[arg-type]
    if not np.isfinite([lower, upper, first, last]).all():
        return None
    return _limits(float(lower), float(upper), int(first), int(last))


def _product_lines(facts: dict[str, Any]) -> Iterator[Line]:
    """Yield the lines about the product and the observation, for images and spectra."""
    get = facts.get
    product, pattern = facts["product"], get("pattern")
    yield "product", f"{product}: {_PRODUCTS[product]}", facts["exp_type"], get("subarray")
    yield (
        "observation",
        get("target"),
        get("label") and quoted(get("label")),
        *(f"{key} {facts[key]}" for key in ("program", "observation") if key in facts),
        get("date"),
        f"{pattern}, dither {get('dither')}" if pattern not in (None, "NONE") else None,
        f"pipeline {get('pipeline')}" if get("pipeline") else None,
    )


def _image_lines(facts: dict[str, Any]) -> Iterator[Line]:
    """Yield the lines about an image."""
    *stack, rows, columns = facts["shape"]
    first = f"{stack[0]} integrations of " if stack else ""
    yield "axes", f"{first}{rows} rows (dispersion) x {columns} columns (cross-dispersion)"
    yield (
        "brightness",
        facts["unit"],
        f"{'' if facts['calibrated'] else 'not '}photometrically calibrated",
        f"pixel {facts['pixel_area_sr']:.4g} sr" if facts["pixel_area_sr"] else None,
    )
    yield "wavelength", _span(facts)
    box = facts["bounding_box"]
    yield ("bounding box", *(f"{key} {box[key][0]} to {box[key][1]}" for key in box))
    dither, source = facts["dither_deg"], facts.get("expected_source")
    expected = "expected at column {column:.2f} in row {row} ({wavelength_um:.2f} um)"
    yield (
        "source",
        facts["source_type"] or "type not given",
        dither and "intended position RA {:.6f}, Dec {:.6f}".format(*dither),
        source and expected.format(**source),
    )
    aperture, pixels = facts["default_aperture"], facts["pixels"]
    yield (
        "default aperture",
        "columns {:.2f} to {:.2f} (inclusive limits: xstart, xstop)".format(*aperture["limits"]),
        f"moved by {aperture['moved_by']:+.2f}" if aperture["moved_by"] else "not moved",
    )
    yield "", "which is {:.2f} to {:.2f} (edges: src_coeff)".format(*aperture["edges"])
    planes = lost_text(pixels["by_plane"])
    yield "bad pixels", "{bad} of {all}".format(**pixels) + (f": {planes}" if planes else "")
    yield "", "{bad_in_aperture} of the {in_aperture} in the default aperture".format(**pixels)
    if pixels.get("filled"):
        yield (
            "filled pixels",
            "{filled} of {all}, in which drizzle used the neighbours of bad pixels".format(
                **pixels
            ),
            "{filled_in_aperture} of them in the default aperture".format(**pixels),
        )
    if facts.get("times") is not None:
        yield _times_line(facts["times"])
    elif stack:
        yield "times", "none in INT_TIMES"


def _times_line(times: dict[str, Any]) -> Line:
    """Return the line about the integrations of a stack and their times."""
    total, without = times["exposure_integrations"], times["without_time"]
    number = "integrations {first_integration} to {last_integration}".format(**times)
    return (
        "times",
        number + (f" of {total}" if total else ""),
        "MJD {begin_mjd:.6f} to {end_mjd:.6f} (UTC)".format(**times)
        if times["begin_mjd"] is not None
        else None,
        f"{without} without a time" if without else None,
    )


def _spectrum_lines(facts: dict[str, Any]) -> Iterator[Line]:
    """Yield the lines about spectra."""
    for shape, ratio, lost in zip(
        facts["shape"], facts["median_sn"], facts["lost_rows"], strict=True
    ):
        size = " integrations x ".join(map(str, shape)) + " wavelengths"
        median = None if ratio is None else f"median S/N {ratio:.1f}"
        yield "spectrum", size, median, f"{lost} without a usable flux"
    quality = facts["quality"]
    if quality is not None:
        yield (
            "quality",
            *(f"{name} {number}" for name, number in quality.items() or [("no", "bits")]),
        )
    if facts.get("times") is not None:
        yield _times_line(facts["times"])
    yield "wavelength", _span(facts)
    aperture = facts["aperture"]
    yield (
        "aperture",
        facts["source_type"],
        aperture and "columns {:.2f} to {:.2f}".format(*aperture["limits"]),
        aperture and "rows {} to {} (inclusive, from 0)".format(*aperture["rows"]),
    )
    by_unit: dict[str, list[str]] = {}
    for name, unit in facts["columns"].items():
        by_unit.setdefault(unit, []).append(name)
    for number, (unit, names) in enumerate(by_unit.items()):
        yield "" if number else "columns", f"{' '.join(names)} [{unit or 'no unit'}]"
    made = facts.get("made_by_glue_lrs")
    if made is None:
        yield "made by", "another program, so that no parameters are stored"
        return
    version = (made.get("versions") or {}).get("glue-lrs")
    yield "made by", f"glue_lrs {version or ''}".strip(), made.get("date")
    parameters = made.get("parameters") or {}
    if "inputs" in made:
        for number, one in enumerate(made["inputs"] or ()):
            used = f"{one.get('rows_used')} rows used, {one.get('rows_clipped')} clipped"
            yield "" if number else "from", one.get("label"), used
        parameters = {"combined by": parameters}
    else:
        read = made.get("input") or {}
        changed = ", ".join(read.get("changed") or ())
        files = [one and one.get("filename") for one in read.get("segments") or [read]]
        yield (
            "from",
            *(name or "an image in memory" for name in files),
            changed and f"changed in memory ({changed})",
        )
    for part, values in parameters.items():
        yield (part, *(f"{key}={json.dumps(value)}" for key, value in values.items()))


def _span(facts: dict[str, Any]) -> str:
    span = facts["wavelength_um"]
    return "none" if span is None else "{:.2f} to {:.2f} um".format(*span)


def summarize(extraction: Extraction) -> dict[str, str]:
    """Return size, aperture and quality of a spectrum as a row of the summary table."""
    wave, ratio = extraction.wavelength, signal_to_noise(extraction)
    aperture = _aperture_of(extraction.keywords)
    provenance = extraction.provenance
    found = {} if provenance is None else provenance["position"] or {}
    moved = found.get("offset")
    columns = "-" if aperture is None else "{:.2f} - {:.2f}".format(*aperture["limits"])
    if "column_error" in found:  # an optimal extraction has no column limits
        columns = f"about {found['column']:.2f}"
    return {
        "rows": " x ".join(map(str, extraction.mask.shape)),
        "wavelength": f"{np.nanmin(wave):.2f} - {np.nanmax(wave):.2f} um",
        "columns": columns,
        "moved": f"{moved:+.2f}" if moved else "-",
        "unit": extraction.units.get("FLUX", "-"),
        "median S/N": "-" if ratio is None else f"{ratio:.1f}",
        "lost": str(int(extraction.mask.sum())),
    }

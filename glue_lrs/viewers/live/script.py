"""Script: lines of Python that reproduce an extraction."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.apertures.background import Background
from glue_lrs.errors import LRSError
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.viewers.datasets.session_meta import absolute_path

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

_WIDTH = 88


def python_lines(operator: Extract1D, image: SlitImage, integration: int | None = None) -> str:
    """Return the lines of Python that reproduce an extraction.

    Parameters
    ----------
    operator : Extract1D
        The `Extract1D` operator with which to extract.
    image : SlitImage
        Image to extract, which was read from a file.
    integration : int, optional
        Integration of a stack to extract; None for the median of all integrations.

    Returns
    -------
    str
        Lines that end with ``spectrum = ...``, which yields an identical spectrum.

    Raises
    ------
    LRSError
        If the image or the aperture correction does not come from a file, or the image was changed.
    """
    if image.path is None:
        raise LRSError(
            "was not read from a file, expected one that a script can read", subject=image.label
        )
    if image.changed:
        raise LRSError(
            f"was changed in memory after it was read ({', '.join(image.changed)}), expected an "
            "image with the content of its file",
            subject=image.label,
        )
    used = {"Extract1D", "SlitImage"}
    call = _call(operator, used, 0)
    lines = [f"image = SlitImage.read({image.path!r})", f"extract = {call}"]
    target = "image"
    if image.is_stack and operator.time_outliers != "keep":
        target = f"prepared_integration(extract, image, {integration})"
        lines.append("# extract(image) gives a spectrum for each integration")
    elif image.is_stack:
        target += ".median()" if integration is None else f".integration({integration})"
        lines.append("# extract(image) gives a spectrum for each integration")
    lines.append(f"spectrum = extract({target})")
    imports = [f"from glue_lrs import {', '.join(sorted(used))}"]
    if "prepared" in target:
        imports.append("from glue_lrs.extraction.options import prepared_integration")
    return "\n".join([*imports, "", *lines, ""])


def _call(value: Extract1D | Aperture | Background, used: set[str], indent: int) -> str:
    """Return the call that makes a dataclass, with those arguments that are not the default."""
    name = type(value).__name__
    used.add(name)
    parts = [
        f"{one.name}={_value(given, one.name, used, indent + 4)}"
        for one in fields(value)
        if one.compare
        and (type(given := getattr(value, one.name)), given) != (type(one.default), one.default)
    ]
    line = f"{name}({', '.join(parts)})"
    if "\n" not in line and len(line) + indent < _WIDTH:
        return line
    space = " " * (indent + 4)
    return f"{name}(\n" + "".join(f"{space}{part},\n" for part in parts) + " " * indent + ")"


def _value(value: object, key: str, used: set[str], indent: int) -> str:
    if isinstance(value, Aperture | Background):
        return _call(value, used, indent)
    if isinstance(value, ApertureCorrection):
        if value.filename is None:
            raise LRSError("the aperture correction was not read from a file, expected one to read")
        used.add("ApertureCorrection")
        path = absolute_path(value.filename)
        return f"ApertureCorrection.read({path!r}, subarray={value.subarray!r})"
    if isinstance(value, PSFProfile):
        if value.filename is None:
            raise LRSError("the PSF profile was not read from a file, expected one to read")
        used.add("PSFProfile")
        return f"PSFProfile.read({absolute_path(value.filename)!r}, {value.name!r})"
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return repr(value)
    raise LRSError(f"{key} is a {type(value).__name__}, which cannot be written as Python")

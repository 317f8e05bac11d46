"""Function that saves figures to files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from glue_lrs.errors import WriteError
from glue_lrs.io.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(
    figure: Figure, path: str | PathLike[str], *, overwrite: bool = False, dpi: float = 120
) -> None:
    """Write a figure to a file. No partial file remains after an error.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        Figure to save.
    path : str or path-like
        Path of the file to write. Its suffix determines the format: PNG, PDF, SVG and others.
    overwrite : bool
        Whether an existing file may be replaced.
    dpi : float
        Resolution of raster formats in dots per inch.

    Raises
    ------
    WriteError
        If the file exists and `overwrite` is False, Matplotlib does not know the suffix, or the
        file cannot be written.
    """
    known = figure.canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in known:
        raise WriteError(
            f"ends in {Path(path).suffix!r}, expected a picture: {', '.join(sorted(known))}",
            subject=path,
        )
    with atomic_write(path, overwrite) as temporary:
        figure.savefig(temporary, dpi=dpi)

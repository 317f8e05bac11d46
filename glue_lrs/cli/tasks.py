"""Functions that several commands share: extraction, plots, and checks of output files."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glue_lrs.errors import LRSError, LRSWarning, WriteError, naming
from glue_lrs.instrument import product_suffix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glue_lrs.cli.options import RecipeOptions
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.plotting.style import FigureSource
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.findings import Finding


def read_again(*paths: str) -> SlitImage:
    """Read an image, or the segments of a stack, without repeating the warnings.

    They were reported when its operator was created.

    An image keeps its file open, and the number of open files is limited, so that commands that
    need several images read each of them twice.
    """
    from glue_lrs.image.slit_image import SlitImage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        return SlitImage.read(paths if len(paths) > 1 else paths[0])


def operator_from_options(image: SlitImage, recipe: RecipeOptions) -> Extract1D:
    """Create the `Extract1D` operator for an image from the command-line options."""
    from glue_lrs.extraction.extract import operator_for

    return operator_for(
        image, recipe.extract1d, apcorr=recipe.apcorr, psf=recipe.psf, **recipe.settings
    )


def extract_with_model(
    operator: Extract1D, image: SlitImage
) -> tuple[Extraction, OptimalResult | None]:
    """Extract an image, and return the spectrum and the fit result.

    The fit result is None for a box extraction and for the pipeline's optimal extraction.
    """
    if operator.mode in ("psf", "learned"):
        result = operator.fit(image)
        return result.extractions[0], result
    return operator.run(image), None


def extract_and_check(
    operator: Extract1D, image: SlitImage
) -> tuple[Extraction, OptimalResult | None]:
    """Extract an image as `extract_with_model`, and record the findings of all checks.

    The findings are not issued as warnings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        extraction, result = extract_with_model(operator, image)
    return extraction.with_findings(operator.check(image, extraction)), result


def new_findings(image: SlitImage, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings of which reading the image has not warned."""
    from glue_lrs.extraction import base

    return base.new_findings(image, findings)


def plot_extracted(
    image: SlitImage,
    operator: Extract1D,
    extraction: Extraction,
    result: OptimalResult | None,
    integration: int | None = None,
    *,
    rows: Sequence[int] | None = None,
    figure: FigureSource = None,
    **kwargs: Any,
) -> Figure:
    """Plot an image and the extracted spectrum, with the fitted model if `result` is given.

    By default, the figure is made without pyplot, which would need a display for some backends.
    """
    from matplotlib.figure import Figure

    from glue_lrs.plotting.optimal import plot_optimal
    from glue_lrs.plotting.product import plot_product

    kwargs["figure"] = figure or Figure
    if result is not None:
        if rows is not None:
            raise LRSError(
                "rows are for cuts, which the figure of an optimal extraction does not have",
                subject=image.label,
            )
        return plot_optimal(result, integration=integration or 0, **kwargs).figure
    # The optimal extraction of the pipeline does not use the aperture.
    shown = operator if operator.mode == "box" else None
    return plot_product(
        image, shown, extraction, integration=integration, rows=rows, **kwargs
    ).figure


def plot_spectra(
    spectra: Sequence[tuple[str, Extraction]],
    column: str = "FLUX",
    integration: int | None = None,
    *,
    offset: float = 0.0,
    figure: FigureSource = None,
    **limits: Any,
) -> Figure:
    """Plot a comparison of several spectra, or the details of a single spectrum.

    `spectra` are pairs of the path of the file and the spectrum. By default, the figure is made
    without pyplot.
    """
    from matplotlib.figure import Figure

    from glue_lrs.plotting import plot_comparison, plot_extraction, plot_stack

    index = None if integration is None else integration - 1
    paths = [path for path, _ in spectra]
    limits["figure"] = figure or Figure
    if len(spectra) == 1:
        only, title = spectra[0][1], Path(paths[0]).name
        if only.is_stack and index is None and only.columns["FLUX"].shape[0] > 1:
            return plot_stack(only, column=column, title=title, **limits).figure
        pixels = only.columns.get("NPIXELS")  # NaN if the spectrum was changed after extraction
        if column.upper() == "FLUX" and pixels is not None and (pixels >= 0).any():
            return plot_extraction(only, integration=index or 0, title=title, **limits).figure
    labelled = dict(zip(_labels(paths), (one for _, one in spectra), strict=True))
    return plot_comparison(
        labelled, column=column, integration=index, offset=offset, **limits
    ).figure


def _labels(paths: Sequence[str]) -> list[str]:
    """Return a different label for each spectrum.

    The labels are the names of the files, or their paths if names are equal. Several spectra from
    the same file are numbered.
    """
    names = [Path(path).name for path in paths]
    names = list(paths) if len(set(names)) < len(set(paths)) else names
    numbers = (f" #{names[:i].count(name) + 1}" for i, name in enumerate(names))
    return [
        name + number * (names.count(name) > 1) for name, number in zip(names, numbers, strict=True)
    ]


def check_outputs(targets: Iterable[str | None], overwrite: bool) -> None:
    """Raise `WriteError` if an output file exists and `overwrite` is False, or cannot be written.

    A folder that does not exist is not checked, as it may be made. Commands call this before they
    compute results, but after they have checked the settings.
    """
    from glue_lrs.io.files import check_target

    for target in targets:
        path = None if target is None else Path(target).expanduser()
        if target is not None and path is not None and path.parent.is_dir():
            with naming(target):
                check_target(Path(os.path.realpath(path)), overwrite)


def check_output_folder(folder: str | None) -> None:
    """Raise `WriteError` if no files can be written to a folder, which may not exist yet.

    Permissions are not sufficient, for example in /proc: a file is made and removed.
    """
    if folder is None:
        return
    path = Path(folder).expanduser()
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        with created_folder(path), tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = f"no files can be written there, {error.strerror}"
        raise WriteError(reason, subject=folder) from error
    for parent in missing:  # it is made again when there is a file to write
        with contextlib.suppress(OSError):
            parent.rmdir()


def check_product_name(name: str, *accepted: str) -> None:
    """Raise `LRSError` if a file name has the suffix of another product than those accepted.

    A pattern such as ``*_s2d.fits`` would take the file for that product later.
    """
    suffix = product_suffix(base_name(name))
    if suffix is not None and suffix not in accepted:
        expected = " or ".join(f"_{one}.fits" for one in accepted) or "another"
        text = f"has the suffix of another product (_{suffix}), expected {expected}, or none"
        raise WriteError(text, subject=name)


def check_folders(targets: Iterable[str | None]) -> None:
    """Raise `WriteError` if the folder of a file that the user has named cannot take it."""
    for target in targets:
        folder = None if target is None else Path(target).expanduser().parent
        if folder is not None and not folder.is_dir():
            raise WriteError(f"the folder {folder} does not exist", subject=target)
        if folder is not None:
            check_output_folder(str(folder))


def check_inputs_kept(targets: Iterable[str], inputs: Iterable[str]) -> None:
    """Raise `click.UsageError` if an output file would replace an input file."""
    taken = {os.path.realpath(path): path for path in inputs}
    for target in targets:
        found = taken.get(os.path.realpath(target))
        if found is not None:
            raise click.UsageError(f"the output {target} would replace the input {found}")


@contextlib.contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create a folder for the files that a block writes, and remove it if the block fails."""
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        is_file = folder.is_file()
        reason = "is a file, expected a folder" if is_file else f"cannot be made, {error.strerror}"
        raise WriteError(reason, subject=folder) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # a folder that is not empty remains
            for parent in created:
                parent.rmdir()
        raise


def base_name(name: str) -> str:
    """Remove .fits, .fits.gz and similar suffixes from a file name."""
    return re.sub(r"\.fits?(\.(gz|bz2|xz|zip))?$", "", name, flags=re.IGNORECASE)


def check_integration(
    integration: int | None, stacks: Sequence[tuple[str, tuple[int, ...]]]
) -> None:
    """Raise `LRSError` if the integration, counted from 1, does not exist in one of the stacks.

    `stacks` are pairs of a path and a tuple that contains the number of integrations. The tuple is
    empty for a single spectrum or image.
    """
    if integration is None:
        return
    for path, numbers in stacks:
        if integration > max(numbers, default=integration):
            expected = f"expected 1 to {numbers[0]}"
            raise LRSError(f"--integration is {integration}, {expected}", subject=path)
    if not any(numbers for _, numbers in stacks):
        raise LRSError(
            f"is not a stack, expected a stack with --integration {integration}",
            subject=stacks[0][0],
        )

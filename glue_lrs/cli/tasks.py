"""What several commands do: make the operator, extract, draw, make folders."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glue_lrs.errors import LRSError, LRSWarning, WriteError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction


def operator_for(
    image: SlitImage,
    path: str,
    reference: str | None,
    apcorr: str | None,
    psf: str | None,
    crds: str | None,
    settings: dict[str, Any],
) -> Extract1D:
    """Make the operator of an image from what the options say."""
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.profiles.psf import PSFProfile

    optimal = settings.get("extraction_type") == "optimal"
    wanted = psf is None and (optimal or settings.get("bad_pixels") is not None)
    if crds is not None and (reference is None or apcorr is None or wanted):
        from glue_lrs.io.crds import best_references

        best = best_references(path, crds or None)
        reference = reference or best["extract1d"]
        apcorr = apcorr or best["apcorr"]
        if wanted:
            psf = best["psf"]
            if psf is None:
                warnings.warn(
                    "CRDS has no PSF reference for this file; "
                    "the profile is learned from the image",
                    LRSWarning,
                    stacklevel=2,
                )
    return Extract1D.from_reference(
        reference,
        image.exp_type,
        apcorr=correction(image, apcorr, settings),
        psf=None if psf is None else PSFProfile.read(psf, image.slit_name),
        **settings,
    )


def image_and_operator(
    path: str,
    extract1d: str | None,
    apcorr: str | None,
    psf: str | None,
    settings: dict[str, Any],
) -> tuple[SlitImage, Extract1D]:
    """Read an image, and make the operator for a picture of it."""
    from glue_lrs.image.slit_image import SlitImage

    image = SlitImage.read(path)
    if apcorr is None:  # a picture is drawn, no flux is given: nothing to be warned of
        settings = {"apply_apcorr": False, **settings}
    return image, operator_for(image, path, extract1d, apcorr, psf, None, settings)


def correction(
    image: SlitImage, apcorr: str | None, settings: dict[str, Any]
) -> ApertureCorrection | str | None:
    """The row of an APCORR reference for an image; the file's name where it will not be applied."""
    from glue_lrs.apertures.aperture_correction import ApertureCorrection

    applied = settings.get("apply_apcorr") is not False
    applied = applied and settings.get("extraction_type") != "optimal"
    if apcorr is None or image.subarray is None or image.source_type != "POINT" or not applied:
        return apcorr
    return ApertureCorrection.read(apcorr, subarray=image.subarray)


def extracted(operator: Extract1D, image: SlitImage) -> tuple[Extraction, OptimalResult | None]:
    """The extraction; of an optimal one that has a model, that as well."""
    if operator.mode in ("psf", "learned"):
        result = operator.fit(image)
        return result.extractions[0], result
    return operator.run(image), None


def drawn(
    image: SlitImage,
    operator: Extract1D,
    extraction: Extraction,
    result: OptimalResult | None,
    integration: int | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw what was extracted: with the model, where there is one."""
    from glue_lrs.plotting.optimal import plot_optimal
    from glue_lrs.plotting.product import plot_product

    if result is not None:
        return plot_optimal(result, integration=integration or 0, **kwargs)
    # Of the pipeline's optimal extraction the aperture has no meaning.
    shown = operator if operator.mode == "box" else None
    return plot_product(image, shown, extraction, integration=integration, **kwargs)


def draw_spectra(
    found: Sequence[tuple[str, Extraction]],
    column: str = "FLUX",
    integration: int | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw spectra over each other, or what there is of a single one."""
    from glue_lrs.plotting.spectra import plot_comparison, plot_extraction, plot_stack

    if len(found) == 1:
        path, only = found[0]
        title = Path(path).name
        if only.is_stack and integration is None and only.columns["FLUX"].shape[0] > 1:
            return plot_stack(only, column=column, figure=figure, title=title)
        if column.upper() == "FLUX" and "NPIXELS" in only.columns:
            return plot_extraction(
                only, integration=(integration or 1) - 1, figure=figure, title=title
            )
    return plot_comparison(
        dict(zip(_labels([path for path, _ in found]), (one for _, one in found), strict=True)),
        column=column,
        integration=None if integration is None else integration - 1,
        figure=figure,
    )


def _labels(paths: Sequence[str]) -> list[str]:
    """Names that tell files apart: without the folder where that is enough."""
    names = [Path(path).name for path in paths]
    names = list(paths) if len(set(names)) < len(set(paths)) else names
    again = {name for name in names if names.count(name) > 1}
    return [
        f"{name} #{names[:i].count(name) + 1}" if name in again else name
        for i, name in enumerate(names)
    ]


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make a folder where there is none, and take it away again if nothing could be put in it."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = (
            "is a file, expected a folder"
            if folder.is_file()
            else f"cannot be made, {error.strerror}"
        )
        raise WriteError(f"{folder}: {found}") from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: somebody else needs it
            for one in made:
                one.rmdir()
        raise


def base_name(name: str) -> str:
    """A name without .fits, .fits.gz and their like."""
    return re.sub(r"\.fits?(\.(gz|bz2|xz|zip))?$", "", name, flags=re.IGNORECASE)


def check_integration(integration: int | None, stacks: Sequence[tuple[str, int | None]]) -> None:
    """Refuse an integration that one of the stacks does not have; it counts from 1."""
    if integration is None:
        return
    for path, number in stacks:
        if number is not None and integration > number:
            raise LRSError(f"{path}: --integration is {integration}, expected 1 to {number}")
    if all(number is None for _, number in stacks):
        raise LRSError(
            f"{stacks[0][0]}: is no stack of integrations, --integration {integration} has no "
            "meaning for it"
        )

"""The notebooks of the documentation, and figures in interactive output, from a clean kernel."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest

import glue_lrs
from glue_lrs.simulation import demo_scene
from glue_lrs.simulation.spectra import Source, Supernova
from tests.helpers.images import saved, slit
from tests.helpers.notebooks import ROOT, outputs, printed, run_notebook

TUTORIAL = ROOT / "docs" / "extraction-notebook.ipynb"
PAGE = ROOT / "docs" / "_static" / "extraction-page.ipynb"

WIDGET = "application/vnd.jupyter.widget-view+json"

#: Seconds of the processor for the tutorial, the start of the kernel included.
MOST = 60.0


@pytest.mark.parametrize("path", [TUTORIAL, PAGE], ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


def test_the_tutorial_runs_from_a_clean_kernel(tmp_path: Path) -> None:
    used = "import time; print(time.process_time())"
    *cells, last = run_notebook(TUTORIAL, tmp_path, last=used)
    assert float(printed(last)) < MOST
    drawn = {
        name: sum(len(outputs(cell, "image/png")) for cell in cells if name in cell.source)
        for name in ("plot_image(", "plot_cut(", "plot_width(", "plot_comparison(", "plot_optimal(")
    }
    assert drawn == {
        "plot_image(": 3, "plot_cut(": 2, "plot_width(": 1, "plot_comparison(": 3,
        "plot_optimal(": 2,
    }  # fmt: skip
    columns = {"BACKGROUND": 2, "NPIXELS": 1}
    for name, number in columns.items():
        where = [
            cell for cell in cells if f'"{name}"' in cell.source or "plot_flux_and" in cell.source
        ]
        assert sum(len(outputs(cell, "image/png")) for cell in where) >= number
    (app,) = [cell for cell in cells if "extraction_app" in cell.source]
    assert outputs(app, WIDGET)

    # what the notebook leaves behind is right: the corrected spectrum, and its JSON
    source = Source(flux=Supernova(level=1.5e-4))
    corrected = glue_lrs.Extraction.read(tmp_path / "nod1_corrected_x1d.fits")
    good = ~corrected.mask & (corrected.wavelength > 5) & (corrected.wavelength < 12)
    ratio = corrected.columns["FLUX"][good] / source.flux(corrected.wavelength[good])
    assert np.median(ratio) == pytest.approx(1.0, abs=0.01)
    reference = glue_lrs.Reference.read(tmp_path / "default_extract1d.json")
    assert reference.entry("MIR_LRS-FIXEDSLIT")["xstop"] == 34


def test_the_tutorial_runs_with_files_of_the_user(tmp_path: Path) -> None:
    """Only the names are replaced, and there is no APCORR file."""
    scene = demo_scene(seed=7)
    images = {
        "level3": scene.combined(),
        "nod": scene.s2d(1),
        "nod_with_sky": scene.s2d(1, subtract_nod=False),
    }
    for name, product in images.items():
        product.image.write(tmp_path / f"my_{name}_s2d.fits")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (data,) = [n for n, text in enumerate(cells) if "demo_scene()" in text]
    (names,) = [n for n, text in enumerate(cells) if text.startswith("level3_file =")]
    own = [f'{name}_file = "my_{name}_s2d.fits"' for name in images]
    cells[names] = "\n".join([*own, "apcorr, reference = None, None"])
    del cells[data]
    kept = [
        text for text in cells if not {"cal_file", "cal_with", "fit", "truth"} & set(words(text))
    ]
    assert len(kept) > 20
    run_notebook([text for text in kept if "optimal_spectrum" not in text], tmp_path)
    written = glue_lrs.Extraction.read(tmp_path / "nod1_corrected_x1d.fits")
    assert written.header["FILENAME"] == "nod1_corrected_x1d.fits"
    assert float(np.nanmedian(written.columns["FLUX"])) > 0


def words(text: str) -> list[str]:
    """Return the names in a text of Python."""
    return "".join(one if one.isalnum() or one == "_" else " " for one in text).split()


def test_the_web_page_opens_the_images_of_its_folder(tmp_path: Path) -> None:
    for name in ("a_s2d.fits", "b_s2d.fits"):
        saved(slit(), tmp_path / name)
    (tmp_path / "c_cal.fits").write_bytes(b"no FITS file")
    shutil.copy(PAGE, tmp_path)
    chosen = "\n".join(
        [
            "print(image.options, app)",
            'image.value = "b_s2d.fits"; print(app, page.children[1] is app.widget)',
            'image.value = "c_cal.fits"; print(app, page.children[1] is message)',
            "print(message.value)",
        ]
    )
    *cells, last = run_notebook(tmp_path / PAGE.name, tmp_path, last=chosen)
    assert outputs(cells[-1], WIDGET)
    options, other, wrong, message = printed(last).splitlines()
    assert options == "('a_s2d.fits', 'b_s2d.fits', 'c_cal.fits') <ExtractionApp of a_s2d>"
    assert other == "<ExtractionApp of b_s2d> True"
    assert wrong == "None True"
    assert "c_cal.fits" in message


def test_figures_in_interactive_output(tmp_path: Path) -> None:
    """With ipympl, figures are widgets that follow zooming, and stay current until the next one."""
    saved(slit(), tmp_path / "nod1_s2d.fits")
    cells = [
        "%matplotlib widget\nfrom matplotlib import pyplot as plt\nimport glue_lrs",
        'image = glue_lrs.open("nod1_s2d.fits")\nplt.figure()\nax = glue_lrs.plot_image(image)',
        "canvas = ax.figure.canvas\nprint(type(canvas).__module__)\n"
        "def event(kind, column, row, **more):\n"
        "    x, y = ax.transData.transform((column, row)) / canvas.device_pixel_ratio\n"
        "    height = ax.figure.bbox.height / canvas.device_pixel_ratio\n"
        '    sent = {"type": kind, "x": x, "y": height - y, "button": 0, "buttons": 1,\n'
        '            "modifiers": [], "guiEvent": {}, "step": 0, **more}\n'
        "    canvas._handle_message(canvas, sent, [])\n"
        "canvas.draw(); canvas.toolbar.zoom()\n"
        'event("button_press", 10, 5); event("motion_notify", 20, 15)\n'
        'event("button_release", 20, 15)\nprint(*ax.get_xlim(), *ax.get_ylim())',
        "try:\n    glue_lrs.plot_spectrum(glue_lrs.extract(image))\n"
        "except glue_lrs.LRSError as error:\n    print(error)",
        "plt.figure()\nglue_lrs.plot_spectrum(glue_lrs.extract(image))\nprint(len(plt.get_fignums()))",
    ]
    _, figure, zoomed, refused, new = run_notebook(cells, tmp_path)
    assert outputs(figure, WIDGET)
    module, limits = printed(zoomed).splitlines()
    assert module.startswith("ipympl.")
    np.testing.assert_allclose([float(one) for one in limits.split()], [10, 20, 5, 15], atol=0.3)
    assert "or new axes (pyplot.figure(), or ax=)" in printed(refused)
    assert printed(new).strip() == "2"
    assert outputs(new, WIDGET)

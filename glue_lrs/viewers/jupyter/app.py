"""An application for a notebook: image, spectrum, slit profile and panel of one extraction."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from glue.core import Data
from glue_jupyter import JupyterApplication
from IPython import get_ipython
from IPython.display import display

from glue_lrs._utils.validation import check_choice
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.errors import LRSError, quoted
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.viewers.jupyter.canvases import ImageCanvas, ProfileCanvas, SpectrumCanvas
from glue_lrs.viewers.jupyter.image import LRSImageView
from glue_lrs.viewers.jupyter.panel import Panel
from glue_lrs.viewers.jupyter.profile import SlitProfileView
from glue_lrs.viewers.jupyter.spectrum import LRSSpectrumView
from glue_lrs.viewers.jupyter.widgets import close_widgets, widget_tree, widgets_of
from glue_lrs.viewers.live.open import open_extraction
from glue_lrs.viewers.live.regions import operator_with

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.findings import Finding

#: Packages that can draw the figures, the default first.
BACKENDS = ("bqplot", "ipympl")

#: Heights of bqplot's figures in pixels.
_IMAGE, _SPECTRUM, _PROFILE = 560, 310, 210

#: Fraction of the width for the image with bqplot.
_WIDTH = "42%"

#: Run of a cell, and the applications that are open, by the cell that has opened them. A cell that
#: is run again closes the applications that it has opened before.
_of_cell: dict[str, tuple[object, list[ExtractionApp]]] = {}


class ExtractionApp:
    """A live extraction in a notebook.

    Made by `glue_lrs.viewers.extraction_app`. The aperture and the background regions are dragged
    with the mouse in the image or in the slit profile; the spectrum follows.

    Parameters
    ----------
    source : SlitImage, Data, str or path-like
        Image, or its file.
    glue : JupyterApplication, optional
        Application of glue-jupyter in which to open the image. By default, a new one.
    backend : {"bqplot", "ipympl"}
        Package that draws the figures.

    Attributes
    ----------
    glue : JupyterApplication
        Application of glue-jupyter, with the data and, for bqplot, the viewers.
    live : LiveExtraction
        State that the viewers share.
    image, spectrum_viewer, profile
        The figures: ``LRSImageView``, ``LRSSpectrumView`` and ``SlitProfileView`` for bqplot,
        ``ImageCanvas``, ``SpectrumCanvas`` and ``ProfileCanvas`` for ipympl.
    panel : Panel
        Settings and results.
    widget : ipywidgets.Widget
        The display.
    """

    image: LRSImageView | ImageCanvas
    spectrum_viewer: LRSSpectrumView | SpectrumCanvas
    profile: SlitProfileView | ProfileCanvas

    def __init__(
        self,
        source: SlitImage | Data | str | PathLike[str],
        glue: JupyterApplication | None = None,
        backend: str = "bqplot",
    ) -> None:
        check_choice("backend", backend, BACKENDS)
        if glue is not None:
            _check_type("glue", glue, JupyterApplication)
        self.backend = backend
        self.glue = JupyterApplication() if glue is None else glue
        self._owns_glue = glue is None
        try:
            self.live = open_extraction(self.glue.session, source)
        except BaseException:
            if self._owns_glue:
                close_widgets(widget_tree(widgets_of(self.glue), set()))
            raise
        figures = self._with_ipympl() if backend == "ipympl" else self._with_bqplot()
        self.panel = Panel(self.live)
        editor = self.image.editor
        assert editor is not None  # the image was opened
        describing: list[Any] = [self.image, self.spectrum_viewer, self.profile]
        if backend == "bqplot":
            describing = [editor, self.spectrum_viewer, self.profile.editor]
        for part in describing:
            part.on_text = self.panel.show_status
        editor.on_adding = self._adding_changed
        self.panel.adding.observe(self._adding_clicked, names="value")
        self.widget = widgets.VBox([figures, self.panel.widget], layout={"width": "100%"})
        self.closed = False
        self._shown: object = None

    def __repr__(self) -> str:
        return f"<ExtractionApp of {self.live.data.label}{', closed' if self.closed else ''}>"

    def _with_bqplot(self) -> widgets.Widget:
        """Make viewers of glue-jupyter, and return them, arranged to the width of a notebook."""
        live, new = self.live, self.glue.new_data_viewer
        image: LRSImageView = new("lrs-image", data=live.data, show=False)
        spectrum: LRSSpectrumView = new("lrs-spectrum", data=live.spectrum_data, show=False)
        profile: SlitProfileView = new("lrs-profile", data=live.data, show=False)
        self.image, self.spectrum_viewer, self.profile = image, spectrum, profile
        for viewer, height in (
            (image, _IMAGE - 40),
            (spectrum, _SPECTRUM - 40),
            (profile, _PROFILE),
        ):
            viewer.figure.layout.height = f"{height}px"
            viewer.figure.min_aspect_ratio = 0.05  # bqplot would leave a part of the width empty
            viewer.figure.max_aspect_ratio = 20.0
            viewer.figure.fig_margin = {"left": 62, "bottom": 38, "top": 8, "right": 10}
            viewer.axis_y.label_offset = "46px"
        left = widgets.VBox(
            [image.toolbar, image.figure], layout={"width": _WIDTH, "min_width": "250px"}
        )
        right = widgets.VBox(
            [spectrum.toolbar, spectrum.figure, profile.figure],
            layout={"flex": "1 1 0%", "min_width": "300px"},
        )
        return widgets.HBox([left, right], layout={"width": "100%"})

    def _with_ipympl(self) -> widgets.Widget:
        """Make canvases, and return them beside each other, or below in a narrow notebook."""
        self.image = ImageCanvas(self.live)
        self.spectrum_viewer = SpectrumCanvas(self.live)
        self.profile = ProfileCanvas(self.live)
        right = widgets.VBox([self.spectrum_viewer.canvas, self.profile.canvas])
        return widgets.HBox([self.image.canvas, right], layout={"flex_flow": "row wrap"})

    # --- display ---------------------------------------------------------------------------------

    def show(self) -> None:
        """Display the application in the output of the cell."""
        self._check_open()
        self._shown = _cell_run()
        display(self.widget)

    def _ipython_display_(self) -> None:
        """Display the application as the result of a cell, unless that cell has displayed it."""
        run = _cell_run()
        if self.closed:
            print(self)
        elif run is None or run != self._shown:
            self.show()

    # --- the extraction --------------------------------------------------------------------------

    @property
    def spectrum(self) -> Spectrum:
        """Spectrum with the present aperture; see `Extraction.to_spectrum`."""
        return self.live.spectrum

    @property
    def extraction(self) -> Extraction | None:
        """Extraction that is shown, with all columns, or None if nothing can be extracted."""
        return self.live.extraction

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all checks of the spectrum; see `Extract1D.check`."""
        if not self.closed and not self.live.closed:
            self.panel.check_now()
        return tuple(self.live.findings)

    @property
    def extract(self) -> Extract1D:
        """Operator that makes the spectrum. Setting it moves the drawing, as for `aperture`."""
        return self.live.extract

    @extract.setter
    def extract(self, operator: Extract1D) -> None:
        self._check_open()
        _check_type("extract", operator, Extract1D)
        self.live.editing.set_or_raise(operator, "change the extraction")

    @property
    def aperture(self) -> Aperture:
        """Aperture at its position on the image.

        Setting it moves the drawing to this position, even if the aperture has followed the source,
        and can be undone.

        Raises
        ------
        LRSError
            If the aperture is set and nothing can be extracted with it. Then nothing changes.
        """
        return self._as_drawn.aperture

    @aperture.setter
    def aperture(self, aperture: Aperture) -> None:
        self._check_open()
        _check_type("aperture", aperture, Aperture)
        operator = replace(self._as_drawn, aperture=aperture)
        self.live.editing.set_or_raise(operator, "change the aperture")

    @property
    def background(self) -> Background | None:
        """Background at its position on the image, or None. It is set like `aperture`."""
        return self._as_drawn.background

    @background.setter
    def background(self, background: Background | None) -> None:
        self._check_open()
        _check_type("background", background, Background, type(None))
        operator = replace(self._as_drawn, background=background)
        self.live.editing.set_or_raise(operator, "change the background")

    @property
    def _as_drawn(self) -> Extract1D:
        """The operator with regions that are fixed at their positions on the image."""
        live = self.live
        return operator_with(live.extract, live.image, live.regions_of(live.extract))

    def set(self, **keys: Any) -> None:
        """Set keys of an EXTRACT1D aperture, step parameters or parameters of `Extract1D`.

        Parameters
        ----------
        **keys
            Overrides of the present operator, as in `Extract1D.from_reference`, for example
            ``xstart=27, xstop=34, bkg_fit="median"``, and ``apcorr``, an aperture correction or its
            file. As there, the aperture follows the position
            of the source unless ``use_source_posn`` is False.

        Raises
        ------
        LRSError
            If a key, a value or the file is wrong, or nothing can be extracted. Then nothing
            changes.
        """
        self._check_open()
        self.live.actions.set_keys(**keys)

    def compare(self, source: str | PathLike[str] | Data | None) -> None:
        """Overlay the spectrum of an x1d or x1dints file; see `LiveExtraction.load_comparison`."""
        self._check_open()
        _check_type("comparison", source, str, PathLike, Data, type(None))
        self.live.load_comparison(source)

    def load_apcorr(self, path: str | PathLike[str] | None) -> None:
        """Set the aperture correction from an APCORR reference, or none.

        Raises
        ------
        LRSError
            If the file cannot be used, or not for this image. Then nothing changes.
        """
        self._check_open()
        _check_type("apcorr", path, str, PathLike, type(None))
        self.live.load_apcorr(path)

    def _check_open(self) -> None:
        """Raise `LRSError` if the application or the extraction has ended."""
        if self.closed or self.live.closed:
            raise LRSError("the application is closed, expected an open one (extraction_app)")

    def _adding_clicked(self, change: dict[str, Any]) -> None:
        if self.image.editor is not None:
            self.image.editor.adding = bool(change["new"])

    def _adding_changed(self, on: bool) -> None:
        self.panel.adding.value = on

    # --- end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove the display, and disconnect everything from the extraction and from glue.

        The extraction ends, unless the image was opened in a given application of glue-jupyter.
        """
        if self.closed:
            return
        self.closed = True
        for _, apps in _of_cell.values():
            if self in apps:
                apps.remove(self)
        shared = set[widgets.Widget]()  # a given application stays open
        glue = list(widget_tree(widgets_of(self.glue), shared))
        closing = list(widget_tree([self.widget, *self.panel.buttons.values()], shared))
        self.panel.close()
        for viewer in (self.image, self.spectrum_viewer, self.profile):
            viewer.close()
        if self._owns_glue:
            self.live.close()
            closing += glue
        close_widgets(closing)


def extraction_app(
    source: SlitImage | Data | str | PathLike[str],
    *,
    glue: JupyterApplication | None = None,
    backend: str = "bqplot",
    comparison: str | PathLike[str] | Data | None = None,
    show: bool = True,
    **keys: Any,
) -> ExtractionApp:
    """Open an image in a notebook for extraction with the mouse.

    Parameters
    ----------
    source : SlitImage, Data, str or path-like
        Image, or the path of an s2d, cal or calints file.
    glue : JupyterApplication, optional
        Application of glue-jupyter in which to open the image. By default, a new one.
    backend : {"bqplot", "ipympl"}
        Package that draws the figures: bqplot in the browser, with viewers of glue-jupyter, or
        Matplotlib on canvases of ipympl, with the views of the desktop application.
    comparison : str, path-like or Data, optional
        An x1d or x1dints file, or the glue dataset of a spectrum, to overlay.
    show : bool
        Whether to display the application in the output of the cell.
    **keys
        Keys of the extraction to begin with; see `ExtractionApp.set`.

    Returns
    -------
    ExtractionApp
        The application. Its attributes ``spectrum``, ``extraction`` and ``aperture`` follow what is
        drawn. If the cell is run again, the application that it has opened before is closed.

    Raises
    ------
    LRSError
        If a file cannot be read, the image cannot be extracted, or there is no such backend.
    """
    app = ExtractionApp(source, glue, backend)
    try:
        if keys:
            app.set(**keys)
        if comparison is not None:
            app.compare(comparison)
    except BaseException:
        app.close()
        raise
    cell, run = _cell(), _cell_run()
    if cell is not None:
        before, apps = _of_cell.get(cell, (run, []))
        if before != run:
            for one in [*apps]:
                one.close()
            apps = []
        _of_cell[cell] = (run, [*apps, app])
    if show:
        app.show()
    return app


def _cell() -> str | None:
    """Return the id of the cell that is being run, as Jupyter's front ends send it, or None."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent = {} if kernel is None else kernel.get_parent("shell")
    found = parent.get("metadata", {}).get("cellId")
    return None if found is None else str(found)


def _cell_run() -> object:
    """Return what identifies this run of a cell, or None outside of IPython."""
    shell = get_ipython()
    return None if shell is None else shell.execution_count


def _check_type(name: str, value: object, *types: type) -> None:
    """Raise `LRSError` if a value is of none of the types."""
    if not isinstance(value, types):
        expected = " or ".join("None" if one is type(None) else one.__name__ for one in types)
        found = "None" if value is None else quoted(value)
        raise LRSError(f"{name} is {found}, expected {expected}")

"""Texts and tool tips that both the panel and the tools of the image viewer use."""

from __future__ import annotations

#: Actions that put the aperture on the source: method of the live extraction, text and tool tip.
SOURCE_ACTIONS = (
    (
        "to_source",
        "To the source",
        "Move the aperture to the measured position of the source, without a change of its width. "
        "If the source cannot be measured, the position in the header is used",
    ),
    ("three_fwhm", "3 × FWHM", "Centre an aperture on the source, 3 FWHM wide at each wavelength"),
    ("best_width", "Best S/N", "Centre an aperture with the best signal to noise on the source"),
)

#: Action that places background regions, in the same form.
ADD_BACKGROUND = (
    "add_background",
    "Add background",
    "Place background regions beside the source, clear of all measured traces, also negative ones, "
    "and of hot columns",
)

#: Names and labels of the methods of extraction; see `Actions.set_method`.
METHODS = (
    ("box", "box sum"),
    ("learned", "optimal, fitted profile"),
    ("psf", "optimal, PSF reference"),
    ("pipeline", "optimal, as the pipeline"),
)

#: Values of `Actions.set_correction` and their labels.
CORRECTIONS = (("table", "APCORR table"), ("profile", "source profile"), ("none", "none"))

#: Values of ``time_outliers`` and their labels.
TIME_OUTLIERS = (("keep", "keep"), ("lost", "lost pixels"), ("replace", "replace"))

RESIDUAL_HINT = (
    "Show the data minus the model of an optimal extraction, as a layer of the image. The residual "
    "does not change with the aperture: switch it off and on to fit again. The component "
    "'rejected' is 1 in rejected pixels"
)

#: Values of the noise (`Actions.set_noise`), their labels and tool tips.
NOISES = (
    ("propagated", "Propagated errors", "Errors of the pixels, as the pipeline propagates them"),
    (
        "nod",
        "Errors with the noise of the other nod",
        "Add the noise of the exposures that the pipeline subtracted",
    ),
    (
        "empirical",
        "Empirical errors",
        "Add the noise by which the columns without source exceed their errors",
    ),
)

"""Error messages and warnings in the form that the extraction panel shows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glue_lrs.errors import LRSWarning, Message

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.findings import Finding

#: Parameters, and the controls of the panel that messages mention instead of the parameters.
_CONTROLS = {"use_source_posn": "the button To the source"}


@contextmanager
def collected_warnings(image: SlitImage) -> Iterator[list[str]]:
    """Collect the text of each `LRSWarning` in a block, and ignore other warnings.

    The list is filled when the block ends. The texts do not contain the label of the image.
    """
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [
        panel_text(one.message, image) for one in caught if issubclass(one.category, LRSWarning)
    ]


def panel_text(message: Warning | Exception | str, image: SlitImage | None = None) -> str:
    """Return a message for the panel, without the image's label, which is obvious there.

    Hints about parameters are replaced by hints about controls of the panel.

    Parameters
    ----------
    message : exception or str
        Error or warning, or its text, to convert.
    image : SlitImage, optional
        Image that the panel shows.
    """
    if not isinstance(message, Message):
        return str(message)
    about_image = image is not None and message.subject == image.label
    return message.render(lambda setting: _CONTROLS.get(setting.name), with_subject=not about_image)


def findings_text(findings: Iterable[Finding], image: SlitImage, *severities: str) -> str:
    """Join the findings of some severities, by default warnings and errors, to one line."""
    chosen = severities or ("error", "warning")
    return joined(
        *(
            panel_text(one.about(image.label).message, image)
            for one in findings
            if one.severity in chosen
        )
    )


def joined(*texts: str) -> str:
    """Join messages to one line, skipping empty messages."""
    return "; ".join(filter(None, texts))

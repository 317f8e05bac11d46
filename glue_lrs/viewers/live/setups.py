"""Setups: several apertures or settings on one image, each with its own spectrum."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import LRSError, SourceError
from glue_lrs.plotting.style import GREEN, ORANGE, PURPLE, SKY
from glue_lrs.viewers.live.comparison import Comparison
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.regions import operator_with
from glue_lrs.viewers.live.source_measurement import centred

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.measurement.measurement import DetectedSource
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Names of setups, in the order in which they are given.
_NAMES = "ABCDEFGH"


#: Colours of the setups that are not edited.
_COLOURS = (GREEN, PURPLE, SKY, "#666666", ORANGE)


def setup_colour(name: str) -> str:
    """Return the colour in which a setup is drawn while it is not edited."""
    return _COLOURS[_NAMES.find(name) % len(_COLOURS)]


@dataclass(frozen=True, eq=False)
class Setup:
    """An operator with a name, and its spectrum.

    Parameters
    ----------
    name : str
        Capital letter.
    operator : Extract1D
        Committed operator.
    extraction : Extraction or None
        Extraction of the image that is shown; None if it fails.
    """

    name: str
    operator: Extract1D
    extraction: Extraction | None


class Setups:
    """Operators for one image, of which one is edited.

    `LiveExtraction.setups` contains them, and `LiveExtraction.active` is the name of the one that
    is edited.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction with the setups.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live
        self._before: str | None = None

    def start(self, operators: dict[str, Extract1D], active: str) -> None:
        """Set all setups; called once with those of a session, or with one."""
        self._live.setups = tuple(
            Setup(name, operator, None if name == active else self._extraction(operator))
            for name, operator in sorted(operators.items())
        )
        self._live.active = active

    def named(self, name: str) -> Setup | None:
        """Return the setup with a name, or None."""
        return next((one for one in self._live.setups if one.name == name), None)

    @property
    def others(self) -> tuple[Setup, ...]:
        """Setups that are not edited."""
        return tuple(one for one in self._live.setups if one.name != self._live.active)

    def add(self, operator: Extract1D | None = None) -> str | None:
        """Add a setup, which becomes the one that is edited.

        Parameters
        ----------
        operator : Extract1D, optional
            Operator of the setup. By default, the one that is edited is copied.

        Returns
        -------
        str or None
            Name of the setup; None if there are too many.
        """
        live = self._live
        if live.closed:
            return None
        used = {one.name for one in live.setups}
        name = next((one for one in _NAMES if one not in used), None)
        if name is None:
            live.notify(f"no setup was added: there are {len(_NAMES)} already", "error")
            return None
        new = Setup(name, operator or live.extract, None)
        live.setups = (*live.setups, new)
        self.activate(name)
        return name

    def add_source(self) -> str | None:
        """Add a setup with the aperture on the brightest source that has no aperture yet.

        The aperture keeps its width, and background regions stay where they are.

        Returns
        -------
        str or None
            Name of the setup; None if there is no such source, which a notice says.
        """
        live = self._live
        try:
            measurement = live.measure().measurement
            source = self._without_aperture(measurement.sources)
            regions = live.regions_of(live.extract)
            moved = centred(regions, source.trace, live.row_wavelength)
            operator = operator_with(live.extract, live.image, moved)
        except LRSError as error:
            reason = panel_text(error, live.image)
            live.notify(f"no aperture was added: {reason}", "error")
            return None
        name = self.add(operator)
        if name is not None:
            live.notify(f"{name}: aperture on the source at column {source.column:.2f}", "info")
        return name

    def _without_aperture(self, sources: tuple[DetectedSource, ...]) -> DetectedSource:
        """Return the brightest positive source outside the apertures of all setups."""
        live = self._live
        row = int(np.flatnonzero(np.isfinite(live.row_wavelength)).mean())
        at = live.rows[row], live.row_wavelength[row]
        taken = [
            region.at(*at)
            for setup in live.setups
            for region in live.regions_of(setup.operator)
            if region.kind == "aperture"
        ]
        free = [
            source
            for source in sources
            if source.flux_ratio > 0
            and not any(low <= source.trace[row] <= high for low, high in taken)
        ]
        if not free:
            count = sum(source.flux_ratio > 0 for source in sources)
            raise SourceError(
                f"all {count} measured sources have an aperture"
                if count > 1
                else "the only measured source has an aperture"
            )
        return max(free, key=lambda source: source.flux_ratio)

    def activate(self, name: str) -> None:
        """Edit another setup. Its spectrum becomes the one in `LiveExtraction.spectrum_data`."""
        live = self._live
        setup = self.named(name)
        if live.closed or setup is None or name == live.active:
            return
        left = live.active
        self.keep(live.extract, live.extraction)
        self._before = left
        compared = live.compared
        live.active = name
        live.accept(setup.operator)
        if compared is not None and compared.source.get("setup") == name:
            self.compare(left)  # the two are exchanged

    def switch(self) -> None:
        """Edit the setup that was edited before (A/B)."""
        others = [one.name for one in self.others]
        if others:
            self.activate(self._before if self._before in others else others[0])

    def remove(self, name: str) -> None:
        """Remove a setup, unless it is the only one."""
        live = self._live
        others = [one for one in live.setups if one.name != name]
        if live.closed or self.named(name) is None or not others:
            return
        if name == live.active:
            self.switch()
        live.setups = tuple(one for one in live.setups if one.name != name)
        if live.compared is not None and live.compared.source.get("setup") == name:
            live.load_comparison(None)
        live.persistence.store()

    def keep_for_comparison(self) -> str | None:
        """Copy the setup that is edited, edit the copy, and compare it with the original."""
        left = self._live.active
        name = self.add()
        if name is not None:
            self.compare(left)
        return name

    def compare(self, name: str) -> None:
        """Compare the extraction with that of another setup.

        Raises
        ------
        LRSError
            If there is no such setup, or it has no spectrum.
        """
        self._live.compared = self.comparison(name)
        self._live.update_comparison()
        self._live.persistence.store()

    def comparison(self, name: str) -> Comparison:
        """Return the spectrum of a setup as a comparison.

        Raises
        ------
        LRSError
            If there is no such setup, or it has no spectrum.
        """
        setup = self.named(name)
        if setup is None or setup.extraction is None:
            raise LRSError(f"setup {name} has no spectrum, expected one to compare with")
        spectrum = setup.extraction.to_spectrum(fill="nan")
        return Comparison(f"setup {name}", {"setup": name}, spectrum)

    def keep(self, operator: Extract1D, extraction: Extraction | None) -> None:
        """Store the committed operator and the extraction of the setup that is edited."""
        live = self._live
        live.setups = tuple(
            Setup(one.name, operator, extraction) if one.name == live.active else one
            for one in live.setups
        )

    def extract_again(self) -> None:
        """Extract the other setups again, because another image is shown."""
        live = self._live
        if len(live.setups) > 1:
            live.setups = tuple(
                one
                if one.name == live.active
                else replace(one, extraction=self._extraction(one.operator))
                for one in live.setups
            )

    def _extraction(self, operator: Extract1D) -> Extraction | None:
        live = self._live
        try:
            with warnings.catch_warnings(action="ignore"):
                return operator.run(live.image_for(operator), check=False)
        except LRSError:  # the message appears when this setup is edited
            return None

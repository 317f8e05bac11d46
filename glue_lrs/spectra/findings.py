"""Findings: what the checks of an extraction or a combination found, as data.

A finding has a message with a hint, as described in `glue_lrs.errors`, the numbers in the message,
and a kind, one of `KINDS`, which determines its severity and the class of its warning. Python
issues findings as warnings, the command line and the viewers display them, and x1d and c1d files
record them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from glue_lrs import errors
from glue_lrs.errors import SEVERITIES, Hint, LRSWarning, Setting, Severity

#: A statistic is significant if it exceeds this multiple of its own error. For Gaussian noise,
#: this happens by chance in one of 16,000 cases.
SIGNIFICANT = 4.0

#: Largest change of the flux, as a fraction, that is too small to be reported. The absolute flux
#: calibration of LRS is uncertain by a few per cent.
NEGLIGIBLE = 0.01

#: Value that is stored for a setting of a hint if the user must choose the value.
_ANY = "..."


class Kind(NamedTuple):
    """Severity of all findings of a kind, and class of the Python warnings issued for them."""

    severity: Severity
    category: type[LRSWarning] = LRSWarning


#: Kinds of findings. The page "What is checked" of the documentation explains them.
KINDS: dict[str, Kind] = {
    # the flux of an extraction
    "negative_flux": Kind("error", errors.NegativeFluxWarning),
    "background_left": Kind("warning", errors.NoBackgroundWarning),
    "rows_without_background": Kind("warning", errors.RowsWithoutBackgroundWarning),
    "lost_pixels": Kind("warning", errors.LostPixelsWarning),
    "flux_lost": Kind("warning", errors.LostPixelsWarning),
    "empty_rows": Kind("warning", errors.LostPixelsWarning),
    "filled_pixels": Kind("warning", errors.FilledPixelsWarning),
    "restored_pixels": Kind("info"),
    "uncorrected_pixels": Kind("warning", errors.UncorrectedPixelsWarning),
    "time_outliers": Kind("info"),
    "no_variances": Kind("warning", errors.NoVariancesWarning),
    "invalid_variances": Kind("warning", errors.InvalidVariancesWarning),
    "no_aperture_correction": Kind("info", errors.NoApertureCorrectionWarning),
    "uncalibrated": Kind("info"),
    "noise_excess": Kind("warning", errors.NoiseWarning),
    "noise_added": Kind("info"),
    "changed": Kind("info"),
    # regions on the image
    "off_image": Kind("warning", errors.OffImageWarning),
    "position_unknown": Kind("warning", errors.PositionWarning),
    "aperture_off_header": Kind("warning", errors.ApertureOffSourceWarning),
    "region_on_header": Kind("warning", errors.BackgroundRegionWarning),
    "region_overlap": Kind("warning", errors.BackgroundRegionWarning),
    "unused_option": Kind("warning", errors.UnusedOptionWarning),
    # the source, which is measured
    "no_source": Kind("warning", errors.NoSourceWarning),
    "source_outside": Kind("error", errors.ApertureOffSourceWarning),
    "off_centre": Kind("warning", errors.ApertureOffSourceWarning),
    "far_off_centre": Kind("error", errors.ApertureOffSourceWarning),
    "negative_trace": Kind("error", errors.NegativeTraceWarning),
    "leaning_trace": Kind("warning", errors.TraceWarning),
    "other_source": Kind("warning", errors.ApertureOffSourceWarning),
    "neighbour": Kind("warning", errors.NeighbourWarning),
    "blend": Kind("info"),
    "header_off": Kind("info"),
    "not_measured": Kind("info"),
    "not_extracted": Kind("error"),
    "region_on_trace": Kind("warning", errors.BackgroundRegionWarning),
    "flux_outside": Kind("info", errors.NoApertureCorrectionWarning),
    "correction_off_centre": Kind("warning", errors.OffCentreCorrectionWarning),
    "correction_range": Kind("warning", errors.CorrectionRangeWarning),
    "correction_narrow": Kind("warning", errors.OffCentreCorrectionWarning),
    "outliers": Kind("info"),
    "outlier_flux": Kind("warning", errors.OutlierWarning),
    "fit": Kind("warning", errors.FitWarning),
    "fitted": Kind("info"),
    # combinations
    "opposite_signs": Kind("error", errors.DifferentSpectraWarning),
    "different_flux": Kind("warning", errors.DifferentSpectraWarning),
    "different_spectra": Kind("warning", errors.DifferentSpectraWarning),
    "empty_bins": Kind("warning", errors.UnusedSpectraWarning),
    "short_spectra": Kind("warning", errors.LostPixelsWarning),
    "rejected_elements": Kind("info"),
    "scaled": Kind("info"),
    "different_targets": Kind("warning", errors.DifferentTargetsWarning),
    "unknown_target": Kind("info", errors.DifferentTargetsWarning),
    "repeated": Kind("warning", errors.RepeatedSpectraWarning),
    "unused_spectra": Kind("warning", errors.UnusedSpectraWarning),
    # light curves
    "times_utc": Kind("warning", errors.TimesWarning),
    "times_missing": Kind("warning", errors.TimesWarning),
    "times_repeated": Kind("warning", errors.TimesWarning),
    "points_lost": Kind("warning", errors.LostPixelsWarning),
    "elements_left_out": Kind("info"),
    "elements_replaced": Kind("info"),
    "scatter_excess": Kind("warning", errors.NoiseWarning),
}


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    Parameters
    ----------
    kind : str
        Key of `KINDS`.
    text : str
        Text that says what was found.
    values : dict
        Numbers in the text, by name.
    hint : Hint, optional
        Proposal for how the user can solve the problem.
    subject : str, optional
        File or spectrum that the finding is about.
    recorded : Severity
        Severity that is used if `kind` is not in `KINDS`, as in a file written by a newer version.
    """

    kind: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    hint: Hint | None = field(default=None, hash=False)
    subject: str | None = None
    recorded: Severity = "warning"

    @property
    def severity(self) -> Severity:
        """Severity of findings of this kind, or the recorded severity of an unknown kind."""
        return KINDS[self.kind].severity if self.kind in KINDS else self.recorded

    @property
    def message(self) -> LRSWarning:
        """Python warning with the text, subject and hint of the finding. `KINDS` has its class."""
        category = KINDS[self.kind].category if self.kind in KINDS else LRSWarning
        message = category(self.text, subject=self.subject, hint=self.hint)
        message.severity = self.severity
        return message

    def about(self, subject: str) -> Self:
        """Return a copy of the finding with a subject, unless it already has a subject."""
        return replace(self, subject=self.subject or subject)

    def __str__(self) -> str:
        return str(self.message)

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a dictionary for JSON, without null values."""
        stored: dict[str, Any] = {
            "kind": self.kind,
            "severity": self.severity,
            "text": self.text,
            "values": dict(self.values),
        }
        if self.subject is not None:
            stored["subject"] = self.subject
        if self.hint is not None:
            hints = [self.hint, *self.hint.others]
            stored["hints"] = [
                [
                    one.template,
                    [[s.name, _ANY if s.value is ... else s.value] for s in one.settings],
                ]
                for one in hints
            ]
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Finding:
        """Return the finding whose values were stored by `to_dict`."""
        hints = [
            Hint(str(template), tuple(Setting(n, ... if v == _ANY else v) for n, v in settings))
            for template, settings in stored.get("hints") or ()
        ]
        hint = replace(hints[0], others=tuple(hints[1:])) if hints else None
        kind, text = str(stored.get("kind")), str(stored.get("text"))
        values, subject = dict(stored.get("values") or {}), stored.get("subject")
        known = SEVERITIES if kind not in KINDS else ()
        recorded: Severity = "warning"
        recorded = next((one for one in known if one == stored.get("severity")), recorded)
        return cls(kind, text, values, hint, subject, recorded)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings from the most to the least severe, without repetitions."""
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda one: SEVERITIES.index(one.severity)))


def emit(findings: Iterable[Finding], label: str) -> None:
    """Issue a warning for each finding that is not an info.

    Parameters
    ----------
    findings : iterable of Finding
        Findings, which are issued in this order.
    label : str
        Subject of the findings that do not have one. If empty, they are issued without a subject.
    """
    for finding in findings:
        if finding.severity != "info":
            errors.warn((finding.about(label) if label else finding).message)

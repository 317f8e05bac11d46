"""The panel shows the findings about an extraction, those of the source once it is measured."""

from __future__ import annotations

from typing import Any

from glue_lrs.viewers.live.regions import Region
from glue_lrs.viewers.live.tooltips import SOURCE_ACTIONS
from tests.helpers.pointer import wait_until


def test_findings_in_the_panel(live: Any, panel: Any) -> None:
    """The demo's nod 1 has its source at column 13, and a negative trace at column 31."""

    def kinds() -> set[str]:
        found = {one.kind for one in live.findings if one.severity != "info"}
        return found - {"lost_pixels", "flux_lost"}

    def checked(*expected: str) -> None:
        wait_until(lambda: set(expected) <= kinds())
        wait_until(lambda: panel.message.view.lines == live.messages.lines())

    live.set([Region("aperture", (27.0,), (35.0,))])
    checked("negative_flux", "source_outside", "negative_trace")
    assert "does not contain the source" in panel.message.text()
    assert "use_source_posn" not in panel.message.text()
    named = f"the button {SOURCE_ACTIONS[0][1]} moves it"
    assert named in panel.message.text()
    assert {one.severity for one in panel.message.view.lines} >= {"error", "warning"}
    live.set([Region("aperture", (11.0,), (19.0,))])
    checked("off_centre")
    assert kinds() == {"off_centre"}
    assert "error" not in {one.severity for one in panel.message.view.lines}
    live.set([Region("aperture", (9.0,), (17.0,))])
    wait_until(lambda: any(one.kind == "flux_outside" for one in live.findings))
    assert kinds() == set()
    wait_until(lambda: "is outside the aperture" in panel.message.text())

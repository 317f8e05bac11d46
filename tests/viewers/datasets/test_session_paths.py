"""Files of a session that was moved are searched for beside the session."""

from __future__ import annotations

import json
from pathlib import Path

from glue_lrs.viewers.datasets.session_paths import moved_files, relocated


def test_files_beside_the_session_replace_missing_ones(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    here = tmp_path / "here.fits"
    for path in (tmp_path / "a_s2d.fits", tmp_path / "sub" / "b_x1d.fits", here):
        path.touch()
    document = {
        "log": {"_type": "LoadLog", "path": "/gone/a_s2d.fits"},
        "meta": {"contents": ["st__comparison", "st__/gone/data/sub/b_x1d.fits"]},
        "windows": {"path": r"C:\data\a_s2d.fits"},
        "present": {"path": str(here)},
        "relative": {"path": "here.fits"},
        "missing": {"path": "/gone/c_s2d.fits"},
        "text": "st__see a_s2d.fits",
    }
    moved = moved_files(document, tmp_path)
    assert moved == {
        "/gone/a_s2d.fits": str(tmp_path / "a_s2d.fits"),
        "/gone/data/sub/b_x1d.fits": str(tmp_path / "sub" / "b_x1d.fits"),
        r"C:\data\a_s2d.fits": str(tmp_path / "a_s2d.fits"),
    }
    changed = json.loads(relocated(json.dumps(document), moved))
    assert changed["log"]["path"] == str(tmp_path / "a_s2d.fits")
    assert changed["meta"]["contents"][1] == f"st__{tmp_path / 'sub' / 'b_x1d.fits'}"
    for key in ("present", "relative", "missing", "text"):
        assert changed[key] == document[key]

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from glue_lrs.errors import LRSError, ProductError
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.crds import best_references

HEADER = {
    "TELESCOP": "JWST",
    "INSTRUME": "MIRI",
    "EXP_TYPE": FIXED_SLIT,
    "DATE-OBS": "2024-07-01",
    "TIME-OBS": "00:00:00",
    "SUBARRAY": "FULL",
}

#: Run in another process, as the client reads its environment once.
ASK = """
import json, sys
from glue_lrs.errors import LRSError
from glue_lrs.io.crds import best_references
for header, context in json.loads(sys.argv[1]):
    try:
        print(json.dumps(best_references(header, context)))
    except LRSError as error:
        print(json.dumps({"error": str(error)}))
"""


def rules(kind: str, suffix: str) -> str:
    header = {
        "mapping": "REFERENCE",
        "filekind": kind.upper(),
        "filetype": kind.upper(),
        "instrument": "MIRI",
        "name": f"jwst_miri_{kind}_0001.rmap",
        "observatory": "JWST",
        "file_ext": suffix,
        "suffix": kind,
        "text_descr": "",
        "parkey": (("META.EXPOSURE.TYPE",), ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")),
        "sha1sum": "",
        "derived_from": "",
    }
    name = f"jwst_miri_{kind}"
    return (
        f"header = {header!r}\n"
        f"selector = Match({{'{FIXED_SLIT}': UseAfter({{"
        f"'2022-01-01 00:00:00': '{name}_0001{suffix}', "
        f"'2024-06-01 00:00:00': '{name}_0002{suffix}'}})}})\n"
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A CRDS cache of one context, as a client without a server finds it."""
    config = {
        "observatory": "jwst",
        "operational_context": "jwst_0001.pmap",
        "edit_context": "jwst_0001.pmap",
        "latest_context": "jwst_0001.pmap",
        "force_remote_mode": False,
        "bad_files": "",
        "bad_files_list": [],
        "mappings": [],
        "last_synced": "2024-01-01 00:00:00",
        "crds_version": {"str": "14"},
    }
    common = {"observatory": "JWST", "sha1sum": "", "derived_from": ""}
    pipeline = {
        "mapping": "PIPELINE",
        "name": "jwst_0001.pmap",
        "parkey": ("META.INSTRUMENT.NAME",),
    }
    instrument = {
        "mapping": "INSTRUMENT",
        "instrument": "MIRI",
        "name": "jwst_miri_0001.imap",
        "parkey": ("REFTYPE",),
    }
    kinds = {
        "extract1d": "jwst_miri_extract1d_0001.rmap",
        "apcorr": "jwst_miri_apcorr_0001.rmap",
        "psf": "N/A",
    }
    texts = {
        "config/jwst/server_config": repr(config),
        "mappings/jwst/jwst_0001.pmap": f"header = {pipeline | common!r}\n"
        "selector = {'MIRI': 'jwst_miri_0001.imap'}\n",
        "mappings/jwst/jwst_miri_0001.imap": f"header = {instrument | common!r}\n"
        f"selector = {kinds!r}\n",
        "mappings/jwst/jwst_miri_extract1d_0001.rmap": rules("extract1d", ".json"),
        "mappings/jwst/jwst_miri_apcorr_0001.rmap": rules("apcorr", ".fits"),
        "references/jwst/miri/jwst_miri_extract1d_0001.json": "",
        "references/jwst/miri/jwst_miri_extract1d_0002.json": "",
        "references/jwst/miri/jwst_miri_apcorr_0002.fits": "",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def ask(path: Path, *questions: tuple[dict[str, Any], str | None]) -> list[dict[str, Any]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CRDS")}
    environment |= {"CRDS_PATH": str(path), "CRDS_IGNORE_MAPPING_CHECKSUM": "1"}
    asked = [(HEADER | changes, context) for changes, context in questions]
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(asked)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "Traceback" not in done.stderr
    assert "ERROR" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_references_from_the_cache(cache: Path) -> None:
    folder = cache / "references/jwst/miri"
    fetched, unknown, missing, slitless, nonsense = ask(
        cache,
        ({}, None),
        ({}, "jwst_0009.pmap"),
        ({"DATE-OBS": "2023-07-01"}, "jwst_0001.pmap"),
        ({"EXP_TYPE": SLITLESS}, None),
        ({}, "nonsense"),
    )
    assert fetched == {
        "extract1d": str(folder / "jwst_miri_extract1d_0002.json"),
        "apcorr": str(folder / "jwst_miri_apcorr_0002.fits"),
        "psf": None,
    }
    assert unknown["error"].startswith("CRDS gives no extract1d reference (")
    assert f"CRDS_PATH is {cache}) that has jwst_0009.pmap" in unknown["error"]
    assert missing["error"].startswith("CRDS gives no apcorr reference (")
    assert slitless["error"].startswith("CRDS has no extract1d reference for this file: ")
    assert SLITLESS in slitless["error"]
    assert nonsense["error"].startswith("CRDS context 'nonsense': ")
    for answer in (unknown, missing, slitless, nonsense):
        assert "\n" not in answer["error"]


@pytest.mark.slow
def test_without_a_server_and_a_cache(tmp_path: Path) -> None:
    (empty,) = ask(tmp_path / "empty", ({}, None))
    assert "expected a server that can be reached (CRDS_SERVER_URL is not set" in empty["error"]
    assert "\n" not in empty["error"]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crds", None)
    with pytest.raises(LRSError, match="pip install crds"):
        best_references(HEADER)


def test_parameters_of_the_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import crds

    asked: list[Any] = []

    def answer(parameters: Any, reftypes: Any, context: Any, observatory: str) -> dict[str, str]:
        asked.append((parameters, context, observatory))
        logging.getLogger("CRDS").error("this must not be seen")
        if reftypes == ["psf"]:
            raise crds.exceptions.CrdsLookupError("Unknown reference type 'psf'")
        return {kind: "NOT FOUND n/a" if kind == "apcorr" else str(path) for kind in reftypes}

    monkeypatch.setattr(crds, "getreferences", answer)
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(header=fits.Header(HEADER)).writeto(path)
    found = best_references(path, context="jwst_1322.pmap")
    assert found == {"extract1d": str(path), "apcorr": None, "psf": None}
    assert best_references(fits.getheader(path)) == found
    parameters, context, observatory = asked[0]
    assert parameters["META.EXPOSURE.TYPE"] == FIXED_SLIT
    assert parameters["META.OBSERVATION.DATE"] == "2024-07-01"
    assert parameters["META.SUBARRAY.NAME"] == "FULL"
    assert (context, observatory) == ("jwst_1322.pmap", "jwst")
    assert asked[3][1] is None


def test_reference_that_could_not_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import crds

    missing = str(tmp_path / "gone.json")
    monkeypatch.setattr(crds, "getreferences", lambda *_, reftypes, **__: {reftypes[0]: missing})
    with pytest.raises(LRSError, match=r"gone\.json: is not in CRDS's cache"):
        best_references(HEADER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DATE-OBS": None, "TIME-OBS": ""}, "header: DATE-OBS, TIME-OBS missing"),
        ({"EXP_TYPE": "MIR_MRS"}, "header: is of MIRI MIR_MRS, expected MIRI MIR_LRS-FIXEDSLIT"),
        ({"INSTRUME": "NIRSPEC"}, "header: is of NIRSPEC"),
    ],
)
def test_files_of_other_kinds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProductError, match=message):
        best_references(HEADER | changes)
    with pytest.raises(ProductError, match="does not exist"):
        best_references("nowhere.fits")

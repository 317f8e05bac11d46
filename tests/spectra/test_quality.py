"""Quality bits: names, counts, masks of spectra, and the formats that keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable
from astropy.utils.masked import Masked
from click.testing import CliRunner
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal

from glue_lrs import Aperture, Extract1D, Extraction, combine
from glue_lrs.cli import main
from glue_lrs.combination.combination import Combination
from glue_lrs.errors import LRSError
from glue_lrs.plotting import plot_extraction
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.from_specutils import integrations, spectrum_to_extraction
from glue_lrs.spectra.quality import QUALITY_BITS, bit_names, has_bits, quality_counts
from tests.helpers.images import slit, stack
from tests.helpers.spectra import make_extraction

#: Bits of five rows, in the order of the file.
BITS = {3: ["lost"], 7: ["filled", "lost"], 8: ["rejected"], 20: ["edge"], 30: ["no_error"]}


def flagged(**changes: object) -> Extraction:
    made = make_extraction(**changes)
    bits = np.zeros(made.columns["FLUX"].shape, dtype=np.uint32)
    for row, names in BITS.items():
        bits[..., row] = sum(QUALITY_BITS[name].value for name in names)
    made.columns["QUALITY"] = bits
    return made


def test_registry_is_frozen() -> None:
    values = [bit.value for bit in QUALITY_BITS.values()]
    # Files contain these numbers. A new bit is added at the end.
    assert {name: bit.value for name, bit in QUALITY_BITS.items()} == {
        "lost": 1,
        "filled": 2,
        "restored": 4,
        "uncorrected": 8,
        "rejected": 16,
        "misfit": 32,
        "edge": 64,
        "no_background": 128,
        "no_error": 256,
    }
    assert values == [1 << number for number in range(len(values))]
    with pytest.raises(TypeError):
        QUALITY_BITS["lost"] = QUALITY_BITS["filled"]  # type: ignore[index]


def test_names_counts_and_masks() -> None:
    bits = flagged().columns["QUALITY"]
    assert bit_names(1 + 2 + 256) == ["lost", "filled", "no_error"]
    assert quality_counts(bits) == {"lost": 2, "filled": 1, "rejected": 1, "edge": 1, "no_error": 1}
    assert_array_equal(np.flatnonzero(has_bits(bits, ["lost", "edge"])), [3, 7, 20])
    assert_array_equal(np.flatnonzero(has_bits(bits, "filled")), [7])
    assert not has_bits(bits, []).any()
    with pytest.raises(LRSError, match=r"bit is 'fill'.*filled.*, expected one of lost, filled"):
        has_bits(bits, ["fill"])


@pytest.mark.parametrize("fill", ["interpolate", "nan"])
def test_mask_of_a_spectrum_is_a_choice_of_bits(fill: str) -> None:
    made = flagged()
    plain = made.to_spectrum(fill=fill)
    chosen = made.to_spectrum(fill=fill, mask_quality=["filled", "edge"])
    wave = plain.spectral_axis.value
    expected = made.mask[::-1].copy()
    assert_array_equal(np.zeros(wave.size, bool) if plain.mask is None else plain.mask, expected)
    expected[wave.size - 1 - np.array([7, 20])] = True
    assert_array_equal(chosen.mask, expected)
    meta = plain.meta["quality"]
    assert_array_equal(meta["WAVELENGTH"], wave)
    assert_array_equal(meta["QUALITY"], made.columns["QUALITY"][::-1])
    assert_array_equal(made.to_spectrum(order="file").meta["quality"]["QUALITY"][7], 3)
    # The original returns with the chosen mask, although rows were filled.
    original = spectrum_to_extraction(chosen)
    assert_array_equal(original.columns["FLUX"], made.columns["FLUX"])
    assert (original.columns["DQ"][[7, 20]] & 1 == 1).all()
    assert_array_equal(original.mask[::-1], expected)
    assert_array_equal(spectrum_to_extraction(plain).columns["DQ"], made.columns["DQ"])
    changed = spectrum_to_extraction(chosen * 2.0)
    assert_array_equal(changed.columns["QUALITY"], made.columns["QUALITY"])
    assert np.isnan(changed.columns["FLUX"][[7, 20]]).all()
    assert (changed.columns["DQ"][[7, 20]] == 1).all()
    with pytest.raises(LRSError, match="expected one of lost"):
        made.to_spectrum(mask_quality=["los"])
    with pytest.raises(LRSError, match=r"the quality bit is \['lost', 'edge'\], expected one"):
        made.quality_mask(["lost", "edge"])


def test_spectra_of_other_programs_have_no_bits() -> None:
    made = make_extraction()
    assert "quality" not in made.to_spectrum().meta
    with pytest.raises(LRSError, match="has no column QUALITY"):
        made.to_spectrum(mask_quality=["lost"])
    assert "QUALITY" not in combine([made], weights="unit", incomplete="keep").columns


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
def test_bits_are_written_and_read(tmp_path: Path) -> None:
    image = slit(data=np.where(np.arange(46) == 12, np.nan, slit().data).astype(np.float32))
    operator = Extract1D(aperture=Aperture(xstart=9, xstop=16))
    for number, one in enumerate((operator.run(image), operator.run(stack()))):
        path = tmp_path / f"{number}_x1d.fits"
        one.write(path)
        read = Extraction.read(path)
        assert list(read.columns) == [*COLUMNS, "QUALITY"]
        assert read.columns["QUALITY"].dtype == np.uint32
        assert_array_equal(read.columns["QUALITY"], one.columns["QUALITY"])
        one.table.write(tmp_path / f"{number}.ecsv")
        table = QTable.read(tmp_path / f"{number}.ecsv")
        assert_array_equal(Masked(table["QUALITY"]).unmasked, one.columns["QUALITY"])
    assert (operator.run(image).columns["QUALITY"] == QUALITY_BITS["lost"].value).all()
    (first, *_) = integrations(one)
    assert_array_equal(first.columns["QUALITY"], one.columns["QUALITY"][0])


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
def test_the_pipeline_opens_the_files(tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    operator = Extract1D(aperture=Aperture(xstart=9, xstop=16))
    for image in (slit(), stack()):
        made, path = operator.run(image), tmp_path / f"{image.is_stack}_x1d.fits"
        made.columns["QUALITY"][..., 5] = 7
        made.write(path)
        with datamodels.open(path, strict_validation=True) as model:
            model.validate()
            table = model.spec[0].spec_table
            for name in COLUMNS:
                assert_array_equal(table[name], made.columns[name])


def test_combination_has_the_bits_of_the_values_that_it_uses(tmp_path: Path) -> None:
    made, clean = flagged(), make_extraction()
    clean.columns["FLUX"][8] = np.nan  # the only value is the flagged one
    made.columns["FLUX"][20] = np.nan
    made.columns["DQ"][20] = 1
    for mode in ("default", "pipeline"):
        found = combine([made, clean], weights="unit", mode=mode, incomplete="keep")
        bits = found.columns["QUALITY"][::-1]
        assert quality_counts(bits) == {"lost": 2, "filled": 1, "rejected": 1, "no_error": 1}
        assert bit_names(int(bits[7])) == ["lost", "filled"]
        assert_array_equal(found.to_spectrum().meta["quality"]["QUALITY"], found.columns["QUALITY"])
    found.write(tmp_path / "c1d.fits")
    read = Combination.read(tmp_path / "c1d.fits")
    assert_array_equal(read.columns["QUALITY"], found.columns["QUALITY"])
    assert "QUALITY" in read.table.colnames
    both = combine([made], weights="unit", incomplete="keep").columns["QUALITY"][::-1]
    assert bit_names(int(both[20])) == ["edge"]  # no value is used there


def test_info_counts_and_plot_marks_them(tmp_path: Path) -> None:
    path = str(tmp_path / "x1d.fits")
    made = flagged()
    made.write(path)
    result = CliRunner().invoke(main, ["info", path])
    assert "quality           lost 2, filled 1, rejected 1, edge 1, no_error 1" in result.output
    axes = plot_extraction(made, figure=Figure)["spectrum"]
    marks = {str(one.get_label()).partition(":")[0]: one.get_xdata() for one in axes.lines}
    lost = [row for row, bits in BITS.items() if "lost" in bits]
    others = [row for row, bits in BITS.items() if bits != ["lost"]]
    assert_array_equal(np.sort(marks["bad pixels"]), np.sort(made.wavelength[lost]))
    assert_array_equal(np.sort(marks["quality"]), np.sort(made.wavelength[others]))
    made.columns["QUALITY"][:] = 0
    made.write(path, overwrite=True)
    assert "quality           no bits" in CliRunner().invoke(main, ["info", path]).output
    make_extraction().write(path, overwrite=True)
    assert "quality  " not in CliRunner().invoke(main, ["info", path]).output

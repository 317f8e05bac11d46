"""Names of the DQ bits are those of the pipeline."""

from __future__ import annotations

import pytest

from glue_lrs.instrument import DQ_NAMES, dq_names

pytestmark = pytest.mark.parity


def test_the_bits_have_the_names_of_the_pipeline() -> None:
    from stdatamodels.jwst.datamodels import dqflags

    named = {name: value for name, value in dqflags.pixel.items() if value}
    assert {name: 1 << bit for bit, name in enumerate(DQ_NAMES)} == named
    flags = named["HOT"] | named["DO_NOT_USE"] | named["REFERENCE_PIXEL"]
    assert dq_names(flags) == ("DO_NOT_USE", "HOT", "REFERENCE_PIXEL")

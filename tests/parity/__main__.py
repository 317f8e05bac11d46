"""Compare random extractions with the JWST pipeline, by hand; the tests compare 326 of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from tests.helpers.cases import make_case
from tests.parity.test_parity import BRANCHES, STIFF, TOLERANCE, compare


def main() -> int:
    """Parse the command line, run the cases, and print what was reached and what differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=2000)
    parser.add_argument("--first", type=int, default=2000, help="seed of the first case")
    options = parser.parse_args()
    reached: Counter[str] = Counter()
    largest: dict[bool, dict[str, float]] = {False: {}, True: {}}
    stiff = wrong = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(options.first, options.first + options.number):
            case = make_case(seed)
            reached.update(case.branches)
            stiff += case.stiff
            found = compare(case, Path(folder), largest[case.stiff])
            if found:
                wrong += 1
                print(f"{seed}: {found}", case.entry, case.step, flush=True)
    print(f"{options.number} cases, {stiff} of them badly conditioned; {wrong} disagree")
    for what in sorted({branch.split(": ")[0] for branch in reached}):
        each = [f"{name} {reached[f'{what}: {name}']}" for name in BRANCHES[what].split()]
        print(f"  {what:10s} {', '.join(each)}")
    print(
        f"largest difference, of badly conditioned fits ({TOLERANCE:g} and {STIFF:g} are allowed)"
    )
    for name, value in largest[False].items():
        print(f"  {name:16s} {value:.1e} {largest[True].get(name, 0.0):.1e}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

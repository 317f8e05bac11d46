"""Run the mutation harness by hand."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.mutations.harness import run_cases
from tests.mutations.products import DOCUMENTS, make_products


def main() -> int:
    """Parse the command line, run the cases, and print the outcomes and the faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=300)
    parser.add_argument("--kind", choices=["files", "documents"], default="files")
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the files that show a fault")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(options.keep or name)
        folder.mkdir(parents=True, exist_ok=True)
        seeds = range(options.first, options.first + options.number)
        valid = make_products(Path(name))
        kinds = [one for one in valid if (one in DOCUMENTS) == (options.kind == "documents")]
        report = run_cases(valid, kinds, seeds, folder, keep=bool(options.keep))
    for fault in report.faults:
        print(fault, file=sys.stderr)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())

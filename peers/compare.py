"""Compare the outcomes of test suites without and with this package; see `.ci/peers`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree


def outcomes(path: Path) -> Counter[tuple[str, str]]:
    """Return the number of tests with each name and outcome in a JUnit report."""
    found: Counter[tuple[str, str]] = Counter()
    for case in ElementTree.parse(path).iter("testcase"):
        states = [one.tag for one in case if one.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name, "+".join(states) or "passed"] += 1
    return found


def main(folder: Path, peers: list[str]) -> int:
    """Print how many tests changed for each peer, and which; return 1 if there are any."""
    changed, total = 0, 0
    for peer in peers:
        before, after = (outcomes(folder / f"{peer}-{one}.xml") for one in ("without", "with"))
        if not before:
            print(f"{peer}: no tests")
            changed += 1
        lost, new = before - after, after - before
        counts: Counter[str] = Counter()
        for (_, state), count in after.items():
            counts[state] += count
        listed = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        differ = max(lost.total(), new.total())
        print(f"{peer}: {after.total()} tests ({listed}), {differ} differ")
        for sign, tests in (("without", lost), ("with", new)):
            for name, state in sorted(tests):
                print(f"    {sign}: {name} {state}")
        total += after.total()
        changed += differ
    print(f"{total} tests, {changed} differ")
    return int(changed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

"""Commands that are run on mutated files, in this process."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner

from glue_lrs.cli import main
from glue_lrs.errors import LRSError

#: Arguments for each kind of file. ``FILE`` is the mutated file, ``s2d`` and so on the valid ones,
#: and ``OUT`` is the start of the name of an output.
_IMAGE = [
    "info --json FILE",
    "measure FILE -o OUT.png --reference OUT.json",
    "plot FILE -o OUT.png",
    "extract FILE -o OUT.fits",
    "combine FILE s2d -o OUT.fits",
    "reference check extract1d --image FILE",
]
_SPECTRUM = [
    "info --json FILE",
    "plot FILE x1d -o OUT.png",
    "plot FILE -o OUT.png",
    "combine FILE x1d -o OUT.fits",
    "export FILE --to ecsv -o OUT.ecsv",
]
COMMANDS = {
    "s2d": _IMAGE,
    "calints": _IMAGE,
    "x1d": _SPECTRUM,
    "x1dints": _SPECTRUM,
    "c1d": _SPECTRUM,
    "apcorr": ["extract s2d --apcorr FILE -o OUT.fits", "measure s2d --no-plot --apcorr FILE"],
    "psf": ["extract s2d --psf FILE --set extraction_type=optimal -o OUT.fits"],
    "extract1d": [
        "reference check FILE",
        "reference show FILE",
        "reference edit FILE --exp-type MIR_LRS-FIXEDSLIT --set bkg_fit=median -o OUT.json",
        "extract s2d --extract1d FILE -o OUT.fits",
        "plot s2d --extract1d FILE -o OUT.png",
    ],
    "text": ["plot FILE -o OUT.png", "plot FILE x1d --units um,mJy -o OUT.png"],
    "session": [],
}

_LINE = re.compile(r"glue-lrs: (error|warning): ")


def run_command(kind: str, path: Path, valid: dict[str, Path], seed: int) -> bool:
    """Run one of the commands for a kind of file, and return whether it warned.

    Raises
    ------
    LRSError
        If the command refused the file.
    AssertionError
        If the command ended in another error than one of this package, or its output is not what
        a terminal can show.
    """
    if not COMMANDS[kind]:
        return False
    template = random.Random(seed).choice(COMMANDS[kind])
    output = path.with_name(f"out{seed}")
    known = {"FILE": path, **valid}
    words = [
        str(known[word]) if word in known else word.replace("OUT", str(output))
        for word in template.split()
    ]
    try:
        return _judged(template, words)
    finally:
        for left in path.parent.glob(f"out{seed}.*"):
            left.unlink()


def _judged(template: str, words: Sequence[str]) -> bool:
    done = CliRunner().invoke(main, ["--traceback", *words])
    told = done.stderr.splitlines()
    shown = done.stdout + done.stderr
    start = next((i for i, line in enumerate(told) if "(a bug in glue-lrs" in line), None)
    foreign = [line for line in told if re.match(r"glue-lrs: warning: \w+Warning: ", line)]
    unseen = sorted(set(filter(lambda one: not one.isprintable() and one != "\n", shown)))
    assert start is None, f"{template}: {shown[-3000:]}"
    assert done.exit_code in (0, 1, 2), f"{template}: {shown[-3000:]}"
    assert not foreign, f"{template}: {foreign[0]}"
    assert not unseen, f"{template}: prints {unseen}"
    if done.exit_code:
        raise LRSError(next((line for line in reversed(told) if _LINE.match(line)), template))
    return bool(told)

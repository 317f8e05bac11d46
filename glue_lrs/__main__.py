"""Entry point for ``python -m glue_lrs``, which is the same as ``glue-lrs``."""

from __future__ import annotations

from glue_lrs.cli import main

if __name__ == "__main__":
    main()

"""Entry point for ``python -m glue_lrs.cli``."""

from __future__ import annotations

from glue_lrs.cli.program import main

if __name__ == "__main__":
    main()

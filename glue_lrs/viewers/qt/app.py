"""The command ``glue-lrs view``: start glue with LRS files, or save a screenshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glue_lrs.errors import LRSError, WriteError, quoted
from glue_lrs.io.files import already_exists
from glue_lrs.viewers.qt.requirements import PLATFORM, require_display, require_qt

#: Default width and height of a screenshot in pixels.
SIZE = (1600, 950)


def view(
    paths: Sequence[str | os.PathLike[str]],
    screenshot: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    size: tuple[int, int] = SIZE,
    failed: Callable[[LRSError], object] | None = None,
) -> int:
    """Start glue with LRS files, and open a tab for each image.

    Parameters
    ----------
    paths : sequence of str or path-like
        Images (s2d, cal, calints) and spectra (x1d, x1dints), or a single session (.glu). Each
        spectrum is compared with every image.
    screenshot : str or path-like, optional
        PNG file. If given, the window is drawn without a screen and saved to this file, and the
        function returns. The window appears on the screen only if the process has already started
        Qt there.
    overwrite : bool
        Whether `screenshot` may replace an existing file.
    size : (int, int)
        Width and height of the window for a screenshot in pixels.

    failed : callable, optional
        Function that is called with the error for each file that cannot be opened; the others are
        opened. By default, the first error is raised.

    Returns
    -------
    int
        Exit status: 0, or 2 if some files could not be opened.

    Raises
    ------
    LRSError
        If glue's desktop cannot be started, no file can be read, or the screenshot cannot be
        written.
    """
    if screenshot is not None:
        target = Path(screenshot)
        if target.suffix.lower() != ".png":
            raise WriteError(f"ends in {quoted(target.suffix)}, expected '.png'", subject=target)
        if target.exists() and not overwrite:
            raise already_exists(target)
    missing = [path for path in paths if not Path(path).exists()]
    errors = [LRSError("no such file", subject=os.fspath(path)) for path in missing]
    if errors and (failed is None or len(missing) == len(paths)):
        raise errors[0]

    def report(error: LRSError) -> None:
        assert failed is not None
        errors.append(error)
        failed(error)

    for error in errors:
        assert failed is not None
        failed(error)
    require_qt()
    # imported only now, because glue's desktop is an optional dependency
    from glue_lrs.viewers.qt import window  # noqa: PLC0415

    with _platform("offscreen" if screenshot is not None else None):
        require_display()
        found = [path for path in paths if path not in missing]
        application = window.make_application(found, None if failed is None else report)
    try:
        if screenshot is None:
            application.start(maximized=True)
        else:
            window.save_screenshot(application, target, size, overwrite=overwrite)
    finally:
        window.close(application)
    return 2 if errors else 0


@contextmanager
def _platform(name: str | None) -> Iterator[None]:
    """Make Qt use a platform plugin, unless it is None; restore the environment afterwards."""
    before = os.environ.get(PLATFORM)
    if name is not None:
        os.environ[PLATFORM] = name
    try:
        yield
    finally:
        os.environ.pop(PLATFORM, None)
        if before is not None:
            os.environ[PLATFORM] = before

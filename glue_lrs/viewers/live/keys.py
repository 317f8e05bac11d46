"""Mouse and keys of the viewers, as a list for users."""

from __future__ import annotations

#: For each part of the window, the mouse actions or keys and their effect.
KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Image and slit profile",
        (
            ("drag an edge", "move the edge"),
            ("drag a region", "move the region"),
            ("drag the end of an edge (diamond)", "tilt the edge; with Shift, taper the region"),
            ("drag elsewhere in the image", "move the crosshair"),
            ("Shift + drag elsewhere in the image", "select a range of wavelengths"),
            ("Left, Right", "move the part that was dragged last by 0.1 pixel; with Shift by 1"),
            ("Up, Down", "move the crosshair by a row; with Shift by 10"),
            ("Delete", "delete the selected background region"),
            ("Escape", "cancel the drag"),
        ),
    ),
    (
        "Spectrum",
        (
            ("click", "move the crosshair"),
            ("drag", "select a range of wavelengths"),
            ("double click, Delete", "clear the selection"),
        ),
    ),
    (
        "All plots",
        (
            ("wheel", "zoom about the mouse; below or left of the axes, along that axis only"),
            ("drag with the middle button", "pan"),
            ("home button", "show everything"),
            ("press an edge while a tool is active", "switch the tool off, and drag the edge"),
        ),
    ),
    (
        "Window",
        (
            ("Ctrl+Z", "undo"),
            ("Ctrl+Y, Ctrl+Shift+Z", "redo"),
            ("Edit > History", "go back to any edit"),
            ("F1, ?", "show this list"),
        ),
    ),
)

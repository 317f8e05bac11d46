"""Events of the mouse and the keyboard on a bqplot figure, as a browser sends them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ipykernel.comm.comm import BaseComm
from ipywidgets import Widget


def send(viewer: Any, event: str, x: float = 0.0, y: float = 0.0, **content: Any) -> None:
    """Send one event at a position in data coordinates."""
    position = {"x": x, "y": y}
    content = {"event": event, "pixel": position, "domain": position, **content}
    message = {"content": {"data": {"method": "custom", "content": content}}, "buffers": []}
    viewer.figure.interaction.comm.handle_msg(message)


def drag(viewer: Any, *places: tuple[float, float]) -> None:
    """Press at the first place, move over the others, and release at the last."""
    send(viewer, "dragstart", *places[0])
    for place in places[1:]:
        send(viewer, "dragmove", *place)
    send(viewer, "dragend", *places[-1])


def press(viewer: Any, *keys: str) -> None:
    """Press and release keys, named as in browsers, one after the other."""
    for key in keys:
        send(viewer, "keydown", key=key)
        send(viewer, "keyup", key=key)


@contextmanager
def messages() -> Iterator[list[tuple[Widget, tuple[str, ...], int]]]:
    """Collect the messages to the browser: widget, names of the changed traits, bytes of arrays."""
    sent: list[tuple[Widget, tuple[str, ...], int]] = []
    whole = Widget._send

    def counted(self: Widget, message: dict[str, Any], buffers: Any = None) -> None:
        number = sum(memoryview(one).nbytes for one in buffers or ())
        sent.append((self, tuple(sorted(message.get("state", ()))), number))
        whole(self, message, buffers)

    with (
        mock.patch.object(BaseComm, "kernel", object()),  # widgets send nothing without a kernel
        mock.patch.object(Widget, "_send", counted),
    ):
        yield sent

"""Live extractions of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glue.core import DataCollection
from glue.core.session import Session

from glue_lrs.errors import LRSError

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = ["REGISTRY", "live_for", "registry_of", "session_of"]

#: Where a collection keeps its session and its extractions: they live and die with it.
REGISTRY = "_glue_lrs_extractions"


class _Registry:
    """The extractions of a collection of data, by the uuid of the image's Data."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.lives: dict[str, LiveExtraction] = {}


def live_for(where: Any, data: Any) -> LiveExtraction | None:
    """The extraction that is open for an image.

    Parameters
    ----------
    where : Application, Session or DataCollection
        Of glue.
    data : Data or str
        The image's Data, that of the spectrum, or the uuid of the image's.

    Returns
    -------
    LiveExtraction or None
        None if it is not open.
    """
    registry = getattr(_collection(where), REGISTRY, None)
    if registry is None:
        return None
    if isinstance(data, str):
        return registry.lives.get(data)
    for live in registry.lives.values():
        if data is live.data or data is live.spectrum_data:
            return live
    return None


def _collection(where: Any) -> DataCollection:
    if isinstance(where, DataCollection):
        return where
    collection = getattr(where, "data_collection", None)
    if not isinstance(collection, DataCollection):
        raise LRSError(
            f"{type(where).__name__} has no data collection, expected a glue application, a "
            "session or a data collection"
        )
    return collection


def session_of(where: Any) -> Session:
    collection = _collection(where)
    if isinstance(where, Session):
        return where
    session = getattr(where, "session", None)
    if isinstance(session, Session):
        return session
    registry = getattr(collection, REGISTRY, None)
    return Session(data_collection=collection) if registry is None else registry.session


def registry_of(collection: DataCollection, session: Session) -> _Registry:
    registry = getattr(collection, REGISTRY, None)
    if registry is None:
        registry = _Registry(session)
        setattr(collection, REGISTRY, registry)
    return registry

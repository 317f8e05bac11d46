"""Registry: the live extractions that are open in a data collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glue.core import Data, DataCollection
from glue.core.session import Session

from glue_lrs.errors import LRSError

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Attribute of a data collection for its registry, so that both have the same lifetime.
_ATTRIBUTE = "_glue_lrs_extractions"


class Registry:
    """Live extractions that are open in a data collection.

    Parameters
    ----------
    session : Session
        Session that contains the collection.

    Attributes
    ----------
    lives : dict
        Live extractions, with the uuid of the image's dataset as the key.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.lives: dict[str, LiveExtraction] = {}


def live_for(where: Any, data: Data | str) -> LiveExtraction | None:
    """Return the live extraction that is open for an image.

    Parameters
    ----------
    where : Application, Session or DataCollection
        The glue object that contains the data.
    data : Data or str
        Dataset of the image or of its spectrum, or the uuid of the image's dataset.

    Returns
    -------
    LiveExtraction or None
        The live extraction; None if none is open for the image.
    """
    registry = _existing_registry(_collection(where))
    if registry is None:
        return None
    if isinstance(data, str):
        return registry.lives.get(data)
    for live in registry.lives.values():
        if data is live.data or data is live.spectrum_data:
            return live
    return None


def forget(live: LiveExtraction) -> None:
    """Remove an extraction that is closed from the registry."""
    registry = _existing_registry(live.session.data_collection)
    if registry is not None and registry.lives.get(live.data.uuid) is live:
        del registry.lives[live.data.uuid]


def session_of(where: Any) -> Session:
    """Return the session of an application or a collection; make a session if there is none."""
    collection = _collection(where)
    if isinstance(where, Session):
        return where
    session = getattr(where, "session", None)
    if isinstance(session, Session):
        return session
    registry = _existing_registry(collection)
    return Session(data_collection=collection) if registry is None else registry.session


def registry_of(collection: DataCollection, session: Session) -> Registry:
    """Return the registry of a collection; make a registry if there is none."""
    registry = _existing_registry(collection)
    if registry is None:
        registry = Registry(session)
        setattr(collection, _ATTRIBUTE, registry)
    return registry


def _existing_registry(collection: DataCollection) -> Registry | None:
    return getattr(collection, _ATTRIBUTE, None)


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

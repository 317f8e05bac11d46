"""Registry: the live extractions that are open in a data collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue.core import Data, DataCollection
from glue.core.session import Session

from glue_lrs.errors import LRSError

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Name of the attribute of a data collection that contains its registry. The registry therefore
#: exists as long as the collection.
_ATTRIBUTE = "_glue_lrs_extractions"


class Registry:
    """Live extractions that are open in a data collection.

    Attributes
    ----------
    session : Session or None
        Session in which the first extraction was opened.
    lives : dict
        Live extractions, with the uuid of the image's dataset as the key.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.lives: dict[str, LiveExtraction] = {}


def live_for(where: object, data: Data | str) -> LiveExtraction | None:
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
    lives = registry_of(where).lives
    if isinstance(data, str):
        return lives.get(data)
    for live in lives.values():
        if data is live.data or data is live.spectrum_data:
            return live
    return None


def session_of(where: object) -> Session:
    """Return the session of an application or a collection; make a session if there is none."""
    registry = registry_of(where)
    session = where if isinstance(where, Session) else getattr(where, "session", None)
    if not isinstance(session, Session):
        session = registry.session or Session(data_collection=_collection(where))
    registry.session = registry.session or session
    return session


def registry_of(where: object) -> Registry:
    """Return the registry of a collection; make a registry if there is none."""
    registry: Registry = vars(_collection(where)).setdefault(_ATTRIBUTE, Registry())
    return registry


def _collection(where: object) -> DataCollection:
    collection = getattr(where, "data_collection", where)
    if not isinstance(collection, DataCollection):
        raise LRSError(
            f"{type(where).__name__} has no data collection, expected a glue application, a "
            "session or a data collection"
        )
    return collection

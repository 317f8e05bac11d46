from .jupyter.app import ExtractionApp, extraction_app
from .live.live_extraction import LiveExtraction
from .live.open import open_extraction
from .live.registry import live_for
from .plugin import register

__all__ = [
    "ExtractionApp",
    "LiveExtraction",
    "extraction_app",
    "live_for",
    "open_extraction",
    "register",
]

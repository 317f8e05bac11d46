from .curve import LightCurve
from .making import light_curve
from .noise import allan_deviation, point_scatter
from .pipeline import white_light

__all__ = ["LightCurve", "allan_deviation", "light_curve", "point_scatter", "white_light"]

"""Made MOT sequences: textured walking figures with exact ground truth, and streams of boxes.

:class:`Scene` paints a street in which figures cross, hide each other, leave and come back;
:func:`box_stream` gives boxes (and appearance vectors) alone, of any number and for any time.
"""

from tracker.synthetic.scene import CAMERAS, Scene, SceneConfig
from tracker.synthetic.stream import StreamFrame, box_stream

__all__ = ["CAMERAS", "Scene", "SceneConfig", "StreamFrame", "box_stream"]

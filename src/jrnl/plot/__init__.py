"""Pictures of a history: a store's, or that of a log that `jrnl.logwrites.attach` reads in place.

``timeline`` draws one figure (matplotlib, ``pip install 'jrnl-engine[plot]'``): what was written
where, and when, and what can be recovered. ``page`` writes one HTML file on which a person moves
along time, and copies the point to go back to.
"""

from jrnl.plot.page import page
from jrnl.plot.timeline import timeline

__all__ = ["page", "timeline"]

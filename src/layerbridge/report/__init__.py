"""The report: results and runs as one self-contained HTML page.

Reads result files and what runs left next to them, never a model. All text from them is escaped: a
result file may come from anywhere.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

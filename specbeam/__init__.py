"""specbeam: greedy, beam, speculative and speculative beam decoding, exact to transformers' `generate`.

The public names stand in `__init__.pyi` and are imported when they are first used: most of them need PyTorch, which
takes seconds to import, and commands such as `specbeam records` do without. `README.md` beside this file is the map of
the rooms; `core/` is the place to begin reading.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

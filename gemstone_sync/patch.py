"""Patches the process when it is imported: ``import gemstone_sync.patch`` as the first line.

A service does so by itself; this is for those who like it to be seen. gevent's own way, ``from
gevent import monkey; monkey.patch_all()`` as the first line, is as good.
"""

from .concurrency import host, patch
from .errors import ServiceConfigurationError

if (_beside := host()) is not None:
    raise ServiceConfigurationError(
        f"a patch would stop the event loop of {_beside}: services work beside it without, each "
        "in a thread of its own"
    )
patch()

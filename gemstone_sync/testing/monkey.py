"""A pytest plugin that patches the process: ``addopts = -p gemstone_sync.testing.monkey``.

Plugins named by ``-p`` are imported before any test module, early enough for a clean patch.
"""

from ..concurrency import patch

patch()

"""``python -m gemstone_sync`` is the ``gemstone`` command."""

from .cli.main import main

if __name__ == "__main__":
    main()

"""``python -m gemstone_sync.registry``."""

from .command import main

if __name__ == "__main__":
    main()

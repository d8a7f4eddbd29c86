"""Take the picture of the explorer that README shows.

``python -m tests.explorer.picture tests/explorer/explorer.png``
"""

import sys
from pathlib import Path

from gemstone_sync.testing import running_service

from .browser import Browser
from .shop import Shop

LINK = '#method/orders.find?params={"order":17}'


def main(path: str) -> None:
    """Write the picture."""
    browser = Browser()
    try:
        with running_service(Shop, port=8000) as service:
            options = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"}
            shots = [(LINK, str(Path(path).resolve()), False)]
            browser.walk("pictures", service.url, options=options, shots=shots, send=True)
    finally:
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

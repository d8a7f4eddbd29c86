"""A shop whose settings come from the class, a file, the environment and the command line."""

from collections.abc import Sequence
from typing import Any

import gemstone_sync
from gemstone_sync import setting
from gemstone_sync.config import Seconds


class Shop(gemstone_sync.MicroService):
    name = "shop"

    #: What prices are in.
    currency: str = setting("EUR", template=str.upper)
    #: Countries that parcels are sent to.
    countries: Sequence[str] = setting(["NL"])
    #: How long a basket is kept.
    basket_timeout: Seconds = setting(900)
    #: Whether customers without an account may order.
    guests: bool = setting(True)
    #: The password of the warehouse.
    warehouse_password: str | None = setting(None, secret=True)

    @gemstone_sync.exposed_method()
    def terms(self) -> dict[str, Any]:
        """What a customer should know."""
        return {
            "currency": self.currency,
            "countries": self.countries,
            "basket_timeout": self.basket_timeout,
            "guests": self.guests,
        }


cli = Shop.get_cli()

if __name__ == "__main__":
    Shop().start()

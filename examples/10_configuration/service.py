"""A shop whose settings come from the class, a file, the environment and the command line."""

from collections.abc import Sequence
from typing import Any

import gemstone_sync
from gemstone_sync import Configurable
from gemstone_sync.config import Seconds


class Shop(gemstone_sync.MicroService):
    name = "shop"

    #: What prices are in.
    currency: str = "EUR"
    #: Countries that parcels are sent to.
    countries: Sequence[str] = ["NL"]
    #: How long a basket is kept.
    basket_timeout: Seconds = 900
    #: Whether customers without an account may order.
    guests: bool = True
    #: The password of the warehouse.
    warehouse_password: str | None = None

    configurables = [
        *gemstone_sync.MicroService.configurables,
        Configurable("currency", template=str.upper),
        Configurable("countries"),
        Configurable("basket_timeout"),
        Configurable("guests"),
        Configurable("warehouse_password", secret=True),
    ]

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

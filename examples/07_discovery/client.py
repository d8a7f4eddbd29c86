"""A program that is no service: it asks the registry by itself."""

from __future__ import annotations

import os

from gemstone_sync import RemoteService, ServiceNotFound

REGISTRY = os.environ.get("REGISTRY_URL", "http://localhost:8090/api")

front = RemoteService.get_service_by_name(REGISTRY, "shop.fr*")
print(front.name, "offers coffee:", front.methods.offer("coffee"))
try:
    RemoteService.get_service_by_name(REGISTRY, "shop.cellar")
except ServiceNotFound:
    print("shop.cellar is not known")

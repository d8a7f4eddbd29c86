"""The status page, as people use it in Chromium with the network cut off; see `test_page`."""

import gevent
import pytest

import gemstone_sync
from gemstone_sync import exposed_method
from tests.support.http import call
from tests.support.node import node_modules

from .hostile import ALL, ATTACKS, MEGABYTE, SCRIPT
from .shop import TOKEN, Shop

#: A browser is what few machines have, and takes some seconds to start.
pytestmark = pytest.mark.slow


@pytest.fixture
def visit(walk, running_service):
    """``visit("status_away")``: a walk to the status page of a service; the shop, if not told."""

    def take(name, cls=Shop, **told):
        service = running_service(cls, status_page=True)
        status = service.url.removesuffix(service.endpoint) + "/status"
        return walk(name, service, status=status, token=TOKEN, **told)

    return take


def test_it_asks_for_the_token_and_shows_nothing_before(visit):
    visit("status_sign_in")


def test_it_refreshes_itself_and_leaves_people_where_they_were(visit):
    visit("status_refreshes")


def test_a_service_that_is_away_is_told_until_it_is_back(visit):
    visit("status_away")


@pytest.mark.parametrize("width", [360, 1440])
def test_everybody_can_read_it(visit, width):
    axe = node_modules({"axe-core": "4.14.1"}) / "node_modules" / "axe-core" / "axe.min.js"
    options = {"viewport": {"width": width, "height": 800}}
    assert visit("status_is_fine", Busy, axe=str(axe), options=options) == []


class Busy(Shop):
    """Has something in every section."""

    def __init__(self):
        super().__init__()
        self.event_transports = [gemstone_sync.MemoryEventTransport()]
        self.periodic_tasks = [(self.work, 0.5)]
        self.service_registry_urls = ["http://127.0.0.1:9/api/of/the/registry/that/is/away"]

    def work(self):
        self.emit_event("busy.work", 1)

    @gemstone_sync.event_handler("busy.work", retries=0)
    def on_work(self, body):
        raise ValueError(body)


class Enemy(gemstone_sync.MicroService):
    """Says nothing that is no attack."""

    name = "enemy"
    version = SCRIPT
    template_dir = "."
    accessible_at = "http://127.0.0.1/" + SCRIPT

    def authenticate_request(self, handler):
        return handler.api_token == TOKEN

    @exposed_method()
    def evil(self, text: str) -> None:
        raise ValueError(ALL + MEGABYTE)

    @exposed_method()
    def waits(self) -> None:
        gevent.sleep(60)

    @gemstone_sync.health_check(ATTACKS[3])
    def check(self):
        raise ValueError(ALL)


@pytest.mark.parametrize("width", [360, 1440])
def test_texts_of_a_hostile_service_stay_texts(walk, running_service, width):
    service = running_service(Enemy, status_page=True)
    call(service.port, "evil", SCRIPT + MEGABYTE, headers={"X-Request-Id": ATTACKS[1]})
    waiting = gevent.spawn(call, service.port, "waits", headers={"X-Request-Id": ATTACKS[2]})
    options = {"viewport": {"width": width, "height": 740}}
    status = f"http://127.0.0.1:{service.port}/status"
    shown = walk("status_hostile", service, status=status, token=TOKEN, options=options)
    waiting.kill()
    for text in (SCRIPT, ATTACKS[1], ATTACKS[2], ATTACKS[3]):
        assert text in shown
    assert "\u202e" not in shown
    assert "\\u202e" in shown

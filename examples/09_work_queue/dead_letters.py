"""Shows the orders that no worker could pack; ``python dead_letters.py replay`` puts them back."""

from __future__ import annotations

import sys
import time

from gemstone_sync.event import deadletters

from settings import make_transport

transport = make_transport()
if sys.argv[1:] == ["replay"]:
    print("put back:", deadletters.replay(transport, event="orders.pack"))
    sys.exit()

letters = deadletters.list(transport, "orders.pack")
for _ in range(100):  # ten seconds: perhaps a worker is still trying
    if letters:
        break
    time.sleep(0.1)
    letters = deadletters.list(transport, "orders.pack")
for letter in letters:
    print(letter.name, letter.body)
    print(f"{letter.reason} after {letter.attempts} attempts: {letter.error}")

"""Chromium for the tests, in a process of its own: playwright and gevent's patch do not agree.

``python -m tests.explorer.browser`` takes one line of JSON for each walk and answers with one. A
walk is a function of `walks` that gets a `Visit` and does what a person would. Afterwards nothing
may have been refused by the Content-Security-Policy, told as an error on the console, or asked for
elsewhere.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

#: The network is cut off: no name leads anywhere, and nothing but this machine is there.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]

#: Milliseconds for one step.
PATIENCE = 20_000

WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


def chromium() -> str | None:
    """Where Debian's Chromium is; None when it is not installed."""
    return shutil.which("chromium")


@dataclass
class Visit:
    """A page that is visited, and what was wrong with it."""

    page: Any
    url: str
    told: dict[str, Any]
    wrong: list[str] = field(default_factory=list)

    def open(self, link: str = "") -> None:
        """Open the explorer at a link, and wait until something is shown."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/docs{link}")
        self.page.wait_for_selector("h1")

    def send(self) -> None:
        """Press Send, and wait for the answer."""
        self.page.get_by_role("button", name="Send", exact=True).click()
        self.page.wait_for_selector(".answer")

    def params(self) -> Any:
        """What is sent, as the JSON below the form says it."""
        return json.loads(self.page.get_by_label("Params as JSON").input_value())

    def watch(self) -> None:
        """Note what must not happen."""
        origin = "/".join(self.url.split("/")[:3])

        def request(asked: Any) -> None:
            if not asked.url.startswith((origin + "/", "data:", "blob:", "about:")):
                self.wrong.append(f"asked for {asked.url}")

        def console(message: Any) -> None:
            if message.type in ("error", "warning"):
                self.wrong.append(f"console: {message.text}")

        self.page.on("request", request)
        self.page.on("console", console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error.stack}"))


def main() -> None:
    """Serve walks until the input ends."""
    from playwright.sync_api import expect, sync_playwright

    from . import walks

    expect.set_options(timeout=PATIENCE)  # which is 5 s else, whatever the context's is
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        print(json.dumps({"ready": browser.version}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            context = browser.new_context(**asked["options"])
            context.set_default_timeout(PATIENCE)
            context.add_init_script(WATCH)
            visit = Visit(context.new_page(), asked["url"], asked["told"])
            visit.watch()
            answer: dict[str, Any] = {}
            try:
                answer["value"] = getattr(walks, asked["walk"])(visit)
            except Exception:
                answer["failed"] = traceback.format_exc()
                if asked["picture"]:
                    visit.page.screenshot(path=asked["picture"])
            answer["wrong"] = visit.wrong
            context.close()
            print(json.dumps(answer), flush=True)
        browser.close()


class Browser:
    """The process with the browser, as tests use it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.explorer.browser"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process with the browser has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def walk(
        self, name: str, url: str, *, picture: Path | None = None, options: Any = None, **told: Any
    ) -> Any:
        """Take a walk; what it returns.

        :param url: of the endpoint.
        :param picture: what the page looks like when it fails.
        :param options: of the browser's context: ``viewport``, ``color_scheme``.
        :param told: what the walk may know.
        """
        wanted = {
            "walk": name,
            "url": url,
            "options": options or {},
            "told": told,
            "picture": None if picture is None else str(picture),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert "failed" not in answer, answer["failed"] + "\n".join(answer["wrong"])
        assert answer["wrong"] == []
        return answer.get("value")

    def close(self) -> None:
        """End the browser."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


if __name__ == "__main__":
    main()

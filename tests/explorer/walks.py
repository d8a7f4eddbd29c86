"""What people do on the page. Each walk gets a `Visit`; it fails by an assertion.

Elements are found as people find them, and screen readers: by role and label.
"""

import json
import re
from typing import Any

from playwright.sync_api import expect

from .browser import Visit

SCRIPTS = "document.querySelectorAll('script, iframe, object, embed, link, style, base').length"


def first_call(visit: Visit) -> float:
    """From the open page to an answer, as somebody who has never seen it."""
    page = visit.page
    visit.open()
    page.get_by_role("searchbox").fill("hello")
    page.get_by_role("link", name="tools.greet").first.click()
    expect(page.locator(".badge", has_text="tool")).to_be_visible()  # of agents
    page.get_by_label("name", exact=True).fill("world")
    visit.send()
    expect(page.get_by_role("region", name="Answer")).to_contain_text('"hello world"')
    expect(page.locator(".answer")).to_contain_text("HTTP 200")
    expect(page.locator(".answer")).to_contain_text("ms")
    expect(page.locator(".answer")).to_contain_text("request")
    return 0.0


def by_keyboard(visit: Visit) -> None:
    """Find a method, fill in, send, read: without a mouse."""
    page = visit.page
    visit.open()
    page.keyboard.press("/")
    page.keyboard.type("greet")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("tools.greet")
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            break
    page.keyboard.type("keys")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".answer")).to_contain_text('"hello keys"')
    # Who cannot see it hears it; and stays where they were.
    expect(page.locator("#announcer")).to_contain_text("result after")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"


def wrong_values_before(visit: Visit) -> None:
    """What the schema forbids is told at its field, and nothing is sent until one insists."""
    page = visit.page
    visit.open("#method/tools.everything")
    page.get_by_label("number", exact=True).fill("11")
    page.get_by_role("button", name="Send", exact=True).click()
    number = page.get_by_label("number", exact=True)
    expect(number).to_have_attribute("aria-invalid", "true")
    expect(number).to_be_focused()
    told = number.evaluate("one => one.getAttribute('aria-describedby').split(' ')[0]")
    expect(page.locator(f"#{told}")).to_have_text("must be 10 or less")
    expect(page.locator(".answer")).to_have_count(0)
    page.get_by_role("button", name="Send anyway").click()
    expect(page.locator(".answer")).to_contain_text("-32602")
    expect(page.locator(f"#{told}")).to_contain_text("<= 10")  # the service's own words
    number.fill("10")
    expect(page.locator(f"#{told}")).to_be_hidden()
    visit.send()
    expect(page.locator(".answer")).to_contain_text("Result")


def wrong_values_after(visit: Visit) -> None:
    """What only the service knows to be wrong is told at its field, deep in a list too."""
    page = visit.page
    visit.open("#method/" + visit.told["method"])
    page.get_by_label("Params as JSON").fill(json.dumps(visit.told["params"]))
    page.get_by_role("button", name="Send", exact=True).click()
    if page.get_by_role("button", name="Send anyway").is_visible():
        page.get_by_role("button", name="Send anyway").click()
    expect(page.locator(".answer")).to_contain_text("-32602")
    field = page.locator("[aria-invalid=true]")
    expect(field).to_have_count(1)
    told = field.evaluate("one => one.getAttribute('aria-describedby').split(' ')[0]")
    expect(page.locator(f"#{told}")).to_contain_text(visit.told["reason"])


def form_and_json(visit: Visit) -> None:
    """The form and the JSON say the same, whichever is changed."""
    page = visit.page
    visit.open("#method/orders.place")
    page.get_by_label("product", exact=True).fill("tea")
    page.get_by_label("Send pieces").check()
    page.get_by_label("pieces", exact=True).fill("3")
    page.get_by_label("Send gift").check()
    page.get_by_label("gift", exact=True).select_option("true")
    page.get_by_label("Send color").check()
    page.get_by_label("color", exact=True).select_option("green")
    page.get_by_label("Send address").check()
    page.get_by_label("street").fill("Hill 1")
    page.get_by_label("zip", exact=True).fill("12345")
    page.get_by_label("Send deliver").check()
    page.get_by_label("Now: deliver").click()
    page.get_by_label("Send payment").check()
    page.get_by_label("payment", exact=True).first.select_option(label="Invoice")
    page.get_by_label("Send days").check()
    page.get_by_label("days", exact=True).fill("30")
    page.get_by_label("Send labels").check()
    page.get_by_label("Add an entry to labels").click()
    page.get_by_label("Key in labels").fill("red")
    page.get_by_label("Value in labels").fill("7")
    sent = visit.params()
    assert re.fullmatch(r"\d{4}-.*Z", sent.pop("deliver"))
    assert sent == {
        "lines": [{"product": "tea", "pieces": 3}],
        "gift": True,
        "color": "green",
        "address": {"street": "Hill 1", "zip": "12345"},
        "payment": {"type": "invoice", "days": 30},
        "labels": {"red": 7},
    }
    visit.send()
    expect(page.locator(".answer")).to_contain_text('"14.70"')

    other = {"lines": [{"product": "a"}, {"product": "b", "pieces": 2}], "labels": {"x": 1, "y": 2}}
    page.get_by_label("Params as JSON").fill(json.dumps(other))
    assert page.get_by_label("product", exact=True).count() == 2
    assert page.get_by_label("product", exact=True).last.input_value() == "b"
    assert not page.get_by_label("Send gift").is_checked()
    assert page.get_by_label("Key in labels").count() == 2
    page.get_by_label("Remove lines 1").click()
    assert visit.params() == {**other, "lines": other["lines"][1:]}
    page.get_by_label("Params as JSON").fill("{no")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".fault", has_text="This is no JSON")).to_be_visible()


def every_kind(visit: Visit) -> None:
    """Values of every kind go there and back, whole numbers of any size too."""
    page = visit.page
    visit.open("#method/tools.everything")
    page.get_by_label("text", exact=True).fill('two\nlines "q"')
    page.get_by_label("number", exact=True).fill("3")
    page.get_by_label("Send data").check()
    page.get_by_label("data", exact=True).fill("bytes")
    page.get_by_label("Encode data in base64").click()
    page.get_by_label("Send id").check()
    page.get_by_label("New: id").click()
    page.get_by_label("Send day").check()
    page.get_by_label("Today: day").click()
    page.get_by_label("Send pair").check()
    page.get_by_label("pair 1").fill("7")
    page.get_by_label("Send numbers").check()
    page.get_by_label("Add an item to numbers").click()
    page.get_by_label("numbers 1", exact=True).fill("123456789012345678901234567890")
    page.get_by_label("Send either").check()
    page.get_by_label("either", exact=True).first.select_option(label="list of whole number")
    page.get_by_label("Add an item to either").click()
    page.get_by_label("either 1", exact=True).fill("5")
    page.get_by_label("Send anything").check()
    page.get_by_label("anything", exact=True).fill('{"a": [1, null]}')
    page.get_by_label("Send choice").check()
    page.get_by_label("choice", exact=True).select_option("null")
    visit.send()
    shown = page.locator(".answer")
    expect(shown).to_contain_text("123456789012345678901234567890")
    page.get_by_role("button", name="Raw").click()
    result = json.loads(page.get_by_label("Raw answer").inner_text())
    assert result["text"] == 'two\nlines "q"'
    assert result["data"] == "Ynl0ZXM="
    assert result["numbers"] == [123456789012345678901234567890]
    assert (result["pair"], result["either"]) == ([7, ""], [5]) or result["pair"][0] == 7
    assert result["anything"] == {"a": [1, None]}
    assert result["choice"] is None
    assert re.fullmatch(r"[0-9a-f-]{36}", result["id"])


def by_position(visit: Visit) -> None:
    """A method that takes positions gets a list, the rest at its end."""
    page = visit.page
    visit.open("#method/tools.by_position")
    page.get_by_label("first", exact=True).fill("1")
    page.get_by_label("Add an item to more").click()
    page.get_by_label("more 1", exact=True).fill("9")
    assert visit.params() == [1, "b", 9]
    visit.send()
    expect(page.locator(".answer")).to_contain_text("9")


def recursion(visit: Visit) -> None:
    """A type that contains itself opens as far as one wants."""
    page = visit.page
    visit.open("#method/stock.list")
    for number in range(1, 4):
        page.get_by_label("name", exact=True).last.fill(f"shelf {number}")
        page.get_by_label("Send children").last.check()
        page.get_by_label("Add an item to children").first.click()
    page.get_by_label("name", exact=True).last.fill("end")
    visit.send()
    expect(page.locator(".answer")).to_contain_text("Result")
    name = visit.params()["below"]["children"][0]["children"][0]["children"][0]["name"]
    assert name == "end"


def notification(visit: Visit) -> None:
    """A notification has no answer, and the page says so."""
    page = visit.page
    visit.open("#method/tools.greet")
    page.get_by_label("name", exact=True).fill("x")
    page.get_by_role("button", name="Notify").click()
    expect(page.locator(".answer")).to_contain_text("HTTP 204")
    expect(page.locator(".answer")).to_contain_text("A notification has no answer")


def batch(visit: Visit) -> None:
    """Calls are collected, sent in one request, and answered one by one."""
    page = visit.page
    for name in ("one", "two"):
        visit.open("#method/tools.greet") if name == "one" else None
        page.get_by_label("name", exact=True).fill(name)
        page.get_by_role("button", name="Add to batch").click()
    page.evaluate("location.hash = '#method/tools.fail'")
    page.get_by_role("heading", name="tools.fail").wait_for()
    page.get_by_role("button", name="Add to batch").click()
    page.get_by_role("link", name="Batch (3)").click()
    page.get_by_label("notification").nth(1).check()
    page.get_by_role("button", name="Send 3").click()
    answers = page.locator(".answers > section")
    expect(answers).to_have_count(3)
    expect(answers.nth(0)).to_contain_text('"hello one"')
    expect(answers.nth(1)).to_contain_text("A notification has no answer")
    expect(answers.nth(2)).to_contain_text("-32603")


def errors(visit: Visit) -> None:
    """An error is matched with what was declared; an unexpected one has an id to copy."""
    page = visit.page
    visit.open("#method/tools.fail")
    visit.send()
    expect(page.locator(".answer")).to_contain_text("-32603")
    expect(page.locator(".answer")).to_contain_text("Error id")
    page.get_by_label("Copy the error id").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    visit.open(
        "#method/orders.place?params=" + json.dumps({"lines": [{"product": "a", "pieces": 99}]})
    )
    visit.send()
    expect(page.locator(".answer")).to_contain_text("1001")
    expect(page.locator(".answer")).to_contain_text("Declared by the method as OutOfStock")


def private_method(visit: Visit) -> None:
    """A private method wants a token, and gets it from a field."""
    page = visit.page
    visit.open("#method/orders.cancel")
    page.get_by_label("order", exact=True).fill("1")
    visit.send()
    expect(page.locator(".answer")).to_contain_text("-32001")
    page.get_by_label("X-Api-Token", exact=True).fill(visit.told["token"])
    visit.send()
    expect(page.locator(".answer")).to_contain_text("true")
    # Nothing was kept, anywhere.
    assert (
        page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    )
    visit.open("#method/orders.cancel")
    assert page.get_by_label("X-Api-Token", exact=True).input_value() == ""


def remembering(visit: Visit) -> None:
    """What is to be remembered survives loading again; forgetting leaves nothing."""
    page = visit.page
    visit.open("#method/orders.cancel")
    page.get_by_label("Remember on this computer").check()
    page.get_by_label("X-Api-Token", exact=True).fill("abc")
    page.get_by_label("Light or dark").select_option("dark")
    visit.open("#method/orders.cancel")
    page.get_by_text("Token, headers, deadline").click()
    assert page.get_by_label("X-Api-Token", exact=True).input_value() == "abc"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_label("Remembered: untick to forget").uncheck()
    assert page.evaluate("localStorage.length") == 0


def links_and_history(visit: Visit) -> None:
    """A link fills in the parameters; what is secret is in no link, and not in the history."""
    page = visit.page
    visit.open("#method/users.login")
    page.get_by_label("name", exact=True).fill("ada")
    page.get_by_label("password", exact=True).fill("hush-hush")
    visit.send()
    expect(page.locator(".answer")).to_contain_text('"ada:9"')
    assert page.evaluate("location.hash") == "#method/users.login"
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.get_by_role("button", name="Copy link").click()
    address = page.evaluate("window.copied")
    assert "ada" in address
    assert "hush" not in address
    page.get_by_role("link", name="History").click()
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("users.login")
    expect(row).to_contain_text("ada")
    assert "hush" not in page.content()
    row.get_by_role("link").click()
    assert page.get_by_label("name", exact=True).input_value() == "ada"
    assert page.get_by_label("password", exact=True).input_value() == ""
    visit.open(address.partition("/docs")[2])
    assert page.get_by_label("name", exact=True).input_value() == "ada"


def codes(visit: Visit) -> dict[str, str]:
    """A call as code for other programs."""
    page = visit.page
    visit.open("#method/" + visit.told["method"])
    page.get_by_label("Params as JSON").fill(json.dumps(visit.told["params"]))
    page.get_by_text("Token, headers, deadline").click()
    if "token" in visit.told:
        page.get_by_label("X-Api-Token", exact=True).fill(visit.told["token"])
        page.get_by_label("Deadline").fill("20")
        for value in ("", "two"):  # the same one twice: the later one counts
            page.get_by_role("button", name="Add a header").click()
            page.get_by_label("Name of a header").last.fill("X-Tra")
            page.get_by_label("Value of the header").last.fill(value)
    page.get_by_text("This call as code").click()
    found = {}
    for name in ("curl", "gemstone", "Python", "JavaScript"):
        page.get_by_role("button", name=name, exact=True).click()
        found[name] = page.get_by_label(f"The call as {name}").inner_text()
    return found


COPIED = "navigator.clipboard.writeText = async (text) => { window.copied = text; }"


def numbers(visit: Visit) -> None:
    """Numbers stay as they are written, in the page, in answers, in links and in the history."""
    page = visit.page
    text = '{"value": [1.0, 1e3, 0.1000000000000000000000001, 9007199254740993, -0.50]}'
    visit.open("#method/numbers")
    expect(page.locator(".reference")).to_contain_text("9223372036854775807")
    page.get_by_label("Send most").check()
    page.get_by_label("Send level").check()
    raw = page.get_by_label("Params as JSON")
    assert '"most": 9223372036854775807,' in raw.input_value()
    assert '"level": 9007199254740993' in raw.input_value()
    raw.fill(text)
    visit.send()
    page.get_by_role("button", name="Raw", exact=True).click()
    shown = page.get_by_label("Raw answer").first.inner_text().split()
    assert shown == ["[", "1.0,", "1000.0,", "0.1,", "9007199254740993,", "-0.5", "]"]
    page.evaluate(COPIED)
    page.get_by_role("button", name="Copy link").click()
    link = page.evaluate("window.copied").partition("/docs")[2]
    page.get_by_role("link", name="History").click()
    page.get_by_role("row").nth(1).get_by_role("link").click()
    assert "".join(raw.input_value().split()) == "".join(text.split())
    visit.open(link)
    assert "".join(raw.input_value().split()) == "".join(text.split())
    # what is typed into a field for numbers, too
    page.get_by_label("most", exact=True).fill("+007")
    assert '"most": 7' in raw.input_value()
    page.get_by_label("most", exact=True).fill("1.0")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".fault", has_text="must be whole number")).to_be_visible()


def deep_secrets(visit: Visit) -> None:
    """Nothing secret is in links, history, batch or kept drafts, wherever a type holds it."""
    page = visit.page
    params = {
        "cards": [{"pan": "hush-1", "holder": "b"}],
        "by_name": {"x": {"pan": "hush-2"}},
        "code": "hush-3",
        "codes": ["hush-4"],
        "accessToken": "hush-5",
        "beside": "told",
    }
    for method, given in (("secrets", params), ("positions", ["hush-6", "hush-7"])):
        visit.open(f"#method/{method}")
        # where a parameter is a secret nobody reads it in the JSON beside the field
        page.get_by_text("The same as JSON").click()
        page.get_by_label("Params as JSON").fill(json.dumps(given))
        visit.send()
        expect(page.locator(".answer")).to_contain_text("Result")
        page.get_by_role("button", name="Add to batch").click()
        page.evaluate(COPIED)
        page.get_by_role("button", name="Copy link").click()
        link = page.evaluate("window.copied")
        assert "hush" not in link
        assert ("told" in link) == (method == "secrets")
        for name in ("History", "Batch (1)"):
            page.get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", level=1)).to_have_text(name.split()[0])
            assert "hush" not in page.content()
        page.evaluate("(method) => { location.hash = `#method/${method}`; }", method)
        page.get_by_text("The same as JSON").click()
        assert "hush" not in page.get_by_label("Params as JSON").input_value()


def untouched(visit: Visit) -> None:
    """What the JSON says stays when a field beside it is changed, right or wrong, of any size."""
    page = visit.page
    given = {
        "items": list(range(600)),
        "map": {f"key{number}\n": number for number in range(300)},
        "text": "one\r\ntwo",
        "password": "-----BEGIN-----\nabc\n",
        "color": "purple",
        "yes": "no",
        "number": {"a": 1},
        "beside": "a",
    }
    visit.open("#method/many")
    page.get_by_text("The same as JSON").click()
    page.get_by_label("Params as JSON").fill(json.dumps(given))
    page.get_by_label("beside", exact=True).fill("b")
    assert visit.params() == {**given, "beside": "b"}
    # and when an item is changed, the others
    page.get_by_label("items 3", exact=True).fill("77")
    page.get_by_label("Remove this entry of map").first.click()
    changed = visit.params()
    assert changed["items"] == [0, 1, 77, *range(3, 600)]
    assert changed["map"] == {f"key{number}\n": number for number in range(1, 300)}
    expect(page.get_by_text("100 more")).to_have_count(2)
    page.get_by_label("color", exact=True).select_option("blue")
    page.get_by_label("Send text").uncheck()
    assert visit.params()["color"] == "blue"
    assert "text" not in visit.params()


def large_file(visit: Visit) -> None:
    """A file of some megabytes is sent whole, while its field shows the beginning of it only."""
    page = visit.page
    visit.open("#method/size")
    page.get_by_label("Add an item to data").click()
    file = {"name": "x.bin", "mimeType": "application/x", "buffer": b"\x00" * visit.told["size"]}
    page.locator("input[type=file]").set_input_files([file])
    field = page.get_by_label("data 1", exact=True)
    expect(field).to_have_value(re.compile("characters, too long to be edited here"))
    raw = page.get_by_label("Params as JSON")
    assert len(raw.input_value()) < 1000
    assert not raw.is_editable()
    page.get_by_label("note", exact=True).fill("beside")
    visit.send()
    expect(page.locator(".answer")).to_contain_text(f"{visit.told['size']}")
    page.get_by_label("Empty data 1").click()
    expect(field).to_have_value("")
    assert visit.params() == {"data": [""], "note": "beside"}
    visit.send()
    expect(page.locator(".answer .leaf")).to_have_text("0")


def odd_names(visit: Visit) -> None:
    """A method may be called as what every object of JavaScript has."""
    visit.open("#method/constructor")
    assert visit.params() == {}
    visit.send()
    expect(visit.page.locator(".answer")).to_contain_text("1")


def kept_by_hand(visit: Visit) -> None:
    """What is kept may have been changed by somebody: the page opens, and takes what is right."""
    page = visit.page
    visit.open()
    page.get_by_label("Remember on this computer").check()
    [key] = page.evaluate("Object.keys(localStorage)")
    for kept in visit.told["kept"]:
        page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, kept])
        visit.open("#method/constructor")
        visit.send()
        page.get_by_text("This call as code").click()
        expect(page.get_by_label("The call as curl")).to_contain_text("curl")
        page.get_by_role("link", name="History").click()
        expect(page.get_by_role("row")).to_have_count(2)


def forgotten_elsewhere(visit: Visit) -> None:
    """What is forgotten in one tab no other tab brings back."""
    page = visit.page
    visit.open("#method/constructor")
    page.get_by_label("Remember on this computer").check()
    other = page.context.new_page()
    other.goto(f"{visit.url}/docs")
    other.get_by_label("Remembered: untick to forget").uncheck()
    expect(page.get_by_label("Remember on this computer")).not_to_be_checked()
    visit.send()
    assert page.evaluate("localStorage.length") == 0


def not_sent(visit: Visit) -> None:
    """What would go out otherwise than it is written is not sent: it is told."""
    page = visit.page
    asked: list[str] = []
    visit.open("#method/constructor")
    page.on("request", lambda request: asked.append(request.method))
    page.get_by_text("Token, headers, deadline").click()
    deadline = page.get_by_label("Deadline")
    for wrong in ("1,5", "-1", "soon"):
        deadline.fill(wrong)
        visit.send()
        expect(page.locator(".answer")).to_contain_text(f"no number of seconds: {wrong}")
        expect(page.locator(".answer")).to_contain_text("Not sent")
    deadline.fill("")
    page.get_by_role("button", name="Add a header").click()
    page.get_by_label("Name of a header").fill("Cookie")
    page.get_by_label("Value of the header").fill("a=b")
    visit.send()
    expect(page.locator(".answer")).to_contain_text("A browser lets no page send cookie")
    assert "POST" not in asked
    page.get_by_role("link", name="History").click()
    expect(page.locator("main")).to_contain_text("Nothing was sent yet")


def twice(visit: Visit) -> None:
    """A second click while the first one's request is under way sends nothing more."""
    page = visit.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    visit.open("#emits/order.placed")
    page.get_by_label("order", exact=True).fill("1")
    page.get_by_label("total", exact=True).last.fill("2.5")
    page.get_by_role("button", name="Emit").evaluate("(one) => { one.click(); one.click(); }")
    expect(page.locator(".answer")).to_contain_text("Emitted")
    page.evaluate("location.hash = '#method/tools.greet'")
    page.get_by_label("name", exact=True).fill("x")
    page.get_by_role("button", name="Add to batch").click()
    page.get_by_role("link", name="Batch (1)").click()
    page.get_by_role("button", name="Send 1").evaluate("(one) => { one.click(); one.click(); }")
    page.wait_for_selector(".answer")
    for method in ("explorer.emit", "tools.greet"):
        assert len([body for body in asked if method in body]) == 1


LONG_TEXTS = """
setTimeout(async () => {
  const base = document.querySelector("script[type=module]").src.replace("app.js", "");
  const [check, json, markdown, contract] = await Promise.all(
    ["check", "json", "markdown", "contract"].map((name) => import(`${base}${name}.js`)),
  );
  const types = new contract.Types({});
  const told = (value, schema) => check.faultsOf(value, {type: "string", ...schema}, types).length;
  const slow = ["a?".repeat(40) + "b", "a{1,99}".repeat(5) + "b", "(a+)+$", "a*a*a*a*a*b"];
  json.numberOf("0".repeat(300_000) + "x", false);
  for (const text of ["[", "[a](", "- a\\n", "*a "].map((one) => one.repeat(300_000))) {
    const [holder] = markdown.markdown(text);
    holder.querySelector("button").click();
  }
  window.done = [
    slow.map((pattern) => told("a".repeat(190), {pattern})),
    told("1".repeat(300_000) + "x", {format: "decimal"}),
    ["^[0-9]{5}$", "^[a-z]+-[0-9]{2,4}$", "^x?y*$"].map((pattern) => told("no", {pattern})),
  ];
})
"""


def long_texts(visit: Visit) -> None:
    """No text and no pattern keeps the page busy; what would is left to the service to check."""
    visit.open("#method/constructor")
    visit.page.evaluate(LONG_TEXTS)
    visit.page.wait_for_function("window.done")
    assert visit.page.evaluate("window.done") == [[0, 0, 0, 0], 1, [1, 1, 1]]


def one_is_broken(visit: Visit) -> None:
    """A method that cannot be shown says so, and the others stay."""
    page = visit.page

    def spoil(route: Any) -> None:
        document = route.fetch().json()
        for method in document["methods"]:
            if method["name"] == "numbers":
                method["params"][1]["schema"] = {"enum": 5}
        route.fulfill(json=document)

    page.route("**/openrpc.json", spoil)
    visit.open("#method/numbers")
    expect(page.get_by_role("heading", level=1)).to_have_text("This cannot be shown")
    page.get_by_role("link", name="constructor").first.click()
    visit.send()
    expect(page.locator(".answer")).to_contain_text("Result")


def downloads(visit: Visit) -> dict[str, str]:
    """Documents and clients are saved."""
    page = visit.page
    visit.open()
    found = {}
    for name in ("OpenRPC", "AsyncAPI", "Python client", "TypeScript client", "Markdown"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        with open(download.value.path(), encoding="utf-8") as file:
            found[download.value.suggested_filename] = file.read()[:200]
    return found


def private_page(visit: Visit) -> None:
    """A private explorer shows no name before the right token."""
    page = visit.page
    visit.open()
    expect(page.get_by_role("heading", name="This explorer is private")).to_be_visible()
    assert visit.told["title"] not in page.content()
    assert "orders" not in page.content()
    page.get_by_label("X-Api-Token", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The service did not accept it.")
    assert "orders" not in page.content()
    page.get_by_label("X-Api-Token", exact=True).fill(visit.told["token"])
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(visit.told["title"])


def hidden_methods(visit: Visit) -> None:
    """Methods that are hidden from others come into the list with the token."""
    page = visit.page
    visit.open("#method/tools.greet")
    listed = page.get_by_role("navigation", name="Methods and events")
    expect(listed.get_by_text("tools.greet")).to_be_visible()
    expect(listed.get_by_text("orders.cancel")).to_have_count(0)
    page.get_by_label("name", exact=True).fill("kept")
    page.get_by_text("Token, headers, deadline").click()
    page.get_by_label("X-Api-Token", exact=True).fill(visit.told["token"])
    expect(listed.get_by_text("orders.cancel")).to_be_visible()
    assert page.get_by_label("name", exact=True).input_value() == "kept"


def headers_and_deadline(visit: Visit) -> None:
    """Any headers and a deadline go with a call; a call can be cancelled."""
    page = visit.page
    visit.open("#method/tools.wait")
    page.get_by_label("seconds", exact=True).fill("20")
    page.get_by_text("Token, headers, deadline").click()
    page.get_by_label("Deadline").fill("0.2")
    page.get_by_role("button", name="Add a header").click()
    page.get_by_label("Name of a header").fill("X-Request-Id")
    page.get_by_label("Value of the header").fill("mine-17")
    visit.send()
    expect(page.locator(".answer")).to_contain_text("-32002")
    expect(page.locator(".answer")).to_contain_text("mine-17")
    page.get_by_label("Deadline").fill("")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".answer")).to_contain_text("You cancelled it")


def events(visit: Visit) -> None:
    """Emit an event, see it handled, see the dead letter of one that failed, replay it."""
    page = visit.page
    visit.open("#emits/order.placed")
    page.get_by_label("X-Api-Token", exact=True).fill(visit.told["token"])
    page.get_by_role("button", name="Continue").click()
    for order in ("1", "x", "13"):
        page.get_by_label("order", exact=True).fill(order)
        page.get_by_label("total", exact=True).last.fill("2.5")
        page.get_by_role("button", name="Emit").click()
        if order == "x":
            expect(page.get_by_text("must be whole number")).to_be_visible()
        else:
            expect(page.locator(".answer")).to_contain_text("Emitted")
    page.get_by_role("link", name="Handled", exact=True).click()

    def until(locator: Any, press: str) -> None:
        for _ in range(100):
            if locator.count():
                return
            page.get_by_role("button", name=press).click()
            page.wait_for_timeout(100)
        raise AssertionError(page.inner_text("main"))

    until(page.get_by_text("ValueError: no luck"), "Load again")
    page.get_by_role("link", name="Dead letters").click()
    until(page.get_by_text("no luck"), "Load again")
    page.get_by_text("Traceback").first.click()
    expect(page.get_by_label("Traceback").first).to_contain_text("on_order")
    page.get_by_role("button", name="Replay").first.click()
    expect(page.locator("#announcer")).to_contain_text(re.compile("put back|found"))


def no_sideways(visit: Visit) -> list[str]:
    """At any width nothing but code and tables is wider than the window."""
    page = visit.page
    wide = []
    for link in visit.told["links"]:
        visit.open(link)
        page.wait_for_timeout(50)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(link)
    return wide


def phone(visit: Visit) -> None:
    """On a phone the list opens by a button, and a call is made."""
    page = visit.page
    visit.open("#method/tools.greet")
    page.get_by_role("button", name="Methods").click()
    page.get_by_role("searchbox").fill("greet")
    page.get_by_role("link", name="tools.greet").first.click()
    page.get_by_label("name", exact=True).fill("phone")
    visit.send()
    expect(page.locator(".answer")).to_contain_text('"hello phone"')
    expect(page.locator(".answer")).to_be_in_viewport()
    page.get_by_role("link", name="History").click()
    for shown in ("result", " ms"):
        expect(page.get_by_role("cell").filter(has_text=shown)).to_be_in_viewport(ratio=1)


def accessible(visit: Visit) -> list[str]:
    """What axe-core finds on each page, in light and in dark."""
    page = visit.page
    found = []
    with open(visit.told["axe"], encoding="utf-8") as file:
        axe = file.read()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for link in visit.told["links"]:
            visit.open(link)
            if link.startswith("#method"):
                sender = page.get_by_role("button", name="Send", exact=True)
                if sender.count():
                    sender.click()
                for fold in page.locator("main details:not([open]) > summary").all()[:20]:
                    if fold.is_visible():
                        fold.click()
                page.wait_for_timeout(300)
            page.evaluate(axe)
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            for violation in result["violations"]:
                nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                found.append(f"{scheme} {link}: {violation['id']} ({violation['impact']}): {nodes}")
    return found


def hostile(visit: Visit) -> dict[str, Any]:
    """Texts stay texts: nothing runs, loads, links to a script, or breaks the layout."""
    page = visit.page
    page.on("dialog", lambda dialog: (visit.wrong.append("a dialog"), dialog.dismiss()))
    before = "document.querySelectorAll('script').length"
    for link in visit.told["links"]:
        visit.open(link)
        for fold in page.locator("main details:not([open]) > summary").all()[:15]:
            if fold.is_visible():
                fold.click()
        sender = page.get_by_role("button", name="Send", exact=True)
        if link.startswith("#method") and sender.count():
            sender.click()
            page.wait_for_timeout(200)
            anyway = page.get_by_role("button", name="Send anyway")
            if anyway.is_visible():
                anyway.click()
            page.wait_for_selector(".answer")
        assert page.evaluate(before) == 1
        assert (
            page.evaluate(
                "document.querySelectorAll('iframe, object, embed, img, style, svg, base').length"
            )
            == 0
        )
        assert page.evaluate("window.pwned === undefined")
        names = page.evaluate(
            "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
        )
        assert not [name for name in names if name.startswith("on")]
        links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.protocol)")
        assert set(links) <= {"http:", "https:", "mailto:"}
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), link
        raw = page.evaluate("document.body.innerText")
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", raw), link
    return {}


def search_times(visit: Visit) -> dict[str, Any]:
    """Milliseconds from a key to what it finds, painted; and to the first paint."""
    page = visit.page
    visit.open()
    page.wait_for_selector("#search")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    listed = page.evaluate("performance.now()")
    page.get_by_role("searchbox").focus()
    times = page.evaluate(
        """async (text) => {
          const search = document.getElementById("search");
          const times = [];
          for (let at = 1; at <= text.length; at++) {
            const started = performance.now();
            search.value = text.slice(0, at);
            search.dispatchEvent(new Event("input", {bubbles: true}));
            document.body.offsetHeight;
            times.push(performance.now() - started);
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
          }
          return times;
        }""",
        visit.told["text"],
    )
    return {
        "paint": paint,
        "listed": listed,
        "keys": times,
        "found": page.locator("#list .count").first.inner_text(),
    }


def pictures(visit: Visit) -> None:
    """Take pictures; `told["shots"]` is a list of (link, file, full page)."""
    page = visit.page
    for link, file, full in visit.told["shots"]:
        visit.open(link)
        sender = page.get_by_role("button", name="Send", exact=True)
        if visit.told.get("send") and link.startswith("#method") and sender.count():
            sender.click()
            page.wait_for_selector(".answer, .fault:not([hidden])")
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement?.blur()")
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(250)
        page.screenshot(path=file, full_page=full)


# The status page


def _open_status(visit: Visit, token: str | None = None) -> None:
    """Open the page, with the token that it asks for if there is one."""
    page = visit.page
    page.goto("about:blank")
    page.goto(visit.told["status"])
    if token is not None:
        page.get_by_label("X-Api-Token", exact=True).fill(token)
        page.keyboard.press("Enter")
    page.wait_for_selector("h2")


def _without_401(visit: Visit) -> None:
    """Forget what the browser says of each 401: that it came is part of the walk."""
    visit.wrong[:] = [each for each in visit.wrong if "status of 401" not in each]


def status_sign_in(visit: Visit) -> None:
    """Nothing of the service is shown before the token is right; then the page goes on with it."""
    page = visit.page
    page.goto(visit.told["status"])
    page.wait_for_selector("h1")
    expect(page.get_by_role("heading", level=1)).to_have_text("This status page is private")
    assert "shop" not in page.content()
    page.get_by_label("X-Api-Token", exact=True).fill("wrong")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("did not accept")
    page.get_by_label("X-Api-Token", exact=True).fill(visit.told["token"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("shop")
    expect(page).to_have_title(re.compile("^Status . shop$"))
    page.get_by_label("Remember on this computer").check()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("shop")  # without being asked again
    _without_401(visit)


def status_refreshes(visit: Visit) -> None:
    """New calls come by themselves; focus, scrolling and what is open stay where they were."""
    page = visit.page
    _open_status(visit, visit.told["token"])
    methods = page.get_by_role("region", name="Methods")
    expect(page.locator("main")).to_contain_text("No calls yet")
    call = """async () => fetch("api", {
        method: "POST",
        headers: {"Content-Type": "application/json"},
        body: JSON.stringify({jsonrpc: "2.0", id: 1, method: "tools.%s", params: %s})})"""
    page.evaluate(call % ("fail", "{}"))
    errors = page.get_by_role("region", name="Recent errors")
    errors.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(errors.locator("pre").first).to_contain_text("Traceback")
    page.evaluate("scrollTo(0, 150)")
    before = page.evaluate("[scrollY, document.activeElement.tagName]")
    page.evaluate(call % ("greet", '{"name": "a"}'))
    expect(methods).to_contain_text("tools.greet")
    page.evaluate(call % ("fail", "{}"))
    page.wait_for_timeout(2500)
    assert page.evaluate("[scrollY, document.activeElement.tagName]") == before
    expect(errors.locator("pre").last).to_be_visible()  # below the newer one
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    page.wait_for_load_state("networkidle")  # of one that was under way
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert asked == []
    with page.expect_request(visit.told["status"]):
        page.get_by_role("button", name="Pause").click()
    _without_401(visit)


def status_away(visit: Visit) -> None:
    """A service that does not answer is told, what was known stays, and it goes on by itself."""
    page = visit.page
    _open_status(visit, visit.told["token"])
    page.route("**/status", lambda route: route.abort())
    expect(page.locator("p.fault")).to_contain_text("does not answer")
    expect(page.get_by_role("heading", level=1)).to_have_text("shop")
    page.unroute("**/status")
    expect(page.locator("p.fault")).to_be_hidden()
    visit.wrong[:] = [each for each in visit.wrong if "net::ERR_FAILED" not in each]
    _without_401(visit)


def status_is_fine(visit: Visit) -> list[str]:
    """What axe-core finds, in light and in dark, and what is wider than the window."""
    page = visit.page
    found = []
    with open(visit.told["axe"], encoding="utf-8") as file:
        axe = file.read()
    page.emulate_media(reduced_motion="reduce")
    for token in (None, visit.told["token"]):
        if token is None:
            page.goto(visit.told["status"])
            page.wait_for_selector("h1")
        else:
            _open_status(visit, token)
            for fold in page.locator("main details:not([open]) > summary").all():
                if fold.is_visible():
                    fold.click()
            page.get_by_role("button", name="Pause").click()
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            for violation in result["violations"]:
                nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                found.append(f"{scheme}: {violation['id']} ({violation['impact']}): {nodes}")
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        if wide:
            found.append(f"{page.viewport_size}: wider than the window")
    _without_401(visit)
    return found


def status_hostile(visit: Visit) -> str:
    """Texts stay texts; what the page shows."""
    page = visit.page
    page.on("dialog", lambda dialog: (visit.wrong.append("a dialog"), dialog.dismiss()))
    page.set_extra_http_headers({"X-Api-Token": visit.told["token"]})
    _open_status(visit)
    for fold in page.locator("main details:not([open]) > summary").all():
        if fold.is_visible():
            fold.click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.locator("main img, main svg, main a").count() == 0
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return str(page.locator("main").inner_text())


def status_pictures(visit: Visit) -> None:
    """Take pictures; `told["shots"]` is a list of (file, full page)."""
    page = visit.page
    page.set_extra_http_headers({"X-Api-Token": visit.told["token"]})
    _open_status(visit)
    for fold in page.locator("main details:not([open]) > summary").all():
        if fold.is_visible() and visit.told["folds"]:
            fold.click()
            visit.told["folds"] -= 1
    page.evaluate("document.activeElement?.blur()")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)
    for file, full in visit.told["shots"]:
        page.screenshot(path=file, full_page=full)

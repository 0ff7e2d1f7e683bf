"""The page in a real browser, against the real server and engine on tiny models."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import layerbridge.serving
import screenshots
from layerbridge.serving.engine import Load
from layerbridge.serving.keys import Keys

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

expect = sync_api.expect
# For a machine that does much else besides.
PATIENCE = 20_000
expect.set_options(timeout=PATIENCE)

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PAGE = Path(layerbridge.serving.__file__).parent / "page"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

LAYERS = 12
TOKENS = ["<s>", "▁ශ්‍රී", "▁ල", "ංකා", "▁රුපිය", "ල", "</s>"]
RTL_TOKENS = ["<s>", "▁شلن", "▁كي", "نيي", "</s>"]
SINHALA = "ශ්‍රී ලංකා රුපියල"
KEY = "a-key"


class Stage:
    """ASGI app around the server's: notes what is asked and refused, and stages what is rare.

    Attributes:
        asked: paths and bodies.
        refused: error statuses.
        fault: status, message and Retry-After of the next replies.
        breaks_after: events of a stream after which the engine is said to have gone down.
        pace_s: before each event of a stream.
    """

    def __init__(self, app):
        self.app = app
        self.state = app.state
        self.reset()

    def reset(self):
        self.asked = []
        self.refused = set()
        self.fault = None
        self.breaks_after = None
        self.pace_s = 0.0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, self.noting(send))
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked.append((scope["path"], json.loads(body)))
        if self.fault is not None:
            await self.refuse(self.noting(send))
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, self.noting(send))

    def noting(self, send):
        events = 0

        async def noted(message):
            nonlocal events
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self.refused.add(message["status"])
            if message.get("body", b"").startswith(b"data: "):
                await asyncio.sleep(self.pace_s)
                events += 1
                if events == self.breaks_after:
                    said = {"error": {"message": "the engine is down; try again"}}
                    message = {**message, "body": f"data: {json.dumps(said)}\n\n".encode()}
                elif self.breaks_after is not None and events > self.breaks_after:
                    return
            await send(message)

        return noted

    async def refuse(self, send):
        status, message, retry = self.fault
        body = json.dumps({"error": {"message": message}}).encode()
        headers = [(b"content-length", str(len(body)).encode()), (b"retry-after", retry.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_server(serve, tiny_engine):
    engine, stages = tiny_engine(), []

    def wrap(app):
        stages.append(Stage(app))
        return stages[0]

    with serve(engine, wrap=wrap) as address:
        (stage,) = stages
        stage.url, stage.engine = f"{address}/", engine
        yield stage
        assert engine.restarts == 0


@pytest.fixture
def server(shared_server):
    shared_server.reset()
    yield shared_server
    assert shared_server.engine.state == "ready"


@pytest.fixture(scope="module")
def written(tiny_bridges):
    """What the library answers, as the page shows it, and why it ends."""

    def write(text, name="token-softmax", *, instruction=None, count=64):
        bridge = tiny_bridges[name]
        ids = bridge.generate(
            hidden_states=bridge.encode([text]),
            instruction=instruction,
            max_new_tokens=count,
            do_sample=False,
        )[0].tolist()
        stops = set(bridge.language_model.stop_token_ids())
        reason = "stop" if stops & set(ids) else "length"
        tokenizer = bridge.language_model.tokenizer
        return tokenizer.decode(ids, skip_special_tokens=True).lstrip(), reason

    return write


def reply_of(page):
    settle(page)
    return page.evaluate("document.getElementById('reply').textContent")


@pytest.fixture(scope="module")
def window(browser):
    """A tab with these settings, shared by the tests that want the same: a new one takes long."""
    standard = {"viewport": {"width": 1100, "height": 800}, "reduced_motion": "reduce"}
    pages = {}

    def get(settings):
        page = pages.get(str(settings))
        if page is None:
            page = pages[str(settings)] = browser.new_context(**standard | settings).new_page()
            page.set_default_timeout(PATIENCE)
        return page

    return get


@pytest.fixture
def visit(window, server):
    """Opens the page; at the end: it asked no other host, and the browser had no complaint."""
    complaints, requests, urls = [], [], []
    ears = {
        "request": lambda request: requests.append(request.url),
        "pageerror": lambda error: complaints.append(str(error)),
        "console": lambda said: said.type in ("error", "warning") and complaints.append(said.text),
    }
    pages = []

    def open_page(address="", *, wait="#bridge:enabled", url=server.url, **settings):
        urls.append(url)
        page = window(settings)
        if page not in pages:
            pages.append(page)
            for event, ear in ears.items():
                page.on(event, ear)
        # Else another fragment alone would be no new visit.
        page.goto("about:blank")
        page.goto(url + address)
        page.wait_for_selector(wait)
        return page

    yield open_page
    for page in pages:
        page.evaluate("sessionStorage.clear()")
        page.unroute_all()
        page.goto("about:blank")
        for event, ear in ears.items():
            page.remove_listener(event, ear)
    assert {url for url in requests if not url.startswith((*urls, "about:"))} == set()
    # Chromium tells of every refusal; those that a test asked for are no fault of the page.
    refused = re.compile(r"Failed to load resource: .* status of (\d+)")
    assert [text for text in complaints if not refused.match(text)] == []
    statuses = {int(match[1]) for match in map(refused.match, complaints) if match}
    assert statuses == server.refused


def settle(page):
    """Waits for what is under way to end."""
    page.wait_for_selector("#stop", state="hidden")


def test_an_answer_streams_in_beside_its_map(visit, server, written):
    server.pace_s = 0.005
    page = visit()
    # Each state of the answer, as it comes.
    page.evaluate(
        """() => {
          window.seen = [];
          const reply = document.getElementById("reply");
          new MutationObserver(() => seen.push(reply.textContent))
            .observe(reply, { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.fill("#text", f"  {SINHALA} ")
    page.click("#answer")
    page.wait_for_selector("#layers-panel:visible")
    answer, reason = written(SINHALA)
    assert reply_of(page) == answer
    seen = [text for text in page.evaluate("seen") if text]
    assert all(answer.startswith(text) for text in seen)
    assert len(set(seen)) >= 4
    assert reason == "length"
    assert page.inner_text("#reply-note") == "Stopped at 64 tokens; raise the limit in Settings."
    assert page.evaluate("document.getElementById('status').textContent") == f"Answer: {answer}"
    asked = dict(server.asked)
    assert asked["/v1/completions"] == {
        **{"model": "token-softmax", "prompt": SINHALA, "stream": True},
        **{"max_tokens": 64, "temperature": 0, "options": []},
    }
    assert asked["/v1/layer_weights"] == {"model": "token-softmax", "text": SINHALA}
    assert "/v1/classify" not in asked


def test_settings_go_along_and_wrong_ones_are_shown(visit, server):
    page = visit()
    page.fill("#text", "x")
    page.click("summary")
    assert page.input_value("#instruction") == "What kind of thing is it?"
    page.fill("#instruction", "Answer in one word.")
    page.fill("#max-tokens", "0")
    page.click("summary")
    page.click("#answer")
    assert page.get_attribute("#settings", "open") is not None
    assert page.evaluate("document.activeElement.id") == "max-tokens"
    assert not server.asked
    page.fill("#max-tokens", "7")
    page.fill("#temperature", "0.7")
    page.fill("#seed", "3")
    page.click("#answer")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    asked = dict(server.asked)["/v1/completions"]
    assert asked["instruction"] == "Answer in one word."
    assert (asked["max_tokens"], asked["temperature"], asked["seed"]) == (7, 0.7, 3)
    # What a person wrote outlives a change of bridge; what the page wrote does not.
    page.select_option("#bridge", "reviews")
    assert page.input_value("#instruction") == "Answer in one word."
    page.fill("#instruction", "")
    page.select_option("#bridge", "token-softmax")
    assert page.input_value("#instruction") == "What kind of thing is it?"


@pytest.mark.parametrize("instruction", ["", " ", "Say it."])
def test_an_instruction_of_ones_own_or_none(visit, server, written, tiny_bridges, instruction):
    page = visit(f"#text={SINHALA}")
    page.click("summary")
    page.fill("#instruction", instruction)
    page.click("#answer")
    page.wait_for_selector("#layers-panel:visible")
    instruction = instruction.strip()
    assert reply_of(page) == written(SINHALA, instruction=instruction)[0]
    page.click("#choose")
    page.wait_for_selector("#bars li")
    settle(page)
    (wanted,) = tiny_bridges["token-softmax"].classify(SINHALA, instruction=instruction)
    assert page.inner_text("#choice") == wanted.choice
    assert {body.get("instruction") for path, body in server.asked if "weights" not in path} == {
        instruction
    }
    assert page.inner_text("#problem-text") == ""


@pytest.mark.parametrize(
    ("bridge", "first", "path"),
    [
        ("token-softmax", "choose", "/v1/classify"),
        ("reviews", "answer", "/v1/completions"),
        ("global-softmax", "choose", "/v1/classify"),
    ],
)
def test_the_first_button_is_what_the_bridge_was_trained_for(visit, server, bridge, first, path):
    """It stands first, stands out, and is what Enter sends."""
    page = visit(f"#bridge={bridge}&text={SINHALA}")
    buttons = page.eval_on_selector_all(
        "#choose, #answer", "all => all.map(each => [each.id, each.className, each.type])"
    )
    second = "answer" if first == "choose" else "choose"
    assert buttons == [[first, "first", "submit"], [second, "", "button"]]
    page.focus("#instruction" if page.is_visible("#instruction") else "#options")
    for keys in ("Enter", "Control+Enter"):
        server.reset()
        page.keyboard.press(keys)
        page.wait_for_selector("#layers-panel:visible")
        settle(page)
        assert [asked for asked, _ in server.asked if "weights" not in asked] == [path]


def test_the_examples_are_those_of_the_bridge(visit, server):
    page = visit()
    examples = page.locator("#examples button")
    # A device without Chinese does not show that one.
    assert examples.count() in (13, 14)
    page.select_option("#bridge", "global-softmax")
    text = "Fiji " * 99 + "Fiji"
    assert examples.all_inner_texts() == [f"{text}\nlabeled “country”"]
    assert examples.first.bounding_box()["height"] < 140  # the text is clipped
    examples.first.click()
    assert page.input_value("#text") == text
    page.select_option("#bridge", "reviews")
    assert not page.is_visible(".examples")
    assert server.asked == []


@pytest.mark.parametrize("far", [True, False])
def test_a_text_far_from_training_is_marked(visit, tiny_bridges, monkeypatch, far):
    bridge = tiny_bridges["token-softmax"]
    monkeypatch.setattr(bridge.config, "usual_any_option", 1.0 if far else 0.0)
    page = visit(f"#text={SINHALA}")
    page.click("#choose")
    page.wait_for_selector("#bars li")
    settle(page)
    (wanted,) = bridge.classify(SINHALA)
    assert wanted.far_from_training == far
    likely = wanted.any_option
    share = "less than 0.1" if likely < 0.001 else f"{100 * likely:.1f}"
    said = page.inner_text("#choice-note")
    assert f"probability of {share}\u00a0%" in said
    assert said.startswith("Far from training: " if far else "All options together ")
    status = page.evaluate("document.getElementById('status').textContent")
    assert status == f"Choice: {wanted.choice}{', far from training' if far else ''}"


def test_choosing_shows_bars(visit, server, tiny_bridges, written):
    page = visit()
    page.fill("#text", SINHALA)
    page.click("#choose")
    page.wait_for_selector("#bars li")
    settle(page)
    (wanted,) = tiny_bridges["token-softmax"].classify(SINHALA)
    assert page.inner_text("#choice") == wanted.choice
    names = page.locator("#bars li bdi").all_inner_texts()
    assert names == sorted(wanted.scores, key=wanted.scores.get, reverse=True)
    shares = [float(text.split()[0]) for text in page.locator("#bars .value").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.3)
    widths = page.eval_on_selector_all(
        "#bars .track",
        "all => all.map(t => 100 * t.firstChild.offsetWidth / t.offsetWidth)",
    )
    assert widths == pytest.approx(shares, abs=1)
    assert not page.is_visible("#answer-panel")
    # The same text keeps its map; its answer joins the choice.
    page.click("#answer")
    page.wait_for_selector("#reply:not(:empty)")
    assert reply_of(page) == written(SINHALA)[0]
    assert page.is_visible("#choice-panel")
    assert [path for path, _ in server.asked].count("/v1/layer_weights") == 1


def test_options_of_ones_own(visit, server):
    page = visit("#bridge=reviews")
    assert "no default options" in page.inner_text("#options-note")
    page.fill("#text", "good")
    page.click("#choose")
    assert "at least two options" in page.inner_text("#problem-text")
    assert page.evaluate("document.activeElement.id") == "options"
    assert not server.asked
    page.fill("#options", "good, bad، 坏，good")
    page.click("#choose")
    page.wait_for_selector("#bars li")
    settle(page)
    assert dict(server.asked)["/v1/classify"]["options"] == ["good", "bad", "坏"]
    assert page.inner_text("#problem-text") == ""


def test_the_map_has_a_cell_for_each_token_and_layer(visit, tiny_bridges):
    page = visit(f"#text={SINHALA}")
    page.click("#answer")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    grid = page.get_by_role("grid", name="Layers")
    assert grid.locator("tbody tr").count() == len(TOKENS)
    assert grid.locator("tbody .cell").count() == len(TOKENS) * LAYERS
    # A row of averages below.
    assert grid.locator("tfoot .cell").count() == LAYERS
    heads = grid.locator("tbody th").all_inner_texts()
    assert heads == ["<s>", "ශ්‍රී", "ල", "ංකා", "රුපිය", "ල", "</s>"]
    assert [len(word) for word in words(grid)] == [1, 1, 2, 2, 1]
    assert grid.locator("thead th").all_inner_texts()[1:3] == ["layer\n1", "layer\n2"]
    (wanted,) = tiny_bridges["token-softmax"].layer_weights(SINHALA)
    assert wanted.tokens == TOKENS
    for row, expected in zip(grid.locator("tbody tr").all(), wanted.weights, strict=True):
        top = int(expected.argmax())
        assert row.locator(".cell.top").count() == 1
        label = row.locator(".cell").nth(top).get_attribute("aria-label")
        assert label.endswith(f"\u00a0% from layer {top + 1}")
        assert row.locator(".most").inner_text().split()[:2] == ["layer", str(top + 1)]
    colours = grid.locator("tbody .cell").evaluate_all(
        "cells => cells.map(cell => getComputedStyle(cell).backgroundColor)"
    )
    assert len(set(colours)) > 10


def words(grid):
    return grid.locator("tbody").evaluate_all(
        "all => all.map(body => [...body.rows].map(row => row.cells[0].textContent))"
    )


def test_the_map_by_keyboard_and_pointer(visit):
    page = visit(f"#text={SINHALA}")
    page.click("#answer")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    assert page.locator("#map [tabindex='0']").count() == 1

    def here():
        return page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText")

    def press(*keys):
        for key in keys:
            page.keyboard.press(key)
        assert page.locator("#map [tabindex='0']").count() == 1
        return here()

    page.locator("#map .cell").first.focus()
    assert press("ArrowLeft", "ArrowUp").endswith("from layer 1")
    assert here().startswith("<s>: ")
    assert press("ArrowDown", "ArrowRight", "ArrowRight").startswith("ශ්‍රී: ")
    assert here().endswith("from layer 3")
    readout = page.inner_text("#map .readout")
    assert "ශ්‍රී" in readout
    assert "from layer 3" in readout
    assert page.locator("#map th.lit").count() == 2
    assert "layer" in press("End")
    assert press("Control+End").startswith("layer")
    assert press("Control+Home").startswith("<s>: ")
    # One stop for Tab: the next one is beyond the map.
    page.keyboard.press("Tab")
    assert not page.evaluate("document.getElementById('map').contains(document.activeElement)")
    page.locator("#map tbody tr").nth(3).locator(".cell").nth(4).hover()
    assert "ංකා" in page.inner_text("#map .readout")


def test_right_to_left(visit):
    page = visit()
    example = page.get_by_role("button", name="Arabic “Kenyan shilling”")
    text = example.locator(".any")
    direction = "element => getComputedStyle(element).direction"
    assert (text.get_attribute("lang"), text.evaluate(direction)) == ("ar", "rtl")
    example.click()
    assert page.input_value("#text") == "شلن كينيي"
    assert page.get_attribute("#text", "lang") == "ar"
    assert page.eval_on_selector("#text", direction) == "rtl"
    page.click("#choose")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    pieces = page.locator("#map tbody th bdi")
    assert pieces.all_inner_texts() == ["<s>", "شلن", "كي", "نيي", "</s>"]
    assert pieces.evaluate_all("all => all.map(e => getComputedStyle(e).direction)") == (
        ["ltr"] + ["rtl"] * 3 + ["ltr"]
    )
    # Writing over it takes its language away.
    page.fill("#text", "abc")
    assert page.get_attribute("#text", "lang") is None
    assert page.eval_on_selector("#text", direction) == "ltr"


def test_a_bridge_that_weighs_all_tokens_alike_says_so(visit):
    page = visit(f"#bridge=global-softmax&text={SINHALA}")
    page.click("#choose")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    assert "the same weights for every token" in page.inner_text("#map-note")
    assert page.locator("#map tfoot").count() == 0


def test_what_the_server_refuses(visit, server):
    page = visit()
    alert = page.get_by_role("alert")
    assert alert.inner_text() == ""
    page.fill("#text", "x" * 20_001)
    page.click("#answer")
    page.wait_for_selector("#problem-text:not(:empty)")
    assert alert.inner_text() == "prompt: 20001 characters; allowed: at most 20000"
    assert not page.is_visible("#again")
    assert not page.is_visible("#answer-panel")
    page.fill("#text", SINHALA)
    page.click("#choose")
    page.wait_for_selector("#bars li")
    settle(page)
    assert alert.inner_text() == ""


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_says_when_to_come_back(visit, server, written, status):
    page = visit(f"#text={SINHALA}")
    server.fault = (status, "the server is busy; try again", "5")
    page.click("#answer")
    page.wait_for_selector("#problem-text:not(:empty)")
    said = page.get_by_role("alert").inner_text()
    assert said == "the server is busy; try again. Try again in 5 seconds."
    server.fault = None
    page.click("#again")
    page.wait_for_selector("#reply:not(:empty)")
    assert reply_of(page) == written(SINHALA)[0]
    assert page.inner_text("#problem-text") == ""


def test_an_answer_that_breaks_off(visit, server, written):
    server.breaks_after = 8
    page = visit(f"#text={SINHALA}")
    page.click("#answer")
    page.wait_for_selector("#problem-text:not(:empty)")
    assert page.inner_text("#problem-text") == "the engine is down; try again"
    begun = reply_of(page)
    assert begun
    assert written(SINHALA)[0].startswith(begun)
    assert page.inner_text("#reply-note") == "Interrupted here."


def test_a_server_that_is_gone(visit, server):
    page = visit("#text=x")
    page.route("**/v1/*", lambda route: route.fulfill(status=502, body="<html>bad gateway</html>"))
    server.refused.add(502)
    page.click("#choose")
    page.wait_for_selector("#again:visible")
    assert page.inner_text("#problem-text") == "The server replied with status 502."
    assert page.is_visible("#intro")


def test_a_key_is_asked_for_and_kept_in_the_tab(visit, server, serve, tiny_engine):
    def wrap(app):
        stage = Stage(app)
        stage.refused = server.refused
        return stage

    with serve(tiny_engine(), wrap=wrap, keys=Keys([KEY])) as address:
        page = visit(f"#text={SINHALA}", wait="#key-form:visible", url=f"{address}/")
        enter_the_key(page)


def enter_the_key(page):
    asked = "missing or invalid API key; send it as 'Authorization: Bearer KEY'"
    assert page.get_by_role("alert").inner_text() == asked
    field = page.get_by_label("API key")
    assert field.get_attribute("type") == "password"
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(field).to_have_value("")
    expect(field).to_be_visible()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    page.wait_for_selector("#bridge:enabled")
    assert not page.is_visible("#key-form")
    assert page.evaluate("Object.values(sessionStorage)") == [KEY]
    assert page.evaluate("localStorage.length") == 0
    assert KEY not in page.url
    page.reload()
    page.wait_for_selector("#bridge:enabled")
    page.click("#answer")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    assert page.inner_text("#problem-text") == ""


def test_stop_ends_the_request(visit, server, eventually):
    def is_idle():
        return server.engine.load == Load(0, 0)

    server.pace_s = 0.01
    page = visit(f"#text={SINHALA}")
    page.click("summary")
    page.fill("#max-tokens", "900")
    page.click("#answer")
    page.wait_for_selector("#reply:not(:empty)")
    page.focus("#stop")
    page.keyboard.press("Enter")
    settle(page)
    eventually(is_idle)
    assert page.inner_text("#reply-note") == "Stopped here."
    # The focus has somewhere to be when its button goes.
    assert page.evaluate("document.activeElement.id") == "choose"
    assert page.inner_text("#problem-text") == ""
    # Asking anew ends what was under way, and Escape ends it as well.
    page.click("#answer")
    page.wait_for_selector("#reply:not(:empty)")
    page.click("#answer")
    page.wait_for_selector("#reply:not(:empty)")
    eventually(lambda: server.engine.load.running <= 1)
    page.keyboard.press("Escape")
    settle(page)
    assert page.inner_text("#reply-note") == "Stopped here."
    eventually(is_idle)


def test_the_address_keeps_bridge_text_and_options(visit, server):
    page = visit()
    page.select_option("#bridge", "reviews")
    page.fill("#text", "மிகவும் & நன்று #1")
    page.fill("#options", "good, bad")
    page.wait_for_url("**options=*")
    again = visit(page.url.removeprefix(server.url))
    assert again.input_value("#bridge") == "reviews"
    assert again.input_value("#text") == "மிகவும் & நன்று #1"
    assert again.input_value("#options") == "good, bad"
    again.evaluate("location.hash = 'bridge=global-softmax&text=x'")
    expect(again.locator("#text")).to_have_value("x")
    assert again.input_value("#bridge") == "global-softmax"


def test_before_a_question_the_examples_come_first(visit):
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True)
    examples, intro = (page.locator(name).bounding_box()["y"] for name in ("#examples", "#intro"))
    assert examples < intro


def test_a_map_that_fits_does_not_say_that_it_scrolls(visit):
    page = visit(f"#text={SINHALA}")
    page.click("#choose")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    assert page.locator("#map .scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
    assert not page.is_visible("#map .sideways")
    # On a wide page the examples are below the form, beside the answer.
    form, examples = (page.locator(name).bounding_box() for name in ("#ask", "#examples"))
    assert form["y"] + form["height"] < examples["y"]
    assert page.locator("#results").bounding_box()["x"] > examples["x"] + examples["width"]
    screenshots.keep(page, "page-desktop")


def test_examples_without_a_font_are_left_out(visit):
    """Chinese has no font of the page's own; whether the system has one is seen by its pixels."""
    page = visit()
    listed = page.eval_on_selector_all("#examples [lang]", "all => all.map(e => e.lang)")
    note = page.inner_text("#examples-note")
    can = "async () => (await import('./page/glyphs.js')).canBeShown"
    shown = page.evaluate(f"async () => (await ({can})())('中')")
    assert any(code.startswith("zh") for code in listed) == shown
    assert note == (
        "" if shown else "Not shown, for want of a font on this device: Simplified Chinese."
    )
    # Nobody has a font for a letter that does not exist; everybody has one for these.
    for text, expected in (("\u0378", False), ("a", True), (SINHALA, True), ("Ж, é?", True)):
        assert page.evaluate(f"async text => (await ({can})())(text)", text) is expected, text


@pytest.mark.parametrize("width", [320, 360])
def test_on_a_telephone_nothing_scrolls_sideways(visit, width):
    page = visit(f"#text={SINHALA}", viewport={"width": width, "height": 740}, has_touch=True)
    page.click("summary")
    page.click("#choose")
    page.wait_for_selector("#layers-panel:visible")
    page.click("#answer")
    page.wait_for_selector("#reply:not(:empty)")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """width => [...document.querySelectorAll("body *:not(.scroll *):not(.hidden)")]
          .filter(e => e.getBoundingClientRect().right > width + .5).map(e => e.outerHTML)""",
        width,
    )
    assert beyond == []
    # The results come into view by themselves.
    assert (
        page.evaluate("document.getElementById('results').getBoundingClientRect().top") < 0.6 * 740
    )
    # The answer stands before the examples.
    tops = {name: page.locator(name).bounding_box()["y"] for name in ("#results", "#examples")}
    assert tops["#results"] < tops["#examples"]
    if width == 360:
        screenshots.keep(page, "page-phone")
    # What does not fit there scrolls in its own box, and says so.
    box = page.locator("#map .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert page.inner_text("#map .sideways") == "Scroll the map sideways for all 12 layers."
    page.locator("#map .cell").first.focus()
    page.keyboard.press("End")
    assert box.evaluate("box => box.scrollLeft") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_both_themes(visit, scheme):
    page = visit(f"#text={SINHALA}", color_scheme=scheme)
    page.click("summary")
    page.click("#choose")
    page.wait_for_selector("#layers-panel:visible")
    page.click("#answer")
    page.wait_for_selector("#reply:not(:empty)")
    settle(page)
    page.fill("#text", "")
    page.click("#answer")  # a problem is shown
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = luminance(paper) > 0.5
    assert light == (scheme == "light")
    weak = [
        (told.text, told.ink, told.behind)
        for told in (SimpleNamespace(**each) for each in page.evaluate(TEXTS))
        if contrast(told.ink, told.behind) < 4.5
    ]
    assert weak == []
    # Controls stand out from what is around them.
    for name in ("#text", "#bridge", "#choose", "#options"):
        edge = page.eval_on_selector(name, "e => getComputedStyle(e).borderTopColor")
        assert contrast(edge, paper) >= 3, name


# Every text with its colour and what is behind it.
TEXTS = """() => {
  const seen = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(".hidden, .skip, noscript, option")) continue;
    let under = element;
    const clear = "rgba(0, 0, 0, 0)";
    while (under && getComputedStyle(under).backgroundColor === clear) under = under.parentElement;
    seen.push({
      text: walker.currentNode.data.trim().slice(0, 40),
      ink: getComputedStyle(element).color,
      behind: getComputedStyle(under).backgroundColor,
    });
  }
  return seen;
}"""


def luminance(colour):
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_every_control_has_a_name_and_ids_are_unique(visit):
    page = visit(f"#text={SINHALA}")
    page.click("summary")
    page.click("#choose")
    page.wait_for_selector("#layers-panel:visible")
    settle(page)
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node.get("ignored")]
    controls = ("button", "textbox", "combobox", "spinbutton", "link", "gridcell", "grid", "region")
    by_role = {role: [] for role in controls}
    for node in shown:
        role = node["role"]["value"]
        if role in by_role:
            by_role[role].append(node.get("name", {}).get("value", ""))
    assert all(name.strip() for names in by_role.values() for name in names)
    assert len(by_role["button"]) >= 14
    assert len(by_role["gridcell"]) == (len(TOKENS) + 1) * (LAYERS + 1)
    assert len(by_role["spinbutton"]) == 3
    headings = page.eval_on_selector_all("h1, h2, h3", "all => all.map(h => h.tagName)")
    assert headings[0] == "H1"
    assert headings.count("H1") == 1
    assert page.get_attribute("html", "lang") == "en"
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    dangling = page.evaluate(
        """() => ["for", "aria-labelledby", "aria-describedby"].flatMap(name =>
          [...document.querySelectorAll(`[${name}]`)].map(e => e.getAttribute(name)))
          .filter(id => !document.getElementById(id))"""
    )
    assert dangling == []
    # Nothing that the server's policy forbids.
    html = (PAGE / "index.html").read_text("utf-8")
    assert re.findall(r"\s(?:style|on\w+)=|<style|<script(?! type=.module. src=)", html) == []
    # The first stop is the way past the head of the page.
    fresh = visit(f"#text={SINHALA}")
    fresh.keyboard.press("Tab")
    assert fresh.evaluate("document.activeElement.className") == "skip"
    fresh.keyboard.press("Enter")
    fresh.keyboard.press("Control+A")
    fresh.keyboard.type("abc")
    assert fresh.input_value("#text") == "abc"


def test_the_examples_are_shown_in_their_own_fonts(visit):
    page = visit()
    page.evaluate("document.fonts.ready.then(() => true)")
    loaded = page.evaluate(
        "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    )
    scripts = [
        *("Arabic", "Bengali", "Devanagari", "Ethiopic", "Georgian", "Hebrew"),
        *("Sinhala", "Tamil", "Thai"),
    ]
    assert sorted(name.strip('"').removeprefix("Noto Sans ") for name in loaded) == scripts
    tags = page.eval_on_selector_all("#examples [lang]", "all => all.map(e => e.lang)")
    assert len(set(tags)) == len(tags) >= 12
    rtl = page.eval_on_selector_all(
        "#examples [lang]",
        "all => all.filter(e => getComputedStyle(e).direction === 'rtl').map(e => e.lang)",
    )
    assert rtl == ["ar", "ur", "he"]


def test_what_is_shipped_is_small_and_has_its_licence():
    assert sum(file.stat().st_size for file in PAGE.rglob("*") if file.is_file()) < 1_000_000
    licence = (PAGE / "fonts" / "OFL.txt").read_text("utf-8")
    css = (PAGE / "fonts" / "fonts.css").read_text("utf-8")
    fonts = sorted(file.stem for file in (PAGE / "fonts").glob("*.woff2"))
    assert fonts == sorted(re.findall(r'url\("(\w+)\.woff2"\)', css))
    assert fonts == sorted(re.findall(r"Copyright .*notofonts/(\w+)\)", licence))
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    # No address of another host anywhere, the namespace of SVG aside.
    for file in PAGE.rglob("*"):
        if file.suffix in (".html", ".css", ".js", ".svg"):
            text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            assert re.findall(r"https?://|[\"'(]//\w", text) == [], file

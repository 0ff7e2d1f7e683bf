"""The report as a browser lays it out, on a phone and on a desktop."""

import html
import json
import os
import re
import shutil
import subprocess

import pytest
from html_tree import tree

import screenshots

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# Of frames, in pixels: the window of a headless browser cannot be as narrow as a phone.
WIDTHS = (360, 1200)
MEASURE = """
addEventListener("load", () => {
  const measured = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    const size = (element) => {
      const box = element.getBoundingClientRect();
      return [Math.round(box.width), Math.round(box.height)];
    };
    measured[frame.width] = {
      scroll: page.documentElement.scrollWidth,
      paper: getComputedStyle(page.body).backgroundColor,
      themed: !page.getElementById("theme").hidden,
      figures: Object.fromEntries([...page.querySelectorAll("figure")].map((figure) => [
        figure.id,
        [...figure.querySelectorAll("svg[role=img], table")].map(size),
      ])),
      tables: [...page.querySelectorAll(".scroll")].map(size),
    };
  }
  document.body.dataset.measured = JSON.stringify(measured);
});
"""


def browse(tmp_path, page, *flags):
    profile = tmp_path / "profile"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_every_figure_has_a_size_and_no_page_scrolls_sideways(written, tmp_path):
    text = html.escape(written.read_text(encoding="utf-8"))
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{text}"></iframe>' for w in WIDTHS)
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!doctype html><body>{frames}<script>{MEASURE}</script>", encoding="utf-8")
    dom = browse(tmp_path, outer, "--dump-dom")
    measured = json.loads(html.unescape(re.search(r'data-measured="([^"]*)"', dom)[1]))
    expected = [f.attributes["id"] for f in tree(written.read_text("utf-8")).all("figure")]
    for width in WIDTHS:
        seen = measured[str(width)]
        assert seen["scroll"] <= width, f"at {width} pixels"
        assert seen["paper"] == "rgb(255, 255, 255)"
        assert seen["themed"], "the page's own script did not run"
        assert list(seen["figures"]) == expected
        for name, sizes in seen["figures"].items():
            shown = [size for size in sizes if size[0]]
            # One of the two drawings is visible.
            assert len(shown) == 1, name
            assert min(shown[0]) > 80, name
            if not name.startswith("tokens"):
                assert shown[0][0] <= width, name
        assert all(box[0] <= width for box in seen["tables"])


def test_it_is_dark_where_the_browser_is_and_says_what_scrolls(written):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from PIL import Image

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(written.as_uri())
        for device, size in (("phone", (360, 740)), ("desktop", (1200, 900))):
            page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
            for scheme, file in screenshots.keep(page, f"report-{device}").items():
                with Image.open(file) as image:
                    pixels = image.convert("L")
                    assert (pixels.getpixel((2, 2)) < 50) == (scheme == "dark")
                    # The text has contrast.
                    low, high = pixels.getextrema()
                    assert high - low > 150
            told = page.eval_on_selector_all(
                ".sideways",
                "all => all.map(p => [!p.hidden, p.nextElementSibling.scrollWidth"
                " > p.nextElementSibling.clientWidth])",
            )
            assert told
            assert all(said == scrolls for said, scrolls in told), device
        assert not page.is_visible(".sideways")
        page.eval_on_selector(".sideways", "p => { p.nextElementSibling.style.width = '60px'; }")
        page.wait_for_selector(".sideways:visible")
        assert page.inner_text(".sideways") == "Scroll the table sideways for all 2 layers."
        browser.close()

"""The report in a real browser: it opens without a network, fits a desktop and a phone, and trusts nobody's text."""

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from resilience import runner
from resilience.report.html import html_page
from resilience.report.terminal import console_for
from resilience.report.text import visible
from tests import hostile, judged_run

pytestmark = pytest.mark.component

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
DRAWN = "return [...document.querySelectorAll('.plot')].map(plot => plot.dataset.drawn === 'yes' && inked(plot));"
INKED = """
const inked = plot => {
  const canvas = plot.querySelector('canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 0;
  return count > 500;
};
"""
# The lowest contrast of all texts against what is painted behind them, WCAG 2's formula.
CONTRAST = """
const channel = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
const parts = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const behind = node => {
  for (; node; node = node.parentElement) {
    const c = parts(getComputedStyle(node).backgroundColor);
    if (c[3] === 1) return c;
  }
  return [255, 255, 255, 1];
};
let worst = [99, ''];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  if (!own || !node.getClientRects().length || ['SCRIPT', 'STYLE', 'text', 'title'].includes(node.tagName)) continue;
  const a = light(parts(getComputedStyle(node).color)), b = light(behind(node));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < worst[0]) worst = [ratio, node.tagName + '.' + node.className + ': ' + node.textContent.slice(0, 40)];
}
return worst;
"""


@dataclass(frozen=True)
class View:
    name: str
    width: int
    height: int
    scheme: str


VIEWS = [
    View("desktop-light", 1280, 900, "light"),
    View("desktop-dark", 1280, 900, "dark"),
    View("phone-light", 390, 844, "light"),
    View("phone-dark", 390, 844, "dark"),
]
JUDGEMENTS = {
    "pass": judged_run.passed(),
    "fail": judged_run.failed(),
    "inconclusive": judged_run.inconclusive(),
    "hostile": judged_run.hostile(),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM and DRIVER):
        message = "no chromium and chromedriver on PATH: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()


def log(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    return list(browser.get_log(kind))  # type: ignore[no-untyped-call]


def look(browser: webdriver.Chrome, page: Path, view: View) -> None:
    metrics = {"width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": view.width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": view.scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for kind in ("performance", "browser"):
        log(browser, kind)  # what was before belongs to another page
    browser.get(page.as_uri())


def requests(browser: webdriver.Chrome) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in log(browser, "performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def screenshot(browser: webdriver.Chrome, name: str, directory: Path) -> None:
    """The whole page, in the folder that ``SCREENSHOTS`` names, else in the test's own."""
    folder = Path(os.environ.get("SCREENSHOTS") or directory)
    folder.mkdir(parents=True, exist_ok=True)
    size: dict[str, Any] = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


def overflow(browser: webdriver.Chrome) -> int:
    return int(browser.execute_script("return document.documentElement.scrollWidth - innerWidth;"))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@pytest.mark.parametrize("name", JUDGEMENTS)
def test_the_page_opens_whole(browser: webdriver.Chrome, tmp_path: Path, name: str, view: View):
    run = judged_run.saved(tmp_path, JUDGEMENTS[name])
    look(browser, html_page(run), view)
    asked = [url for url in requests(browser) if not url.startswith("data:")]
    screenshot(browser, f"{name}-{view.name}", tmp_path)
    assert asked == [run.page.as_uri()]
    assert log(browser, "browser") == []
    assert overflow(browser) <= 0
    drawn = browser.execute_script(INKED + DRAWN)
    assert len(drawn) == 8
    assert all(drawn)
    ratio, text = browser.execute_script(CONTRAST)
    assert ratio >= 4.5, text
    word = browser.find_element(By.CSS_SELECTOR, ".banner .word").text
    assert word == JUDGEMENTS[name].verdict.upper()


@pytest.mark.parametrize("view", [VIEWS[0], VIEWS[2]], ids=lambda view: view.name)
def test_lost_writes_open_with_a_click_and_show_hostile_text_as_text(
    browser: webdriver.Chrome, tmp_path: Path, view: View
):
    run = judged_run.saved(tmp_path, judged_run.hostile())
    look(browser, html_page(run), view)
    details = browser.find_element(By.CSS_SELECTOR, "#lost details")
    table = details.find_element(By.TAG_NAME, "table")
    assert not table.is_displayed()
    details.find_element(By.TAG_NAME, "summary").click()
    assert table.is_displayed()
    assert f"direct:{visible(judged_run.HOSTILE)}:1" in table.text
    for wanted in ("direct/3000", "shard 1", "29.940 s"):
        assert wanted in table.text
    assert "29.940 to 31.238 s" in details.text
    assert not browser.find_elements(By.CSS_SELECTOR, "main img, main b")
    screenshot(browser, f"lost-open-{view.name}", tmp_path)
    assert overflow(browser) <= 0


@pytest.mark.parametrize("view", [VIEWS[0], VIEWS[2]], ids=lambda view: view.name)
def test_a_run_full_of_attacks_is_text_and_runs_nothing(browser: webdriver.Chrome, tmp_path: Path, view: View):
    run = hostile.opened(tmp_path)
    runner.judge_run(run, None, console_for(io.StringIO()))
    look(browser, run.page, view)
    for details in browser.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", details)
    for link in browser.find_elements(By.CSS_SELECTOR, "#files a"):
        assert str(link.get_attribute("href")).startswith(run.directory.as_uri())
    with pytest.raises(NoAlertPresentException):
        browser.switch_to.alert.accept()
    assert browser.execute_script("return typeof window.owned") == "undefined"
    assert browser.execute_script("return document.scripts.length") == 3
    assert [url for url in requests(browser) if not url.startswith("data:")] == [run.page.as_uri()]
    assert log(browser, "browser") == []
    text = str(browser.execute_script("return document.body.innerText"))
    for name, wanted in hostile.TEXTS.items():
        if name != "megabyte":
            assert "".join(visible(wanted).split()) in "".join(text.split()), name
    assert not browser.find_elements(By.CSS_SELECTOR, "main img, main b, main iframe, main script, main style")
    assert overflow(browser) <= 0
    screenshot(browser, f"attacks-{view.name}", tmp_path)


def test_the_page_is_readable_without_scripts(browser: webdriver.Chrome, tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.failed())
    page = html_page(run)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        for view in (VIEWS[0], VIEWS[2]):
            look(browser, page, view)
            screenshot(browser, f"no-scripts-{view.name}", tmp_path)
            assert browser.find_element(By.CSS_SELECTOR, "svg.overview").is_displayed()
            assert not browser.find_element(By.ID, "whole").is_displayed()
            assert "12 acknowledged writes lost" in browser.find_element(By.CSS_SELECTOR, ".findings").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_charts_answer_to_the_keyboard(browser: webdriver.Chrome, tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.failed())
    look(browser, html_page(run), VIEWS[0])
    plot = browser.find_element(By.CSS_SELECTOR, ".plot")
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    values = [node.text for node in browser.find_elements(By.CSS_SELECTOR, ".key .value")]
    assert values[0][0].isdigit()
    browser.find_element(By.CSS_SELECTOR, "button.key").send_keys(Keys.ENTER)
    assert browser.find_element(By.CSS_SELECTOR, "button.key").get_attribute("aria-pressed") == "false"


def test_a_run_cut_short_still_has_a_page(browser: webdriver.Chrome, tmp_path: Path):
    run = judged_run.opened(tmp_path)
    look(browser, html_page(run), VIEWS[0])
    assert log(browser, "browser") == []
    assert "cut short" in browser.find_element(By.CSS_SELECTOR, ".banner").text
    assert "injected" in str(browser.find_element(By.CSS_SELECTOR, "#timeline details").get_attribute("textContent"))

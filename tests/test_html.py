"""The built book as its readers get it: without network, on small and large screens, by keyboard, on paper.

The real pages in profile ci; what needs a browser is skipped where there is no Chromium. $CGATLIB_AXE may name the file
axe.min.js of axe-core (https://github.com/dequelabs/axe-core) for its own, longer list of accessibility rules.
"""

import asyncio
import base64
import contextlib
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from cgatbook.build import build
from cgatbook.notebooks import pages, read_notebooks
from cgatbook.printing import FLAGS, find_browser, print_book
from cgatlib import CgatError

PROJECT = Path(__file__).resolve().parents[1]
NAMES = [str(path.relative_to(PROJECT).with_suffix(".html")) for path in pages(PROJECT)]
NOTEBOOKS = list(read_notebooks(PROJECT))

# Script -> hosts it may name, and why.
NAMED = {
    "": {"www.w3.org"},  # names of XML vocabularies
    "tex-svg.js": {"cdn.jsdelivr.net", "www.mathjax.org"},  # speech engine and manual, reached by the menu: it is off
    "clipboard.min.js": {"clipboardjs.com"},  # comments
    "searchtools.js": {"developer.mozilla.org"},
    "pydata-sphinx-theme.js": {"pydata-sphinx-theme.readthedocs.io"},
}


def outside(name: str, text: str) -> list[str]:
    """What a browser would, or might, load from elsewhere for a page, a style sheet or a script."""
    address = r"\s*(?:https?:)?//[^\s\"'<>)]+"
    if name.endswith(".css"):
        return re.findall(rf"(?:url\(|@import)\s*[\"']?({address})", text)
    found = []
    if name.endswith(".html"):
        soup = BeautifulSoup(text, "html.parser")
        for tag in soup.find_all(True):
            keys = ["src", "data", "poster", "action", *(["href", "xlink:href"] if tag.name != "a" else [])]
            values = [str(tag.get(key, "")) for key in keys] + str(tag.get("srcset", "")).split(",")
            found += [value for value in values if re.match(address, value)]
            found += outside("x.css", str(tag.get("style", "")))
        found += [url for style in soup.find_all("style") for url in outside("x.css", style.string or "")]
        text = "\n".join(script.string or "" for script in soup.find_all("script"))
    fine = NAMED[""] | NAMED.get(name, set())
    return found + [host for host in re.findall(r"(?:https?:|[\"'`])//([\w-]+(?:\.[\w-]+)+)", text) if host not in fine]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://cdn.example.org/x.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//fonts.example.org/css">'),
        ("a.html", '<img srcset="https://example.org/a.png 2x">'),
        ("a.html", '<p style="background: url(https://example.org/a.png)">'),
        ("a.html", '<script>const URL = "https://unpkg.com/thebe@0.8.2/lib/index.js"</script>'),
        ("a.html", "<style>@import '//example.org/a.css';</style>"),
        ("a.css", '@font-face { src: url("https://fonts.example.org/a.woff2") }'),
        ("a.js", 'load("//example.org/x.js")'),
    ],
)
def test_scan_sees(name: str, text: str) -> None:
    assert outside(name, text)


def test_scan_leaves_links_alone() -> None:
    text = '<a href="https://doi.org/10.1039/d3dd00030c">paper</a><img src="data:image/png;base64,AA//BB.CC">'
    assert outside("a.html", text) == []


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the book, built here (at once where `make book PROFILE=ci` was run before)."""
    return build(PROJECT, "ci", out=tmp_path_factory.mktemp("book") / "html").parent


@pytest.mark.slow
class TestFiles:
    def test_nothing_comes_from_elsewhere(self, html: Path) -> None:
        files = [path for path in html.rglob("*") if path.suffix in (".html", ".css", ".js")]
        found = {str(path): outside(path.name, path.read_text()) for path in files if path.name != "searchindex.js"}
        assert len(found) > 20
        assert {path: urls for path, urls in found.items() if urls} == {}

    @pytest.mark.parametrize("name", NAMES)
    def test_structure(self, html: Path, name: str) -> None:
        soup = BeautifulSoup((html / name).read_text(), "html.parser")
        assert soup.html["lang"] == "en"
        levels = [int(tag.name[1]) for tag in soup.article.find_all(re.compile(r"^h[1-6]$"))]
        assert levels.count(1) == 1
        assert all(below <= above + 1 for above, below in zip([0, *levels], levels, strict=False))
        assert [tag for tag in soup.article.find_all("img") if len(tag.get("alt", "")) < 20] == []
        for table in soup.article.find_all("table"):
            assert table.find("th") is not None
            if "dataframe" not in table.get("class", []):  # pandas' own corner is repaired by the page's script
                assert [tag for tag in table.find_all("th") if not tag.text.strip()] == []
        for table in soup.select(".cgat-table table"):
            assert table.caption.text.strip()
            assert {tag["scope"] for tag in table.find_all("th")} == {"col", "row"}

    def test_no_button_leads_to_someone_elses_repository(self, html: Path) -> None:
        for name in NAMES:
            text = re.sub(r"data:[^\"]*", "", (html / name).read_text())
            assert re.findall(r"mybinder|colab|thebe|jupyterhub|deepnote", text) == []

    @pytest.mark.parametrize("name", NOTEBOOKS)
    def test_notebook_is_offered(self, html: Path, name: str) -> None:
        page = html / "book" / f"{name}.html"
        links = {tag["href"] for tag in BeautifulSoup(page.read_text(), "html.parser").select("a.btn[href$='.ipynb']")}
        assert len(links) == 1
        path = page.parent / links.pop()
        node = nbformat.read(path, as_version=4)
        nbformat.validate(node)
        assert all(cell.execution_count for cell in node.cells if cell.cell_type == "code" and cell.source)
        text = path.read_text()
        assert [place for place in (PROJECT, Path.home(), sys.prefix, Path.cwd()) if f"{place}/" in text] == []
        assert "papermill" not in str(node.metadata) + str([cell.metadata for cell in node.cells])

    def test_downloads(self, html: Path) -> None:
        kinds = []
        for name in NAMES:
            for tag in BeautifulSoup((html / name).read_text(), "html.parser").select("a[download]"):
                kind, content = tag["download"].rsplit(".")[-1], base64.b64decode(tag["href"].partition("base64,")[2])
                kinds.append(kind)
                if kind == "csv":
                    assert len(pd.read_csv(io.BytesIO(content))) > 0
                else:
                    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[kind])
        assert kinds.count("csv") == kinds.count("svg") == kinds.count("png") > 5


class Browser:
    """Chromium without network, spoken to by the DevTools protocol."""

    def __init__(self, program: str, folder: Path) -> None:
        from tornado.websocket import websocket_connect

        options = [*FLAGS, "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        options.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loop = asyncio.new_event_loop()
        self.events: list[dict[str, Any]] = []
        self.sent = 0
        port, patience = folder / "DevToolsActivePort", time.monotonic() + 60
        while not (port.is_file() and port.read_text()):
            assert time.monotonic() < patience, "the browser does not start"
            time.sleep(0.1)
        new = urllib.request.Request(f"http://127.0.0.1:{port.read_text().split()[0]}/json/new", method="PUT")
        address = json.load(urllib.request.urlopen(new))["webSocketDebuggerUrl"]

        async def connect() -> Any:
            return await websocket_connect(address, max_message_size=1 << 28)

        self.socket = self.loop.run_until_complete(connect())
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _read(self, last: Any) -> dict[str, Any]:
        """Keep events until one is what `last` looks for."""

        async def read() -> dict[str, Any]:
            while True:
                message = json.loads(await self.socket.read_message())
                self.events.append(message)
                if last(message):
                    return message

        return self.loop.run_until_complete(asyncio.wait_for(read(), 120))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.sent += 1
        self.socket.write_message(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        answer = self._read(lambda message: message.get("id") == self.sent)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str, width: int = 1280, theme: str = "light") -> None:
        """Load a page and wait for its formulas and transitions."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.events.clear()
        self.send("Page.navigate", url=url)
        if not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self._read(lambda message: message.get("method") == "Page.loadEventFired")
        self.run("window.MathJax?.startup?.promise")
        self.run("new Promise((done) => setTimeout(done, 400))")

    def run(self, script: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def problems(self) -> list[str]:
        """What went to the console, failed to load, or was asked of another machine."""
        found = []
        for event in self.events:
            method, what = event.get("method"), event.get("params", {})
            request = what.get("request", {}).get("url", "file:")
            if (
                method in ("Runtime.exceptionThrown", "Network.loadingFailed")
                or (method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"))
                or (method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"))
                or (method == "Network.requestWillBeSent" and not request.startswith(("file:", "data:")))
            ):
                found.append(json.dumps(what)[:500])
        return found

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.loop.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        program = find_browser()
    except CgatError as error:
        pytest.skip(str(error))
    with contextlib.closing(Browser(program, tmp_path_factory.mktemp("profile"))) as opened:
        yield opened


# Texts with less contrast than WCAG 2 asks for: 4.5, or 3 when large (24 px, or bold and 18.7 px).
CONTRAST = """
(() => {
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat([1]);
  const ground = (e) => {
    if (!e) return parse(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3).concat([1]);
    const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(e.parentElement));
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, style = getComputedStyle(e);
    if (!e.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (!walker.currentNode.data.trim() || e.closest("mjx-assistive-mml, dialog, script, style, noscript")) continue;
    const below = ground(e), [a, b] = [light(over(parse(style.color), below)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([ratio.toFixed(2), e.outerHTML.slice(0, 120)]);
  }
  return found;
})()
"""
# What sticks out of the window and is in no box that scrolls.
TOO_WIDE = """
[...document.querySelectorAll("article *")].filter((e) => {
  if (e.getBoundingClientRect().right <= innerWidth + 1 || e.closest("mjx-assistive-mml")) return false;
  for (let p = e.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX !== "visible") return false;
  return true;
}).map((e) => e.outerHTML.slice(0, 120))
"""
UNFOLD = 'document.querySelectorAll("article details").forEach((e) => { e.open = true; })'


@pytest.mark.slow
class TestBrowser:
    @pytest.mark.parametrize("name", NAMES)
    def test_page(self, html: Path, browser: Browser, name: str) -> None:
        for theme in ("light", "dark"):
            for width in (360, 768, 1600):
                browser.open((html / name).as_uri(), width, theme)
                assert browser.problems() == []
                assert browser.run("document.documentElement.dataset.theme") == theme
                formulas = "document.querySelectorAll('{}').length".format
                assert browser.run(formulas(".math")) == browser.run(formulas("mjx-container > svg"))
                assert browser.run("document.querySelectorAll('mjx-container [data-mjx-error]').length") == 0
                assert browser.run("[...document.images].filter((e) => !e.naturalWidth).length") == 0
                browser.run(UNFOLD)
                assert browser.run("document.documentElement.scrollWidth") <= width
                assert browser.run(TOO_WIDE) == []
                assert browser.run(CONTRAST) == []

    def test_contrast_is_seen(self, html: Path, browser: Browser) -> None:
        browser.open((html / NAMES[0]).as_uri())
        browser.run("document.querySelector('article p').style.color = '#aaa'")
        assert "2.3" in browser.run(CONTRAST)[0][0]

    def test_search(self, html: Path, browser: Browser) -> None:
        browser.open((html / "search.html").as_uri() + "?q=hypernetwork")
        hits = browser.run("[...document.querySelectorAll('#search-results li a')].map((e) => e.href)")
        assert any("methods.html" in hit for hit in hits)
        assert browser.problems() == []

    def test_served(self, html: Path, browser: Browser, tmp_path: Path) -> None:
        """From a server the notebook is saved, and search results come with an excerpt."""
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(html))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            browser.open(f"{address}/search.html?q=hypernetwork")
            assert "hypernetwork" in browser.run("document.querySelector('#search-results .context').innerText").lower()
            browser.open(f"{address}/book/02_intra_property.html")
            browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
            browser.run("document.querySelector('.btn-download-source-button').click()")
            saved, patience = tmp_path / "02_intra_property.ipynb", time.monotonic() + 20
            while not saved.is_file() and time.monotonic() < patience:
                time.sleep(0.1)
            server.shutdown()
        assert saved.read_bytes() == (html / "_sources" / "book" / saved.name).read_bytes()

    def test_keyboard(self, html: Path, browser: Browser) -> None:
        """Whatever the tabulator key reaches shows that it has the focus."""
        browser.open((html / "book" / "02_intra_property.html").as_uri())
        reached = set()
        for _ in range(40):
            for kind in ("keyDown", "keyUp"):
                browser.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            script = """(() => {
              const e = document.activeElement, style = getComputedStyle(e);
              return [e.outerHTML.slice(0, 100), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1];
            })()"""
            element, visible = browser.run(script)
            if element.startswith("<body"):  # the end of the page
                break
            assert visible, element
            reached.add(element)
        assert len(reached) > 20
        assert any("cgat-table" in element for element in reached)

    def test_axe(self, html: Path, browser: Browser) -> None:
        if "CGATLIB_AXE" not in os.environ:
            pytest.skip("CGATLIB_AXE does not name axe.min.js")
        found = {}
        for name in (*NAMES, "search.html"):
            for width, theme in ((360, "light"), (360, "dark"), (1600, "light"), (1600, "dark")):
                browser.open((html / name).as_uri(), width, theme)
                browser.run(UNFOLD + "; new Promise((done) => setTimeout(done, 400))")
                browser.run(Path(os.environ["CGATLIB_AXE"]).read_text())
                for rule in browser.run("axe.run().then((result) => result.violations)"):
                    found[name, width, theme, rule["id"]] = [node["html"][:120] for node in rule["nodes"]][:3]
        assert found == {}


@pytest.mark.slow
def test_pdf(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("chromium", "google-chrome", "chrome"))):
        pytest.skip("no Chromium")
    content = print_book(PROJECT, "ci", out=tmp_path / "book.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > len(NAMES)
    assert b"/Outlines" in content

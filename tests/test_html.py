"""The built book as its readers get it: without network, on small and large screens, by keyboard, on paper.

The real pages in profile ci; what needs a browser is skipped where there is no Chromium.
"""

import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from cgatbook.build import build
from cgatbook.notebooks import pages, read_notebooks
from cgatbook.pages import FIGURES
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
    "d3.min.js": {"d3js.org"},
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
                path = (html / name).parent / tag["href"]
                kinds.append(path.suffix)
                if path.suffix == ".csv":
                    assert len(pd.read_csv(path)) > 0
                else:
                    assert path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<svg"}[path.suffix])
        assert kinds.count(".csv") == kinds.count(".svg") == kinds.count(".png") > 5

    def test_figures_are_numbered_through_the_book(self, html: Path) -> None:
        texts = [(html / name).read_text() for name in NAMES]
        found = [int(number) for text in texts for number in re.findall(r"<figcaption><b>Figure (\d+)\.", text)]
        assert found == list(range(1, len(FIGURES) + 1))
        assert any('href="#figure-curves"><span class="std std-ref">Figure' in text for text in texts)

    def test_size(self, html: Path) -> None:
        """Small enough to send; scripts once for all pages."""
        files = {path: path.stat().st_size for path in html.rglob("*") if path.is_file()}
        assert sum(files.values()) < 40e6
        assert sum(size for path, size in files.items() if path.suffix == ".js") < 5e6


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        program = find_browser()
    except CgatError as error:
        pytest.skip(str(error))
    flags = [flag for flag in FLAGS if flag != "--headless" and "resolver" not in flag]
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()


def _bad(told: ConsoleMessage) -> bool:
    """A browser asks a server for an icon that no page names."""
    return told.type in ("error", "warning") and not told.location["url"].endswith("favicon.ico")


@pytest.fixture
def show(html: Path, browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of the book, and after the test looks for what went wrong on any of them."""
    page, problems = browser.new_page(), []
    page.on("console", lambda told: _bad(told) and problems.append(told.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.on("request", lambda it: None if re.match("file:|data:|http://127", it.url) else problems.append(it.url))

    def opened(name: str, width: int = 1280, theme: str = "light") -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        page.goto(name if "://" in name else (html / name).as_uri())
        page.evaluate("window.MathJax?.startup?.promise")
        page.wait_for_timeout(400)  # transitions
        return page

    yield opened
    page.close()
    assert problems == []


# What sticks out of the window and is in no box that scrolls.
TOO_WIDE = """
[...document.querySelectorAll("article *")].filter((e) => {
  if (e.getBoundingClientRect().right <= innerWidth + 1 || e.closest("mjx-assistive-mml, svg")) return false;
  for (let p = e.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX !== "visible") return false;
  return true;
}).map((e) => e.outerHTML.slice(0, 120))
"""
UNFOLD = 'document.querySelectorAll("article details").forEach((e) => { e.open = true; })'


def living(html: Path, kind: str) -> str:
    """Name of a page with a living figure of a kind."""
    return next(name for name in NAMES if f'data-touch="{kind}"' in (html / name).read_text())


@pytest.mark.slow
class TestBrowser:
    @pytest.mark.parametrize("name", [*NAMES, "search.html"])
    def test_page(self, show: Callable[..., Page], name: str) -> None:
        for theme, width in ((theme, width) for theme in ("light", "dark") for width in (360, 768, 1600)):
            page = show(name, width, theme)
            assert page.evaluate("document.documentElement.dataset.theme") == theme
            assert page.locator(".math").count() == page.locator("mjx-container > svg").count()
            assert page.locator("mjx-container [data-mjx-error]").count() == 0
            assert page.evaluate("[...document.images].filter((e) => !e.naturalWidth).length") == 0
            page.evaluate(UNFOLD)
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(TOO_WIDE) == []
            if width != 768:
                found = Axe().run(page, options={"preload": False}).response["violations"]
                assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]][:3]) for rule in found] == []

    def test_search(self, show: Callable[..., Page]) -> None:
        page = show("search.html")
        page.goto(f"{page.url}?q=hypernetwork")
        page.locator("#search-results li a[href*='methods.html']").first.wait_for()

    def test_served(self, html: Path, show: Callable[..., Page]) -> None:
        """From a server the notebook is saved, and search results come with an excerpt."""
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(html))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            excerpt = show(f"{address}/search.html?q=hypernetwork").locator("#search-results .context").first
            assert "hypernetwork" in excerpt.inner_text().lower()
            page = show(f"{address}/book/02_intra_property.html")
            with page.expect_download() as saved:
                page.evaluate("document.querySelector('.btn-download-source-button').click()")
            content = saved.value.path().read_bytes()
            server.shutdown()
        assert content == (html / "_sources" / "book" / "02_intra_property.ipynb").read_bytes()

    def test_keyboard(self, show: Callable[..., Page]) -> None:
        """Whatever the tabulator key reaches shows that it has the focus."""
        page, reached = show("book/02_intra_property.html"), set()
        for _ in range(60):
            page.keyboard.press("Tab")
            element, outline = page.evaluate(
                "(({outerHTML: h}, s) => [h.slice(0, 100), s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth)])"
                "(document.activeElement, getComputedStyle(document.activeElement))"
            )
            if element.startswith("<body"):  # the end of the page
                break
            assert outline > 1, element
            reached.add(element)
        assert len(reached) > 20

    def test_code_switch(self, show: Callable[..., Page]) -> None:
        page = show("book/methods.html")
        code = page.locator("details.hide.above-input").first
        assert not code.is_visible()
        page.get_by_role("button", name="Show code").click()
        assert code.locator("pre").is_visible()
        assert show("book/howto.html").locator("html.code-on").count() == 1  # one switch for all pages

    def test_ledger_begins_with_ten_claims(self, show: Callable[..., Page]) -> None:
        page = show("book/claims.html")
        shown, total = page.locator("details.claim:visible"), page.locator("details.claim").count()
        assert shown.count() == 10 < total
        page.get_by_label("Verdict").select_option("holds")
        assert 10 < shown.count() < total
        page.get_by_label("Verdict").select_option("")
        page.evaluate("location.hash = '#size-scaling'")  # a section of those left out
        page.wait_for_timeout(200)
        assert page.get_by_role("heading", name="Size scaling").is_visible()
        assert shown.count() == total
        page.get_by_label("show all").uncheck()
        page.emulate_media(media="print")
        assert shown.count() == total

    def test_rows_become_cards(self, show: Callable[..., Page]) -> None:
        """On a phone no cell of a table is behind a scroll, and each says what it is."""
        page = show("book/methods.html", 360)
        page.locator("details.cgat-live > summary").click()  # a folded table is laid out when it is opened
        page.wait_for_timeout(200)
        assert page.locator(".cgat-table").evaluate_all("(all) => all.every((e) => e.scrollWidth <= e.clientWidth)")
        cell = page.locator(".cgat-table.stacked tbody td").first
        assert len(cell.evaluate("(e) => getComputedStyle(e, '::before').content")) > 4
        assert show("book/methods.html", 1600).locator(".cgat-table.stacked").count() == 0


@pytest.mark.slow
class TestTouch:
    """By keyboard, as a reader without a mouse does."""

    def test_budget(self, html: Path, show: Callable[..., Page]) -> None:
        box = show(living(html, "budget")).locator(".touch").first
        before = box.locator("[aria-live]").inner_text()
        spend = box.get_by_label("Budget (cheap calculations)")
        spend.press("End")
        after = box.locator("[aria-live]").inner_text()
        assert before != after
        assert "beyond" in after  # no number beyond ten times the data
        assert box.locator("svg").get_attribute("aria-label") == after
        spend.press("Home")
        assert "beyond" not in box.locator("[aria-live]").inner_text()

    def test_crystals(self, html: Path, show: Callable[..., Page]) -> None:
        box = show(living(html, "crystals")).locator(".touch:has(.touch-cell)").first
        points, cell = box.get_by_role("slider"), box.locator(".touch-cell")
        first = points.get_attribute("aria-valuetext")
        points.press("ArrowRight")
        points.press("ArrowRight")
        text = points.get_attribute("aria-valuetext")
        assert text != first
        assert box.get_by_text(text).is_visible()
        assert cell.locator("circle").count() > 12
        placed = cell.inner_html()
        cell.press("ArrowLeft")
        assert cell.inner_html() != placed
        oxygen = box.get_by_role("button", name=re.compile("^O: in .* of the paper; mean error"))
        oxygen.press("Space")
        assert oxygen.get_attribute("aria-pressed") == "true"
        assert 0 < box.locator("circle.faded").count() < int(points.get_attribute("aria-valuemax"))
        assert "O" in points.get_attribute("aria-valuetext").split(":")[0]

    def test_curves(self, html: Path, show: Callable[..., Page]) -> None:
        box = show(living(html, "curves")).locator(".touch:not(:has(.touch-cell)):has([aria-pressed])").first
        lines = box.locator("svg > path").count()
        box.get_by_role("button", name="repeat 1").press("Enter")
        assert 0 < box.locator("svg > path").count() < lines

    @pytest.mark.parametrize("kind", ["budget", "crystals", "curves"])
    def test_picture_on_paper_and_without_scripts(self, html: Path, show: Callable[..., Page], kind: str) -> None:
        page = show(living(html, kind))
        picture, touch = page.locator(".living > :is(svg, img)").first, page.locator(".touch").first
        page.evaluate(UNFOLD)
        assert (picture.is_visible(), touch.is_visible()) == (False, True)
        page.emulate_media(media="print")
        assert (picture.is_visible(), touch.is_visible()) == (True, False)
        bare = page.context.browser.new_context(java_script_enabled=False).new_page()
        bare.goto(page.url)
        assert bare.locator("figure:has(script[data-touch]) > :is(svg, img)").count() > 0
        assert bare.locator(".touch").count() == 0
        bare.context.close()


@pytest.mark.slow
def test_pdf(browser: Browser, tmp_path: Path) -> None:
    content = print_book(PROJECT, "ci", out=tmp_path / "book.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > len(NAMES)
    assert b"/Outlines" in content

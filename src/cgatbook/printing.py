"""The whole book as one PDF: rendered as a single page, printed by Chromium without network."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cgatbook.build import Echo, render, staged
from cgatbook.notebooks import pages
from cgatlib import CgatError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # in containers the sandbox has no rights; the only page opened is our own, from disk
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
PATIENCE = 120_000  # ms of the page's own clock, which runs as fast as the page has work: for its formulas
LIMIT = 900  # s until a browser that hangs is given up


def find_browser(program: str | None = None) -> str:
    """Path of `program`, or of the first Chromium on the PATH; `CgatError` where there is none."""
    if found := next(filter(None, map(shutil.which, [program] if program else BROWSERS)), None):
        return found
    if program:
        raise CgatError(f"there is no browser {program!r} to print the book with")
    known = f"none of {', '.join(BROWSERS)} is on the PATH; install one or name it with --browser"
    raise CgatError(f"the book is printed by Chromium or Chrome, and {known}")


def print_book(
    root: Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: Path | None = None,
    browser: str | None = None,
    out: Path | None = None,
    echo: Echo = lambda line: None,
) -> Path:
    """Write the book as PDF and return its path.

    Args:
        root, profile, overrides, data, echo: as for `cgatbook.build.build`, whose errors are raised.
        browser: Chromium or Chrome; by default the first one on the PATH. out: ``_build/book.pdf`` by default.

    Raises:
        CgatError: there is no browser, or it failed. The previous PDF stays.
    """
    program = find_browser(browser)  # before anything is trained
    pdf = (out or root / "_build" / "book.pdf").resolve()
    with staged(root, profile, overrides, data, (), False, echo) as stage:
        folder = stage.with_name("print")
        shutil.rmtree(folder, ignore_errors=True)  # of a build that was killed
        folder.mkdir()
        html = render(stage, "singlehtml", folder)
        first = pages(root)[0].relative_to(root).with_suffix(".html")
        page = (html / first).replace(html / "index.html")  # its links to styles and scripts start at the top
        echo(f"Printing with {program}")
        _print(program, page, folder / "book.pdf", folder / "profile")
        pdf.parent.mkdir(parents=True, exist_ok=True)
        partial = pdf.with_name(f".{pdf.name}.part")
        shutil.copy2(folder / "book.pdf", partial)
        partial.replace(pdf)
        shutil.rmtree(folder)
    echo(f"The book is at {pdf}")
    return pdf


def _print(program: str, page: Path, pdf: Path, profile: Path) -> None:
    """Print a page from disk, once its scripts have nothing left to do."""
    options = [
        f"--user-data-dir={profile}",
        f"--virtual-time-budget={PATIENCE}",
        "--no-pdf-header-footer",
        "--generate-pdf-document-outline",
        f"--print-to-pdf={pdf}",
    ]
    try:
        done = subprocess.run(
            [program, *FLAGS, *options, page.as_uri()], capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CgatError(f"{program} did not print the book: {error}") from error
    if done.returncode or not pdf.is_file():
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise CgatError(f"{program} did not print the book (exit status {done.returncode}): {last[0]}")

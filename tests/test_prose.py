"""No number that somebody measured is typed by hand into the book's prose: it would be wrong after the next run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgatbook.notebooks import pages

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path for path in pages(ROOT)}

UNITS = (
    "meV|eV|Å³?|nm|K|GPa|%|per ?cent|thousand|million|billion|[kM]|[kMGT]i?B|bytes?|[MG]FLOP|GPUs?|cores?|"
    "h|min|s|ms|hours?|minutes?|seconds?|days?|times|fold|×|"
    r"(?:[a-z-]+ ){0,2}(?:crystals?|structures?|compounds?|materials|atoms|edges|parameters|epochs|steps|seeds|runs)"
)
NUMBER = r"(?<![\w.,/^_-])[-+−±~]?\d[\d,.]*(?:[·×]10)?[⁻⁰¹²³⁴-⁹]*"
MEASURED = re.compile(rf"{NUMBER}[- ]?(?:(?:to|and|or|–|-) ?\d[\d,.]*[- ]?)?(?:{UNITS})(?![\w])|\d+\.\d+")

# Page -> what may stand there -> why.
EVERYWHERE = dict.fromkeys(["95 % interval", "Intervals are 95 %"], "definition of an interval")
ALLOWED = {
    "01_data": {"CC BY 4.0": "name of a licence"},
    "methods": {
        "1.25·10⁻⁴": "printed setting, in a table beside ours",
        "390 epochs": "printed setting, in a table beside ours",
        "5 steps": "printed setting, in a table beside ours",
        "10⁻⁸ Å": "tolerance of the released code",
        "80, 10 and 10 percent": "definition of the splits",
        "schedule, 0.05, and the momentum of 0.9": "printed settings that the code ignores",
    },
}

NO_PROSE = re.compile(
    r"\A---\n.*?\n---\n"  # front matter
    r"|^(```|:::).*?^\1\s*?$"  # code
    r"|\$\$.*?\$\$|\$[^$]+\$"  # formulas
    r"|\{[a-z:]+\}`[^`]*`|`[^`]*`"  # roles, glue among them, and code
    r"|\]\([^)]*\)|<[^>]*>|doi:\S+"  # addresses
    r"|^ *\d+\. ",  # numbers of list items
    re.M | re.S,
)


def offenders(text: str, allowed: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Line and words of every number with a unit, and of every decimal fraction, that prose says by itself."""
    prose = NO_PROSE.sub(lambda found: re.sub(r"[^\n]", "\0", found.group()), text)
    prose = prose.replace("\n", " ")
    fine = [range(*found.span()) for snippet in allowed for found in re.finditer(re.escape(snippet), prose)]
    for found in MEASURED.finditer(prose):
        if not any(found.start() in span for span in fine):
            yield text.count("\n", 0, found.start()) + 1, found.group().strip()


@pytest.mark.parametrize("name", PAGES)
def test_no_number_is_typed_by_hand(name: str) -> None:
    """Let code say it (`pages.say` and glue, a table from ``data/published``), or allow it above with a reason."""
    page = PAGES[name]
    found = [
        f"{page}:{line}: {words}" for line, words in offenders(page.read_text(), EVERYWHERE | ALLOWED.get(name, {}))
    ]
    assert not found, "\n".join(found)


def test_nothing_is_allowed_that_no_page_says() -> None:
    for name, snippets in ALLOWED.items():
        text = PAGES[name].read_text().replace("\n", " ")
        assert [snippet for snippet in snippets if snippet not in text] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The error is 23 meV/atom.", [(1, "23 meV")]),
        ("Nothing,\nthen 1.8\nmillion calculations", [(2, "1.8 million")]),
        ("falls by 40 %, not by 3-fold", [(1, "40 %"), (1, "3-fold")]),
        ("between 300 and 1,000 training crystals", [(1, "300 and 1,000 training crystals")]),
        ("a slope of 0.25", [(1, "0.25")]),
        ("178 k structures in 12 h on 2 cores", [(1, "178 k"), (1, "12 h"), (1, "2 cores")]),
        ("falls by {glue:text}`gain:.0f` % with `k = 24 atoms`", []),
        ("Figs. 3 and 4, equations 1a-1d, Table 1, Section 2.", []),
        ("```\n12 crystals\n```\n$$ 3 eV $$\n\n 1. Runs\n", []),
        ("at most 24 atoms", []),
    ],
)
def test_scan(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(offenders(text, {"at most 24 atoms": "a reason"})) == expected

"""What the notebooks share: figures, tables, badges and provenance as HTML."""

from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from cgatbook import pages


def test_printed_numbers_keep_their_digits() -> None:
    printed = pages.published("table1.csv").set_index(["label", "functional", "mode"])["printed"]
    assert printed["band_gap", "PBE", "none"] == "0.020"
    assert printed["e_form", "PBE", "none"] == "18"


def test_table() -> None:
    frame = pd.DataFrame({"x < 1": ["1", None], "source": ["DFT", "paper"]}, index=["a & b", "c"])
    html = pages.show_table(frame, "Caption", bold=[(0, 0)]).data
    assert '<th scope="col">x &lt; 1</th>' in html
    assert '<th scope="row">a &amp; b</th><td><strong>1</strong></td>' in html
    assert "<td>–</td>" in html
    assert '<span class="badge-dft">DFT</span>' in html
    assert '<span class="badge-paper">paper</span>' in html


def test_numbers_are_typeset() -> None:
    html = pages.words("E_hull: -34% [-40 %, 1e-5], PBE-1 & 2-3").replace("\N{NO-BREAK SPACE}", "_")
    assert html == "<i>E</i><sub>hull</sub>: −34_% [−40_%, 1e-5], PBE-1 &amp; 2-3"


@pytest.mark.parametrize(("name", "title"), [("answer", "<b>Figure 1.</b> "), ("demo", "")])
def test_figure_is_numbered_and_self_contained(name: str, title: str) -> None:
    figure = Figure()
    figure.subplots().plot([1, 2])
    html = pages.show_figure(figure, name, "A caption", 'A "line"', pd.DataFrame({"x": [1, 2]})).data
    assert f"<figcaption>{title}A caption</figcaption>" in html
    assert '<svg role="img" aria-label="A &quot;line&quot;"' in html
    assert all(f'download="{name}.{kind}" href="data:' in html for kind in ("svg", "png", "csv"))
    assert "src=" not in html


def test_every_figure_of_the_book_has_a_number_of_its_own() -> None:
    assert [pages.number_of(name) for name in pages.FIGURES] == list(range(1, len(pages.FIGURES) + 1))


def test_a_demonstration_is_folded_and_says_what_its_labels_are() -> None:
    html = pages.folded("Try", [pages.note("a < b")], "ci", "surrogate").data
    assert html.startswith('<details class="cgat-live"><summary><span class="badge-surrogate">')
    assert "Try (profile ci)</summary><p>a &lt; b" in html


def test_provenance() -> None:
    code = {"version": "1", "commit": "abc", "dirty": True}
    machine = {"device": "cpu", "processor": "a processor", "cores": 2}
    run = SimpleNamespace(
        metrics={"seconds": 5400.0},
        provenance={"code": code, "machine": machine},
        experiment=SimpleNamespace(seed=4),
    )
    html = pages.provenance_box([run], {"pbe": ("f00", "PBE")}, 0.0).data
    for text in ("1 (abc, modified)", "1 runs, 1.5 h", "<dt>Seeds</dt><dd>4</dd>", "pbe f00 (PBE)"):
        assert text in html

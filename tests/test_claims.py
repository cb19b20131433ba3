"""The paper's claims: rules of verdicts, evidence from stored runs and printed numbers, and the ledger."""

import inspect
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cgatbook.claims import ledger
from cgatbook.claims.evidence import Evidence
from cgatbook.claims.lines import (
    Sizes,
    best_share,
    curvature,
    equivalent,
    error_falls,
    meeting,
    pays_equally,
    pretraining_slope,
    slope_drops,
    straight_line,
)
from cgatbook.claims.paper import budget, consistent, quotient, rarer, table_order
from cgatbook.claims.verdict import (
    FIFTH,
    MEANING,
    SECTIONS,
    Effect,
    Finding,
    Outcome,
    Verdict,
    claim,
    impossible,
    share_text,
)
from cgatbook.published import Printed, PublishedNumbers
from cgatbook.stored import Archives, StoredResults
from cgatlib import CgatError
from cgatlib.evaluation.scaling import Points
from cgatlib.evaluation.statistics import Estimate

ROOT = Path(__file__).resolve().parents[1]
PAPER = PublishedNumbers(ROOT / "data/published")
CLAIMS = {c.id: c for c in ledger.all_claims()}
FULL, NONE = "volume-pbesol-full", "volume-pbesol-none"


def opened(name):
    return StoredResults.open(ROOT / f"data/plans/{name}.yaml", ROOT / f"data/runs/{name}")


@pytest.fixture(scope="module")
def real():
    """Evidence from the archive of short training alone, which does not change."""
    return Evidence(Archives((opened("real_data"),)), opened("variants"), PAPER, ROOT / "data/demo/pbe.parquet")


@pytest.fixture
def empty(real):
    """The same plans without any run."""
    dft, variants = (StoredResults(results.plan, {}, results.folder) for results in (real.dft.parts[0], real.variants))
    return Evidence(Archives((dft,)), variants, PAPER, real.crystals)


# --- rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "side", "margin", "outcome"),
    [
        (0.1, 0.2, "above", 0, Outcome.HOLDS),
        (-0.2, -0.1, "above", 0, Outcome.FAILS),
        (-0.2, -0.1, "below", 0, Outcome.HOLDS),
        (-0.1, 0.2, "below", 0, Outcome.OPEN),
        (0.0, 0.2, "above", 0, Outcome.OPEN),
        (-0.1, 0.2, "equal", 0, Outcome.OPEN),
        (0.1, 0.2, "equal", 0, Outcome.FAILS),
        (-0.1, 0.1, "equal", FIFTH, Outcome.HOLDS),
        (0.1, 0.3, "equal", FIFTH, Outcome.OPEN),
        (0.3, 0.4, "equal", FIFTH, Outcome.FAILS),
    ],
)
def test_interval_decides(low, high, side, margin, outcome):
    effect = Effect(Estimate((low + high) / 2, low, high), side, margin=margin)
    assert effect.outcome() is outcome
    assert effect.outcome(informative=False) is Outcome.UNINFORMATIVE
    assert effect.outcome(line=False) is (Outcome.OPEN if outcome is Outcome.HOLDS else outcome)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ("HOLDS HOLDS", "HOLDS"),
        ("HOLDS OPEN CONSISTENT", "OPEN"),
        ("HOLDS FAILS OPEN INCONSISTENT", "FAILS"),
        ("HOLDS INCONSISTENT OPEN", "INCONSISTENT"),
        ("HOLDS UNINFORMATIVE", "HOLDS"),
        ("CONSISTENT IMPOSSIBLE", "CONSISTENT"),
        ("UNINFORMATIVE IMPOSSIBLE", "UNINFORMATIVE"),
    ],
)
def test_verdict_of_several_findings(found, verdict):
    findings = [Finding(Outcome[name], name, "DFT") for name in found.split()]
    combined = Verdict.of(findings[:1], findings[1:])
    assert combined.outcome is Outcome[verdict]
    assert combined.deciding.text == verdict
    assert set(MEANING) == set(Outcome)


@pytest.mark.parametrize(
    ("number", "outcome", "text"),
    [
        ("30%", Outcome.HOLDS, "; the paper's 30% lies in the interval"),
        ("23%", Outcome.HOLDS, "; more than the paper's 23%"),
        ("50%", Outcome.HOLDS, "; less than the paper's 50%"),
        ("-19%", Outcome.FAILS, "; -19% in the paper"),
    ],
)
def test_size_of_an_effect_is_said_beside_its_direction(number, outcome, text):
    assert Effect(Estimate(0.34, 0.28, 0.39), stated=Printed.of(number)).beside(outcome) == text


def test_rounding_hides_neither_an_interval_nor_a_sign():
    assert share_text(Estimate(0.34, 0.28, math.inf)) == "34% [28%, ∞]"
    assert share_text(Estimate(0.065, 0.061, 0.069)) == "6.5% [6.1%, 6.9%]"
    assert share_text(Estimate(0.1, -0.004, 0.19)) == "10.0% [-0.4%, 19.0%]"


# --- the claims themselves --------------------------------------------------------------------------


def test_claims_are_short_functions_with_a_sentence():
    assert len(CLAIMS) == len(ledger.all_claims()) >= 70
    assert {c.section for c in CLAIMS.values()} == set(SECTIONS)
    assert sum(c.first for c in CLAIMS.values()) == 10
    assert len({c.sentence for c in CLAIMS.values()}) == len(CLAIMS)
    for c in CLAIMS.values():
        assert re.fullmatch(rf"{c.section}-[a-z-]+", c.id)
        assert re.match(r"[A-Z0-9].*\.$", PAPER.fill(c.sentence)), c.id
        body = inspect.getsource(c.test).split('"""')[2].strip().splitlines()
        assert len(body) <= 10, c.id


def test_what_a_claim_is_about_must_exist():
    with pytest.raises(ValueError, match="unknown section or property: other"):
        claim("other", "Fig. 1")
    with pytest.raises(ValueError, match="B3LYP"):
        claim("data", "Fig. 1", ("e_form", "B3LYP"))


def test_without_runs_nothing_is_claimed(empty):
    """Entries that claims name exist, and what cannot be tested is indeed absent from the plans."""
    outcomes = {c.id: c.judge(empty).outcome for c in CLAIMS.values() if c.id != "network-graph"}
    assert outcomes["within-percentages"] is Outcome.CONSISTENT
    assert outcomes["within-volume-full"] is outcomes["data-stability"] is Outcome.IMPOSSIBLE
    assert "lack runs of volume-pbesol-full" in CLAIMS["within-volume-full"].judge(empty).deciding.text
    assert Outcome.OPEN not in outcomes.values()


@pytest.mark.slow
def test_stored_runs_give_every_verdict_and_no_two_tests_of_a_claim_look_alike():
    dft = Archives.open(ROOT, [(f"data/plans/{n}.yaml", f"data/runs/{n}") for n in ("converged", "real_data")])
    judged = ledger.judge(Evidence(dft, opened("variants"), PAPER, ROOT / "data/demo/pbe.parquet"))
    assert {Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN, Outcome.IMPOSSIBLE} <= set(ledger.tally(judged))
    for c, verdict in judged:
        shown = [(f.text, f.detail, f.procedure, f.subject, f.entries) for f in verdict.findings]
        assert len(set(shown)) == len(shown), c.id


# --- stored runs ------------------------------------------------------------------------------------


def test_a_reduction_says_what_it_compares(real):
    (found,) = real.better(FULL, NONE, "table1/volume_per_atom/PBEsol/full/gain")
    assert found.outcome is Outcome.HOLDS
    assert found.text.startswith("error reduction 34% [")
    assert found.text.endswith("more than the paper's 23%")
    assert found.procedure == (
        "full transfer from Volume (PBE), rate 0.002, decay 1e-06, 800 steps; "
        "against no transfer, rate 0.002, decay 1e-06, 800 steps"
    )
    assert (found.subject, found.detail) == (
        ("volume_per_atom", "PBEsol"),
        "4,930 training, 632 test crystals, 3 seeds",
    )
    assert (found.plan, found.data, len(found.keys)) == ("real_data", "DFT", 6)
    assert real.worse(FULL, NONE)[0].outcome is real.same(FULL, NONE)[0].outcome is Outcome.FAILS


def test_every_training_size_is_a_finding(real):
    found = real.better("r2scan_e_form-sizes-full", "e_hull-r2scan_e_form-sizes")
    assert [f.detail.split()[0] for f in found] == ["75", "150", "300", "604"]


def test_what_does_not_beat_a_constant_by_a_fifth_is_not_informative(real):
    (found,) = real.better("e_form-e_hull-full", "e_hull-none")
    assert found.effect.estimate.low > 0
    assert found.outcome is Outcome.UNINFORMATIVE
    assert found.text.endswith("a constant is as good within a fifth")


def test_gaps_alone(real):
    (found,) = real.better("gap-hse-full", "gap-hse-none", gaps=True)
    assert found.detail.endswith("only gaps above 0.1 eV are scored")
    assert found.outcome is Outcome.HOLDS


def test_procedures_that_differ_are_told_apart(real):
    names = ("full", "new_head", "old_statistics", "slow", "decay_0.01")
    texts = [real.worse(f"e_form-volume-{name}", NONE)[0].procedure for name in names]
    texts += [
        real.same(f"{FULL}-seen", FULL)[0].procedure,
        real.better(f"{FULL}-larger", f"{NONE}-larger")[0].procedure,
    ]
    assert len(set(texts)) == len(texts)
    assert "new head" in texts[1]
    assert "pre-training had seen the test crystals" in texts[-2]
    assert "network 2 times as wide" in texts[-1]


def test_other_measures(real):
    (larger,) = real.larger_error(NONE, "volume-pbe")
    assert larger.text.startswith("error larger by 13% [")
    (metals,) = real.smaller_on_metals("gap-hse-full")
    assert metals.outcome is Outcome.HOLDS
    (trees,) = real.beats_boosting("gap-hse-full")
    assert "boosted trees" in trees.text
    (sooner,) = real.reached_sooner(FULL, NONE)
    assert sooner.text == "after 10.0% [10.0%, 10.0%] of the steps; 18% in the paper"
    assert real.reached_sooner("e_form-volume-slower", NONE)[0].outcome is Outcome.FAILS
    (rough,) = real.unstable("e_form-volume-full", NONE)
    assert rough.effect.estimate.low < 0 < rough.effect.estimate.high
    (variant,) = real.variant("printed")
    assert (variant.outcome, variant.data) == (Outcome.FAILS, "surrogate")
    with pytest.raises(CgatError, match="no archive has boosted trees for gap-pbe"):
        real.beats_boosting("gap-pbe")


def test_labels_of_the_same_crystals(real):
    means = ("numbers/volume_PBE/1", "numbers/volume_PBEsol/1")
    (found,) = real.shift("volume_per_atom", "pbe", "pbesol", "above", means)
    assert found.text == "mean 20.48 (PBE) and 19.21 (PBEsol), difference 6.6% [6.5%, 6.8%]; less than the paper's 18%"
    (metals,) = real.shift("band_gap", "pbe", "hse", "above", ("numbers/metal_ratio", "1"), metals=True)
    assert metals.text.startswith("share of metals 54% (PBE) and 50% (HSE)")
    with pytest.raises(CgatError, match="does not compare its band_gap with that of"):
        real.shift("band_gap", "hse", "pbe", "above", means)
    assert real.element_share("O", "pbe", "pbesol", "above")[0].outcome is Outcome.HOLDS
    assert real.element_share("O", "pbe", "pbesol", "below")[0].outcome is Outcome.FAILS


def test_what_cannot_be_tested_must_be_absent(real):
    assert real.absent("why", "e_above_hull", ["SCAN"]) == [impossible("why")]
    assert real.absent("why", "e_form", ["r2SCAN"], at_least=1000) == [impossible("why")]
    for functionals, least in ((["PBE"], 1), (["r2SCAN"], 600)):
        with pytest.raises(CgatError, match="is said to be absent, but the plan has"):
            real.absent("why", "e_form", functionals, at_least=least)


def test_edges_without_lengths(real):
    (found,) = CLAIMS["network-graph"].judge(real).findings
    assert found.text.startswith("200 of 200 graphs")
    assert found.circular


# --- error against size -----------------------------------------------------------------------------


def test_curvature():
    n = np.geomspace(10, 1000, 7)
    assert curvature(Points(n, np.exp(0.05 * np.log(n) ** 2))).value == pytest.approx(0.1)
    assert np.isinf(curvature(Points(n[:3], n[:3])).high)


@pytest.fixture(scope="module")
def gaps(real):
    """Gaps by HSE: a straight line without transfer, none with it."""
    return Sizes.of(real, "gap-hse-sizes-none", "gap-hse-sizes-full")


def test_what_rests_on_a_rejected_line_cannot_hold(gaps):
    outcomes = [straight_line(gaps, gaps.at(mode))[0].outcome for mode in ("none", "full")]
    assert outcomes == [Outcome.HOLDS, Outcome.FAILS]
    for (found,) in (meeting(gaps), equivalent(gaps, 2)):
        assert found.effect.estimate.low > 0
        assert (found.outcome, found.text.endswith("the data reject the straight line this rests on")) == (
            Outcome.OPEN,
            True,
        )
    assert equivalent(gaps, 1000)[0].outcome is Outcome.FAILS  # also on the paper's own line


@pytest.fixture
def made(gaps):
    """Full transfer from several pre-training sizes whose error is a law of both sizes, and a little noise."""

    def make(law):
        rows = gaps.rows[(gaps.rows["mode"] == "full") & (gaps.rows["train_size"] > 200)].drop(columns="errors")
        frame = pd.concat([rows.assign(pretrain_size=p) for p in (2000, 4000, 8000, 16000)], ignore_index=True)
        noise = np.random.default_rng(0).normal(1, 0.02, len(frame))
        return replace(gaps, rows=frame.assign(mae=law(frame["train_size"], frame["pretrain_size"]) * noise))

    return make


def test_slopes(made):
    alike, flatter = made(lambda n, p: 50 * n**-0.3 * p**-0.15), made(lambda n, p: n ** -np.where(p > 5000, 0.2, 0.4))
    assert slope_drops(alike, "equal", FIFTH)[0].outcome is Outcome.HOLDS
    assert slope_drops(flatter, "equal", FIFTH)[0].outcome is Outcome.FAILS
    assert slope_drops(flatter, "above")[0].outcome is Outcome.HOLDS
    assert pretraining_slope(alike, "above")[0].outcome is Outcome.HOLDS
    assert "0.80 in the paper" in pretraining_slope(alike, "equal", FIFTH)[0].text
    assert error_falls(alike, alike.by_pretraining)[0].outcome is Outcome.HOLDS
    assert straight_line(alike, alike.by_pretraining)[0].outcome is Outcome.HOLDS


@pytest.mark.parametrize(
    ("slope", "ratio", "side", "outcome"),
    [
        (0.255, 4, "equal", Outcome.HOLDS),  # 5 x 0.255 / 0.3 = 4.25
        (0.06, 4, "equal", Outcome.FAILS),
        (0.24, 16, "above", Outcome.HOLDS),
        (0.24, 1, "above", Outcome.FAILS),
        (0.24, 1, "below", Outcome.HOLDS),
        (-0.2, 4, "equal", Outcome.OPEN),  # what does not fall balances nothing
    ],
)
def test_balance(made, slope, ratio, side, outcome):
    sizes = made(lambda n, p: 50 * n**-0.3 * p**-slope)
    assert pays_equally(sizes, ratio, side)[0].outcome is outcome
    assert best_share(sizes)[0].outcome is (Outcome.HOLDS if slope > 0 else Outcome.OPEN)


# --- printed numbers --------------------------------------------------------------------------------


def outcome(findings):
    (found,) = findings
    return found.outcome


def test_quotients_within_rounding():
    over, under = "table1/e_above_hull/PBEsol/none", "table1/e_above_hull/PBE/none"  # 26 and 23
    assert outcome(quotient(PAPER, [over], under, "109%")) is Outcome.CONSISTENT  # 25.5 / 23.5 = 1.085
    assert outcome(quotient(PAPER, [over], under, "107%")) is Outcome.INCONSISTENT
    assert outcome(quotient(PAPER, [over], under, low=2)) is Outcome.INCONSISTENT
    assert outcome(quotient(PAPER, [over, under], under, high=1)) is Outcome.INCONSISTENT
    assert outcome(quotient(PAPER, [under], under, high=1)) is Outcome.CONSISTENT


def test_order_of_table1():
    assert outcome(table_order(PAPER, ["full"], "head")) is Outcome.CONSISTENT
    (worse,) = table_order(PAPER, ["head", "full"], "none")
    assert worse.outcome is Outcome.INCONSISTENT
    assert worse.text.endswith("; not Band gap SCAN: only regression head 0.093, no transfer 0.078")
    assert outcome(table_order(PAPER, ["PBE"], "none", ["volume_per_atom"])) is Outcome.INCONSISTENT


def test_budget_and_elements():
    large, small = PAPER["numbers/training_sizes/1"], PAPER["numbers/budget_start/1"]
    assert outcome(budget(PAPER, large, small, "training")) is Outcome.CONSISTENT
    assert outcome(budget(PAPER, large, large, "training")) is Outcome.INCONSISTENT
    assert budget(PAPER, large, large, "pre-training")[0].circular
    assert (rarer(PAPER, "O")[0], rarer(PAPER, "N")[0]) == (False, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.24", (0.24, 0.235, 0.245, "0.24")),
        ("20", (20, 19.5, 20.5, "20")),
        ("178000", (178e3, 177.5e3, 178.5e3, "178 k")),
        ("1600000", (1.6e6, 1.55e6, 1.65e6, "1.6 M")),
        ("-19%", (-0.19, -0.195, -0.185, "-19%")),
    ],
)
def test_digits_say_how_a_number_was_rounded(text, expected):
    found = Printed.of(text)
    assert (found.value, found.low, found.high) == pytest.approx(expected[:3])
    assert found.text == expected[3]


def test_printed_numbers_by_name():
    assert PAPER["table1/band_gap/PBE/none"].low == pytest.approx(0.0195)  # a zero at the end counts
    assert PAPER["table1/volume_per_atom/PBEsol/full/gain"].value == pytest.approx(0.23)
    assert PAPER["elements/pbe/O"].value == 128071
    assert PAPER["2"].low == PAPER["2"].high == 2
    assert PAPER.fill("{numbers/pretraining_set} or {table1/e_form/SCAN/full}") == "1.8 M or 16"
    for name in ("table1/e_form/HSE/full", "numbers/magic", "numbers/split", "elements/pbe/He"):
        with pytest.raises(CgatError, match=f"data/published has no {name}"):
            PAPER[name]
    with pytest.raises(CgatError, match="'many' is not a number"):
        Printed.of("many")


# --- what is shown ----------------------------------------------------------------------------------


def judged():
    effects = [
        Effect(Estimate(0.3, 0.2, 0.4), stated=Printed.of("25%")),
        Effect(Estimate(math.log(4), -math.inf, math.inf), axis="ratio"),
        Effect(Estimate(0.02, -0.01, 0.05), "equal", "number"),
    ]
    runs = [
        Finding(
            Outcome.HOLDS,
            "1 < 2",
            "DFT",
            "9 crystals",
            "how; against what",
            ("e_form", "r2SCAN"),
            effect,
            "plan",
            ("a", "b"),
            ("k",),
        )
        for effect in effects
    ]
    printed = consistent(True, "3", circular="what was put in")
    found = {
        "within-form-full": Verdict.of(runs),
        "data-sizes": Verdict.of(printed),
        "within-always": Verdict.of(runs, printed),
    }
    return [(CLAIMS[name], verdict) for name, verdict in found.items()]


def test_rows_are_complete_without_script():
    html = ledger.rows(judged(), PAPER, "within").data
    assert html.count('<details class="claim"') == 1
    assert 'id="within-form-full" data-verdict="holds" data-section="within" data-data="DFT"' in html
    assert "<i>E</i><sub>form</sub> r²SCAN for <i>E</i><sub>form</sub> SCAN" in html
    for part in (
        "1 &lt; 2",
        "3 of 3 cases",
        "how",
        "<code>a</code> against <code>b</code>",
        'href="02_intra_property.html"',
        "cgatlib sweep data/plans/plan.yaml",
        "<svg",
        'class="stated"',
        ">+100\N{NO-BREAK SPACE}%<",
    ):
        assert part in html, part
    assert "An input returned:</strong> what was put in" in ledger.rows(judged(), PAPER, "data").data
    assert 'id="within-always"' in ledger.rows(judged(), PAPER).data  # one of the first


def test_counts_are_of_claims():
    assert ledger.tally(judged()) == {Outcome.HOLDS: 2, Outcome.CONSISTENT: 1}
    html = ledger.overview(judged()).data
    assert '<span class="chip holds">holds</span> <strong>2</strong>' in html
    assert html.count("<dt>") == len(Outcome)


def test_controls_are_hidden_until_the_script_runs():
    html = ledger.controls(judged()).data
    assert re.match(r'<form class="ledger-filter[^>]* hidden>', html)
    assert '<output role="status">3 of 3 claims</output>' in html
    assert html.count("<label>") == 4

"""The ledger of claims: the file, the tests that give verdicts, and what is shown of them."""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cgatbook.claims import GROUPS, TESTS, Claim, counts, has, impossible, ledger_table, read_claims
from cgatbook.data_verdicts import element_share, labels_shift, same_graph
from cgatbook.error_verdicts import (
    beats_baseline,
    larger_error,
    reached_sooner,
    reduction,
    smaller_on_metals,
    variant,
)
from cgatbook.printed_verdicts import (
    accuracy_at,
    budget,
    kilocalorie,
    most_frequent,
    printed_gains,
    printed_share,
    quotient,
    surplus,
    table_order,
)
from cgatbook.published import Printed, PublishedNumbers
from cgatbook.size_verdicts import (
    balanced_at,
    best_share,
    curvature,
    equivalent_data,
    error_falls,
    lines_meet,
    pretraining_slope_smaller,
    slope_decreases,
    straight_line,
)
from cgatbook.stored import MissingRunsError, StoredResults
from cgatbook.verdicts import Evidence, Outcome, Verdict, beside, decide, share_text
from cgatlib import CgatError
from cgatlib.crystals.summary import LabelSummary, Shift, TableSummary
from cgatlib.evaluation.scaling import Points
from cgatlib.evaluation.statistics import Estimate
from cgatlib.runs.plan import Plan
from cgatlib.runs.tested import errors_of

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "data" / "published"
CLAIMS = FOLDER / "claims.yml"
PLANS = {name: Plan.read(ROOT / "data" / "plans" / f"{name}.yaml") for name in ("real_data", "variants")}
FINGERPRINTS = {name: table["fingerprint"] for name, table in PLANS["real_data"].tables.items()}
IDS = [f"id-{i}" for i in range(120)]
FORMULAS = [f"F{i // 2}" for i in range(120)]
GRID = [*(f"volume-r2scan-from-{n}" for n in (2000, 4000, 8000, 16000)), "volume-r2scan-sizes-full"]


class Made:
    """What has attributes and can be a key."""

    def __init__(self, **values) -> None:
        self.__dict__.update(values)


class MadeArchive(dict):
    """An archive of made runs: everything a test asks of it."""

    def __init__(self, runs=()) -> None:
        super().__init__({run.experiment.key: run for run in runs})
        self.path = ROOT / "data/runs/real_data"  # beside it are the summaries of the tables


@dataclass(frozen=True)
class MadeResults(StoredResults):
    """The real plan with made runs."""

    made: dict = field(default_factory=dict)
    simple: list = field(default_factory=list)
    summaries: dict = field(default_factory=dict)

    def summary(self, table):
        return self.summaries[table] if table in self.summaries else super().summary(table)

    def runs(self, name):
        if name not in self.made:
            raise MissingRunsError(name)
        return self.made[name]

    @property
    def baselines(self):
        return self.simple


def made_runs(scale, *, sizes=(1000,), seeds=3, label="volume_per_atom", table="r2scan", pretrained=0, curve=None):
    """Runs whose errors at a size scatter about `scale(size)`, on the same test crystals with the same hard ones."""
    rng = np.random.default_rng(7)
    difficulty, signs = rng.uniform(0.5, 1.5, len(IDS)), rng.choice([-1, 1], len(IDS))
    target = np.where(np.arange(len(IDS)) % 2, 0.0, 2.0)
    source = Made(key=f"source-{pretrained}", functional="PBE", label=label, source=None) if pretrained else None
    found = []
    for size in sizes:
        for seed in range(seeds):
            noise = 1 + 0.01 * np.random.default_rng([size, seed, pretrained]).normal()
            frame = pd.DataFrame({"material_id": IDS, "formula": FORMULAS, "target": target})
            errors = scale(size) * noise * difficulty if not np.ndim(scale(size)) else scale(size) * difficulty
            frame["prediction"] = target + errors * signs
            experiment = Made(
                key=f"{table}-{label}-{size}-{seed}-{pretrained}-{scale(size)}",
                data=FINGERPRINTS[table],
                functional=PLANS["real_data"].tables[table]["functional"],
                label=label,
                seed=seed,
                split=Made(seed=0),
                source=source,
                model=Made(atom_width=16),
                transfer=Made(mode="full" if pretrained else "none"),
                training=Made(steps=100, learning_rate=1e-3),
            )
            mae = float(np.abs(frame["prediction"] - target).mean())
            numbers = {"test_mae": mae, "validation_mae": mae, "best_step": 1, "seconds": 1.0}
            metrics = {**numbers, "n_train": size, "n_test": len(IDS)}
            found.append(Made(experiment=experiment, metrics=metrics, errors=errors_of(frame, label), curve=curve))
    return found


def evidence(made=None, *, summaries=None, simple=(), extra=(), published=FOLDER):
    """Made runs by entry of either plan."""
    made = made or {}
    archive = MadeArchive([*(run for runs in made.values() for run in runs), *extra])
    real, variants = (
        MadeResults(PLANS[name], archive, made, list(simple), summaries or {}) for name in ("real_data", "variants")
    )
    return Evidence(real, variants, PublishedNumbers(published), ROOT / "data/demo/pbe.parquet")


def summary(name, elements=None, labels=None):
    """A table of 120 crystals that was compared with that of PBE."""
    functional = PLANS["real_data"].tables[name]["functional"]
    numbers = {"kept": len(IDS), "formulas": len(set(FORMULAS)), "refused": {}, "labels": labels or {}}
    table = {"fingerprint": FINGERPRINTS[name], "functional": functional, "origin": "dft"}
    return TableSummary(**table, **numbers, elements=elements or {}, reference=FINGERPRINTS["pbe"])


def constant(value):
    return lambda size: value


# --- the file ---------------------------------------------------------------------------------------


def test_enough_claims_from_every_section():
    claims = read_claims(CLAIMS)
    assert len(claims) >= 45
    assert {claim.group for claim in claims} == set(GROUPS)
    assert [claim.group for claim in claims] == sorted((claim.group for claim in claims), key=list(GROUPS).index)
    assert all(re.fullmatch(rf"{claim.group}-[a-z-]+", claim.id) for claim in claims)


def test_every_claim_has_a_verdict_before_anything_was_run():
    """Names of entries, tables and printed numbers exist, and what cannot be tested is indeed absent from the plans."""
    found = evidence()
    outcomes = set()
    for claim in read_claims(CLAIMS):
        assert "{" not in found.published.fill(claim.text)
        verdicts = claim.judge(found)
        outcomes |= {verdict.outcome for verdict in verdicts}
        assert len(verdicts) == len(claim.checks)
        for verdict in verdicts:
            assert verdict.outcome is not Outcome.PENDING or verdict.measured.startswith("the archive lacks runs of ")
    assert {Outcome.PENDING, Outcome.IMPOSSIBLE, Outcome.CONSISTENT, Outcome.INCONSISTENT} <= outcomes


def test_no_verdict_is_written_in_the_file():
    for row in yaml.safe_load(CLAIMS.read_text()):
        for check in row["checks"]:
            assert not {"verdict", "outcome"} & set(check)
            assert ("reason" in check) == (check["test"] == "impossible")


def test_every_test_is_used():
    assert {name for claim in read_claims(CLAIMS) for name, _ in claim.checks} == set(TESTS)


@pytest.mark.slow
def test_the_stored_runs_give_every_verdict():
    stored = [
        StoredResults.open(ROOT / f"data/plans/{name}.yaml", ROOT / f"data/runs/{name}")
        for name in ("real_data", "variants")
    ]
    found = Evidence(*stored, PublishedNumbers(FOLDER), ROOT / "data/demo/pbe.parquet")
    ledger = [(claim, claim.judge(found)) for claim in read_claims(CLAIMS)]
    assert {Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN} <= {v.outcome for _, verdicts in ledger for v in verdicts}


GOOD = {"id": "a", "group": "data", "place": "p", "claim": "c", "checks": [{"test": "printed_gains"}]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"group": "other"}, "unknown group 'other'; known: data, within"),
        ({"verdict": "holds"}, "unknown or missing verdict"),
        ({"place": None}, "unknown or missing place"),
        ({"about": ["e_form", "B3LYP"]}, "about must be a label and a functional"),
        ({"checks": []}, "claim a has no checks"),
        ({"checks": [{"test": "magic"}]}, "unknown test 'magic'; known: impossible, reduction"),
        ({"checks": [{"test": "reduction", "entry": "x"}]}, "test reduction: missing a required argument: 'reference'"),
        ({"checks": [{"test": "printed_gains", "x": 1}]}, "unexpected keyword argument 'x'"),
    ],
)
def test_refused(tmp_path, change, expected):
    path = tmp_path / "claims.yml"
    row = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    path.write_text(yaml.safe_dump([row]))
    with pytest.raises(CgatError, match=expected):
        read_claims(path)


def test_two_claims_of_one_name_are_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([GOOD, GOOD]))
    with pytest.raises(CgatError, match="two claims are called a"):
        read_claims(path)


def test_what_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text("- claim: this: and that")
    with pytest.raises(CgatError, match="is not YAML: mapping values are not allowed here"):
        read_claims(path)


def test_unknown_entries_are_refused_even_where_others_are_missing():
    claim = Claim("a", "data", "p", "c", (("reduction", {"entry": "volume-pbesol-full", "reference": "magic"}),))
    with pytest.raises(CgatError, match="claim a, test reduction: the plan has no run 'magic'"):
        claim.judge(evidence())


def test_what_cannot_be_tested_must_be_absent():
    absent = {"label": "e_above_hull", "functionals": ["SCAN"]}
    assert impossible(evidence(), "why", absent).outcome is Outcome.IMPOSSIBLE
    with pytest.raises(CgatError, match="said to be absent, but the plan has it"):
        impossible(evidence(), "why", {"label": "e_above_hull", "functionals": ["PBE"]})
    assert has(evidence(), network="edge_width")
    assert not has(evidence(), network="pooling")
    with pytest.raises(CgatError, match="must be named by label or network"):
        has(evidence())


def test_few_crystals_count_as_absent_where_many_are_needed():
    known = evidence({"volume-r2scan-none": made_runs(constant(1.0), sizes=(500,))})
    wanted = {"label": "volume_per_atom", "functionals": ["r2SCAN"]}
    assert has(known, **wanted, at_least=500)
    assert not has(known, **wanted, at_least=501)


# --- printed numbers --------------------------------------------------------------------------------


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
    published = PublishedNumbers(FOLDER)
    assert published["table1/band_gap/PBE/none"].low == pytest.approx(0.0195)  # a zero at the end counts
    assert published["table1/volume_per_atom/PBEsol/full/gain"].value == pytest.approx(0.23)
    assert published["numbers/inter_property_gain"].value == pytest.approx(0.18)
    assert published["elements/pbe/O"].value == 128071
    assert published["2"].low == published["2"].high == 2
    assert published.fill("{numbers/pretraining_set} or {table1/e_form/SCAN/full}") == "1.8 M or 16"


@pytest.mark.parametrize(
    "name", ["table1/e_form/HSE/full", "numbers/magic", "numbers/split", "numbers/split/7", "elements/pbe/He", "table1"]
)
def test_unknown_printed_numbers_are_refused(name):
    with pytest.raises(CgatError, match=f"data/published has no {name}"):
        PublishedNumbers(FOLDER)[name]


def test_no_number_is_refused():
    with pytest.raises(CgatError, match="'many' is not a number"):
        Printed.of("many")


def tampered(tmp_path, **changes):
    """The published folder with other errors in Table 1, keys LABEL__FUNCTIONAL__MODE."""
    folder = shutil.copytree(FOLDER, tmp_path / "published")
    table = (
        pd.read_csv(folder / "table1.csv", dtype=str, keep_default_na=False)
        .set_index(["label", "functional", "mode"])
        .sort_index()
    )
    for key, value in changes.items():
        table.loc[tuple(key.split("__")), "mae"] = value
    table.reset_index().to_csv(folder / "table1.csv", index=False)
    return folder


def test_quotients_within_rounding():
    found = evidence()
    over, under = "table1/e_above_hull/PBEsol/none", "table1/e_above_hull/PBE/none"  # 26 and 23
    assert quotient(found, over, under, states="109%").outcome is Outcome.CONSISTENT  # 25.5 / 23.5 = 1.085
    assert quotient(found, over, under, states="107%").outcome is Outcome.INCONSISTENT
    assert quotient(found, over, under, lowest="2").outcome is Outcome.INCONSISTENT
    assert quotient(found, [over, under], under, highest="1").outcome is Outcome.INCONSISTENT
    assert quotient(found, under, under, highest="1").outcome is Outcome.CONSISTENT
    with pytest.raises(CgatError, match="either the ratio that is stated or a bound"):
        quotient(found, over, under)


def test_percentages_of_table1(tmp_path):
    assert printed_gains(evidence()).outcome is Outcome.CONSISTENT
    found = printed_gains(evidence(published=tampered(tmp_path, e_form__SCAN__full="19")))
    assert found.outcome is Outcome.INCONSISTENT
    assert "11 of 12" in found.measured


def test_order_of_table1(tmp_path):
    assert table_order(evidence(), ["full"], "head").outcome is Outcome.CONSISTENT
    worse = table_order(evidence(), ["head", "full"], "none")
    assert worse.outcome is Outcome.INCONSISTENT
    assert "Band gap SCAN: only regression head 0.093, no transfer 0.078" in worse.measured
    assert table_order(evidence(), ["head"], "none", ["e_form"]).outcome is Outcome.CONSISTENT
    equal = evidence(published=tampered(tmp_path, e_form__SCAN__head="24"))  # the same within rounding
    assert table_order(equal, ["head"], "none", ["e_form"]).outcome is Outcome.CONSISTENT
    assert table_order(evidence(), ["PBE"], "none", ["volume_per_atom"]).outcome is Outcome.INCONSISTENT


def test_lines_through_the_printed_numbers():
    found = evidence()
    assert (
        accuracy_at(found, "numbers/chemical_accuracy_size", "numbers/chemical_accuracy").outcome is Outcome.CONSISTENT
    )
    assert accuracy_at(found, "numbers/chemical_accuracy_size", "20").outcome is Outcome.INCONSISTENT
    start, large = ["numbers/budget_start/0", "numbers/budget_start/1"], "numbers/training_sizes/1"
    assert budget(found, start, "training").outcome is Outcome.CONSISTENT
    assert budget(found, [large, large], "training").outcome is Outcome.INCONSISTENT
    assert budget(found, [large, large], "pre-training").outcome is Outcome.CONSISTENT


def test_surplus():
    gains = ("table1/e_form/SCAN/full/gain", "numbers/inter_property_gain")  # 33 and 18
    assert surplus(evidence(), *gains, ["56%", "59%"]).outcome is Outcome.INCONSISTENT
    assert surplus(evidence(), *gains, ["80%", "85%"]).outcome is Outcome.CONSISTENT


def test_elements_and_units():
    found = evidence()
    assert most_frequent(found, "pbe", ["O", "N", "Li"], ["He"]).outcome is Outcome.CONSISTENT
    assert most_frequent(found, "pbe", ["N", "O", "Li"]).outcome is Outcome.INCONSISTENT
    assert most_frequent(found, "pbe", ["O"], ["H"]).outcome is Outcome.INCONSISTENT
    assert printed_share(found, "O", "larger").outcome is Outcome.CONSISTENT
    assert printed_share(found, "N", "larger").outcome is Outcome.INCONSISTENT
    assert kilocalorie(found, "numbers/chemical_accuracy").outcome is Outcome.CONSISTENT
    assert kilocalorie(found, "42").outcome is Outcome.INCONSISTENT


# --- verdicts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected", "outcome"),
    [
        (0.1, 0.2, "better", Outcome.HOLDS),
        (-0.2, -0.1, "better", Outcome.FAILS),
        (-0.2, -0.1, "worse", Outcome.HOLDS),
        (-0.1, 0.2, "worse", Outcome.OPEN),
        (-0.1, 0.2, "same", Outcome.OPEN),
        (0.1, 0.2, "same", Outcome.FAILS),
        (0.0, 0.2, "better", Outcome.OPEN),
    ],
)
def test_interval_decides(low, high, expected, outcome):
    assert decide(Estimate((low + high) / 2, low, high), expected) is outcome


def test_unknown_expectation_is_refused():
    with pytest.raises(CgatError, match="a claim cannot expect 'more'; known: better, worse, same"):
        decide(Estimate(0, 0, 0), "more")


def test_size_of_an_effect_is_said_beside_its_direction():
    effect = Estimate(0.34, 0.28, 0.39)
    assert beside(effect, Printed.of("30%"), Outcome.HOLDS) == "; the paper's 30% lies in the interval"
    assert beside(effect, Printed.of("23%"), Outcome.HOLDS) == "; direction as in the paper, effect larger than its 23%"
    assert (
        beside(effect, Printed.of("50%"), Outcome.HOLDS) == "; direction as in the paper, effect smaller than its 50%"
    )
    assert beside(effect, Printed.of("-19%"), Outcome.FAILS) == "; -19% in the paper"
    assert beside(effect, None, Outcome.HOLDS) == ""
    assert share_text(Estimate(0.065, 0.061, np.inf)) == "6% [6%, ∞]"
    assert share_text(Estimate(0.065, 0.061, 0.069)) == "6.5% [6.1%, 6.9%]"


class TestErrors:
    pair = ("volume-pbesol-full", "volume-pbesol-none")

    def made(self, first, second, **options):
        runs = {name: made_runs(scale, **options) for name, scale in zip(self.pair, (first, second), strict=True)}
        return evidence(runs)

    def test_direction_and_size(self):
        found = reduction(self.made(constant(0.7), constant(1.0)), *self.pair, stated="30%")
        assert found.outcome is Outcome.HOLDS
        assert found.measured.endswith("the paper's 30% lies in the interval")
        assert found.data == "DFT labels; 1,000 training, 120 test crystals, 3 seeds"
        assert found.subject == ("volume_per_atom", "r2SCAN")
        assert reduction(self.made(constant(1.0), constant(0.7)), *self.pair).outcome is Outcome.FAILS
        assert reduction(self.made(constant(1.0), constant(0.7)), *self.pair, "worse").outcome is Outcome.HOLDS
        pairs = zip(self.pair, (made_runs(constant(1.0), pretrained=n) for n in (1, 0)), strict=True)
        assert reduction(evidence(dict(pairs)), *self.pair).outcome is Outcome.OPEN  # seeds alone differ

    def test_larger_networks_are_named(self):
        made = self.made(constant(0.7), constant(1.0))
        made.real.made[self.pair[0]][0].experiment.model.atom_width = 32
        assert reduction(made, *self.pair).data.endswith("3 seeds; network 2 times as wide")

    def test_in_all_sizes(self):
        names = ("volume-r2scan-sizes-full", "volume-r2scan-sizes-none")
        full = made_runs(lambda n: 0.7 if n < 300 else 1.2, sizes=(100, 200, 400), pretrained=1)
        none = made_runs(constant(1.0), sizes=(200, 400))
        found = reduction(evidence({names[0]: full, names[1]: none}), *names)
        assert found.outcome is Outcome.FAILS  # at 400
        assert re.fullmatch(r"error reduction by size 200: 30% \[.*\]; 400: -20% \[.*\]", found.measured)
        full = made_runs(constant(0.7), sizes=(200, 400), pretrained=1)
        assert reduction(evidence({names[0]: full, names[1]: none}), *names).outcome is Outcome.HOLDS

    def test_non_metals_alone(self):
        """Better for metals, the odd ones, and worse for the others."""
        mixed = np.where(np.arange(len(IDS)) % 2, 0.1, 1.5)
        made = self.made(constant(mixed), constant(np.ones(len(IDS))), label="band_gap")
        assert reduction(made, *self.pair).outcome is Outcome.HOLDS
        found = reduction(made, *self.pair, non_metals=True)
        assert found.outcome is Outcome.FAILS
        assert "only gaps above 0.1 eV are scored" in found.data

    def test_missing_runs_are_all_named(self):
        with pytest.raises(MissingRunsError, match="volume-pbesol-full, volume-pbesol-none"):
            reduction(evidence(), *self.pair)
        claim = Claim(
            "a", "data", "p", "c", (("reduction", dict(zip(("entry", "reference"), self.pair, strict=True))),)
        )
        (found,) = claim.judge(evidence({self.pair[0]: made_runs(constant(1.0))}))
        assert found.outcome is Outcome.PENDING
        assert found.measured == "the archive lacks runs of volume-pbesol-none"

    def test_on_different_crystals(self):
        made = {"volume-pbesol-none": made_runs(constant(1.5)), "volume-pbe": made_runs(constant(1.0), table="pbe")}
        found = larger_error(evidence(made), "volume-pbesol-none", "volume-pbe")
        assert found.outcome is Outcome.HOLDS
        assert found.measured.startswith("error larger by 50% [")
        assert larger_error(evidence(made), "volume-pbe", "volume-pbesol-none").outcome is Outcome.FAILS

    def test_metals(self):
        runs = made_runs(constant(np.where(np.arange(len(IDS)) % 2, 0.1, 1.0)), label="band_gap")
        found = smaller_on_metals(evidence({"gap-pbe": runs}), "gap-pbe")
        assert found.outcome is Outcome.HOLDS
        assert "metals are 50%" in found.measured
        assert (
            smaller_on_metals(evidence({"gap-pbe": made_runs(constant(1.0), label="band_gap")}), "gap-pbe").outcome
            is Outcome.OPEN
        )

    def test_baseline(self):
        (simple,) = made_runs(constant(2.0), seeds=1)
        e = simple.experiment
        record = Made(data=e.data, label=e.label, name="boosting", split={"seed": 0}, errors=simple.errors)
        known = evidence({"volume-r2scan-none": made_runs(constant(1.0))}, simple=[record])
        assert beats_baseline(known, "volume-r2scan-none", "boosting").outcome is Outcome.HOLDS
        with pytest.raises(CgatError, match="no baseline 'ridge' for volume-r2scan-none"):
            beats_baseline(known, "volume-r2scan-none", "ridge")

    @pytest.mark.parametrize(
        ("errors", "outcome"),
        [([2, 0.9, 0.5, 0.4], Outcome.HOLDS), ([3, 2, 2, 1.5], Outcome.FAILS), ([3, 2, 1.5, 1], Outcome.OPEN)],
    )
    def test_sooner(self, errors, outcome):
        """Reached at half the steps; never; at the last step only, which is no sooner."""
        steps = [25, 50, 75, 100]
        own = made_runs(constant(1.0), curve=pd.DataFrame({"step": steps, "validation_mae": errors}))
        other = made_runs(constant(1.1), curve=pd.DataFrame({"step": steps, "validation_mae": [4.0, 3, 2, 1]}))
        made = evidence(dict(zip(self.pair, (own, other), strict=True)))
        epochs = ["numbers/full_transfer_epochs", "numbers/epochs"]
        found = reached_sooner(made, *self.pair, epochs)
        assert found.outcome is outcome
        if outcome is Outcome.HOLDS:
            assert found.measured == "after 50.0% [50.0%, 50.0%] of the steps, evaluated every 25%; 18% in the paper"

    def test_variant(self):
        made = {"printed": made_runs(constant(1.2)), "released": made_runs(constant(1.0))}
        for run in [run for runs in made.values() for run in runs]:
            run.experiment.data = PLANS["variants"].tables["r2scan"]["fingerprint"]
        found = variant(evidence(made), "printed", "released")
        assert found.outcome is Outcome.FAILS
        assert found.measured.startswith("error +20")
        assert found.data.startswith("surrogate labels")


def sources(sizes, label="volume_per_atom"):
    """Runs from which others start."""
    found = []
    for size in sizes:
        e = Made(key=f"source-{size}", data=FINGERPRINTS["pbe"], functional="PBE", label=label, source=None)
        found.append(Made(experiment=e, metrics={"n_train": size}))
    return found


class TestSizes:
    sizes = (125, 250, 500, 1000, 2000, 4000)
    none, full = "volume-r2scan-sizes-none", "volume-r2scan-sizes-full"

    def curves(self, none, full):
        made = {
            self.none: made_runs(none, sizes=self.sizes),
            self.full: made_runs(full, sizes=self.sizes, pretrained=30000),
        }
        return evidence(made, extra=sources([30000]))

    def grid(self, law):
        """Full transfer from five pre-training sizes with the error law(n_train, n_pretrain)."""
        pretraining = (2000, 4000, 8000, 16000, 32000)
        made = {
            name: made_runs(lambda n, p=p: law(n, p), sizes=(250, 1000, 4000), pretrained=p)
            for name, p in zip(GRID, pretraining, strict=True)
        }
        return evidence(made, extra=sources(pretraining))

    def test_straight(self):
        found = self.curves(lambda n: 9 * n**-0.3, lambda n: 0.2 + 30 / n)
        assert straight_line(found, [self.none]).outcome is Outcome.HOLDS
        assert straight_line(found, [self.full]).outcome is Outcome.FAILS
        flat = self.curves(constant(1.0), constant(1.0))
        assert straight_line(flat, [self.none]).outcome is not Outcome.HOLDS  # a line that explains nothing

    def test_curvature(self):
        n = np.geomspace(10, 1000, 7)
        assert curvature(Points(n, np.exp(0.05 * np.log(n) ** 2))).value == pytest.approx(0.1)
        assert np.isinf(curvature(Points(n[:3], n[:3])).high)

    def test_falls(self):
        found = self.curves(lambda n: 9 * n**-0.3, lambda n: n**0.3)
        assert error_falls(found, [self.none]).outcome is Outcome.HOLDS
        assert error_falls(found, [self.full]).outcome is Outcome.FAILS

    def test_meeting(self):
        stated = ["numbers/crossing_e_form_SCAN", "numbers/training_sizes/1"]
        beyond = self.curves(lambda n: 9 * n**-0.3, lambda n: 9 * 20000**-0.2 * n**-0.1)  # at 20,000
        found = lines_meet(beyond, self.none, self.full, stated)
        assert found.outcome is Outcome.HOLDS
        assert "8.4 times in the paper" in found.measured
        before = self.curves(lambda n: 9 * n**-0.3, lambda n: 9 * 1000**-0.2 * n**-0.1)
        assert lines_meet(before, self.none, self.full, stated).outcome is Outcome.FAILS
        never = self.curves(lambda n: 9 * n**-0.3, lambda n: 5 * n**-0.4)
        assert lines_meet(never, self.none, self.full, stated).outcome is Outcome.FAILS

    def test_equivalent(self):
        made = self.curves(lambda n: 9 * n**-0.5, lambda n: 9 * 12000**-0.5)  # three times the largest
        assert equivalent_data(made, self.none, self.full, "2").outcome is Outcome.HOLDS
        assert equivalent_data(made, self.none, self.full, "4").outcome is Outcome.FAILS

    def test_pretraining_size(self):
        made = self.grid(lambda n, p: 50 * n**-0.3 * p**-0.15)
        assert straight_line(made, GRID, "pretrain_size").outcome is Outcome.HOLDS
        assert error_falls(made, GRID, "pretrain_size").outcome is Outcome.HOLDS
        stated = ["numbers/balanced_ratio", "numbers/cost_ratio_SCAN"]
        found = pretraining_slope_smaller(made, GRID, stated)
        assert found.outcome is Outcome.HOLDS
        assert "0.80 follows from the paper" in found.measured
        reverse = self.grid(lambda n, p: 50 * n**-0.1 * p**-0.3)
        assert pretraining_slope_smaller(reverse, GRID, stated).outcome is Outcome.FAILS
        assert best_share(made, GRID).outcome is Outcome.HOLDS

    def test_slope_decreases(self):
        flatter = self.grid(lambda n, p: n ** -(0.4 if p < 10000 else 0.2))
        assert slope_decreases(flatter, GRID).outcome is Outcome.HOLDS
        steeper = self.grid(lambda n, p: n ** -(0.2 if p < 10000 else 0.4))
        assert slope_decreases(steeper, GRID).outcome is Outcome.FAILS

    @pytest.mark.parametrize(
        ("slope", "sizes", "pays", "outcome"),
        [
            (0.24, ["4", "1"], "both", Outcome.HOLDS),  # 5 x 0.24 / 0.3 = 4
            (0.06, ["4", "1"], "both", Outcome.FAILS),
            (0.24, ["16", "1"], "training", Outcome.HOLDS),
            (0.24, ["1", "1"], "training", Outcome.FAILS),
            (0.24, ["1", "1"], "pre-training", Outcome.HOLDS),
        ],
    )
    def test_balance(self, slope, sizes, pays, outcome):
        made = self.grid(lambda n, p: 50 * n**-0.3 * p**-slope)
        assert balanced_at(made, GRID, "numbers/cost_ratio_SCAN", sizes, pays).outcome is outcome

    def test_errors_that_do_not_fall_balance_nothing(self):
        made = self.grid(lambda n, p: n**0.2)
        assert balanced_at(made, GRID, "numbers/cost_ratio_SCAN", ["4", "1"], "both").outcome is Outcome.OPEN
        assert best_share(made, GRID).outcome is Outcome.OPEN


class TestData:
    def made(self, first, second):
        """Tables of PBE and HSE with these gaps of the same crystals."""
        pairs = pd.DataFrame({"formula": FORMULAS, "first": first, "second": second})
        metals = pairs.assign(first=1.0 * (pairs["first"] < 0.1), second=1.0 * (pairs["second"] < 0.1))
        gap = LabelSummary(120, 0, 0, 0, (), (), 0, 120, Shift.of(pairs), Shift.of(metals))
        return evidence(summaries={"pbe": summary("pbe"), "hse": summary("hse", labels={"band_gap": gap})})

    def test_labels(self):
        gaps = np.linspace(0, 4, len(IDS))
        made = self.made(0.5 * gaps, gaps)
        stated = ["numbers/band_gap_mean_PBE", "numbers/band_gap_mean_SCAN"]
        found = labels_shift(made, "pbe", "hse", "band_gap", "smaller", stated)
        assert found.outcome is Outcome.HOLDS
        assert found.measured.startswith("mean 1.00 (PBE) and 2.00 (HSE), difference -50.0% [")
        assert "effect smaller than its -83%" in found.measured
        assert labels_shift(made, "pbe", "hse", "band_gap", "larger").outcome is Outcome.FAILS
        assert labels_shift(self.made(gaps, gaps), "pbe", "hse", "band_gap", "larger").outcome is Outcome.OPEN
        with pytest.raises(CgatError, match="known: larger, smaller"):
            labels_shift(made, "pbe", "hse", "band_gap", "better")

    def test_metals(self):
        gaps = np.arange(len(IDS)) % 4
        found = labels_shift(self.made(gaps // 2, gaps), "pbe", "hse", "band_gap", metals=True)
        assert found.outcome is Outcome.HOLDS
        assert "share of metals 50% (PBE) and 25% (HSE)" in found.measured
        none = labels_shift(self.made(gaps, gaps + 1), "pbe", "hse", "band_gap", metals=True)
        assert "∞" in none.measured  # no metal at all among the second
        nowhere = labels_shift(self.made(gaps + 1, gaps + 1), "pbe", "hse", "band_gap", metals=True)
        assert nowhere.outcome is Outcome.OPEN

    def test_labels_that_are_not_there(self):
        for label, first, second in (("band_gap", "hse", "pbe"), ("e_form", "pbe", "hse")):
            with pytest.raises(CgatError, match=f"table {second} does not compare its {label} with that of {first}"):
                labels_shift(evidence(), first, second, label)
        with pytest.raises(CgatError, match="no table 'magic'"):
            labels_shift(evidence(), "magic", "hse", "band_gap")

    def test_elements(self):
        tables = {
            "pbe": summary("pbe", {"Na": 1, "Cl": 1, "H": 60, "O": 60}),
            "hse": summary("hse", {"Al": 120, "O": 120}),
        }
        found = element_share(evidence(summaries=tables), "O", "pbe", "hse", "larger")
        assert found.outcome is Outcome.HOLDS
        assert found.measured == "O in 50.0% and 100.0%"
        assert element_share(evidence(summaries=tables), "H", "pbe", "hse", "larger").outcome is Outcome.FAILS

    def test_graph_without_lengths(self):
        found = same_graph(evidence(), 10, 0.1)
        assert found.outcome is Outcome.HOLDS
        assert found.measured.startswith("10 of 10 graphs")


# --- what is shown ----------------------------------------------------------------------------------


def a_ledger():
    claims = [
        Claim("data-a", "data", "Fig. 1", "A < B", (), ("e_form", "SCAN")),
        Claim("sizes-b", "sizes", "Fig. 2", "{numbers/epochs} epochs", ()),
    ]
    verdicts = [
        [
            Verdict(Outcome.HOLDS, "1 < 2", "DFT labels", ("e_form", "r2SCAN")),
            Verdict(Outcome.OPEN, "3", "DFT labels", ("e_form", "SCAN")),
        ],
        [Verdict(Outcome.HOLDS, "4", "printed numbers")],
    ]
    return list(zip(claims, verdicts, strict=True))


def test_counts():
    frame = counts(a_ledger())
    assert frame.loc["all"].to_dict() == {"holds here": "2", "undecided here": "1"}
    assert frame.loc["Size scaling", "undecided here"] == "–"
    assert list(frame.index) == ["Data", "Size scaling", "all"]


def test_rows_can_be_linked_and_say_what_stands_in():
    html = ledger_table(a_ledger(), "data", PublishedNumbers(FOLDER)).data
    assert '<th scope="row" id="data-a" rowspan="2"' in html
    assert '<a href="#data-a">' in html
    assert "A &lt; B" in html
    assert "1 &lt; 2" in html
    assert "E_form r²SCAN for E_form SCAN; DFT labels" in html
    assert "sizes-b" not in html
    assert "390 epochs" in ledger_table(a_ledger(), "sizes", PublishedNumbers(FOLDER)).data

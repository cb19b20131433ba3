"""Plans: what the entries of a file stand for."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.config import MODELS
from cgatlib.runs import plan_file
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig

RATES = [0.001, 0.002, 0.004]
TRAINING = {"steps": 77, "batch_size": 9, "weight_decay": 0.25, "cycles": 4, "lowest": 0.5, "evaluations": 8}
TRAINING |= {"validation_size": 11, "precision": "bf16-mixed", "schedule": "cosine", "averaging": 0.01, "clip": 5}
TRAINING |= {"patience": 0.2, "trunk_rate": 0.1, "label_weights": [2]}
PLAN: dict[str, Any] = {
    "about": "A study of two tables",
    "tables": {
        "pbe": {"file": "pbe.parquet", "functional": "PBE", "fingerprint": "a" * 16},
        "pbesol": {"file": "pbesol.parquet", "functional": "pbesol", "fingerprint": "b" * 16},
    },
    "defaults": {"model": "tiny", "label": "e_form", "steps": 50, "cycles": 1, "evaluations": 5, "seeds": [0, 1]},
    "runs": {
        "base": {"table": "pbe", "steps": 100, "learning_rate": 0.003},
        "lone": {"table": "pbe", "learning_rate": 0.003},
        "none": {"table": "pbesol", "learning_rate": RATES, "sizes": [20, None, 50]},
        "full": {"table": "pbesol", "from": "base", "mode": "full", "learning_rate": {"of": "none"}},
        "untouched": {"table": "pbesol", "from": "base", "mode": "untouched", "target_statistics": "source"},
    },
}


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def plan(folder: Path, **runs: dict[str, Any]) -> Plan:
    """PLAN, some of its entries changed or added; a value of None takes a field away."""
    content = copy.deepcopy(PLAN)
    for name, changes in runs.items():
        entry = {**content["runs"].get(name, {}), **changes}
        content["runs"][name] = {key: value for key, value in entry.items() if value is not None}
    return Plan.read(write(folder, content))


class Errors(Runs):
    """Stands in for a store: every run is finished, with the validation error that its learning rate gives."""

    def __init__(self, errors: dict[float, float]):
        super().__init__(Path("runs"))
        self.__dict__["errors"] = errors

    def find(self, experiment: Experiment) -> Any:
        error = self.__dict__["errors"].get(experiment.training.learning_rate)
        return None if error is None else SimpleNamespace(metrics={"validation_mae": error, "test_mae": -error})


ALL = Errors(dict(zip(RATES, (0.3, 0.1, 0.2), strict=True)))
NONE = Errors({})


# What a file says


def test_an_entry_stands_for_every_seed_and_size(tmp_path):
    found = plan(tmp_path).experiments("base", NONE)
    assert found == [
        Experiment(
            "a" * 16,
            "PBE",
            "e_form",
            seed=seed,
            graph=GRAPHS["tiny"],
            model=MODELS["tiny"],
            training=TrainingConfig(steps=100, learning_rate=0.003, cycles=1, evaluations=5),
        )
        for seed in (0, 1)
    ]
    assert plan(tmp_path).about == "A study of two tables"


def test_sizes_and_splits_multiply(tmp_path):
    found = plan(tmp_path, lone={"sizes": [30, None], "splits": [0, 4]}).experiments("lone", NONE)
    assert [(e.split.seed, e.train_size, e.seed) for e in found] == [
        (split, size, seed) for split in (0, 4) for size in (30, None) for seed in (0, 1)
    ]
    assert all(replace(e.split, seed=0) == SplitConfig() for e in found)


def test_the_functional_is_written_as_the_field_writes_it(tmp_path):
    assert plan(tmp_path).experiments("none", ALL)[0].functional == "PBEsol"


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("table", "pbesol", lambda e: {"b" * 16: "pbesol"}[e.data]),
        ("label", "volume_per_atom", lambda e: e.label),
        ("more_labels", ["band_gap", "volume_per_atom"], lambda e: list(e.more_labels)),
        ("seeds", [7], lambda e: [e.seed]),
        ("sizes", [12], lambda e: [e.train_size]),
        ("splits", [3], lambda e: [e.split.seed]),
        ("groups", "material_id", lambda e: e.split.groups),
        ("model", "small", lambda e: "small" if (e.model, e.graph) == (MODELS["small"], GRAPHS["small"]) else ""),
        ("network", {"heads": 3}, lambda e: {"heads": e.model.heads}),
        ("graph", {"quotient": False}, lambda e: {"quotient": e.graph.quotient}),
        ("learning_rate", 0.5, lambda e: e.training.learning_rate),
        ("learning_rate", 1, lambda e: e.training.learning_rate),
        *(
            (name, value, lambda e, name=name: json.loads(json.dumps(getattr(e.training, name))))
            for name, value in TRAINING.items()
        ),
    ],
)
def test_each_field_acts_on_a_run_and_as_a_default(name, value, where, tmp_path):
    changed = plan(tmp_path, lone={name: value}).experiments("lone", NONE)
    assert where(changed[0]) == value
    assert changed != plan(tmp_path).experiments("lone", NONE)
    content = copy.deepcopy(PLAN)
    content["defaults"][name] = value
    content["runs"] = {"lone": {key: found for key, found in PLAN["runs"]["lone"].items() if key != name}}
    assert Plan.read(write(tmp_path, content)).experiments("lone", NONE) == changed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "head"),
        ("target_statistics", "source"),
        ("reinitialise_head", True),
        ("test_crystals", "seen"),
        ("source_label", "band_gap"),
    ],
)
def test_each_field_of_the_transfer_acts(name, value, tmp_path):
    found = plan(tmp_path, full={name: value}).experiments("full", ALL)[0]
    assert found.transfer == replace(TransferConfig("full"), **{name: value})


def test_numbers_without_a_point_are_numbers(tmp_path):
    path = write(tmp_path, PLAN)
    path.write_text(path.read_text().replace("learning_rate: 0.003", "learning_rate: 3e-3"))
    assert Plan.read(path).experiments("base", NONE)[0].training.learning_rate == 0.003


# From run to run


def test_a_run_starts_from_the_run_of_its_seed_and_split(tmp_path):
    study = plan(tmp_path, base={"splits": [0, 1]}, full={"splits": [0, 1], "sizes": [20, None]})
    bases = {(e.seed, e.split.seed): e for e in study.experiments("base", NONE)}
    found = study.experiments("full", ALL)
    assert len(found) == 8
    assert all(e.source == bases[e.seed, e.split.seed] for e in found)


def test_the_start_can_be_stated(tmp_path):
    start = {"run": "base", "size": 30, "seed": 1, "split": 1}
    study = plan(
        tmp_path,
        base={"sizes": [30, 40], "splits": [0, 1]},
        full={"from": start, "test_crystals": "seen"},
        untouched={"from": {"run": "base", "size": 40}},
    )
    for e in study.experiments("full", ALL):
        assert (e.source.train_size, e.source.seed, e.source.split.seed) == (30, 1, 1)
    assert {e.source.train_size for e in study.experiments("untouched", ALL)} == {40}


def test_a_chain_of_transfers(tmp_path):
    study = plan(tmp_path, third={"table": "pbe", "from": "full", "mode": "head", "learning_rate": 0.1})
    found = study.experiments("third", ALL)[0]
    assert [found.source, found.source.source] == [study.experiments(n, ALL)[0] for n in ("full", "base")]


# Learning rates by trial


def trials(study: Plan, name: str, store: Runs = NONE) -> list[Experiment]:
    """What is decided of an entry before its trials are run."""
    return [planned.experiment for planned in study.decided(store)[0] if planned.entry == name]


def test_trials_use_the_first_seed_and_split_and_the_largest_size(tmp_path):
    study = plan(tmp_path, none={"splits": [2, 5], "seeds": [3, 4]})
    assert [(e.training.learning_rate, e.seed, e.split.seed, e.train_size) for e in trials(study, "none")] == [
        (rate, 3, 2, None) for rate in RATES
    ]
    assert {e.train_size for e in trials(plan(tmp_path, none={"sizes": [20, 50, 30]}), "none")} == {50}
    assert trials(study, "full") == []


@pytest.mark.parametrize(
    ("errors", "best"), [((0.3, 0.1, 0.2), 0.002), ((0.1, 0.2, 0.3), 0.001), ((0.3, 0.2, 0.2), 0.002)]
)
def test_the_rate_with_the_lowest_validation_error_is_used_for_all(errors, best, tmp_path):
    study, store = plan(tmp_path), Errors(dict(zip(RATES, errors, strict=True)))
    assert study.rate("none", store) == study.rate("full", store) == best
    for name, runs in (("none", 6), ("full", 2)):
        found = study.experiments(name, store)
        assert len(found) == runs
        assert {e.training.learning_rate for e in found} == {best}
    assert len(trials(study, "none", store)) == 6 + 2  # the best is one of them


def test_without_trials_the_experiments_are_open(tmp_path):
    store = Errors({0.001: 0.1, 0.003: 0.1})
    for name in ("none", "full"):
        with pytest.raises(CgatError, match=r"the learning rate of none is open: no run at 0\.002, 0\.004 in runs"):
            plan(tmp_path).experiments(name, store)


def test_a_source_with_trials_is_chosen_first(tmp_path):
    study = plan(tmp_path, base={"learning_rate": RATES}, full={"learning_rate": [0.1, 0.2]})
    assert study.decided(NONE)[1]["full"].startswith("the learning rate of base is open")
    assert {e.source.training.learning_rate for e in trials(study, "full", ALL)} == {0.002}


def test_the_outline_counts_what_will_be_run(tmp_path):
    study = plan(tmp_path)
    assert study.outline(ALL) == study.decided(ALL)[0]
    assert study.decided(ALL)[1] == {}
    for store in (ALL, NONE, Errors({0.001: 0.1})):
        assert len(study.outline(store)) == 2 + 2 + 6 + 2 + 2 + 2


def test_some_entries_bring_what_they_need_in_the_order_of_the_plan(tmp_path):
    study = plan(tmp_path, third={"table": "pbe", "from": "full", "mode": "head", "learning_rate": 0.1})
    assert list(study.only(["third"]).entries) == ["base", "none", "full", "third"]
    assert list(study.only(["lone", "base"]).entries) == ["base", "lone"]
    with pytest.raises(CgatError, match="the plan has no run 'half'; known: base, lone, none, full"):
        study.only(["base", "half"])


# Tables


def test_opened_tables_give_their_fingerprints(tmp_path, table_paths, table, other_table):
    content = copy.deepcopy(PLAN)
    for entry in content["tables"].values():
        del entry["fingerprint"]
    content["tables"]["pbe"]["origin"] = "dft"
    study = Plan.read(write(tmp_path, content))
    with pytest.raises(CgatError, match="table pbe: the plan does not state its fingerprint, and its data are not"):
        study.experiments("base", NONE)
    opened = study.open(table_paths[0].parent, tmp_path / "tables")
    fingerprints = {name: source.table.fingerprint for name, source in opened.sources.items()}
    assert opened.experiments("base", NONE)[0].data == fingerprints["pbe"]
    assert set(opened.opened) == set(fingerprints.values())
    assert len(opened.sources["pbe"].table) == len(table)
    assert [opened.sources[name].origin for name in ("pbe", "pbesol")] == ["dft", ""]
    for name, value in fingerprints.items():
        content["tables"][name]["fingerprint"] = value
    closed = Plan.read(write(tmp_path, content))
    assert closed.experiments("full", ALL) == opened.experiments("full", ALL)


@pytest.fixture
def few(tmp_path, table, other_table) -> Path:
    """The folder of six rows of each table."""
    for name, whole in (("pbe", table), ("pbesol", other_table)):
        whole.select(range(1, 7)).write(tmp_path / f"{name}.parquet")
    return tmp_path


def joined_tables(**changes: Any) -> dict[str, Any]:
    tables = {name: {"file": f"{name}.parquet", "functional": name} for name in ("pbe", "pbesol")}
    return {**tables, "both": {"join": ["pbe", "pbesol"], **changes}}


def test_a_joined_table_has_the_labels_of_its_parts(tmp_path, few):
    run = {"table": "both", "label": "volume_per_atom@PBEsol", "more_labels": ["e_form"], "learning_rate": 0.01}
    tables = joined_tables(space_groups=True)
    tables["pbesol"]["labels"] = {"volume_per_atom": "volume_per_atom"}
    study = Plan.read(write(tmp_path, {**PLAN, "tables": tables, "runs": {"base": run}}))
    opened = study.open(few, tmp_path / "tables")
    found = opened.sources["both"].table
    assert found.labels == ("e_form", "volume_per_atom", "volume_per_atom@PBEsol")
    assert (found.functional, len(found)) == ("PBE", 12)  # all were relaxed again
    assert set(found.space_groups) == {216, 221, 225}
    (experiment, _) = opened.experiments("base", NONE)
    assert (experiment.data, experiment.functional) == (found.fingerprint, "PBE")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"join": ["pbe"]}, "table both: join: tuple should have at least 2 items"),
        ({"join": ["pbe", "pbe"]}, "table both: join must name several tables, each once"),
        ({"join": ["pbe", "both"]}, "table both: unknown table 'both' to join; known: pbe, pbesol"),
        ({"join": "pbe"}, "table both: join must be a list, not 'pbe'"),
        ({"file": "pbe.parquet"}, "table both: unknown field 'file'; known: space_groups, fingerprint, origin, join"),
    ],
)
def test_a_join_that_is_none_is_refused(changes, sentence, tmp_path):
    with pytest.raises(CgatError, match=sentence):
        Plan.read(write(tmp_path, {**PLAN, "tables": {**PLAN["tables"], **joined_tables(**changes)}}))


def test_a_fingerprint_that_differs_is_refused(tmp_path, table_paths):
    with pytest.raises(CgatError, match=rf"table pbe: the plan states the fingerprint {'a' * 16}, \S+ has \w{{16}}$"):
        plan(tmp_path).open(table_paths[0].parent, tmp_path / "tables")


@pytest.mark.parametrize(
    ("field", "labels", "rows"),
    [
        ({}, ("e_form", "volume_per_atom"), 6),
        ({"labels": {"volume_per_atom": "volume_per_atom"}}, ("volume_per_atom",), 6),
        ({"agree": {"volume_per_atom": ["e_form", 0.1]}}, (), 0),
        ({"space_groups": True}, ("e_form", "volume_per_atom"), 6),
    ],
)
def test_labels_and_agreement_of_a_table_act(field, labels, rows, tmp_path, few):
    tables = {"pbe": {"file": "pbe.parquet", "functional": "PBE", **field}}
    study = Plan.read(write(tmp_path, {**PLAN, "tables": tables, "runs": {"base": PLAN["runs"]["base"]}}))
    found = study.open(few, tmp_path / "tables").sources["pbe"].table
    assert (found.labels, len(found)) == (labels, rows)
    assert ("space_group_number" in found.table.column_names) == ("space_groups" in field)


# What is refused


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("runs", "base", "step"), 3, r"run base: unknown field 'step'; known: table, label, model, seeds"),
        (("defaults", "speed"), 3, r"defaults: unknown field 'speed'; known: table"),
        (("tables", "pbe", "path"), "x", r"table pbe: unknown field 'path'; known: space_groups, .*, file, functional"),
        (("plans",), {}, r"plan\.yaml: unknown field 'plans'; known: about, tables, defaults, runs"),
        (("runs", "full", "from"), {"run": "base", "sizes": 3}, r"run full: from: unknown field 'sizes'; known: run"),
        (("runs", "full", "learning_rate"), {"off": "none"}, r"run full: learning_rate of does not state its of"),
        (("runs", "base", "table"), "scan", r"run base: unknown table 'scan'; known: pbe, pbesol"),
        (("runs", "base", "label"), "gap", r"run base: unknown label 'gap'; known: band_gap, e_above_hull, e_form, v"),
        (("runs", "base", "model"), "huge", r"run base: unknown model 'huge'; known: .*tiny"),
        (("runs", "full", "from"), "bass", r"run full: unknown from 'bass'; known: base, full, lone, none"),
        (("runs", "full", "learning_rate"), {"of": "nine"}, r"run full: unknown learning_rate of 'nine'; known: base"),
        (("runs", "base", "network"), {"depth": 3}, r"run base: network has an unknown value, 'depth'"),
        (("runs", "base", "graph"), {"k": 3}, r"run base: graph has an unknown value, 'k'"),
        (("runs", "full", "mode"), "half", r"run full: mode: input should be 'none', .*, not 'half'"),
        (("runs", "base", "groups"), "prototype", r"run base: split: unknown groups 'prototype'; known: formula, "),
        (("runs", "base", "precision"), "16", r"run base: precision: input should be '32-true' or .*, not '16'"),
        (("runs", "base", "steps"), "many", r"run base: steps must be a whole number, not 'many'"),
        (("runs", "base", "steps"), True, r"run base: steps must be a whole number, not True"),
        (("runs", "base", "steps"), 0, r"run base: training: steps must be at least 1, not 0"),
        (("runs", "base", "seeds"), 3, r"run base: seeds must be a list, not 3"),
        (("runs", "base", "seeds"), [], r"run base: seeds: tuple should have at least 1 item .*, not \(\)"),
        (("runs", "base", "sizes"), ["all"], r"run base: sizes: 0 must be a whole number, not 'all'"),
        (("runs", "base", "learning_rate"), "fast", r"run base: learning_rate must be a list, not 'fast'"),
        (("runs", "base", "learning_rate"), None, r"run base: learning_rate must be a list, not None"),
        (("runs", "full", "reinitialise_head"), 1, r"run full: reinitialise_head must be true or false, not 1"),
        (("runs", "base"), None, r"run base must be settings by name, not None"),
        (("runs",), ["base"], r"runs must be settings by name, not \('base',\)"),
        (("runs", "base", "network"), {"heads": "two"}, r"run base: network: heads must be int, not 'two'"),
        (("runs", "none", "mode"), "full", r"run none: transfer mode 'full' and the source run do not go together"),
        (("runs", "full", "mode"), "none", r"run full: transfer mode 'none' and the source run do not go together"),
        (("runs", "full", "model"), "small", r"run full: a run and the run it starts from need the same model"),
        (("runs", "full", "seeds"), [0, 5], r"run full: base, from which it starts, has no seed 5; known: 0, 1"),
        (("runs", "full", "splits"), [2], r"run full: base, from which it starts, has no split 2; known: 0"),
        (("runs", "full", "from"), "none", r"run full: none has several sizes; write from: \{run: none, size: ...\}"),
        (("runs", "full", "from"), {"run": "base", "size": 9}, r"run full: base, .* has no size 9; known: None"),
        (("runs", "none", "learning_rate"), {"of": "full"}, r"runs that need each other: (none|full) -> (none|full)"),
        (("runs", "full", "from"), "full", r"runs that need each other: full -> full"),
        (("tables", "pbe", "functional"), "", r"the functional is empty"),
        (("tables", "pbe", "fingerprint"), "../../x", r"table pbe: fingerprint: string should match .*, not '../../x'"),
        (("tables", "../../x"), {}, r"tables: ../../x: \[key\]: string should match pattern"),
        (("tables", "pbe", "agree"), {"e_form": 1}, r"table pbe: agree: e_form must be a list, not 1"),
        (("tables", "pbe", "labels"), {"e_form": ["x"]}, r"table pbe: labels: e_form must be text, not \('x',\)"),
        (("runs", "base", "seeds"), [-1], r"run base: seeds: 0: input should be greater than or equal to 0"),
        (("runs", "base", "sizes"), [0], r"run base: sizes: 0: input should be greater than 0, not 0"),
        (("runs", "base", "learning_rate"), float("nan"), r"run base: learning_rate: 0: input should be a finite"),
        (("runs", "base", "network"), {"output_widths": 3}, r"run base: network: output_widths must be tuple"),
        (("runs", "base", "graph"), {"quotient": "no"}, r"run base: graph: quotient must be bool, not 'no'"),
        (("runs", "base", "label"), "e\ud800", r"run base: label: input should be a valid string"),
        (("runs", "base", "seeds"), list(range(90)), r"plan.yaml: a plan has at most 80 runs and trials, not 107"),
    ],
)  # fmt: skip
def test_refused(place, value, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_file, "MOST_RUNS", 80)
    content = copy.deepcopy(PLAN)
    part = content
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    with pytest.raises(CgatError, match=sentence):
        Plan.read(write(tmp_path, content))


BOMB = "a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"about: caf\xe9\n", "cannot be read as a plan: 'utf-8' codec can't decode byte 0xe9"),
        (b"about: 2026-13-45\n", "cannot be read as a plan: month must be in 1..12"),
        (b"about: !!timestamp x\n", "cannot be read as a plan: "),
        (b"about: !!bool x\n", "cannot be read as a plan: "),
        (b"about: !!int ''\n", "cannot be read as a plan: "),
        (b"about: " + b"9" * 5000, "cannot be read as a plan: Exceeds the limit"),
        (b"about: !!python/object/apply:os.getcwd []\n", "cannot be read as a plan: could not determine a constructor"),
        (b"about: 0x" + b"f" * 5000, "about must be text, not a number of more than 4096 digits"),
        (b"[" * 1_000, "cannot be read as a plan: it is nested too deeply"),
        (b"about: " + b"x" * 200_000, "a plan has at most 200000 bytes"),
        (b"runs: [" + b"1," * 4_000 + b"1]", "a plan holds at most 4000 values, those that aliases repeat included"),
        (b"runs: &a [*a]\n", "a plan holds at most 4000 values, those that aliases repeat included"),
        (BOMB.encode(), "a plan holds at most 4000 values, those that aliases repeat included"),
        (b"just words", "plan.yaml must be settings by name, not 'just words'"),
        (b"runs: [", "cannot be read as a plan: while parsing"),
        (b"", "plan.yaml must be settings by name, not None"),
    ],
)
def test_files_that_are_no_plans_or_ask_for_too_much_are_refused(content, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_file, "MOST_VALUES", 4000)
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)
    with pytest.raises(CgatError, match=f"plan.yaml.* {sentence}|{sentence}"):
        Plan.read(path)


def test_runs_in_a_row_are_bounded_and_each_is_looked_at_once(tmp_path):
    """Each entry starts from the one before and takes its rate, too: 2^n ways through n of them."""

    def chain(n: int) -> Plan:
        runs = {f"r{i}": {"from": f"r{i - 1}", "mode": "full", "learning_rate": {"of": f"r{i - 1}"}} for i in range(n)}
        runs["r0"] = {"learning_rate": RATES}
        entries = {name: {"table": "pbe", **entry} for name, entry in runs.items()}
        return Plan.read(write(tmp_path, {**PLAN, "runs": entries}))

    class Counted(Errors):
        asked: ClassVar[list[float]] = []

        def find(self, experiment: Experiment) -> Any:
            self.asked.append(experiment.training.learning_rate)
            return super().find(experiment)

    assert len(chain(10).experiments("r9", Counted(ALL.__dict__["errors"]))) == 2
    assert Counted.asked == RATES
    with pytest.raises(CgatError, match="run r10 is the last of more than 10 runs that need each other in a row"):
        chain(11)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        *((("runs", "base", name), f"run base does not state its {name}") for name in ("table", "learning_rate")),
        *((("defaults", name), f"run base does not state its {name}") for name in ("label", "model")),
        *((("tables", "pbe", name), f"table pbe does not state its {name}") for name in ("file", "functional")),
        *(((name,), f"does not state its {name}") for name in ("about", "tables", "runs")),
    ],
)
def test_what_must_be_stated(place, sentence, tmp_path):
    content = copy.deepcopy(PLAN)
    part = content
    for name in place[:-1]:
        part = part[name]
    del part[place[-1]]
    with pytest.raises(CgatError, match=sentence):
        Plan.read(write(tmp_path, content))


def test_a_name_given_twice_is_refused_and_merging_is_not(tmp_path):
    path = tmp_path / "plan.yaml"
    text = json.dumps(PLAN)
    path.write_text(text.replace('"none": {"table"', '"base": {"table"'))
    with pytest.raises(CgatError, match=r"plan\.yaml: 'base' stands twice in the settings that begin in line 1"):
        Plan.read(path)
    merged = 'runs: {"base": &base {"table": "pbe", "learning_rate": 1e-3}, "more": {<<: *base, "learning_rate": 2e-3}}'
    rest = {key: value for key, value in PLAN.items() if key != "runs"}
    path.write_text(yaml.safe_dump(rest) + merged)
    assert Plan.read(path).experiments("more", NONE)[0].training.learning_rate == 0.002


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CgatError, match=r"absent\.yaml cannot be read as a plan"):
        Plan.read(tmp_path / "absent.yaml")

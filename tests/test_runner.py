"""The run store: trains what is missing once, sources first, and leaves nothing half done."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cgatlib import CgatError
from cgatlib.crystals.sources import joined
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import load_model
from cgatlib.predictor import Predictor
from cgatlib.runs import store as stores
from cgatlib.runs import trainer
from cgatlib.runs.archive import find_runs, run_folders
from cgatlib.runs.experiment import MEANING, Experiment, Run, training_code
from cgatlib.runs.store import Runs
from cgatlib.runs.tested import SEEN
from cgatlib.runs.trainer import parts_of
from cgatlib.splits import SplitConfig, split
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig

QUICK = TrainingConfig(steps=6, batch_size=16, learning_rate=0.01, cycles=1, evaluations=2)
SPLIT = SplitConfig(0, 0.6, 0.2, 0.2)


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def store(tmp_path, table, other_table, graph_cache) -> Runs:
    tables = {t.fingerprint: t for t in (table, other_table)}
    return Runs(tmp_path / "runs", tables, graph_cache)


@pytest.fixture(scope="module")
def done(tmp_path_factory, table, other_table, graph_cache) -> Runs:
    """For tests that only read: what one has trained, the next finds."""
    return Runs(tmp_path_factory.mktemp("done"), {t.fingerprint: t for t in (table, other_table)}, graph_cache)


@pytest.fixture
def plain(table, tiny_graph, tiny_model) -> Experiment:
    return Experiment(
        table.fingerprint, "PBE", "e_form", graph=tiny_graph, model=tiny_model, split=SPLIT, training=QUICK
    )


@pytest.fixture
def transferred(plain, other_table) -> dict[str, Experiment]:
    """Runs on the other table that start from `plain`, by mode."""
    return {
        mode: replace(plain, data=other_table.fingerprint, functional="PBEsol", source=plain, transfer=config)
        for mode, config in {"head": TransferConfig("head"), "full": TransferConfig("full")}.items()
    }


@pytest.fixture
def trainings(monkeypatch) -> list[str]:
    """Grows by the run's key with every training."""
    calls, fit = [], trainer.fit

    def counted(network, train, validation, statistics, config, seed, checkpoint, *more, **options):
        calls.append(checkpoint.parent.name.split("-")[0])
        return fit(network, train, validation, statistics, config, seed, checkpoint, *more, **options)

    monkeypatch.setattr(trainer, "fit", counted)
    return calls


def finished(store: Runs) -> set[str]:
    """Folders that a reader of the store would take for runs."""
    return {path.parent.name for path in Path(store.root).glob("*/provenance.json")}


def weights(run: Run) -> dict[str, torch.Tensor]:
    return Predictor.load(run.path).network.state_dict()


def same_result(first: Run, second: Run) -> bool:
    ours, theirs = weights(first), weights(second)
    return (
        all(torch.equal(ours[name], theirs[name]) for name in theirs)
        and first.predictions.equals(second.predictions)
        and first.curve.equals(second.curve)
        and {**first.metrics, "seconds": 0} == {**second.metrics, "seconds": 0}
    )


# What a run holds


def test_a_run_is_complete(done, plain, table):
    run = done.get(plain)
    parts = split(table.formulas, SPLIT)
    assert run.path == Path(done.root) / plain.key
    assert run.experiment == plain
    assert run.problems() == []
    assert run.predictions["material_id"].tolist() == [table.ids[row] for row in parts.test]
    np.testing.assert_array_equal(run.predictions["target"], table.label("e_form")[parts.test])
    assert run.curve["step"].tolist() == [3, 6]
    assert list(run.curve) == ["step", "epoch", "learning_rate", "train_mae", "validation_mae"]
    m = run.metrics
    assert (m["n_train"], m["n_validation"], m["n_test"]) == tuple(len(rows) for rows in vars(parts).values())
    assert m["test_mae"] == pytest.approx((run.predictions["target"] - run.predictions["prediction"]).abs().mean())
    mean = table.label("e_form")[parts.train].mean()
    assert m["test_mad"] == pytest.approx(np.abs(table.label("e_form")[parts.test] - mean).mean())
    assert m["validation_mae"] == pytest.approx(run.curve["validation_mae"].min())
    assert m["trained_parameters"] == sum(w.numel() for w in weights(run).values())
    assert m["seconds"] > 0
    assert {p.name for p in run.path.iterdir()} == {*run.provenance["files"], "provenance.json"}
    assert {"code", "python", "libraries", "machine", "data", "source", "seed"} <= set(run.provenance)
    assert run.provenance["data"] == table.fingerprint


def test_the_saved_network_gives_the_saved_predictions(done, plain, table):
    run = done.get(plain)
    model = load_model(run.path)
    rows = split(table.formulas, SPLIT).test
    again = model.predict(table.crystal(r) for r in rows)
    np.testing.assert_allclose(again["prediction"], run.predictions["prediction"], rtol=1e-5, atol=1e-6)
    validation = split(table.formulas, SPLIT).validation
    found = model.predict(table.crystal(r) for r in validation)
    mae = np.abs(found["prediction"] - table.label("e_form")[validation]).mean()
    assert mae == pytest.approx(run.metrics["validation_mae"], rel=1e-5)  # the best weights, all of the validation part


def test_crystals_without_the_label_are_left_out(done, transferred, other_table):
    run = done.get(transferred["full"])
    parts = split(other_table.formulas, SPLIT)
    labelled = {name: rows[~np.isnan(other_table.label("e_form")[rows])] for name, rows in vars(parts).items()}
    assert run.metrics["n_train"] == len(labelled["train"]) < len(parts.train)
    assert run.predictions["material_id"].tolist() == [other_table.ids[row] for row in labelled["test"]]


def test_a_run_says_when_and_why_it_stopped(done, plain):
    whole = done.get(plain).metrics
    assert (whole["last_step"], whole["stopped"]) == (6, "budget")
    impatient = replace(QUICK, steps=400, learning_rate=10.0, evaluations=400, patience=0.01)
    stopped = done.get(replace(plain, training=impatient)).metrics
    assert stopped["last_step"] == stopped["best_step"] + 4 < 400
    assert stopped["stopped"] == "patience"


def test_sizes_and_seed_act(done, plain):
    small = done.get(replace(plain, train_size=20, training=replace(QUICK, validation_size=5)))
    other = done.get(replace(small.experiment, seed=1))
    assert small.metrics["n_train"] == other.metrics["n_train"] == 20
    assert small.metrics["n_validation"] == 5
    assert not same_result(small, other)
    assert small.predictions["material_id"].equals(other.predictions["material_id"])  # one test set for all


def test_no_test_formula_was_seen_in_pre_training(done, transferred, table, other_table):
    run = done.get(transferred["full"])
    formula = dict(zip(other_table.ids, other_table.formulas, strict=True))
    tested = {formula[name] for name in run.predictions["material_id"]}
    seen = {table.formulas[row] for row in split(table.formulas, run.experiment.source.split).train}
    assert tested
    assert not tested & seen


# Several labels


@pytest.fixture
def both(plain, other_table) -> Experiment:
    """A run of two labels, of which one is missing here and there."""
    return replace(plain, data=other_table.fingerprint, functional="PBEsol", more_labels=("volume_per_atom",))


def test_a_run_of_two_labels_is_complete(done, both, other_table):
    run = done.get(both)
    assert run.problems() == []
    assert (run.experiment, Predictor.load(run.path).card.labels) == (both, ("e_form", "volume_per_atom"))
    parts = split(other_table.formulas, SPLIT)
    assert run.predictions["material_id"].tolist() == [other_table.ids[row] for row in parts.test]
    each = run.metrics["labels"]
    assert {name: run.metrics[name] for name in ("test_mae", "test_rmse", "test_mad")} == {
        name: each["e_form"][name] for name in ("test_mae", "test_rmse", "test_mad")
    }
    for label, suffix in {"e_form": "", "volume_per_atom": "_volume_per_atom"}.items():
        truth = {name: other_table.label(label)[rows] for name, rows in vars(parts).items()}
        np.testing.assert_array_equal(run.predictions[f"target{suffix}"], truth["test"])
        error = (run.predictions[f"prediction{suffix}"] - truth["test"]).abs()
        assert each[label]["test_mae"] == pytest.approx(error.mean())
        assert each[label]["n_train"] == np.isfinite(truth["train"]).sum()
        mad = np.nanmean(np.abs(truth["test"] - np.nanmean(truth["train"])))
        assert each[label]["test_mad"] == pytest.approx(mad)
        best = run.curve.set_index("step").loc[run.metrics["best_step"]]
        assert each[label]["validation_mae"] == best[f"validation_mae_{label}"]
        assert run.metrics["validation_mae"] == best["validation_mae"]


def test_a_run_starts_from_the_output_of_its_label(done, both, other_table, plain):
    """Scored as it is, it has the errors of that label."""
    untouched = replace(plain, source=both, transfer=TransferConfig("untouched", "source"), data=both.data)
    for label in both.labels:
        run = done.get(replace(untouched, label=label))
        assert run.metrics["test_mae"] == pytest.approx(done.get(both).metrics["labels"][label]["test_mae"], rel=1e-5)
        assert Predictor.load(run.path).card.labels == (label,)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_every_part_needs_every_label(part, store, plain, table):
    without = set(vars(split(table.formulas, SPLIT))[part])
    short = CrystalTable.from_crystals(
        [replace(c, labels={"e_form": c.labels["e_form"]}) if i in without else c for i, c in enumerate(table)], "PBE"
    )
    e = replace(plain, data=short.fingerprint, more_labels=("volume_per_atom",))
    with pytest.raises(CgatError, match=f"no crystal of the {part} part carries the label 'volume_per_atom'"):
        replace(store, tables={short.fingerprint: short}).get(e)


# The calls of the readme


def test_runs_are_trained_and_continued_without_a_path_or_fingerprint(table, other_table, tmp_path):
    runs = Runs(tmp_path / "runs")
    base = runs.train(table, ["e_form", "volume_per_atom"], model="tiny", steps=2, batch_size=16, split=SPLIT)
    moved = runs.transfer(other_table, base, label="e_form", steps=2, batch_size=16, train_size=9)
    assert (moved.experiment.source, moved.experiment.transfer.mode) == (base.experiment, "full")
    assert (moved.metrics["n_train"], moved.experiment.training.evaluations) == (9, 2)
    found = moved.model.predict([table.crystal(0)])
    assert np.isfinite(found["prediction"][0])
    elsewhere = Runs(tmp_path / "elsewhere")
    assert elsewhere.transfer(other_table, base, "e_form", "head", steps=2).provenance["source"] == base.experiment.key
    assert (
        runs.train(table, ["e_form", "volume_per_atom"], "tiny", steps=2, batch_size=16, split=SPLIT).path == base.path
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stepz": 2}, "unknown setting 'stepz'; known: seed, train_size, split, steps, batch_size"),
        ({"mode": "full"}, "unknown setting 'mode'; known: seed"),
        ({"model": "huge"}, "unknown model 'huge'; known: "),
        ({"labels": "band_gap"}, "the table has no label 'band_gap'; it carries: e_form, volume_per_atom"),
    ],
)
def test_an_unknown_setting_is_refused(settings, sentence, table, tmp_path):
    with pytest.raises(CgatError, match=sentence):
        Runs(tmp_path / "runs").train(table, **{"labels": "e_form", **settings})


# Transfer


def test_the_source_is_trained_first_and_once(store, plain, transferred, trainings):
    runs = store.get_all([transferred["full"], plain, transferred["head"]])
    assert [run.experiment for run in runs] == [transferred["full"], plain, transferred["head"]]
    assert trainings[0] == plain.key
    assert sorted(trainings) == sorted({e.key for e in (plain, *transferred.values())})
    assert [run.provenance["source"] for run in runs] == [plain.key, None, plain.key]


def test_head_leaves_every_other_weight_as_it_was(done, plain, transferred):
    source, head, full = (weights(run) for run in done.get_all([plain, transferred["head"], transferred["full"]]))
    changed = {mode: {n for n in source if not torch.equal(w[n], source[n])} for mode, w in (("h", head), ("f", full))}
    assert changed["h"] == {name for name in source if name.startswith("output.")}
    assert changed["f"] >= {name for name in source if "b_out" not in name}  # a softmax cancels a bias of its scores
    run = done.get(transferred["head"])
    assert run.metrics["trained_parameters"] == sum(w.numel() for n, w in source.items() if n.startswith("output."))


def test_transfer_options_act(done, transferred):
    full = transferred["full"]
    changed = [
        replace(full, transfer=TransferConfig("full", target_statistics="source")),
        replace(full, transfer=TransferConfig("full", reinitialise_head=True)),
        transferred["head"],
    ]
    base, *others = done.get_all([full, *changed])
    assert all(not same_result(base, other) for other in others)
    statistics = [Predictor.load(run.path).card.statistics for run in (base, others[0])]
    assert statistics[1] == Predictor.load(done.get(full.source).path).card.statistics
    assert statistics[0] != statistics[1]


def test_an_untouched_network_is_scored_as_it_is(done, plain, transferred):
    config = TransferConfig("untouched", "source")
    source, run = done.get_all([plain, replace(transferred["full"], transfer=config)])
    ours, theirs = weights(run), weights(source)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert run.metrics["trained_parameters"] == 0
    assert (run.metrics["best_step"], run.metrics["last_step"], run.metrics["stopped"]) == (0, 0, "")
    assert run.curve.empty
    again = Predictor.load(run.path).card.statistics
    assert again == Predictor.load(source.path).card.statistics
    assert np.isfinite(run.metrics["validation_mae"])
    assert run.problems() == []


def test_groups_of_the_split_act(done, plain, table):
    by_id = replace(plain, split=replace(SPLIT, groups="material_id"))
    first, second = done.get_all([plain, by_id])
    expected = {table.ids[row] for row in split(table.ids, SPLIT).test}
    assert set(second.predictions["material_id"]) <= expected
    assert set(first.predictions["material_id"]) != set(second.predictions["material_id"])


def test_a_source_that_saw_the_test_crystals_must_be_asked_for(plain, transferred):
    leaky = replace(plain, split=replace(SPLIT, seed=1))
    with pytest.raises(CgatError, match="need the same split, or test crystals leak"):
        replace(transferred["full"], source=leaky)
    allowed = replace(transferred["full"], source=leaky, transfer=TransferConfig("full", test_crystals="seen"))
    assert allowed.source == leaky
    assert allowed.key != transferred["full"].key


def test_a_run_tells_which_test_crystals_its_source_has_seen(done, plain, transferred, table, other_table):
    leaky = replace(plain, split=replace(SPLIT, seed=1, groups="material_id"))
    moved = replace(transferred["full"], source=leaky, transfer=TransferConfig("full", test_crystals="seen"))
    source, run = done.get(leaky), done.get(moved)
    trained = {table.ids[row] for row in parts_of(leaky, done.graphs(table.fingerprint, plain.graph)).train}
    formula = dict(zip(other_table.ids, other_table.formulas, strict=True))
    compositions = {formula[name] for name in trained}
    for name, seen in zip(run.predictions["material_id"], run.predictions["seen"], strict=True):
        assert seen == SEEN[0 if name in trained else 1 if formula[name] in compositions else 2]
    assert run.predictions["formula"].tolist() == [formula[name] for name in run.predictions["material_id"]]
    assert set(run.errors["seen"]) == set(run.predictions["seen"]) > {SEEN[0]}
    assert "seen" not in source.errors


def test_elements_of_the_source_count_as_seen(done, plain, transferred):
    few = replace(transferred["full"], train_size=2)
    seen = set(Predictor.load(done.get(few).path).card.elements)
    assert seen == set(Predictor.load(done.get(plain).path).card.elements)


# Found again, or made again


def test_a_finished_run_is_not_trained_again(store, plain, transferred, trainings):
    first = store.get_all([plain, transferred["full"]])
    stamp = (first[0].path / "weights.safetensors").stat().st_mtime_ns
    assert len(trainings) == 2
    again = store.get_all([plain, transferred["full"]])
    assert len(trainings) == 2
    assert [run.path for run in again] == [run.path for run in first]
    assert (again[0].path / "weights.safetensors").stat().st_mtime_ns == stamp
    assert store.find(plain) is not None
    assert store.find(replace(plain, seed=5)) is None


def test_runs_of_other_code_are_made_again_and_kept(store, plain, trainings, monkeypatch, caplog):
    first, code = store.get(plain), training_code()
    numbers = first.metrics
    with monkeypatch.context() as patch:
        patch.setattr(stores, "training_code", lambda: "f" * 16)
        assert store.find(plain) is None
        assert store.get(plain).provenance["training_code"] == "f" * 16
        assert caplog.messages == [f"{first.path} was made by other code and is kept as {plain.key}-{code[:8]}"]
        assert find_runs(store.root)[plain.key].path == first.path  # the one that was made last
    assert len(trainings) == 2
    again = store.get(plain)  # back in the first checkout
    assert len(trainings) == 2
    assert again.path.name == f"{plain.key}-{code[:8]}"
    assert again.metrics == numbers
    assert [run.problems() for run in run_folders(store.root)] == [[], []]


def test_a_folder_of_another_experiment_is_not_its_run(store, plain):
    other = replace(plain, seed=5)
    store.get(plain).path.rename(Path(store.root) / other.key)
    assert store.find(other) is None


def test_a_folder_in_the_place_of_a_run_stays(store, plain):
    (Path(store.root) / plain.key).mkdir(parents=True)
    (Path(store.root) / plain.key / "thesis.tex").write_text("")
    with pytest.raises(CgatError, match="exists and is not a run: it is not replaced"):
        store.get(plain)
    assert (Path(store.root) / plain.key / "thesis.tex").exists()


def test_another_meaning_is_not_trained(store, plain):
    with pytest.raises(CgatError, match=rf"have meaning {MEANING + 1}, this code's {MEANING}"):
        store.get(replace(plain, meaning=MEANING + 1))


def test_a_run_that_is_not_there_in_the_end_is_named(store, plain, monkeypatch):
    monkeypatch.setattr(Runs, "fill", lambda self, missing, *rest: ())
    with pytest.raises(CgatError, match=f"run {plain.key} was trained, but .* does not hold it"):
        store.get_all([plain])


def test_stored_runs_are_used_whatever_code_made_them_and_not_written(
    store, plain, transferred, trainings, monkeypatch
):
    store.get(plain)
    before = sorted(Path(store.root).rglob("*"))
    monkeypatch.setattr(stores, "training_code", lambda: "f" * 16)
    other = replace(
        store, root=Path(store.root).with_name("new"), stored={plain.key: Run(Path(store.root) / plain.key)}
    )
    assert other.find(plain).path == Path(store.root) / plain.key
    run = other.get(transferred["full"])
    assert trainings == [plain.key, transferred["full"].key]
    assert run.path.parent == other.root
    assert sorted(Path(store.root).rglob("*")) == before
    source = Run(Path(store.root) / plain.key)
    assert run.provenance["source"] == plain.key
    assert run.provenance["source_run"] == {
        "code": source.provenance["code"],
        "training_code": source.provenance["training_code"],
        "weights": source.provenance["files"]["weights.safetensors"],
    }
    assert run.provenance["training_code"] == "f" * 16


def test_two_functionals_are_learnt_together_and_one_output_is_started_from(store, plain, table, other_table):
    rows = np.arange(0, len(table), 2)
    moved = CrystalTable(table.table, "PBEsol").select(rows)  # the same cells, so that rows have both labels
    tables = joined([table, moved, other_table], [("e_form",), ("e_form",), ("volume_per_atom",)])
    store = replace(store, tables={tables.fingerprint: tables})
    both = replace(plain, data=tables.fingerprint, more_labels=("e_form@PBEsol", "volume_per_atom@PBEsol"))
    sizes = {name: scores["n_train"] for name, scores in store.get(both).metrics["labels"].items()}
    assert sizes["volume_per_atom@PBEsol"] == sizes["e_form"] > sizes["e_form@PBEsol"] > 0
    full = TransferConfig("full", target_statistics="source")
    one = replace(plain, data=tables.fingerprint, label="e_form@PBEsol", source=both, transfer=full)
    run = store.get(replace(one, training=replace(QUICK, learning_rate=1e-12)))
    before = store.get(both).predictions.set_index("material_id")["prediction_e_form@PBEsol"]
    after = run.predictions.set_index("material_id")["prediction"]
    assert run.metrics["n_train"] == sizes["e_form@PBEsol"]
    at = before[~before.index.duplicated()].loc[after.index]
    np.testing.assert_allclose(after, at, rtol=1e-3, atol=1e-3)
    assert Predictor.load(run.path).card.unit == "eV/atom"


def test_graphs_in_the_cache_are_enough(store, plain):
    store.get(replace(plain, seed=3))
    without_tables = replace(store, tables={})
    assert without_tables.get(plain).metrics["n_test"] > 0


# Stopped, killed, failed


class Killed(BaseException):
    """Stands in for the end of the process."""


@pytest.fixture
def with_every_option(both) -> Experiment:
    """Two labels from a network of two, all that differs from the paper's training switched on."""
    options = {"schedule": "one-cycle", "averaging": 0.1, "clip": 1.0, "patience": 0.9, "trunk_rate": 0.5}
    training = replace(QUICK, **options, label_weights=(2.0, 0.5))
    return replace(
        both,
        source=replace(both, training=replace(QUICK, steps=20)),
        transfer=TransferConfig("full", target_statistics="fitted"),
        training=training,
    )


def test_the_fitted_scale_is_in_the_card(done, with_every_option):
    run, source = done.get(with_every_option), done.get(with_every_option.source)
    ours, theirs = (Predictor.load(r.path).card.statistics for r in (run, source))
    assert ours != theirs
    assert len(ours.each) == 2


@pytest.mark.parametrize("mode", ["none", "head", "every option"])
def test_a_killed_run_does_not_look_finished_and_continues_exactly(
    mode, store, plain, transferred, with_every_option, tmp_path
):
    experiment = {"none": plain, "head": transferred["head"], "every option": with_every_option}[mode]
    expected = replace(store, root=tmp_path / "whole").get(experiment)
    if experiment.source is not None:
        store.get(experiment.source)
    fit = trainer.fit

    def report(progress):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "fit", lambda *arguments, **options: fit(*arguments, **{**options, "report": report}))
        with pytest.raises(Killed):
            store.get(experiment)
    assert store.find(experiment) is None
    assert experiment.key not in finished(store)
    run = store.get(experiment)
    assert same_result(run, expected)
    assert run.problems() == []


@pytest.mark.parametrize("moment", ["files", "rename"])
def test_a_run_killed_while_it_is_written_does_not_look_finished(moment, store, plain, monkeypatch):
    def killed(*arguments):
        raise Killed

    store.graphs(plain.data, plain.graph)
    with monkeypatch.context() as patch:
        if moment == "files":
            patch.setattr(trainer, "file_digest", killed)
        else:
            patch.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            store.get(plain)
    assert store.find(plain) is None
    assert finished(store) == set()
    run = store.get(plain)
    assert run.problems() == []
    assert finished(store) == {plain.key}


def test_a_checkpoint_of_other_code_is_not_continued(store, plain, tmp_path, monkeypatch):
    """What an older version left half done must not leak into a run that claims to be made by this one."""
    expected = replace(store, root=tmp_path / "whole").get(plain)
    fit = trainer.fit

    def spoiled(network, *arguments, **options):
        """Other code: other weights, stopped after the first evaluation."""
        torch.nn.init.zeros_(network.atom.weight)

        def report(progress):
            raise Killed

        return fit(network, *arguments, **{**options, "report": report})

    with monkeypatch.context() as patch:
        patch.setattr(stores, "training_code", lambda: "0" * 16)
        patch.setattr(trainer, "fit", spoiled)
        with pytest.raises(Killed):
            store.get(plain)
    assert same_result(store.get(plain), expected)


def test_a_failed_run_does_not_stop_the_others_and_its_children_are_named(store, plain, transferred):
    bad = replace(plain, train_size=10_000)
    child = replace(transferred["full"], source=bad)
    grandchild = replace(child, source=child, seed=4)
    good = replace(plain, seed=9)
    with pytest.raises(CgatError) as failure:
        store.get_all([grandchild, good])
    sentence = str(failure.value)
    assert sentence.startswith("3 of 4 runs failed: ")
    assert f"run {bad.key}: a training subset of 10000 crystals was asked for; the training part has" in sentence
    assert f"run {child.key}: its source {bad.key} failed" in sentence
    assert f"run {grandchild.key}: its source {child.key} failed" in sentence
    assert good.key not in sentence
    assert finished(store) == {good.key}


def test_an_exploding_run_is_named(store, plain):
    wild = replace(plain, training=replace(QUICK, learning_rate=1e30, steps=40))
    with pytest.raises(CgatError, match=rf"1 of 1 runs failed: run {wild.key}: the training loss is no longer finite"):
        store.get(wild)
    assert finished(store) == set()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": "f" * 16}, "no table with fingerprint ffffffffffffffff is known"),
        ({"label": "band_gap"}, "has no label 'band_gap'; known: e_form, volume_per_atom"),
    ],
)
def test_what_cannot_be_run_is_said(store, plain, change, sentence):
    with pytest.raises(CgatError, match=sentence):
        store.get(replace(plain, **change))


# Processes


def get(store, experiment, log):
    fit = trainer.fit

    def counted(*arguments, **options):
        with log.open("a") as file:
            file.write("trained\n")
        return fit(*arguments, **options)

    trainer.fit = counted  # in this process alone
    store.get(experiment)


def test_of_three_processes_one_trains_and_the_others_use_it(store, plain, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=get, args=(store, plain, tmp_path / "log")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "trained\n"
    assert {path.name for path in Path(store.root).iterdir()} == {plain.key, ".partial"}
    assert list((Path(store.root) / ".partial").iterdir()) == []


@pytest.mark.slow
def test_two_workers_give_what_one_gives(tmp_path, table, other_table, plain, transferred):
    tables = {t.fingerprint: t for t in (table, other_table)}
    experiments = [plain, replace(plain, seed=1), *transferred.values()]
    one, two = (
        Runs(tmp_path / f"runs{workers}", tables, tmp_path / f"graphs{workers}").get_all(experiments, workers)
        for workers in (1, 2)
    )
    assert all(same_result(first, second) for first, second in zip(one, two, strict=True))
    assert all(run.problems() == [] for run in two)

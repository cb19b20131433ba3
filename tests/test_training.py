"""The training loop: its schedule, its batches, and that a run which was stopped continues exactly."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cgatlib import CgatError, training
from cgatlib.graphs.packing import pack
from cgatlib.inputs import EmbeddingInputs, GraphInputs, TargetStatistics, predict, training_rows
from cgatlib.model.cgat import CGAT
from cgatlib.training import TrainingConfig, fit

QUICK = TrainingConfig(steps=12, batch_size=8, learning_rate=0.01, cycles=1, evaluations=3)
WILD = TrainingConfig(steps=40, batch_size=4, learning_rate=0.5, cycles=1, evaluations=40)
EVERYTHING = replace(QUICK, schedule="one-cycle", averaging=0.1, clip=0.5, patience=1.0, trunk_rate=0.3)


class Stopped(Exception):
    """The process ends here."""


def stop_after(evaluations: int):
    def report(progress):
        if len(progress.curve) == evaluations:
            raise Stopped

    return report


def vectors(n: int, seed: int) -> EmbeddingInputs:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return EmbeddingInputs(x, 3 + 2 * x[:, 0] - x[:, 1] * x[:, 2])


def two_labels(n: int, seed: int) -> EmbeddingInputs:
    """A second label of another scale, and labels that are missing."""
    single = vectors(n, seed)
    targets = torch.stack([single.targets, 100 * single.embeddings[:, 3] - 7], dim=1)
    targets[::3, 1] = torch.nan
    targets[1::9, 0] = torch.nan
    return EmbeddingInputs(single.embeddings, targets)


TRAIN, VALIDATION = vectors(45, 0), vectors(17, 1)
TWO = two_labels(45, 0), two_labels(17, 1)
TWO_STATISTICS = TargetStatistics.of(TWO[0].targets)
STATISTICS = TargetStatistics.of(TRAIN.targets)


def mean_absolute_error(prediction, target) -> float:
    return float((prediction - target.double()).abs().mean())


def plain_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train_two(folder, config=QUICK, data=TWO, **options):
    """As `train`, of two labels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    folder.mkdir(exist_ok=True)
    return fit(network, *data, TWO_STATISTICS, config, 0, folder / "checkpoint.pt", **options), network


def train(folder, config=QUICK, seed=0, **options):
    """Progress and trained network on the vectors."""
    network = plain_network()
    folder.mkdir(exist_ok=True)
    return fit(network, TRAIN, VALIDATION, STATISTICS, config, seed, folder / "checkpoint.pt", **options), network


def same_state(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# Schedule and configuration


@pytest.mark.parametrize("cycles", [1, 3])
@pytest.mark.parametrize("lowest", [0.1, 0.5])
def test_the_rate_rises_and_falls_in_each_cycle(cycles, lowest):
    config = TrainingConfig(steps=120 * cycles, cycles=cycles, lowest=lowest)
    for cycle in range(cycles):
        assert config.factor(120 * cycle) == pytest.approx(lowest)
        assert config.factor(120 * cycle + 60) == pytest.approx(1)
        assert config.factor(120 * cycle + 30) == pytest.approx((1 + lowest) / 2)
        assert config.factor(120 * cycle + 90) == pytest.approx((1 + lowest) / 2)
    factors = [config.factor(step) for step in range(config.steps)]
    assert min(factors) == pytest.approx(lowest)
    assert max(factors) == pytest.approx(1)


def test_the_schedule_is_the_released_one():
    """Its formula, with epochs and period read as steps and cycle length."""
    config, period = TrainingConfig(steps=390, cycles=3), 130
    for t in range(390):
        released = 0.1 + 0.9 * max(0, 1 - abs(2 * (t / period - math.floor(1 + t / period)) + 1))
        assert config.factor(t) == pytest.approx(released)


@pytest.mark.parametrize("cycles", [1, 2])
def test_one_cycle_is_that_of_pytorch(cycles):
    config = TrainingConfig(steps=100 * cycles, cycles=cycles, lowest=0.04, schedule="one-cycle")
    optimizer = torch.optim.SGD([torch.zeros(1)])
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 101, div_factor=25, final_div_factor=1)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert [config.factor(step) for step in range(config.steps)] == pytest.approx(
        rates * cycles,
        abs=0.03,  # PyTorch counts from the step before
    )


def test_the_cosine_falls_to_the_lowest_rate():
    config = TrainingConfig(steps=200, cycles=2, lowest=0.2, schedule="cosine")
    assert [config.factor(step) for step in (0, 50, 100, 150)] == pytest.approx([1, 0.6, 1, 0.6])
    assert config.factor(99) == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize(("steps", "evaluations"), [(10, 3), (7, 7), (5, 1)])
def test_evaluations_are_as_many_as_asked_and_the_last_is_at_the_end(steps, evaluations):
    config = TrainingConfig(steps=steps, evaluations=evaluations)
    when = [step for step in range(1, steps + 1) if config.evaluates(step)]
    assert len(when) == evaluations
    assert when[-1] == steps


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"cycles": 0}, "cycles must be at least 1, not 0"),
        ({"evaluations": 0}, "evaluations must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        ({"lowest": 0.0}, "lowest must be above 0 and at most 1, not 0.0"),
        ({"lowest": 1.5}, "lowest must be above 0 and at most 1, not 1.5"),
        ({"evaluations": 13}, "13 evaluations do not fit into 12 steps"),
        ({"validation_size": 0}, "validation_size"),
        ({"precision": "64-true"}, "unknown precision '64-true'; known: 32-true, bf16-mixed"),
        ({"label_weights": (1.0, 0.0)}, "label_weights must be positive, not 1.0, 0.0"),
        ({"schedule": "flat"}, "unknown schedule 'flat'; known: triangular, one-cycle, cosine"),
        ({"averaging": 0.0}, "averaging must be above 0 and at most 1, not 0.0"),
        ({"averaging": 1.5}, "averaging must be above 0 and at most 1, not 1.5"),
        ({"averaging": math.nan}, "averaging must be above 0 and at most 1, not nan"),
        ({"patience": 0.0}, "patience must be above 0 and at most 1, not 0.0"),
        ({"clip": 0.0}, "clip must be positive, not 0.0"),
        ({"trunk_rate": -0.1}, "trunk_rate must be positive, not -0.1"),
        ({"trunk_rate": math.inf}, "trunk_rate must be positive, not inf"),
    ],
)
def test_impossible_configurations_are_refused(change, sentence):
    with pytest.raises(CgatError) as refusal:
        replace(QUICK, **change)
    assert sentence in str(refusal.value)


# Batches


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (7, 7), (5, 12), (64, 16)])
def test_every_epoch_takes_every_row_once(n, batch_size):
    steps = math.ceil(6 * n / batch_size)
    rows = np.concatenate([training_rows(step, n, batch_size, seed=0) for step in range(steps)])
    epochs = rows[: 6 * n].reshape(6, n)
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_the_loop_takes_these_batches_at_this_rate(tmp_path):
    """By hand: AdamW with the schedule's rate on the L1 loss of the normalised target."""
    _, network = train(tmp_path, replace(QUICK, evaluations=1))
    by_hand = plain_network()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1.0, weight_decay=QUICK.weight_decay)
    target = (TRAIN.targets - STATISTICS.mean) / STATISTICS.std
    for step in range(QUICK.steps):
        rows = torch.from_numpy(training_rows(step, len(TRAIN), QUICK.batch_size, 0))
        optimizer.param_groups[0]["lr"] = QUICK.learning_rate * QUICK.factor(step)
        optimizer.zero_grad()
        (by_hand(TRAIN.embeddings[rows])[:, 0] - target[rows]).abs().mean().backward()
        optimizer.step()
    for ours, theirs in zip(network.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


# Statistics and scoring


@pytest.mark.parametrize("batch_size", [1, 5, 17, 512])
def test_every_row_is_scored_the_last_batch_too(batch_size):
    network = plain_network()
    expected = network(VALIDATION.embeddings)[:, 0].detach().double() * STATISTICS.std + STATISTICS.mean
    found = predict(network, VALIDATION, STATISTICS, batch_size)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_curve_tells_what_happened(tmp_path):
    progress, network = train(tmp_path)
    assert [row["step"] for row in progress.curve] == [4, 8, 12]
    assert [row["epoch"] for row in progress.curve] == pytest.approx([4 * 8 / 45, 8 * 8 / 45, 12 * 8 / 45])
    for row in progress.curve:
        assert row["learning_rate"] == pytest.approx(QUICK.learning_rate * QUICK.factor(row["step"]))
    best = min(progress.curve, key=lambda row: row["validation_mae"])
    assert (progress.best_step, progress.best_mae) == (best["step"], best["validation_mae"])
    mae = mean_absolute_error(predict(network, VALIDATION, STATISTICS), VALIDATION.targets)
    assert mae == pytest.approx(progress.best_mae, rel=1e-9)


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    progress, network = train(tmp_path, WILD)
    assert progress.best_step < 40
    assert progress.curve[-1]["validation_mae"] > progress.best_mae
    mae = mean_absolute_error(predict(network, VALIDATION, STATISTICS), VALIDATION.targets)
    assert mae == pytest.approx(progress.best_mae, rel=1e-9)


# Each option acts

CHANGES = {
    "steps": 5,
    "batch_size": 9,
    "learning_rate": 0.011,
    "weight_decay": 0.5,
    "cycles": 2,
    "lowest": 0.2,
    "precision": "bf16-mixed",
    "schedule": "cosine",
    "averaging": 0.5,
    "clip": 0.1,
    "trunk_rate": 0.5,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_weights(name, tmp_path):
    config = replace(QUICK, steps=4, evaluations=1)
    _, before = train(tmp_path / "before", config)
    _, after = train(tmp_path / "after", replace(config, **{name: CHANGES[name]}))
    assert not same_state(before, after)


def test_evaluations_change_the_curve_only(tmp_path):
    few, _ = train(tmp_path / "few", replace(QUICK, evaluations=1))
    many, _ = train(tmp_path / "many", replace(QUICK, evaluations=6))
    assert (len(few.curve), len(many.curve)) == (1, 6)
    assert few.curve[-1]["validation_mae"] == many.curve[-1]["validation_mae"]


def test_the_seed_changes_the_order(tmp_path):
    _, first = train(tmp_path / "first", seed=0)
    _, second = train(tmp_path / "second", seed=1)
    _, again = train(tmp_path / "again", seed=0)
    assert not same_state(first, second)
    assert same_state(first, again)


def test_the_average_is_the_exponential_mean_without_the_initial_weights(tmp_path):
    passed = [
        train(tmp_path / f"{n}", replace(QUICK, steps=n, cycles=1, lowest=1.0, evaluations=1))[1] for n in (1, 2, 3)
    ]
    _, averaged = train(tmp_path / "averaged", replace(QUICK, steps=3, lowest=1.0, evaluations=1, averaging=0.4))
    shares = torch.tensor([0.6**2, 0.6, 1.0]) / (0.6**2 + 0.6 + 1)
    for name, found in averaged.state_dict().items():
        expected = sum(share * network.state_dict()[name] for share, network in zip(shares, passed, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_long_gradient_is_shortened(tmp_path, monkeypatch):
    norms = []

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    train(tmp_path / "free")
    free = norms.copy()
    norms.clear()
    train(tmp_path / "clipped", replace(QUICK, clip=min(free) / 2))
    assert norms == pytest.approx([min(free) / 2] * QUICK.steps, rel=1e-4)


def test_the_output_network_keeps_its_rate_where_the_trunk_has_another(tmp_path):
    """After one step of AdamW every weight has moved by its rate."""
    config = TrainingConfig(steps=1, batch_size=45, learning_rate=0.01, weight_decay=0, evaluations=1, trunk_rate=0.1)
    network = nn.Sequential()
    network.add_module("trunk", nn.Linear(4, 8))
    network.add_module("output", nn.Linear(8, 2))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    fit(network, TRAIN, VALIDATION, STATISTICS, config, 0, tmp_path / "checkpoint.pt")
    moved = {name: float((weight - before[name]).abs().max()) for name, weight in network.state_dict().items()}
    rate = config.learning_rate * config.factor(0)
    assert moved["output.weight"] == pytest.approx(rate, rel=1e-3)
    assert moved["trunk.weight"] == pytest.approx(0.1 * rate, rel=1e-3)


def test_training_stops_when_the_validation_error_no_longer_falls(tmp_path):
    whole, _ = train(tmp_path / "whole", WILD)
    progress, _ = train(tmp_path / "patient", replace(WILD, patience=0.25))
    assert (whole.stopped, whole.step, progress.stopped) == ("budget", 40, "patience")
    steps = [row["step"] for row in whole.curve]
    better = [row["step"] for row in progress.curve if row["validation_mae"] == progress.best_mae]
    assert progress.curve == whole.curve[: len(progress.curve)]
    assert progress.step == progress.best_step + 10 == steps[len(progress.curve) - 1]
    assert better == [progress.best_step]


def test_a_run_that_stopped_early_is_not_continued(tmp_path):
    config = replace(WILD, patience=0.25)
    whole, expected = train(tmp_path / "whole", config)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", config, report=stop_after(len(whole.curve)))
    steps = []
    resumed, network = train(tmp_path / "parts", config, report=lambda progress: steps.append(progress.step))
    assert (steps, resumed) == ([], whole)
    assert same_state(network, expected)


def test_frozen_parameters_stay(tmp_path):
    network = plain_network()
    network[0].requires_grad_(False)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    fit(network, TRAIN, VALIDATION, STATISTICS, QUICK, 0, tmp_path / "checkpoint.pt")
    changed = {name for name, w in network.state_dict().items() if not torch.equal(w, before[name])}
    assert changed == {"2.weight", "2.bias"}


# Several labels


def test_each_label_has_its_scale():
    for place, statistics in enumerate(TWO_STATISTICS.each):
        column = TWO[0].targets[:, place]
        assert statistics == TargetStatistics.of(column[~column.isnan()])
    back = TWO_STATISTICS.restored(TWO_STATISTICS.normalised(TWO[0].targets))
    torch.testing.assert_close(back.float(), TWO[0].targets, equal_nan=True)


def by_hand(network, data, weights) -> float:
    """The weighted mean of the labels' mean errors, in units of their scales."""
    off = (TWO_STATISTICS.normalised(predict(network, data, TWO_STATISTICS) - data.targets)
           - TWO_STATISTICS.normalised(torch.zeros(2))).abs()  # fmt: skip
    each = [float(column[~column.isnan()].mean()) for column in off.unbind(1)]
    return (weights[0] * each[0] + weights[1] * each[1]) / sum(weights)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.5)])
def test_loss_and_score_are_weighted_means_over_the_labels(weights, tmp_path):
    """With a rate too small to change anything they are those of the untrained network."""
    config = TrainingConfig(steps=5, batch_size=45, learning_rate=1e-12, evaluations=1, label_weights=weights)
    progress, network = train_two(tmp_path, config)
    assert progress.curve[0]["train_mae"] == pytest.approx(by_hand(network, TWO[0], weights), rel=1e-5)
    assert progress.best_mae == pytest.approx(by_hand(network, TWO[1], weights), rel=1e-5)
    for place, mae in enumerate(progress.best_maes):
        known = ~TWO[1].targets[:, place].isnan()
        prediction, target = (x[known, place] for x in (predict(network, TWO[1], TWO_STATISTICS), TWO[1].targets))
        assert mae == pytest.approx(mean_absolute_error(prediction, target), rel=1e-6)
        assert progress.curve[0][f"validation_mae_{place}"] == mae


def test_label_weights_act(tmp_path):
    equal, stated, other = (
        train_two(tmp_path / str(i), replace(QUICK, label_weights=w))[1] for i, w in enumerate([(), (2, 2), (2, 1)])
    )
    assert same_state(equal, stated)
    assert not same_state(equal, other)


def test_what_is_not_known_changes_nothing(tmp_path):
    """A crystal without any label, of either scale: the same weights up to the order of the batches."""
    config = TrainingConfig(steps=1, batch_size=46, learning_rate=0.01, evaluations=1)
    x = torch.cat([TWO[0].embeddings, torch.full((1, 4), 50.0)])
    more = EmbeddingInputs(x, torch.cat([TWO[0].targets, torch.full((1, 2), torch.nan)]))
    _, with_it = train_two(tmp_path / "with", config, (more, TWO[1]))
    _, without = train_two(tmp_path / "without", replace(config, batch_size=45))
    for ours, theirs in zip(with_it.parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_two_labels_are_learnt(tmp_path):
    config = TrainingConfig(steps=200, batch_size=16, learning_rate=0.03, cycles=1, evaluations=2)
    progress, network = train_two(tmp_path, config)
    assert predict(network, TWO[1], TWO_STATISTICS).shape == (17, 2)
    for mae, statistics in zip(progress.best_maes, TWO_STATISTICS.each, strict=True):
        assert mae < 0.5 * statistics.std


@pytest.mark.parametrize("stops", [(1, 2)])
def test_a_stopped_training_of_two_labels_continues_exactly(stops, tmp_path):
    config = replace(EVERYTHING, label_weights=(2.0, 0.3))
    whole, expected = train_two(tmp_path / "whole", config)
    for evaluations in stops:
        with pytest.raises(Stopped):
            train_two(tmp_path / "parts", config, report=stop_after(evaluations))
    resumed, network = train_two(tmp_path / "parts", config)
    assert resumed == whole
    assert same_state(network, expected)


# Stopped and continued


@pytest.mark.parametrize("config", [QUICK, EVERYTHING], ids=["the paper's", "every option"])
@pytest.mark.parametrize("stops", [(1, 2), (3,)])
def test_a_stopped_run_continues_exactly(stops, config, tmp_path):
    whole, expected = train(tmp_path / "whole", config)
    for evaluations in stops:
        with pytest.raises(Stopped):
            train(tmp_path / "parts", config, report=stop_after(evaluations))
    resumed, network = train(tmp_path / "parts", config)
    assert resumed == whole
    assert same_state(network, expected)


def test_the_seconds_before_an_interruption_count(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    assert train(tmp_path / "whole")[0].earlier_seconds == 0
    earlier = [0.0]
    for evaluations in (1, 2):
        with pytest.raises(Stopped):
            train(tmp_path / "parts", report=stop_after(evaluations))
        earlier.append(torch.load(tmp_path / "parts/checkpoint.pt")["progress"]["earlier_seconds"])
    assert earlier == [0, 100, 200]  # each process looks at the clock when it starts and at its evaluation
    assert train(tmp_path / "parts")[0].earlier_seconds == 200


def graph_inputs(table, graph, rows) -> GraphInputs:
    crystals = [table.crystal(i) for i in rows]
    graphs, _ = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], graph)
    return GraphInputs(graphs, np.arange(len(rows)), torch.tensor([c.labels["e_form"] for c in crystals]))


@pytest.mark.parametrize(("head", "config"), [(False, EVERYTHING), (True, QUICK)], ids=["network", "output network"])
def test_a_stopped_training_of_the_real_network_continues_exactly(
    head, config, table, tiny_graph, tiny_model, tmp_path
):
    graphs = graph_inputs(table, tiny_graph, range(100)), graph_inputs(table, tiny_graph, range(100, 144))
    statistics = TargetStatistics.of(graphs[0].targets)

    def run(name, **options):
        torch.manual_seed(0)
        network = CGAT(tiny_model)
        module, inputs = network, graphs
        if head:
            with torch.no_grad():
                embeddings = [network.embed(g.inputs(np.arange(len(g)))) for g in graphs]
            inputs = [EmbeddingInputs(e, g.targets) for e, g in zip(embeddings, graphs, strict=True)]
            module = network.output
        (tmp_path / name).mkdir(exist_ok=True)
        progress = fit(module, *inputs, statistics, config, 0, tmp_path / name / "checkpoint.pt", **options)
        return progress, network

    whole, expected = run("whole")
    with pytest.raises(Stopped):
        run("parts", report=stop_after(1))
    resumed, network = run("parts")
    assert resumed == whole
    assert same_state(network, expected)


@pytest.mark.parametrize("change", [{"learning_rate": 0.02}, {"steps": 24}, {"precision": "bf16-mixed"}])
def test_a_checkpoint_of_another_configuration_is_refused(change, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, report=stop_after(1))
    with pytest.raises(CgatError, match=r"checkpoint\.pt .*another training configuration; remove it"):
        train(tmp_path, replace(QUICK, **change))


def test_a_half_written_checkpoint_does_not_replace_the_last_one(tmp_path, monkeypatch):
    whole, expected = train(tmp_path / "whole")
    with pytest.raises(Stopped):
        train(tmp_path / "parts", report=stop_after(1))
    write = Path.write_bytes

    def killed(path, content):
        write(path, content[:100])
        raise Stopped

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(Stopped):
        train(tmp_path / "parts")
    monkeypatch.undo()
    resumed, network = train(tmp_path / "parts")
    assert resumed == whole
    assert same_state(network, expected)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-100], lambda b: b[:500] + b"\1" + b[501:]])
def test_a_damaged_checkpoint_is_named_with_what_to_do(damage, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, report=stop_after(1))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CgatError, match=r"checkpoint\.pt is damaged; remove it, and the run starts again from its first"
    ):
        train(tmp_path)


def test_a_batch_holds_each_crystal_once_at_most(tmp_path):
    all_at_once = train(tmp_path / "all", replace(QUICK, batch_size=len(TRAIN)))
    more = train(tmp_path / "more", replace(QUICK, batch_size=10**12))
    assert more[0] == all_at_once[0]
    assert same_state(more[1], all_at_once[1])


# What cannot be trained


def test_a_loss_that_is_not_finite_is_stopped_early(tmp_path):
    inputs = EmbeddingInputs(TRAIN.embeddings.clone(), TRAIN.targets)
    inputs.embeddings[20:] = torch.nan
    config = TrainingConfig(steps=1000, batch_size=16, evaluations=1)
    with pytest.raises(CgatError, match=r"the training loss is no longer finite at step 20; lower the learning rate"):
        fit(plain_network(), inputs, VALIDATION, STATISTICS, config, 0, tmp_path / "checkpoint.pt")


def test_weights_that_explode_in_the_last_step_are_noticed(tmp_path):
    """The loss of the last step is computed before its update: only the validation shows what it did."""
    config = TrainingConfig(steps=1, batch_size=8, learning_rate=1e38, lowest=1.0, evaluations=1)
    with pytest.raises(CgatError, match="finite"):
        train(tmp_path, config)

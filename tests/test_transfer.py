"""The three procedures of transfer: what is taken over, what is trained, on which scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cgatlib import CgatError
from cgatlib.graphs.packing import pack
from cgatlib.inputs import EmbeddingInputs, GraphInputs, TargetStatistics, predict
from cgatlib.model.cgat import CGAT
from cgatlib.training import TrainingConfig, fit
from cgatlib.transfer import TransferConfig, embed_all, outputs_taken, prepare, trained_part

TARGETS = torch.tensor([1.0, 2.0, 3.0, 6.0])
TRAIN = EmbeddingInputs(torch.zeros(4, 1), TARGETS)
SOURCE_STATISTICS = TargetStatistics(23.5, 9.2)
QUICK = TrainingConfig(steps=10, batch_size=16, learning_rate=0.01, evaluations=2)


def network(config, seed: int) -> CGAT:
    torch.manual_seed(seed)
    model = CGAT(config)
    torch.nn.init.constant_(model.output.scales, 0.3)
    return model


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def backbone(model: CGAT) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if not name.startswith("output.")}


@pytest.fixture(scope="module")
def data(table, tiny_graph) -> tuple[GraphInputs, GraphInputs]:
    crystals = list(table)
    graphs, _ = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], tiny_graph)
    targets = torch.tensor([c.labels["e_form"] for c in crystals], dtype=torch.float64)
    parts = np.arange(100), np.arange(100, 144)
    train, validation = (GraphInputs(graphs, rows, targets[torch.from_numpy(rows)]) for rows in parts)
    return train, validation


def test_none_keeps_the_fresh_weights_and_its_own_scale(tiny_model):
    model = network(tiny_model, 0)
    statistics = prepare(model, TransferConfig("none"), None, None, TRAIN)
    assert same(model, network(tiny_model, 0))
    assert statistics == TargetStatistics.of(TARGETS)
    assert trained_part(model, "none") is model


@pytest.mark.parametrize("mode", ["head", "full"])
def test_all_weights_are_taken_over(mode, tiny_model):
    model, source = network(tiny_model, 0), network(tiny_model, 1)
    prepare(model, TransferConfig(mode), source, SOURCE_STATISTICS, TRAIN)
    assert same(model, source)
    model.atom.weight.data.zero_()  # a copy: the source is not touched
    assert same(source, network(tiny_model, 1))


@pytest.mark.parametrize("mode", ["head", "full"])
def test_the_output_network_can_start_anew(mode, tiny_model):
    model, source = network(tiny_model, 0), network(tiny_model, 1)
    prepare(model, TransferConfig(mode, reinitialise_head=True), source, SOURCE_STATISTICS, TRAIN)
    assert same(model.output, network(tiny_model, 0).output)
    assert not same(model.output, source.output)
    ours, theirs = backbone(model), backbone(source)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("mode", ["head", "full"])
def test_target_statistics_are_the_new_ones_or_the_old_ones(mode, tiny_model):
    def statistics(which):
        config = TransferConfig(mode, target_statistics=which)
        return prepare(network(tiny_model, 0), config, network(tiny_model, 1), SOURCE_STATISTICS, TRAIN)

    assert statistics("target") == TargetStatistics.of(TARGETS)
    assert statistics("source") == SOURCE_STATISTICS


def test_the_fitted_scale_is_the_best_line_from_output_to_label(data, tiny_model):
    source, train = network(tiny_model, 1), data[0]
    values = predict(source, train, SOURCE_STATISTICS)
    noise = values.std() * torch.randn(len(train), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    new = replace(train, targets=3 * values - 2 + noise)
    found = prepare(network(tiny_model, 0), TransferConfig("full", "fitted"), source, SOURCE_STATISTICS, new)
    slope, start = np.polyfit(predict(source, train, TargetStatistics(0.0, 1.0)), new.targets, 1)
    assert (found.mean, found.std) == pytest.approx((start, slope), rel=1e-5)


def test_no_scale_is_fitted_where_the_output_falls_with_the_label(data, tiny_model):
    source, train = network(tiny_model, 1), data[0]
    new = replace(train, targets=-predict(source, train, SOURCE_STATISTICS))
    with pytest.raises(CgatError, match=r"does not rise with the new labels \(slope -9.2\): no scale can be fitted"):
        prepare(network(tiny_model, 0), TransferConfig("full", "fitted"), source, SOURCE_STATISTICS, new)


# Several labels

THREE = ("e_form", "band_gap", "volume_per_atom")


@pytest.mark.parametrize(
    ("labels", "source_labels", "related", "taken"),
    [
        (["band_gap"], THREE, None, [1]),
        (["e_above_hull"], THREE, "e_form", [0]),
        (["e_above_hull", "volume_per_atom"], THREE, "e_form", [0, 2]),
        (["e_above_hull", "volume_per_atom"], THREE, "fresh", [None, 2]),
        (["e_above_hull", "volume_per_atom"], ["e_form"], None, [0, 0]),
        (["e_above_hull"], ["e_form"], "fresh", [None]),
    ],
)
def test_which_output_a_label_starts_from(labels, source_labels, related, taken):
    assert outputs_taken(TransferConfig("full", source_label=related), labels, source_labels) == taken


@pytest.mark.parametrize(("related", "named"), [(None, "e_above_hull"), ("magnetisation", "magnetisation")])
def test_a_label_that_the_source_does_not_have_needs_a_related_one(related, named):
    with pytest.raises(CgatError, match=f"has no output for {named}, only for e_form, .*source_label must name"):
        outputs_taken(TransferConfig("full", source_label=related), ["e_above_hull"], THREE)


def several(config, seed: int, labels: int) -> CGAT:
    torch.manual_seed(seed)
    model = CGAT(config, labels)
    torch.nn.init.constant_(model.output.scales, 0.3)
    return model


THEIRS = TargetStatistics((1.0, 2.0, 3.0), (10.0, 20.0, 30.0))


def test_outputs_are_taken_with_their_scales(data, tiny_model):
    source, new = several(tiny_model, 1, 3), several(tiny_model, 0, 2)
    train = replace(data[0], targets=torch.randn(len(data[0]), 2))
    statistics = prepare(new, TransferConfig("full", "source"), source, THEIRS, train, [2, 0])
    assert statistics == TargetStatistics((3.0, 1.0), (30.0, 10.0))
    torch.testing.assert_close(predict(new, train, statistics), predict(source, train, THEIRS)[:, [2, 0]])


def test_a_fresh_output_keeps_its_random_weights(data, tiny_model):
    source, new, untouched = several(tiny_model, 1, 3), several(tiny_model, 0, 2), several(tiny_model, 0, 2)
    train = replace(data[0], targets=torch.randn(len(data[0]), 2))
    prepare(new, TransferConfig("full", source_label="fresh"), source, THEIRS, train, [None, 1])
    assert torch.equal(new.output.last.weight[:2], untouched.output.last.weight[:2])
    assert torch.equal(new.output.last.weight[2:], source.output.last.weight[2:4])
    assert all(torch.equal(w, backbone(source)[name]) for name, w in backbone(new).items())


def test_a_line_is_fitted_for_each_label_where_it_is_known(data, tiny_model):
    source, new = several(tiny_model, 1, 3), several(tiny_model, 0, 2)
    values = predict(source, data[0], TargetStatistics((0.0,) * 3, (1.0,) * 3))[:, :2]
    targets = values * torch.tensor([2.0, 5.0]) + torch.tensor([-1.0, 7.0])
    targets[::2, 0] = torch.nan
    found = prepare(new, TransferConfig("full", "fitted"), source, THEIRS, replace(data[0], targets=targets), [0, 1])
    assert (*found.mean, *found.std) == pytest.approx((-1, 7, 2, 5), rel=1e-4, abs=1e-4)


def test_embeddings_do_not_depend_on_the_size_of_batches(data, tiny_model):
    model = network(tiny_model, 0)
    whole, parts = embed_all(model, data[0]), embed_all(model, data[0], batch_size=7)
    assert whole.shape == (100, tiny_model.embedding_width)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)
    assert not whole.requires_grad


def test_head_training_is_training_with_a_frozen_backbone(data, tiny_model, tmp_path):
    statistics = TargetStatistics.of(data[0].targets)
    on_embeddings, frozen = network(tiny_model, 1), network(tiny_model, 1)
    before = backbone(on_embeddings)

    embedded = [EmbeddingInputs(embed_all(on_embeddings, part), part.targets) for part in data]
    module = trained_part(on_embeddings, "head")
    first = fit(module, *embedded, statistics, QUICK, 0, tmp_path / "head.pt")

    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_(name.startswith("output."))
    second = fit(frozen, *data, statistics, QUICK, 0, tmp_path / "frozen.pt")

    after = backbone(on_embeddings)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not same(on_embeddings.output, network(tiny_model, 1).output)
    for ours, theirs in zip(on_embeddings.output.parameters(), frozen.output.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    maes = [[row["validation_mae"] for row in progress.curve] for progress in (first, second)]
    assert maes[0] == pytest.approx(maes[1], rel=1e-5)
    predictions = [predict(model, data[1], statistics) for model in (on_embeddings, frozen)]
    torch.testing.assert_close(*predictions, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["head", "full"])
def test_a_source_is_needed(mode, tiny_model):
    with pytest.raises(CgatError, match=f"transfer mode '{mode}' needs a source"):
        prepare(network(tiny_model, 0), TransferConfig(mode), None, None, TRAIN)


def test_no_transfer_takes_no_source(tiny_model):
    with pytest.raises(CgatError, match="transfer mode 'none' takes no source"):
        prepare(network(tiny_model, 0), TransferConfig(), network(tiny_model, 1), SOURCE_STATISTICS, TRAIN)


def test_a_source_of_another_configuration_is_refused(tiny_model):
    other = network(replace(tiny_model, heads=3), 1)
    with pytest.raises(CgatError, match=r"the source network has another configuration: .*heads=3.* instead of"):
        prepare(network(tiny_model, 0), TransferConfig("full"), other, SOURCE_STATISTICS, TRAIN)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "partial"}, "transfer: unknown mode 'partial'; known: none, untouched, head, full"),
        (
            {"mode": "full", "target_statistics": "both"},
            "transfer: unknown target_statistics 'both'; known: target, source, fitted",
        ),
        ({"mode": "full", "test_crystals": "some"}, "transfer: unknown test_crystals 'some'; known: unseen, seen"),
        ({"test_crystals": "seen"}, "transfer mode 'none' takes nothing over"),
        ({"mode": "untouched"}, "transfer mode 'untouched' needs target_statistics 'source'"),
        ({"target_statistics": "source"}, "transfer mode 'none' takes nothing over"),
        ({"source_label": "e_form"}, "transfer mode 'none' takes nothing over"),
        (
            {"mode": "full", "target_statistics": "fitted", "reinitialise_head": True},
            "target_statistics 'fitted' needs a pre-trained output network",
        ),
        (
            {"mode": "full", "target_statistics": "fitted", "source_label": "fresh"},
            "target_statistics 'fitted' needs a pre-trained output network",
        ),
        (
            {"mode": "full", "target_statistics": "source", "source_label": "fresh"},
            "source_label 'fresh' has no target_statistics of the source",
        ),
        ({"reinitialise_head": True}, "transfer mode 'none' takes nothing over"),
    ],
)
def test_impossible_transfers_are_refused(options, sentence):
    with pytest.raises(CgatError) as refusal:
        TransferConfig(**options)
    assert sentence in str(refusal.value)

"""Kernel machines as networks: what scikit-learn has learnt, kept as tensors."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from cgatlib import CgatError
from cgatlib.graphs.packing import pack
from cgatlib.inputs import GraphInputs, TargetStatistics, predict
from cgatlib.model.cgat import CGAT
from cgatlib.predictor import network_of
from cgatlib.transfer import STEPLESS, TransferConfig, _machine, best_share, completed, form_of, kernel_network, prepare

UNIT = TargetStatistics(0.0, 1.0)


@pytest.fixture(scope="module")
def source(tiny_model) -> CGAT:
    torch.manual_seed(0)
    return CGAT(tiny_model)


@pytest.fixture(scope="module")
def graphs(table, tiny_graph):
    return pack([(c.lattice, c.numbers, c.frac_coords) for c in table], tiny_graph)[0]


@pytest.fixture(scope="module")
def data(table, graphs) -> list[GraphInputs]:
    """Two parts with labels that the known values miss by a function of the crystal."""
    targets = torch.tensor([c.labels["e_form"] for c in table], dtype=torch.float64)
    known = torch.randn(len(table), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = np.arange(100), np.arange(100, 144)
    return [GraphInputs(graphs, r, (targets + known)[torch.from_numpy(r)], known[torch.from_numpy(r)]) for r in rows]


def test_the_machine_gives_what_scikit_learn_gives():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 5)), 3 + 2 * generator.normal(size=60)
    head = _machine(x[:50], y[:50], 0.3, 10.0, np.ones(5))
    scaler = StandardScaler().fit(x[:50])
    theirs = SVR(gamma=0.3 / 5, C=10.0, epsilon=0.05).fit(
        scaler.transform(x[:50]), (y[:50] - y[:50].mean()) / y[:50].std()
    )
    expected = y[:50].mean() + y[:50].std() * theirs.predict(scaler.transform(x))
    found = head(torch.from_numpy(x).float())
    assert found.shape == (60, 2)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(head(torch.from_numpy(x[:1]).float()), found[:1])  # whatever the batch


def made(source, data, mode):
    """What a mode makes of the source, and the errors of what was tried."""
    torch.manual_seed(0)
    network, config = CGAT(source.config), TransferConfig(mode)
    statistics = prepare(network, config, source, UNIT, data[0])
    module, tried = completed(network, source, config, *data, statistics)
    return module, tried, statistics


@pytest.mark.parametrize("mode", ["kernel", "paired", "average"])
def test_each_form_is_read_back_from_its_weights(mode, source, data):
    module, _, statistics = made(source, data, mode)
    again = network_of(source.config, module.state_dict(), "a file", form=form_of(mode))
    torch.testing.assert_close(predict(again, data[1], statistics), predict(module, data[1], statistics))
    batch = data[1].inputs(np.arange(3))
    assert again.embed(batch).shape == (3, source.config.embedding_width)
    short = {name: w for name, w in module.state_dict().items() if not name.endswith("gamma")}
    with pytest.raises(CgatError, match="gamma of a file does not fit"):
        network_of(source.config, short, "a file", form=form_of(mode))


def test_what_was_tried_ends_with_what_is_kept(source, data):
    names = {mode: list(made(source, data, mode)[1]) for mode in ("kernel", "paired", "average")}
    assert names == {
        "kernel": ["mean of the training labels", "kernel"],
        "paired": ["mean of the training labels", "paired"],
        "average": ["mean of the training labels", "full", "kernel", "average"],
    }
    tried = made(source, data, "average")[1]
    assert tried["average"] <= min(tried["full"], tried["kernel"]) + 1e-6


def test_the_difference_to_known_values_is_learnt(source, data):
    """The known values are noise to a model that does not see them."""
    assert made(source, data, "paired")[1]["paired"] < 0.3 * made(source, data, "kernel")[1]["kernel"]


def test_the_source_keeps_its_output_network(source, data):
    before = {name: w.clone() for name, w in source.state_dict().items()}
    made(source, data, "kernel")
    assert all(torch.equal(w, before[name]) for name, w in source.state_dict().items())


def test_the_share_of_an_average_is_that_of_the_lowest_error():
    target = torch.linspace(0, 1, 20)
    assert best_share(target - 0.3, target + 0.7, target) == pytest.approx(0.3)
    assert best_share(target, target + 0.7, target) == 0


def test_more_crystals_than_a_choice_is_made_on(source, data, monkeypatch):
    monkeypatch.setattr("cgatlib.transfer._TRIED_ON", 10)
    monkeypatch.setattr("cgatlib.transfer._TRAINED_ON", 30)
    network = kernel_network(source, *data, UNIT, paired=False)
    assert 10 < len(network.head.dual) <= 30


def test_interpolation_keeps_the_better_of_two_ends(source, data, tiny_model):
    torch.manual_seed(1)
    worse = CGAT(tiny_model)
    config = TransferConfig("full", interpolate=True)
    statistics = TargetStatistics.of(data[0].targets)
    _, tried = completed(worse, source, config, *data, statistics)
    assert list(tried) == ["mean of the training labels", "full", "interpolated"]
    assert tried["interpolated"] <= tried["full"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "full", "head_first": 1.0}, "head_first must be at least 0 and below 1"),
        ({"mode": "head", "interpolate": True}, "'head' does not train all weights"),
        ({"mode": "kernel", "target_statistics": "source"}, "'kernel' has no output network"),
        ({"mode": "paired", "reinitialise_head": True}, "'paired' has no output network"),
    ],
)
def test_options_that_a_mode_does_not_have(options, sentence):
    with pytest.raises(CgatError) as refusal:
        TransferConfig(**options)
    assert sentence in str(refusal.value)


def test_a_kernel_is_for_one_label(source, data, tiny_model):
    with pytest.raises(CgatError, match="'kernel' is for one label, not 2"):
        prepare(CGAT(tiny_model, 2), TransferConfig("kernel"), source, UNIT, data[0], [0, None])
    assert "kernel" in STEPLESS

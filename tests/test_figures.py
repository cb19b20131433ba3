"""What the figures say: panels, units, fixed colours, lines where the numbers are."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from cgatbook.published import laws_from_counts
from cgatlib import CgatError
from cgatlib.crystals.crystal import FUNCTIONALS
from cgatlib.evaluation.scaling import ComputeBudget, Points, PowerLaw, bootstrap
from cgatlib.evaluation.statistics import histogram_edges
from cgatlib.figures.data import element_counts, label_histograms
from cgatlib.figures.runs import learning_curves, noise, parity, reductions
from cgatlib.figures.sizes import (
    compute_budget,
    curve_points,
    panel_series,
    size_scaling,
    transfer_scaling,
    with_interval,
)
from cgatlib.figures.style import (
    FUNCTIONAL_COLOURS,
    INK,
    MODES,
    QUANTITIES,
    error_axis,
    number,
    quantity,
    save_figure,
    short_count,
    style,
)

SIZES = [11e3, 22e3, 45e3, 89e3, 178e3]


def texts(figure):
    figure.canvas.draw()
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    return found + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def by_gid(ax, gid):
    found = [artist for artist in ax.get_children() if artist.get_gid() == gid]
    assert found, gid
    return found[0]


@pytest.fixture(scope="module")
def grid():
    rng = np.random.default_rng(0)
    rows = []
    for pre in (0, 178e3, 356e3, 712e3, 1.8e6):
        for n in SIZES:
            mae = 31 * (n / 178e3) ** -0.277 if pre == 0 else 22 * (n / 178e3) ** -0.121 * (pre / 1.8e6) ** -0.097
            rows += [(pre, n, seed, mae * np.exp(rng.normal(0, 0.02))) for seed in range(3)]
    return pd.DataFrame(rows, columns=["pretrain_size", "train_size", "seed", "mae"])


@pytest.fixture(scope="module")
def pairs():
    rows = []
    for functional, numbers in {"SCAN": (31, 22, 613e3, 1.6e6), "PBEsol": (26, 19, 637e3, 1.7e6)}.items():
        none, full, equivalent, cross = numbers
        laws = laws_from_counts(none, full, 178e3, equivalent, cross)
        for mode, law in zip(("none", "full"), laws, strict=True):
            rows += [("hull", functional, mode, n, 0, float(law.predict(n))) for n in SIZES]
    return pd.DataFrame(rows, columns=["panel", "functional", "mode", "train_size", "seed", "mae"])


@pytest.fixture(scope="module")
def curves():
    rows = []
    for panel in ("PBEsol", "SCAN"):
        for mode, level in (("none", 30.0), ("full", 20.0)):
            for seed in range(3):
                for step in range(100, 1100, 100):
                    rate = 1e-4 * (1 - abs(step % 500 / 250 - 1))
                    rows.append((panel, mode, seed, step, rate, level + seed + 1e4 / step))
    return pd.DataFrame(rows, columns=["panel", "mode", "seed", "step", "learning_rate", "validation_mae"])


@pytest.fixture
def labels():
    rng = np.random.default_rng(1)
    frames = [
        pd.DataFrame({"label": label, "functional": functional, "value": rng.gamma(4, scale, 400)})
        for label, scale in (("e_above_hull", 0.05), ("volume_per_atom", 5.0))
        for functional in ("PBE", "PBEsol")
    ]
    return pd.concat(frames, ignore_index=True)


def binned(labels):
    """What `label_histograms` takes of a long table [label, functional, value]."""
    edges = {label: histogram_edges(rows["value"]) for label, rows in labels.groupby("label")}
    bins, numbers = [], []
    for (label, functional), rows in labels.groupby(["label", "functional"]):
        crystals = np.histogram(rows["value"], edges[label])[0]
        place = {"label": label, "functional": functional}
        bins.append(pd.DataFrame({**place, "low": edges[label][:-1], "high": edges[label][1:], "crystals": crystals}))
        numbers.append({**place, "count": len(rows), "median": rows["value"].median(), "mean": rows["value"].mean()})
    return pd.concat(bins), pd.DataFrame(numbers)


def test_learning_curves_draw_the_mean_of_seeds_and_the_schedule(curves):
    figure = learning_curves(curves, "meV/atom")
    assert len(figure.axes) == 4  # two panels, two strips
    panel = figure.axes[0]
    assert panel.get_ylabel() == "Validation MAE (meV/atom)"
    assert panel.get_title(loc="left") == "(a)  PBEsol"
    for mode, level in (("none", 30), ("full", 20)):
        line = by_gid(panel, f"mean {mode}")
        assert same_color(line.get_color(), MODES[mode].colour)
        assert line.get_ydata()[-1] == pytest.approx(level + 1 + 10)
    assert by_gid(panel, "mean none").get_linestyle() == "--"
    assert {"no transfer", "full transfer"} <= set(texts(figure))
    assert [ax.get_ylabel() for ax in figure.axes if ax.collections and not ax.lines] == ["rate", "rate"]


def test_learning_curves_without_a_learning_rate_have_no_strip(curves):
    assert len(learning_curves(curves.drop(columns="learning_rate"), "meV/atom").axes) == 2


def test_schedules_that_differ_take_the_colours_of_their_modes(curves):
    slow = curves.assign(learning_rate=curves["learning_rate"].where(curves["mode"] == "none", 1e-5))
    strip = learning_curves(slow, "meV/atom").axes[1]
    assert len(strip.collections) == 2


def test_unknown_modes_functionals_and_labels_are_refused_with_the_known_ones(curves, labels, pairs):
    with pytest.raises(CgatError, match="'both'; known: none, untouched, head, full"):
        learning_curves(curves.assign(mode="both"), "eV")
    with pytest.raises(CgatError, match="'both'; known"):
        transfer_scaling(pairs.assign(mode="both"), "eV")
    with pytest.raises(CgatError, match="'B3LYP'; known: PBE"):
        label_histograms(*binned(labels.assign(functional="B3LYP")))
    with pytest.raises(CgatError, match="'spin'; known"):
        label_histograms(*binned(labels.assign(label="spin")))


@pytest.mark.parametrize(
    "draw",
    [
        lambda frame: learning_curves(frame, "eV"),
        lambda frame: label_histograms(frame, frame),
        lambda frame: size_scaling(frame, "eV"),
        lambda frame: transfer_scaling(frame, "eV"),
        lambda frame: parity(frame, "e_form"),
    ],
)
def test_missing_columns_are_named(draw):
    with pytest.raises(CgatError, match="needs the columns"):
        draw(pd.DataFrame({"nothing": [1]}))


def test_empty_tables_are_refused(grid):
    with pytest.raises(CgatError, match="no rows"):
        size_scaling(grid.iloc[:0], "eV")
    with pytest.raises(CgatError, match="pre-training size"):
        size_scaling(grid[grid["pretrain_size"] == 0], "eV")


def test_histograms_mark_medians_and_means_where_they_are(labels):
    figure = label_histograms(*binned(labels))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["(a)  Distance to the hull", "(b)  Volume"]
    assert figure.axes[1].get_xlabel().startswith("Volume (Å³/atom)")
    for functional in ("PBE", "PBEsol"):
        values = labels.query("label == 'volume_per_atom' and functional == @functional")["value"]
        for statistic in ("median", "mean"):
            line = by_gid(figure.axes[1], f"{statistic} {functional}")
            assert line.get_xdata()[0] == pytest.approx(getattr(values, statistic)())
            assert same_color(line.get_color(), FUNCTIONAL_COLOURS[functional])
    assert any(text.startswith("PBEsol: 400,") for text in texts(figure))


def test_histograms_say_how_much_lies_outside(labels):
    bins, numbers = binned(labels)
    assert "outside" in label_histograms(bins, numbers).axes[0].get_xlabel()
    volumes = numbers[numbers["label"] == "volume_per_atom"]
    assert len(label_histograms(bins, volumes).axes) == 1
    with pytest.raises(CgatError, match="no rows to draw"):
        label_histograms(bins, numbers.iloc[:0])


def test_a_histogram_is_a_share_of_all_values(labels):
    bins, numbers = binned(labels)
    figure = label_histograms(bins, numbers)
    for ax, label in zip(figure.axes, ("e_above_hull", "volume_per_atom"), strict=True):
        own = bins[(bins["label"] == label) & (bins["functional"] == "PBE")]
        lines = [line for line in ax.lines if not line.get_gid()]
        drawn = next(line for line in lines if same_color(line.get_color(), FUNCTIONAL_COLOURS["PBE"]))
        assert drawn.get_ydata()[: len(own)].sum() == pytest.approx(own["crystals"].sum() / 400)
    assert bins["crystals"].sum() < len(labels)  # tails outside are not drawn, and do not lift the rest
    shifted = bins.assign(high=bins["high"] + (bins["functional"] == "PBE"))
    with pytest.raises(CgatError, match="the histograms of e_above_hull have different bins"):
        label_histograms(shifted, numbers)


def test_the_ends_of_a_histogram_are_round_numbers(labels):
    values = labels.query("label == 'volume_per_atom'")["value"]
    edges = histogram_edges(values)
    assert len(edges) == 61
    assert np.ptp(np.diff(edges)) < 1e-9
    assert values.between(edges[0], edges[-1]).mean() > 0.994
    assert edges[-1] == pytest.approx(round(edges[-1], 1))
    assert not values.isin([edges[0], edges[-1]]).any()
    assert histogram_edges(np.abs(values - 15))[0] == 0  # a bound is shown


def test_histogram_of_one_repeated_value_is_drawn(labels):
    label_histograms(*binned(labels.assign(value=1.0))).canvas.draw()


def test_size_scaling_prints_the_fitted_slopes(grid):
    figure = size_scaling(grid, "meV/atom", chemical_accuracy=43)
    left, right = figure.axes[:2]
    assert left.get_xlabel() == "Training crystals"
    assert right.get_xlabel() == "Pre-training crystals"
    assert left.get_ylabel() == "Test MAE (meV/atom)"
    assert left.get_ylim() == right.get_ylim()
    fit = bootstrap(curve_points(grid[grid["pretrain_size"] == 0]))
    assert with_interval(fit.slope, 3) in texts(figure)
    none = by_gid(left, "fit no transfer")
    assert same_color(none.get_color(), MODES["none"].colour)
    assert none.get_linestyle() == "--"
    assert by_gid(left, "chemical accuracy").get_ydata()[0] == 43
    shades = [
        mpl.colors.rgb_to_hsv(mpl.colors.to_rgb(by_gid(left, f"fit {n}").get_color())) for n in ("1.8 M", "178 k")
    ]
    assert shades[0][2] < shades[1][2]  # more pre-training, darker
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["11 k", "22 k", "45 k", "89 k", "178 k"]


def test_size_scaling_of_a_single_size_draws_points_and_says_so(grid):
    one = grid[grid["pretrain_size"].isin([0, 178e3])]
    assert texts(size_scaling(one, "meV/atom")).count("too few sizes for a line") == len(SIZES)


def test_transfer_scaling_marks_the_crossings(pairs):
    figure = transfer_scaling(pairs, "meV/atom", chemical_accuracy=43)
    marks = [line for line in figure.axes[0].lines if line.get_gid() == "crossing"]
    assert sorted(float(mark.get_xdata()[0]) for mark in marks) == pytest.approx([1.6e6, 1.7e6])
    assert {"1.6 M", "1.7 M"} <= set(texts(figure))
    for functional in ("SCAN", "PBEsol"):
        line = by_gid(figure.axes[0], f"fit {functional}, no transfer")
        assert same_color(line.get_color(), FUNCTIONAL_COLOURS[functional])
        assert line.get_linestyle() == "--"


def test_transfer_scaling_of_one_functional_takes_the_colours_of_modes(pairs):
    scan = pairs[pairs["functional"] == "SCAN"]
    inter = scan[scan["mode"] == "full"].assign(mode="inter", mae=lambda rows: 1.1 * rows["mae"])
    figure = transfer_scaling(pd.concat([scan, inter]), "meV/atom")
    for mode in ("none", "full", "inter"):
        line = by_gid(figure.axes[0], f"fit {MODES[mode].name}")
        assert same_color(line.get_color(), MODES[mode].colour)


def test_transfer_scaling_draws_no_crossing_that_is_far_or_never(pairs):
    parallel = pairs[pairs["functional"] == "SCAN"].copy()
    parallel["mae"] = PowerLaw(6, 0.2).predict(parallel["train_size"]) * (1 + (parallel["mode"] == "none"))
    figure = transfer_scaling(parallel, "meV/atom")
    assert not [line for line in figure.axes[0].lines if line.get_gid() == "crossing"]


def test_lines_that_meet_beyond_ten_times_the_data_are_not_extended(pairs):
    scan = pairs[pairs["functional"] == "SCAN"].copy()
    slopes = np.where(scan["mode"] == "none", 0.20, 0.19)
    scan["mae"] = 100 * (1 + (scan["mode"] == "none")) * scan["train_size"] ** -slopes
    figure = transfer_scaling(scan, "meV/atom")
    assert "lines meet beyond ten times the data, if at all" in texts(figure)
    assert figure.axes[0].get_xlim()[1] < 10 * max(SIZES)


def test_curves_of_many_sizes_show_a_floor_and_the_last_slope(pairs):
    rows = pairs[(pairs["functional"] == "SCAN") & (pairs["mode"] == "none")].copy()
    rows["mae"] = 20 + 1e5 / rows["train_size"]
    figure = transfer_scaling(rows, "meV/atom")
    assert by_gid(figure.axes[0], "floor no transfer").get_ydata()[-1] == pytest.approx(20 + 1e5 / 178e3, rel=1e-3)
    assert "last 4" in texts(figure)


def test_curve_points_are_ordered_and_take_errors_along():
    rows = pd.DataFrame(
        {
            "train_size": [200, 100, 100],
            "seed": [0, 1, 0],
            "mae": [1.0, 3.0, 2.0],
            "errors": [pd.Series(k * np.ones(4)).rename_axis("group") for k in (1, 3, 2)],
        }
    )
    points = curve_points(rows)
    assert points.sizes.tolist() == [100, 100, 200]
    assert points.maes.tolist() == [2, 3, 1]
    assert points.errors.mean(axis=1).tolist() == [2, 3, 1]
    assert points.groups.tolist() == [0, 1, 2, 3]


def test_compute_budget_draws_lines_from_the_laws_and_the_measured_points(grid):
    training, pretraining = (
        bootstrap(Points(np.array(SIZES), law.predict(SIZES)), noise=0.02)
        for law in (PowerLaw.through(11e3, 31, 0.12), PowerLaw.through(178e3, 31, 0.096))
    )
    scenarios = {
        "few": ComputeBudget(training, pretraining, 11e3, 178e3),
        "even": ComputeBudget(training, pretraining, 178e3, 178e3),
    }
    figure = compute_budget(scenarios, grid, "meV/atom")
    assert len(figure.axes) == 2
    ax = figure.axes[0]
    spent, end = by_gid(ax, "spend SCAN"), 10 * 178e3 - 178e3  # ten times the largest size that the line has seen
    assert (spent.get_ydata()[0], spent.get_xdata()[-1]) == pytest.approx((31, end))
    assert spent.get_ydata()[-1] == pytest.approx(31 * (1 + end / 5 / 11e3) ** -0.12)
    assert by_gid(ax, "spend PBE").get_ydata()[-1] == pytest.approx(31 * (1 + end / 178e3) ** -0.096)
    crosses, dots = by_gid(ax, "measured SCAN"), by_gid(ax, "measured PBE")
    assert (crosses.get_marker(), dots.get_marker()) == ("x", "o")
    assert list(crosses.get_xdata()) == [5 * (n - 11e3) for n in SIZES]
    assert list(dots.get_xdata()) == [pre - 178e3 for pre in (178e3, 356e3, 712e3, 1.8e6)]
    assert "at the start SCAN gains 4.0× more per cost" in texts(figure)
    low, high = training.band(11e3 + end / 5)
    edge = by_gid(ax, "band SCAN").get_paths()[0].vertices
    ends = edge[edge[:, 0] == end, 1]
    assert (ends.min(), ends.max()) == pytest.approx((low[0], high[0]))
    assert "costs 5" in figure.get_supxlabel()


def test_compute_budget_without_measured_points_draws_curves_alone():
    line = bootstrap(Points(np.array(SIZES), PowerLaw(6.0, 0.1).predict(SIZES)), noise=0.02)
    figure = compute_budget({"even": ComputeBudget(line, line, 1e4, 5e4)}, None, "meV/atom")
    ax = figure.axes[0]
    assert len(by_gid(ax, "measured SCAN").get_xdata()) == 0
    assert by_gid(ax, "spend SCAN").get_xdata()[-1] == pytest.approx(10 * 5 * 1e4)
    assert "at the start both gain the same per cost" in texts(figure)
    assert {handle.get_marker() for handle in figure.legends[0].get_lines()} == {""}


def test_lines_that_were_not_measured_have_bands_but_no_points(pairs):
    figure = transfer_scaling(pairs, "meV/atom", noise=0.02)
    ax = figure.axes[0]
    marks = [line for line in ax.lines if line.get_marker() not in ("", "None")]
    assert {mark.get_gid() for mark in marks} == {"crossing"}
    assert len(ax.collections) == 4  # a band for each line


def test_bands_of_one_functional_leave_out_the_common_shift_of_its_test_set(pairs):
    """With two functionals, each line follows its own test crystals."""
    rng = np.random.default_rng(3)
    difficulty = {"SCAN": rng.exponential(1.0, 50), "PBEsol": rng.exponential(1.0, 60)}
    parts = [difficulty[f] / difficulty[f].mean() for f in pairs["functional"]]
    scored = pairs.assign(errors=[pd.Series(mae * part) for mae, part in zip(pairs["mae"], parts, strict=True)])
    for one in panel_series(scored, noise=1e-6):
        low, high = one.fit.band(45e3, one.common)
        assert high[0] / low[0] < 1.01
        assert np.ptp(one.fit.shifts) > 0.1


def test_element_counts_colour_and_print_every_element():
    figure = element_counts({"O": 28878, "Li": 14974}, "Published")
    ax = figure.axes[0]
    assert "28\u2009878" in texts(figure)
    assert len([patch for patch in ax.patches if (patch.get_gid() or "").startswith("element")]) == 103
    luminance = [np.dot(by_gid(ax, f"element {s}").get_facecolor()[:3], (0.3, 0.6, 0.1)) for s in ("O", "Li", "He")]
    assert luminance[0] < luminance[1] < luminance[2]
    with pytest.raises(CgatError, match="Xx"):
        element_counts({"Xx": 1}, "wrong")
    with pytest.raises(CgatError, match="no element"):
        element_counts({"O": 0}, "empty")


def test_noise_shows_three_rules_by_move():
    moves = {"0.002 Å": 0.01, "0.02 Å": 0.1, "three digits": 0.02}
    rules = ("continuous ranks", "whole shells of 1e-3 Å", "shells between gaps of 2 %")
    frame = pd.DataFrame([{"rule": rule, "label": "e_form", "seed": 0, **moves} for rule in rules])
    ax = noise(frame).axes[0]
    drawn = {line.get_gid(): list(line.get_xdata()) for line in ax.lines if line.get_gid()}
    assert drawn["continuous ranks: 0.02 Å"] == [0.1]
    assert drawn["whole shells of 1e-3 Å: three digits"] == [0.02]
    assert not any("gaps" in name for name in drawn)
    assert ax.get_title(loc="left") == "Formation energy"


def test_parity_prints_the_error_in_the_units_of_the_paper():
    target = np.linspace(-1, 1, 50)
    figure = parity(pd.DataFrame({"target": target, "prediction": target + 0.0123}), "e_form")
    assert any("MAE 12.3 meV/atom" in text and "50 crystals" in text for text in texts(figure))


def test_a_saved_figure_comes_with_its_data_and_is_the_same_twice(tmp_path, curves):
    first = save_figure(learning_curves(curves, "eV"), curves, tmp_path / "a", "fig1")
    again = save_figure(learning_curves(curves, "eV"), curves, tmp_path / "b", "fig1")
    assert {kind: path.name for kind, path in first.items()} == {k: f"fig1.{k}" for k in ("png", "svg", "csv")}
    pd.testing.assert_frame_equal(pd.read_csv(first["csv"]), curves)
    for kind in first:
        assert first[kind].read_bytes() == again[kind].read_bytes()
    assert "<text" not in first["svg"].read_text()  # letters are outlines: no font is needed


def test_a_notebook_shows_a_figure_that_is_the_last_expression():
    assert element_counts({"O": 1}, "x")._repr_png_().startswith(b"\x89PNG")


def test_figures_leave_the_global_style_alone(curves):
    before = dict(mpl.rcParams)
    learning_curves(curves, "eV")
    assert dict(mpl.rcParams) == before


def test_error_axis_has_plain_numbers_on_any_span():
    for low, high in ((19, 24), (0.02, 0.9), (10, 70), (1, 1000)):
        with style():
            figure = mpl.figure.Figure()
            ax = figure.subplots()
            ax.set_ylim(low, high)
            error_axis(ax)
            figure.canvas.draw()
        written = [float(tick.get_text()) for tick in ax.get_yticklabels()]
        assert 3 <= len(written) <= 9
        assert all(low <= value <= high for value in written)


@pytest.mark.parametrize(
    ("n", "text"), [(250, "250"), (999, "999"), (11e3, "11 k"), (999_700, "1 M"), (1.8e6, "1.8 M"), (12345, "12.3 k")]
)
def test_counts_are_short(n, text):
    assert short_count(n) == text


def test_colours_stay_what_they_are():
    assert {mode: look.colour for mode, look in MODES.items()} == {
        "none": "#D66A00",
        "untouched": "#7A8793",
        "head": "#009E73",
        "full": "#0072B2",
        "full_low_lr": "#3F91CC",
        "inter": "#9C4BBD",
    }
    assert len(set(FUNCTIONAL_COLOURS.values())) == len(FUNCTIONAL_COLOURS)  # SCAN and r2SCAN share panels


@pytest.mark.parametrize("colour", sorted({*FUNCTIONAL_COLOURS.values(), *(m.colour for m in MODES.values())} - {INK}))
def test_colours_stand_out_from_a_white_and_a_dark_page(colour):
    channels = np.array([mpl.colors.to_rgb(c) for c in (colour, "#FFFFFF", "#14181E")])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    drawn, white, dark = linear @ (0.2126, 0.7152, 0.0722) + 0.05
    assert min(white / drawn, drawn / dark) >= 3  # as WCAG asks of graphics


def test_what_crystals_know_has_a_look(labels):
    assert set(FUNCTIONALS) <= set(FUNCTIONAL_COLOURS)
    label_histograms(*binned(labels.assign(functional="OptB88vdW")))
    assert quantity("band_gap@HSE") == quantity("band_gap")


def test_ink_of_a_saved_figure_follows_the_page(tmp_path, curves):
    svg = save_figure(learning_curves(curves, "eV"), curves, tmp_path, "curves")["svg"].read_text()
    assert svg.startswith("<svg")
    assert "fill: #1f2933; fill: currentColor" in svg
    assert 'fill: #ffffff"' not in svg.lower()  # nothing white is left behind the figure
    identifiers = re.findall(r'\bid="([^"]*)', svg)
    assert all(i.startswith("curves-") for i in identifiers)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg)) <= set(identifiers)


@pytest.fixture
def gains():
    rows = [
        ("Volume", "paper", 0.2, np.nan, np.nan, ""),
        ("Volume", "short training", 0.34, 0.3, 0.38, "holds"),
        ("Volume", "long training", 0.11, 0.04, 0.18, "undecided"),
        ("Gap", "short training", -0.05, -0.1, 0.02, "not informative"),
    ]
    return pd.DataFrame(rows, columns=["target", "source", "value", "low", "high", "verdict"])


def test_reductions_stand_beside_the_papers(gains):
    figure = reductions(gains)
    ax = figure.axes[0]
    drawn = {line.get_gid(): float(line.get_xdata()[0]) for line in ax.lines if line.get_gid()}
    assert drawn == {f"{row.source}: {row.target}": row.value for row in gains.itertuples()}
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Volume", "Gap"]
    assert {"undecided", "not informative"} <= set(texts(figure))
    assert "holds" not in texts(figure)  # the long training decides
    with pytest.raises(CgatError, match="unknown source 'theirs'; known: paper, short training"):
        reductions(gains.assign(source="theirs"))


def test_quantities_have_units_of_errors_and_numbers_a_minus():
    assert set(QUANTITIES) == {"e_above_hull", "e_form", "volume_per_atom", "band_gap"}
    assert quantity("e_form").error_factor == 1000
    assert number(-0.5, ".2f") == "−0.50"
    assert number(-0.0001, ".2f") == "0.00"

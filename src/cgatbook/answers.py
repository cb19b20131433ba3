"""Our answers beside the paper's: how much transfer reduces the error, in tables and sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cgatbook.stored import Archives, Mae, StoredResults, training_of
from cgatlib.crystals.crystal import Property
from cgatlib.ensemble import read_card, released_models
from cgatlib.evaluation.baselines import Baseline
from cgatlib.evaluation.comparison import (
    BALANCED_ACCURACY,
    OPEN_GAP_MAE,
    ROC_AUC,
    Comparison,
    Scored,
    leakage_ratio,
    score_interval,
)
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES, number
from cgatlib.runs.experiment import Run, score
from cgatlib.runs.plan import Plan

TARGETS: Mapping[str, str] = {
    "volume-pbesol": "PBEsol",
    "volume-r2scan": "PBEsol",
    "gap-hse": "SCAN",
    "gap-scan": "SCAN",
    "e_form-r2scan": "SCAN",
}
"""Transfers from PBE to another functional, and the functional of the paper's Table 1 that is nearest."""

INFORMATIVE = 0.8  # a network with an error above this share of the trivial predictor's has not learnt enough

TRAININGS = {"short": "short training", "long": "long training"}
LENGTHS = {"short": "in short training", "long": "where both networks train until they stop improving"}


@dataclass(frozen=True)
class Answer:
    """What transfer does to an error: `comparison` with none, trained `training` long; the MAE of a `trivial` guess."""

    name: str
    training: str
    comparison: Comparison
    trivial: float

    @property
    def verdict(self) -> str:
        """``helps``, ``harms``, ``undecided``, or ``not informative`` where a trivial guess is nearly as good."""
        reduction = self.comparison.reduction
        if self.comparison.first.value > INFORMATIVE * self.trivial:
            return "not informative"
        if reduction.low > 0:
            return "helps"
        return "harms" if reduction.high < 0 else "undecided"

    @property
    def cells(self) -> dict[str, str]:
        """The reduction in percent, its interval, the verdict and the training, as texts."""
        r = self.comparison.reduction
        return {
            "reduction / %": percent(r.value),
            "95 %: from": percent(r.low),
            "to": percent(r.high),
            "transfer": self.verdict,
            "training": self.training,
        }


def answer(part: StoredResults, entry: str, reference: str) -> Answer:
    """An entry of a plan against another one, which has no transfer."""
    run = part.runs(entry)[0]
    trained = training_of(part.runs(reference)[0])
    return Answer(title_of(run), trained, part.comparison(entry, reference), trivial_error(part, entry))


def named(label: str, functional: str) -> str:
    """A property in a functional, in words."""
    return f"{FUNCTIONAL_NAMES[functional]} {QUANTITIES[label].title.lower()}"


def title_of(run: Run) -> str:
    """Property and functional of a run, and the property of the pre-training where that is another."""
    e = run.experiment
    origin = f" from {QUANTITIES[e.source.label].title.lower()}" if e.source and e.source.label != e.label else ""
    return named(e.label, e.functional) + origin


def percent(share: float) -> str:
    """A share in percent, without the sign of it."""
    return number(100 * share, ".0f")


def trivial_error(part: StoredResults, entry: str) -> float:
    """MAE of a guess (label's unit): the mean of the training set, or 0 for an energy above hull if better."""
    runs = part.runs(entry)
    guess = sum(run.metrics["test_mad"] for run in runs) / len(runs)
    errors = read_card(released_models()["pbe"]).accuracy["e_above_hull"].errors  # of the same test set
    e = runs[0].experiment
    if (e.label, e.functional, runs[0].metrics["n_test"]) == ("e_above_hull", "PBE", errors.n_test):
        guess = min(guess, errors.baselines["zero"])
    return guess


def answers(real: Archives, target: str, mode: str = "full") -> list[Answer]:
    """The answer on one target by short training and, where its runs are stored, by long training."""
    found = []
    for suffix in ("-short", ""):
        names = f"{target}-{mode}{suffix}", f"{target}-none{suffix}"
        if any(name in part.plan.entries for part in real.parts for name in names) and real.has(*names):
            found.append(answer(real.of(*names), *names))
    if all(one.training == "long" for one in found):  # the short rows of that plan are not there yet
        found.insert(0, answer(real.parts[-1], f"{target}-{mode}", f"{target}-none"))
    return list({one.training: one for one in found}.values())


def published_reduction(published: pd.DataFrame, label: str, functional: str, mode: str = "full") -> float:
    """Reduction of the error in the paper's Table 1 (``table1.csv``), as a share."""
    return float(published.set_index(["label", "functional", "mode"])["gain_percent"][label, functional, mode]) / 100


def reductions(real: Archives, published: pd.DataFrame) -> pd.DataFrame:
    """What `cgatlib.figures.runs.reductions` draws: for every target the paper's reduction and ours."""
    rows = []
    for target, functional in TARGETS.items():
        ours = answers(real, target)
        label = real.of(f"{target}-full").runs(f"{target}-full")[0].experiment.label
        name = f"{ours[0].name}\n(paper: {functional})"
        rows.append({"target": name, "source": "paper", "value": published_reduction(published, label, functional)})
        for one in ours:
            r, source = one.comparison.reduction, TRAININGS[one.training]
            found = {"value": r.value, "low": r.low, "high": r.high, "verdict": one.verdict}
            rows.append({"target": name, "source": source, **found})
    return pd.DataFrame(rows, columns=["target", "source", "value", "low", "high", "verdict"]).fillna({"verdict": ""})


def front_sentences(real: Archives, published: pd.DataFrame) -> list[str]:
    """The answer in three sentences: what held, what did not, what shrank under controls."""
    last = [answers(real, target)[-1] for target in TARGETS]
    gains = {how: [one for one in last if one.verdict == "helps" and one.training == how] for how in ("long", "short")}
    values = {how: [one.comparison.reduction.value for one in some] for how, some in gains.items() if some}
    texts = [f"by {_span(found)} % {LENGTHS[how]}" for how, found in values.items()]
    others = [f"{one.name} ({one.verdict})" for one in last if one.verdict != "helps"]
    paper = published.loc[published["mode"] == "full", "gain_percent"] / 100
    helped = sum(map(len, gains.values()))
    held = f"Transfer from PBE lowers the error on {helped} of {len(last)} targets with a better functional"
    held += f": {_listed(texts)}; the paper reports {_span(paper)} %." if texts else "."
    return [held + (f" The rest: {_listed(others)}." if others else ""), unlike_sentence(real), control_sentence(real)]


UNLIKE = {"e_form-volume": "volume-pbesol-none", "volume-e_form": "e_form-none"}
"""Transfers between unlike properties, and the runs without transfer that they are compared with."""


def unlike_sentence(real: Archives) -> str:
    """Whether full transfer between unlike properties fails, as the paper says."""
    found = [answer(real.of(f"{pair}-full", none), f"{pair}-full", none) for pair, none in UNLIKE.items()]
    better = [one for one in found if one.verdict == "helps"]
    each = (f"{percent(one.comparison.reduction.value)} % ({one.name}: {one.verdict})" for one in found)
    how = "short" if any(one.training == "short" for one in found) else "long"
    text = f"full transfer lowers the error by {' and '.join(each)} {LENGTHS[how]}."
    begin = "The paper finds transfer between volume and formation energy no better than none"
    if len(better) == len(found):
        return f"{begin}; that does not hold here: {text}"
    return f"{begin}; that holds here in one direction: {text}" if better else f"{begin}; so do we: {text}"


def control_sentence(real: Archives) -> str:
    """What is left of the gain on PBEsol volumes where both networks were trained longer."""
    first, *longer = answers(real, "volume-pbesol")
    how, names = "train until they stop improving", ("volume-pbesol-full-long", "volume-pbesol-none-long")
    if not longer:
        how = "get as many steps on the target set as pre-training and transfer take together"
        longer = [answer(real.of(*names), *names)]
    before, after = first.comparison.reduction, longer[-1].comparison.reduction
    verb = "shrinks" if after.value < before.value else "goes"
    end = "cannot be told from none" if after.low <= 0 else "remains"
    left = f"{percent(after.value)} % (95 % interval: {percent(after.low)} to {percent(after.high)} %)"
    begin = f"On PBEsol volumes the gain {verb} from {percent(before.value)} % to {left}"
    return f"{begin} once both networks {how}, and {end}."


def correction_sentence(real: Archives) -> str:
    """Whether correcting the PBE value of a crystal beats the network that has learnt from PBE values of others."""
    ratios = []
    for target in TARGETS:
        runs = real.of(f"{target}-full").runs(f"{target}-full")
        paired = simple(real, runs[0])["source label + boosting"]
        ratios.append(_on_crystals_of(paired, runs).value / _mae(paired).value)
    wins = sum(ratio > 1 for ratio in ratios)
    return (
        f"Where a crystal has a PBE value, correcting that value wins on {wins} of {len(ratios)} targets: full "
        f"transfer has {min(ratios):.1f} to {max(ratios):.1f} times the error of boosted trees that start from it."
    )


def simple(real: Archives, run: Run) -> dict[str, list[Baseline]]:
    """Simple predictors by name, on the table and property of a run."""
    e = run.experiment
    every = (b for part in real.parts for b in part.baselines)
    own = [b for b in every if (b.data, b.label, b.train_size) == (e.data, e.label, e.train_size)]
    return {name: [b for b in own if b.name == name] for name in dict.fromkeys(b.name for b in own)}


def error_table(real: Archives, rows: Sequence[Mapping[str, str]], among: StoredResults | None = None) -> pd.DataFrame:
    """Test MAEs, texts: mean ± standard deviation over seeds or splits, beside a guess and boosted trees.

    Args:
        real: where simple predictors and runs are looked for. rows: entry by column; a row whose runs are not there is
            left out. among: where runs are looked for instead.
    """
    cells, where = {}, Archives((among,)) if among else real
    for row in rows:
        if not where.has(*row.values()):
            continue
        part, last = where.of(*row.values()), list(row.values())[-1]
        run, q = part.runs(last)[0], QUANTITIES[part.runs(last)[0].experiment.label]
        composition = simple(real, run).get("boosting", [])
        cells[f"{title_of(run)} / {q.error_unit}"] = {
            "crystals": f"{run.metrics['n_train']:,}",
            "guess": text_of(Mae(trivial_error(part, last), math.nan), q),
            "composition": text_of(_mae(composition), q) if composition else None,
            **{column: text_of(part.mae(entry), q) for column, entry in row.items()},
            "training": training_of(part.runs(row.get("no transfer", last))[0]),
        }
    return pd.DataFrame.from_dict(cells, orient="index")


def lowest(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of the lowest error, as it is printed, of each row of an error table among `columns`."""
    values = frame[[name for name in columns if name in frame]].map(lambda cell: float(cell.split("\u00a0")[0]))
    best = values.eq(values.min(axis=1), axis=0).to_numpy()
    return [(int(row), frame.columns.get_loc(values.columns[column])) for row, column in np.argwhere(best)]


def published_errors(published: pd.DataFrame, label: str, functional: str) -> pd.DataFrame:
    """A row of the paper's Table 1 as `error_table` has them."""
    theirs = published[(published["label"] == label) & (published["functional"] == functional)]
    cells = {MODES[mode].name: f"{mae:g}" for mode, mae in zip(theirs["mode"], theirs["mae"], strict=True)}
    title = f"{named(label, functional)} / {QUANTITIES[label].error_unit}"
    return pd.DataFrame.from_dict({title: {"source": "paper", **cells}}, orient="index")


def correction_table(real: Archives, targets: Sequence[str]) -> pd.DataFrame:
    """MAE of predictors that know no structure, of full transfer, and of corrected PBE values on the same crystals."""
    rows = {}
    for target in targets:
        runs = real.of(f"{target}-full").runs(f"{target}-full")
        q, own = QUANTITIES[runs[0].experiment.label], simple(real, runs[0])
        paired = own["source label + boosting"]
        rows[f"{title_of(runs[0])} / {q.error_unit}, {training_of(runs[0])}"] = {
            "mean": text_of(_mae(own["mean"]), q),
            "linear, composition": text_of(_mae(own["ridge"]), q),
            "trees, composition": text_of(_mae(own["boosting"]), q),
            "full transfer": text_of(Mae.of(runs), q),
            "the same, with a PBE value": text_of(_on_crystals_of(paired, runs), q),
            "PBE value, linear": text_of(_mae(own["source label + ridge"]), q),
            "PBE value, trees": text_of(_mae(paired), q),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def gap_table(part: StoredResults, target: str, modes: Sequence[str]) -> pd.DataFrame:
    """Gaps as a classification into metals and non-metals, one row per mode, intervals in columns of their own."""
    rows = {}
    for mode in modes:
        scored = Scored.of(part.seeds(f"{target}-{mode}"))
        titles = {OPEN_GAP_MAE: f"MAE of {scored.kinds.sum()} gaps / eV"}
        cells: dict[str, str] = {}
        for metric in (BALANCED_ACCURACY, ROC_AUC, OPEN_GAP_MAE):
            e, name = score_interval(scored, metric), titles.get(metric, metric.name)
            cells |= {name: f"{e.value:.3f}", f"{name}: from": f"{e.low:.3f}", f"{name}: to": f"{e.high:.3f}"}
        rows[MODES[mode].name] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


def leak_table(part: StoredResults, names: Sequence[str]) -> pd.DataFrame:
    """MAE of ``NAME-seen`` relative to NAME by what the leaky pre-training has seen, one row per entry and kind."""
    rows = {}
    for name in names:
        run = part.runs(name)[0]
        parts = leakage_ratio(part.seeds(name), part.seeds(f"{name}-seen"))
        for what, c in {"all": part.comparison(f"{name}-seen", name), **parts}.items():
            texts = [f"{x:.2f}" for x in (c.ratio.value, c.ratio.low, c.ratio.high)]
            cells = dict(zip(("MAE, relative", "95 %: from", "to"), texts, strict=True))
            mode = MODES[run.experiment.transfer.mode].name
            rows[f"{title_of(run)}, {mode}: {what}"] = {"crystals": f"{c.crystals:,}", **cells}
    return pd.DataFrame.from_dict(rows, orient="index")


def text_of(mae: Mae, quantity: Property) -> str:
    """An error in the unit that errors of the quantity are shown in."""
    value, spread = (f"{x * quantity.error_factor:.{quantity.error_digits}f}" for x in (mae.value, mae.spread))
    return value if math.isnan(mae.spread) else f"{value}\u00a0±\u00a0{spread}"


def _mae(found: Sequence[Baseline]) -> Mae:
    return _spread([b.mae for b in found])


def _spread(maes: Sequence[float]) -> Mae:
    return Mae(float(np.mean(maes)), float(np.std(maes, ddof=1)) if len(maes) > 1 else math.nan)


def _on_crystals_of(paired: Sequence[Baseline], runs: Sequence[Run]) -> Mae:
    """MAE of runs on the crystals that the baselines of the same split have predicted."""
    crystals = {b.split["seed"]: b.errors["crystal"] for b in paired}
    parts = [run.errors[run.errors["crystal"].isin(crystals[run.experiment.split.seed])] for run in runs]
    return _spread([score(part["error"])["test_mae"] for part in parts])


def _span(shares: Sequence[float] | pd.Series) -> str:
    """The lowest and the highest of some shares, in percent."""
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low} to {high}"


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def transfers(plan: Plan, crossed: bool) -> dict[str, str]:
    """Transfers of a plan, ``NAME`` where it has ``NAME-full`` and ``NAME-head``, each with its entry without transfer.

    Those between properties (`crossed`), or those between functionals alone.
    """
    found = {}
    for name, entry in plan.entries.items():
        target = name.removesuffix("-full")
        if target == name or entry.start is None or f"{target}-head" not in plan.entries:
            continue
        what = (entry.table, entry.label, entry.sizes, entry.splits, entry.seeds)
        alike = [
            other.name
            for other in plan.entries.values()
            if other.start is None and what == (other.table, other.label, other.sizes, other.splits, other.seeds)
        ]
        if alike and crossed == (plan.entries[entry.start.run].label != entry.label):
            found[target] = alike[0]
    return found


def reduction_table(real: Archives, pairs: Mapping[str, str], paper: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Reduction of the error by entries (keys) against entries without transfer, beside what the paper says of them."""
    rows = {}
    for entry, reference in pairs.items():
        if real.has(entry, reference):
            part = real.of(entry, reference)
            run = part.runs(entry)[0]
            name = f"{title_of(run)}: {MODES[run.experiment.transfer.mode].name}"
            stated = {"paper / %": paper.get(entry)} if paper else {}
            rows[name] = {**stated, **answer(part, entry, reference).cells}
    return pd.DataFrame.from_dict(rows, orient="index")


EXACT = {
    "volume-pbesol": ("volume_per_atom", "PBEsol"),
    "gap-scan": ("band_gap", "SCAN"),
    "e_form-r2scan": ("e_form", "SCAN"),
}
"""Targets that the paper's Table 1 has, r²SCAN standing for SCAN."""


def table1(real: Archives, published: pd.DataFrame, rows: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The paper's Table 1 with our errors, the paper's row below ours; `rows` of `error_table` by target."""
    parts, shown = [], [EXACT[target] for target in rows if target in EXACT]
    for target, row in rows.items():
        parts.append(error_table(real, [row]).assign(source="DFT"))
        parts += [published_errors(published, *EXACT[target])] if target in EXACT else []
    every = published.loc[published["mode"] == "full", ["label", "functional"]].itertuples(index=False)
    parts += [published_errors(published, *pair) for pair in every if tuple(pair) not in shown]
    frame = pd.concat(parts)
    return frame[["source", *parts[0].columns.drop("source")]]


def panel(real: Archives, entry: str) -> str:
    """Heading of a panel: property, functional and the property of the pre-training where that is another, mathtext."""
    e = real.of(entry).runs(entry)[0].experiment
    origin = f", from {QUANTITIES[e.source.label].symbol}" if e.source and e.source.label != e.label else ""
    return f"{QUANTITIES[e.label].symbol}, {FUNCTIONAL_NAMES[e.functional]}{origin} / {QUANTITIES[e.label].error_unit}"


def energies_sentence(real: Archives, stated: float) -> str:
    """Whether full transfer between the two energies helps, and how sure that is; `stated` is the paper's gain in %."""
    pairs = {
        "e_form-e_hull": "e_hull-none",
        "e_hull-e_form": "e_form-none",
        "e_hull-r2scan_e_form": "r2scan_e_form-none",
    }
    found = [answer(real.of(f"{pair}-full", none), f"{pair}-full", none) for pair, none in pairs.items()]
    texts = [f"{one.name}: {one.verdict} ({percent(one.comparison.reduction.value)} %)" for one in found]
    return f"Between the two energies the paper finds a gain of {stated} % by full transfer. Ours: {'; '.join(texts)}."


def share_table(points: pd.DataFrame) -> pd.DataFrame:
    """Gains within a property (mode ``full``) and between two (``inter``) against no transfer, by training size."""
    mean = points.pivot_table(index="train_size", columns="mode", values="mae").dropna()
    gain = {mode: 1 - mean[mode] / mean["none"] for mode in ("full", "inter")}
    ratio = (gain["inter"] / gain["full"]).where(gain["full"] > 0)
    columns = {"within / %": gain["full"], "between / %": gain["inter"], "between : within / %": ratio}
    shown = pd.DataFrame(columns).map(percent, na_action="ignore").rename_axis(None)
    return shown.rename(index=lambda n: f"{n:,} training crystals")


def released_table() -> pd.DataFrame:
    """Test errors of the released models, beside the best constant guess and boosted trees on the composition."""
    rows, known = {}, set()
    for name, folder in released_models().items():
        card = read_card(folder)
        for label, accuracy in card.accuracy.items():
            errors, q = accuracy.errors, QUANTITIES[label]
            if (label, card.functional, errors.mae) in known:  # the view of a model
                continue
            known.add((label, card.functional, errors.mae))
            guess = min([errors.mad, *(errors.baselines.get(what, math.inf) for what in ("mean", "median", "zero"))])
            trees = errors.baselines.get("boosting", math.nan)
            rows[f"{named(label, card.functional)} / {q.error_unit}"] = {
                "model": name,
                "crystals": f"{card.of_label(label)[0].scores(label)['n_train']:,}",
                "guess": text_of(Mae(guess, math.nan), q),
                "composition": None if math.isnan(trees) else text_of(Mae(trees, math.nan), q),
                "model's MAE": text_of(Mae(errors.mae, math.nan), q),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def composition_sentence(real: Archives) -> str:
    """How often full transfer is the best procedure, and how often a network without transfer loses to composition."""
    best = beaten = 0
    for target in TARGETS:
        part = real.of(*(f"{target}-{mode}" for mode in ("none", "head", "full")))
        none, head, full = (part.mae(f"{target}-{mode}").value for mode in ("none", "head", "full"))
        best += full < min(none, head)
        beaten += none > _mae(simple(real, part.runs(f"{target}-none")[0])["boosting"]).value
    return (
        f"Full transfer is the best of the three procedures on {best} of {len(TARGETS)} targets. Without transfer the "
        f"network is worse than boosted trees that know the composition alone on {beaten} of {len(TARGETS)}."
    )

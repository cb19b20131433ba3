"""Evidence on the paper's claims from stored runs and tables: errors, learning curves, labels.

What is compared comes from one archive: the first that has all runs of the entries named.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from cgatbook.claims.verdict import FIFTH, Effect, Finding, Outcome, Side, impossible, share_text
from cgatbook.published import Printed, PublishedNumbers
from cgatbook.stored import Archives, StoredResults, training_of
from cgatbook.variants import change_text, error_change
from cgatlib import CgatError
from cgatlib.cards import EnsembleCard
from cgatlib.evaluation.comparison import Score, compare, score_interval
from cgatlib.evaluation.metrics import OPEN_GAP_MAE, Scored
from cgatlib.evaluation.statistics import Estimate, mean_interval
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES
from cgatlib.model.cgat import MODELS
from cgatlib.runs.experiment import Run
from cgatlib.runs.tested import GAP_THRESHOLD

Found = TypeVar("Found")

TRIVIAL = ("mean", "median", "zero")
"""Names of predictors that answer the same for every crystal."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What claims are tested with.

    Attributes:
        dft: runs on DFT data, the preferred archive first; the last one holds the baselines.
        variants: runs of the network's variants. paper: its printed numbers. crystals: table of the demo.
    """

    dft: Archives
    variants: StoredResults
    paper: PublishedNumbers
    crystals: Path

    def converged(self, *entries: str) -> bool:
        """Whether one archive has runs of these entries that went on until they stopped improving."""
        return self.dft.has(*entries) and training_of(self.dft.of(*entries).runs(entries[0])[0]) == "long"

    def better(self, entry: str, reference: str, stated: str | None = None, *, gaps: bool = False) -> list[Finding]:
        """An entry has a smaller error than another on the same test crystals; see `compared`."""
        return self.compared(entry, reference, "above", stated, gaps=gaps)

    def worse(self, entry: str, reference: str, stated: str | None = None) -> list[Finding]:
        """An entry has a larger error than another on the same test crystals."""
        return self.compared(entry, reference, "below", stated)

    def same(self, entry: str, reference: str) -> list[Finding]:
        """An entry has the error of another on the same test crystals."""
        return self.compared(entry, reference, "equal")

    def compared(
        self, entry: str, reference: str, side: Side, stated: str | None = None, *, gaps: bool = False
    ) -> list[Finding]:
        """Relative reduction of the error of `reference` by `entry`: one finding for each training size.

        Args:
            entry, reference: of a plan. side: where the claim sees the reduction. stated: the paper's reduction.
            gaps: score the test crystals with a gap alone.
        """
        results, found = self.dft.of(entry, reference), []
        for own, other, reduction in self.once(_reductions, results, entry, reference, gaps):
            effect = Effect(reduction, side, stated=self.paper[stated] if stated else None)
            sound = gaps or self.informative(own, other)
            outcome = effect.outcome(informative=sound)
            text = f"error reduction {share_text(reduction)}{effect.beside(outcome)}"
            text += "" if sound else "; a constant is as good within a fifth"
            detail = f"; only gaps above {GAP_THRESHOLD:g} eV are scored" if gaps else ""
            found.append(of_runs(results, own, (entry, reference), outcome, text, effect, other, detail))
        return found

    def larger_error(self, entry: str, parent: str) -> list[Finding]:
        """Training from scratch gives a larger error than the PBE network has on its own test set."""
        results = self.dft.of(entry, parent)
        own, source = results.runs(entry), results.runs(parent)
        ratio = _relative(*(score_interval([run.errors for run in some]) for some in (source, own)))
        excess = Effect(Estimate(*(x / (1 - x) for x in (ratio.value, ratio.low, ratio.high))))
        text = f"error larger by {share_text(excess.estimate)} than that of the PBE network on its own test set"
        outcome = excess.outcome(informative=self.informative(own, source))
        return [of_runs(results, own, (entry, parent), outcome, text, excess, source)]

    def smaller_on_metals(self, entry: str) -> list[Finding]:
        """The gaps of metals are predicted with a smaller error than those of other crystals."""
        results = self.dft.of(entry)
        scored = Scored.of([run.errors for run in results.runs(entry)])
        metals, others = (score_interval(scored.at(rows)) for rows in (~scored.kinds, scored.kinds))
        effect = Effect(_relative(metals, others))
        maes = " eV and ".join(f"{score.estimate.value:.3f}" for score in (metals, others))
        text = f"MAE {maes} eV on metals and others, smaller by {share_text(effect.estimate)}"
        text += f"; metals are {1 - scored.kinds.mean():.0%}"
        outcome = effect.outcome(informative=self.informative(results.runs(entry)))
        return [of_runs(results, results.runs(entry), (entry,), outcome, text, effect)]

    def beats_boosting(self, entry: str) -> list[Finding]:
        """The network has a smaller error than boosted trees on the composition, on the same split."""
        results = self.dft.of(entry)
        own, e = results.runs(entry), results.runs(entry)[0].experiment
        wanted = e.data, e.label, "boosting", e.split.seed
        found = [b for b in self.dft.parts[-1].baselines if (b.data, b.label, b.name, b.split["seed"]) == wanted]
        if not found:
            raise CgatError(f"no archive has boosted trees for {entry}")
        effect = Effect(compare([run.errors for run in own], [found[0].errors]).reduction)
        outcome = effect.outcome(informative=self.informative(own))
        text = f"error reduction against boosted trees on the composition {share_text(effect.estimate)}"
        return [of_runs(results, own, (entry,), outcome, text, effect)]

    def reached_sooner(self, entry: str, reference: str) -> list[Finding]:
        """Transfer reaches the lowest validation error of the reference in fewer steps than the reference had."""
        results = self.dft.of(entry, reference)
        own, other = results.runs(entry), results.runs(reference)
        shares = []
        for run, against in zip(own, other, strict=True):
            reached = run.curve.loc[run.curve["validation_mae"] <= against.curve["validation_mae"].min(), "step"]
            shares.append(reached.min() / against.curve["step"].max())
        values = pd.Series(shares, dtype=float)
        if values.isna().any():
            outcome = Outcome.FAILS if values.isna().all() else Outcome.OPEN
            text, effect = f"reached by {values.notna().sum()} of {len(values)} runs", None
        else:
            effect = Effect(mean_interval(1 - values))
            outcome, share = effect.outcome(), mean_interval(values)
            paper = self.paper["numbers/full_transfer_epochs"].over(self.paper["numbers/epochs"])
            text = f"after {share_text(share)} of the steps; {paper.value:.0%} in the paper"
        return [of_runs(results, own, (entry, reference), outcome, text, effect, other)]

    def unstable(self, entry: str, reference: str) -> list[Finding]:
        """The validation error of an entry rises more often and further during training than that of another."""
        results = self.dft.of(entry, reference)
        own, other = results.runs(entry), results.runs(reference)
        rises = [pd.Series([_rises(run) for run in some]) for some in (own, other)]
        effect = Effect(mean_interval(rises[0] - rises[1]))
        text = f"from one evaluation to the next the validation error rises by {rises[0].mean():.1%} on average, "
        text += f"without transfer by {rises[1].mean():.1%}; difference {share_text(effect.estimate)}"
        return [of_runs(results, own, (entry, reference), effect.outcome(), text, effect, other)]

    def variant(self, entry: str, reference: str = "released") -> list[Finding]:
        """A variant of the network or of its training has the error of another."""
        own, other = (self.variants.runs(name) for name in (entry, reference))
        change = error_change(own, other)
        effect = Effect(Estimate(-change["mean"], -change["high"], -change["low"]), "equal")
        outcome = effect.outcome(informative=self.informative(own, other))
        text = f"error {change_text(change)}"
        return [of_runs(self.variants, own, (entry, reference), outcome, text, effect, other)]

    def shift(
        self, label: str, first: str, second: str, side: Side, stated: Sequence[str], *, metals: bool = False
    ) -> list[Finding]:
        """How much larger a label is in one table than in another for the same crystals; of metals, their share.

        Args:
            first, second: tables of a plan. side: where the claim sees the excess of the first.
            stated: the paper's two numbers.
        """
        tables = [self.dft.parts[-1].summary(name) for name in (first, second)]
        found = tables[1].labels[label].metals if metals else tables[1].labels[label].shift
        if not found or tables[1].reference != tables[0].fingerprint:
            raise CgatError(f"the summary of the table {second} does not compare its {label} with that of {first}")
        effect = Effect(Estimate(*found.excess), side, stated=_excess(*(self.paper[name] for name in stated)))
        outcome = effect.outcome()
        means = [
            f"{mean:{'.0%' if metals else '.2f'}} ({FUNCTIONAL_NAMES[t.functional]})"
            for mean, t in zip(found.means, tables, strict=True)
        ]
        text = (
            f"{'share of metals' if metals else 'mean'} {' and '.join(means)}, difference {share_text(effect.estimate)}"
        )
        detail = f"{found.crystals:,} crystals that have both"
        subject = label, tables[1].functional
        return [Finding(outcome, text + effect.beside(outcome), "DFT", detail, "", subject, effect)]

    def element_share(self, element: str, first: str, second: str, side: Side) -> list[Finding]:
        """An element is in a larger (``"above"``) share of the second table; the tables are whole: no interval."""
        tables = [self.dft.parts[-1].summary(name) for name in (first, second)]
        shares = [table.elements.get(element, 0) / len(table) for table in tables]
        outcome = Outcome.HOLDS if (shares[1] > shares[0]) == (side == "above") else Outcome.FAILS
        text = f"{element} in {shares[0]:.1%} and {shares[1]:.1%}"
        sizes = [f"{len(table):,} {FUNCTIONAL_NAMES[table.functional]}" for table in tables]
        return [Finding(outcome, text, "DFT", f"all {' and '.join(sizes)} crystals of the tables")]

    def absent(self, reason: str, label: str, functionals: Sequence[str] = (), at_least: int = 1) -> list[Finding]:
        """The claim needs a label (of some functionals, with so many training crystals) that no plan has.

        Raises:
            CgatError: a plan has it.
        """
        for results in self.dft.parts:
            for entry in results.plan.entries.values():
                functional = results.plan.tables[entry.table]["functional"]
                if entry.label != label or (functionals and functional not in functionals):
                    continue
                if at_least <= 1 or (results.has(entry.name) and _largest(results.runs(entry.name)) >= at_least):
                    raise CgatError(f"{label} {functional} is said to be absent, but the plan has {entry.name}")
        return [impossible(reason)]

    @cached_property
    def _known(self) -> dict[tuple, Any]:
        return {}

    def once(self, make: Callable[..., Found], first: Any, *arguments: Hashable) -> Found:
        """What `make` gives, computed once for all claims; `first` is the same for the same other arguments."""
        key = (make, *arguments)
        if key not in self._known:
            self._known[key] = make(first, *arguments)
        return self._known[key]

    def informative(self, *groups: Sequence[Run]) -> bool:
        """Whether one of some kinds of run beats what answers the same for every crystal by a fifth."""
        for runs in groups:
            e = runs[0].experiment
            trivial = [_mean([run.metrics["test_mad"] for run in runs]), *self._trivial.get((e.data, e.label), [])]
            if _mean([run.metrics["test_mae"] for run in runs]) <= (1 - FIFTH) * min(trivial):
                return True
        return False

    @cached_property
    def _trivial(self) -> dict[tuple[str, str], list[float]]:
        """MAEs of answers that are the same for every crystal of a test set, by table and label; some are on a card."""
        maes: dict[tuple[str, str, str], list[float]] = {}
        for b in self.dft.parts[-1].baselines:
            maes.setdefault((b.data, b.label, b.name), []).append(b.mae)
        card = EnsembleCard.from_json((resources.files("cgatlib") / "released_models/pbe/card.json").read_text())
        for label, accuracy in card.accuracy.items():
            maes |= {(card.data["fingerprint"], label, n): [mae] for n, mae in accuracy.errors.baselines.items()}
        found: dict[tuple[str, str], list[float]] = {}
        for (data, label, name), values in maes.items():
            if name in TRIVIAL:
                found.setdefault((data, label), []).append(_mean(values))
        return found


def of_runs(
    results: StoredResults,
    runs: Sequence[Run],
    entries: tuple[str, ...],
    outcome: Outcome,
    text: str,
    effect: Effect | None = None,
    other: Sequence[Run] = (),
    detail: str = "",
) -> Finding:
    """A finding from runs, with what they are; `other` are those that they are compared with."""
    e = runs[0].experiment
    table = next(t for t in results.plan.tables.values() if t["fingerprint"] == e.data)
    how = procedure(runs) + (f"; against {procedure(other)}" if other else "")
    return Finding(
        outcome=outcome,
        text=text,
        data={"dft": "DFT", "surrogate": "surrogate"}[table.get("origin", "dft")],
        detail=_crystals(runs) + detail,
        procedure=how,
        subject=(e.label, e.functional),
        effect=effect,
        plan=results.archive.path.name,
        entries=entries,
        keys=tuple(run.experiment.key for run in [*runs, *other]),
    )


def procedure(runs: Sequence[Run]) -> str:
    """How the runs of an entry were trained: procedure, source, scale, rate, decay, length."""
    e, t = runs[0].experiment, runs[0].experiment.training
    text = MODES[e.transfer.mode].name
    if e.source:
        text += f" from {QUANTITIES[e.source.label].text} ({FUNCTIONAL_NAMES[e.source.functional]}"
        sizes = {run.experiment.source.train_size for run in runs if run.experiment.source}
        size = "several sizes" if len(sizes) > 1 else f"{e.source.train_size:,} crystals" if e.source.train_size else ""
        text += f", {size})" if size else ")"
    width = e.model.atom_width / MODELS["tiny"].atom_width
    special = {
        "new head": e.transfer.reinitialise_head,
        "labels scaled as in pre-training": e.transfer.target_statistics == "source",
        "pre-training had seen the test crystals": e.transfer.test_crystals == "seen",
        f"network {width:g} times as wide": width > 1,
    }
    length = "until it stopped improving" if t.patience else f"{t.steps:,} steps"
    parts = [text, *(name for name, holds in special.items() if holds)]
    return ", ".join([*parts, f"rate {t.learning_rate:g}, decay {t.weight_decay:g}", length])


def _crystals(runs: Sequence[Run]) -> str:
    """Crystals, seeds or splits of an entry's runs."""
    ranges = {part: sorted({int(run.metrics[f"n_{part}"]) for run in runs}) for part in ("train", "test")}
    train, test = (" to ".join(f"{n:,}" for n in dict.fromkeys((ns[0], ns[-1]))) for ns in ranges.values())
    splits = {run.experiment.split.seed for run in runs}
    repeats = f"{len(splits)} splits" if len(splits) > 1 else f"{len({run.experiment.seed for run in runs})} seeds"
    return f"{train} training, {test} test crystals, {repeats}"


def _reductions(
    results: StoredResults, entry: str, reference: str, gaps: bool
) -> list[tuple[list[Run], list[Run], Estimate]]:
    """Runs of both entries and the reduction, by training size; of splits, whose sizes differ a little, over all."""
    own, other = results.runs(entry), results.runs(reference)
    if gaps:
        return [(own, other, compare(_errors(own), _errors(other), OPEN_GAP_MAE).reduction)]
    if len(results.plan.entries[entry].sizes) == 1:
        return [(own, other, results.comparison(entry, reference).reduction)]
    sizes = [{int(run.metrics["n_train"]) for run in some} for some in (own, other)]
    found = []
    for size in sorted(set.intersection(*sizes)):
        a, b = ([run for run in some if run.metrics["n_train"] == size] for some in (own, other))
        found.append((a, b, compare(_errors(a), _errors(b)).reduction))
    return found


def _errors(runs: Sequence[Run]) -> list[pd.DataFrame]:
    return [run.errors for run in runs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _largest(runs: Sequence[Run]) -> int:
    return max(int(run.metrics["n_train"]) for run in runs)


def _rises(run: Run) -> float:
    """Mean over the evaluations of the relative rise of the validation error since the one before; 0 where it falls."""
    logs = np.log(run.curve["validation_mae"].to_numpy(float))
    return float(np.maximum(np.diff(logs), 0).mean())


def _relative(first: Score, second: Score) -> Estimate:
    """1 - first / second for scores on different crystals, the logarithms of both taken as independent and normal."""
    z = float(stats.norm.ppf(0.975))
    errors = [math.log(s.estimate.high / s.estimate.low) / (2 * z) for s in (first, second)]
    log = math.log(first.estimate.value / second.estimate.value)
    half = z * math.hypot(*errors)
    return Estimate(-math.expm1(log), -math.expm1(log + half), -math.expm1(log - half))


def _excess(over: Printed, under: Printed) -> Printed:
    ratio = over.over(under)
    return Printed(ratio.value - 1, ratio.low - 1, ratio.high - 1, f"{ratio.value - 1:.0%}")

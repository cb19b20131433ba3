"""Evidence on the paper's claims from stored runs and tables: errors, learning curves, labels.

What is compared comes from one archive: the first that has all runs of the entries named.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cgatbook.answers import simple
from cgatbook.claims.verdict import FIFTH, Effect, Finding, Outcome, Side, impossible, share_text
from cgatbook.pages import BADGES
from cgatbook.published import Printed, PublishedNumbers
from cgatbook.stored import Archives, StoredResults
from cgatbook.variants import change_text
from cgatlib import CgatError
from cgatlib.cards import EnsembleCard
from cgatlib.ensemble import read_card, released_models
from cgatlib.evaluation.comparison import OPEN_GAP_MAE, Scored, compare, score_interval
from cgatlib.evaluation.statistics import Estimate, mean_interval
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES
from cgatlib.model.config import MODELS
from cgatlib.runs.experiment import Run
from cgatlib.runs.tested import GAP_THRESHOLD

TRIVIAL = ("mean", "median", "zero")  # predictors that answer the same for every crystal


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

    def better(
        self, entry: str, reference: str, stated: str = "", *, side: Side = "above", gaps: bool = False
    ) -> list[Finding]:
        """An entry has a smaller error than another on the same test crystals: one finding for each training size.

        Args:
            entry, reference: of a plan. stated: the paper's reduction. side: where the claim sees the reduction.
            gaps: score the test crystals with a gap alone.
        """
        results, found = self.dft.of(entry, reference), []
        detail = f"; only gaps above {GAP_THRESHOLD:g} eV are scored" if gaps else ""
        for own, other, reduction in self.once(_reductions, results, entry, reference, gaps):
            effect = Effect(reduction, side, stated=self.paper[stated] if stated else None)
            text = f"error reduction {share_text(reduction)}"
            found += self.finding(results, (entry, reference), (own, other), text, effect, detail=detail)
        return found

    def worse(self, entry: str, reference: str, stated: str = "") -> list[Finding]:
        """An entry has a larger error than another on the same test crystals."""
        return self.better(entry, reference, stated, side="below")

    def same(self, entry: str, reference: str) -> list[Finding]:
        """An entry has the error of another on the same test crystals."""
        return self.better(entry, reference, side="equal")

    def larger_error(self, entry: str, parent: str) -> list[Finding]:
        """Training from scratch gives a larger error than the PBE network has on its own test set."""
        results, runs = self._runs(entry, parent)
        ratio = _relative(*(score_interval([run.errors for run in some]) for some in reversed(runs)))
        excess = Estimate(*(x / (1 - x) for x in (ratio.value, ratio.low, ratio.high)))
        text = f"error larger by {share_text(excess)} than that of the PBE network on its own test set"
        return self.finding(results, (entry, parent), runs, text, Effect(excess))

    def smaller_on_metals(self, entry: str) -> list[Finding]:
        """The gaps of metals are predicted with a smaller error than those of other crystals."""
        results, runs = self._runs(entry)
        scored = Scored.of(results.seeds(entry))
        metals, others = (score_interval(scored.at(rows)) for rows in (~scored.kinds, scored.kinds))
        effect = _relative(metals, others)
        text = f"MAE {metals.value:.3f} eV and {others.value:.3f} eV on metals and others, smaller by "
        text += f"{share_text(effect)}; metals are {1 - scored.kinds.mean():.0%}"
        return self.finding(results, (entry,), runs, text, Effect(effect))

    def beats_boosting(self, entry: str) -> list[Finding]:
        """The network has a smaller error than boosted trees on the composition, on the same split."""
        results, runs = self._runs(entry)
        split = runs[0][0].experiment.split.seed
        found = [b for b in simple(self.dft, runs[0][0]).get("boosting", []) if b.split["seed"] == split]
        if not found:
            raise CgatError(f"no archive has boosted trees for {entry}")
        effect = compare(results.seeds(entry), [found[0].errors]).reduction
        text = f"error reduction against boosted trees on the composition {share_text(effect)}"
        return self.finding(results, (entry,), runs, text, Effect(effect))

    def reached_sooner(self, entry: str, reference: str) -> list[Finding]:
        """Transfer reaches the lowest validation error of the reference in fewer steps than the reference had."""
        results, runs = self._runs(entry, reference)
        shares = []
        for run, against in zip(*runs, strict=True):
            reached = run.curve.loc[run.curve["validation_mae"] <= against.curve["validation_mae"].min(), "step"]
            shares.append(reached.min() / against.curve["step"].max())
        values = pd.Series(shares, dtype=float)
        if values.isna().any():
            outcome = Outcome.FAILS if values.isna().all() else Outcome.OPEN
            text = f"reached by {values.notna().sum()} of {len(values)} runs"
            return self.finding(results, (entry, reference), runs, text, outcome=outcome)
        paper = self.paper["numbers/full_transfer_epochs"].over(self.paper["numbers/epochs"])
        text = f"after {share_text(mean_interval(values))} of the steps; {paper.value:.0%} in the paper"
        return self.finding(results, (entry, reference), runs, text, Effect(mean_interval(1 - values)))

    def unstable(self, entry: str, reference: str) -> list[Finding]:
        """The validation error of an entry rises more often and further during training than that of another."""
        results, runs = self._runs(entry, reference)
        first, second = (pd.Series([_rises(run) for run in some]) for some in runs)
        effect = mean_interval(first - second)
        text = f"from one evaluation to the next the validation error rises by {first.mean():.1%} on average, "
        text += f"without transfer by {second.mean():.1%}; difference {share_text(effect)}"
        return self.finding(results, (entry, reference), runs, text, Effect(effect))

    def variant(self, entry: str, reference: str = "released") -> list[Finding]:
        """A variant of the network or of its training has the error of another."""
        runs = [self.variants.runs(name) for name in (entry, reference)]
        found = self.variants.comparison(entry, reference)
        effect = Effect(found.reduction, "equal")
        return self.finding(self.variants, (entry, reference), runs, f"error {change_text(found)}", effect)

    def finding(
        self,
        results: StoredResults,
        entries: tuple[str, ...],
        kinds: Sequence[Sequence[Run]],
        text: str,
        effect: Effect | None = None,
        *,
        straight: bool = True,
        outcome: Outcome = Outcome.OPEN,
        detail: str = "",
    ) -> list[Finding]:
        """A finding from runs.

        Args:
            results: what they are of. entries: of its plan. kinds: the runs, then those that they are compared with.
            text: what was measured. effect: which makes the outcome; without any it is `outcome`.
            straight: whether the data allow the straight line that the effect follows from. detail: of the crystals.
        """
        e = kinds[0][0].experiment
        table = next(t for t in results.plan.tables.values() if t["fingerprint"] == e.data)
        if effect:
            outcome = effect.outcome(informative=bool(detail) or self.informative(*kinds), line=straight)
            text += effect.beside(outcome) + ("" if straight else "; the data reject the straight line this rests on")
        text += "; a constant is as good within a fifth" if outcome is Outcome.UNINFORMATIVE else ""
        found = Finding(
            outcome=outcome,
            text=text,
            data=BADGES[table.get("origin", "dft")],
            detail=_crystals(kinds[0]) + detail,
            procedure="; against ".join(procedure(runs) for runs in kinds),
            subject=(e.label, e.functional),
            effect=effect,
            plan=results.folder.name,
            entries=entries,
            keys=tuple(run.experiment.key for runs in kinds for run in runs),
        )
        return [found]

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
        ratio = self.paper[stated[0]].over(self.paper[stated[1]])
        excess = Printed(ratio.value - 1, ratio.low - 1, ratio.high - 1, f"{ratio.value - 1:.0%}")
        effect, means = Effect(Estimate(*found.excess), side, stated=excess), zip(found.means, tables, strict=True)
        what, form = ("share of metals", ".0%") if metals else ("mean", ".2f")
        texts = [f"{x:{form}} ({FUNCTIONAL_NAMES[table.functional]})" for x, table in means]
        text = f"{what} {' and '.join(texts)}, difference {share_text(effect.estimate)}"
        text, detail = text + effect.beside(effect.outcome()), f"{found.crystals:,} crystals that have both"
        return [Finding(effect.outcome(), text, "DFT", detail, "", (label, tables[1].functional), effect)]

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
                runs = results.runs(entry.name) if at_least > 1 and results.has(entry.name) else []
                if at_least <= 1 or any(run.metrics["n_train"] >= at_least for run in runs):
                    raise CgatError(f"{label} {functional} is said to be absent, but the plan has {entry.name}")
        return [impossible(reason)]

    @cached_property
    def _known(self) -> dict[tuple[Any, ...], Any]:
        return {}

    def once(self, make: Callable[..., Any], first: Any, *arguments: Any) -> Any:
        """What `make` gives, computed once for all claims; `first` is the same for the same other arguments."""
        key = (make, *arguments)
        if key not in self._known:
            self._known[key] = make(first, *arguments)
        return self._known[key]

    def _runs(self, *entries: str) -> tuple[StoredResults, list[list[Run]]]:
        """The archive that has all runs of some entries, and the runs of each."""
        results = self.dft.of(*entries)
        return results, [results.runs(name) for name in entries]

    def informative(self, *groups: Sequence[Run]) -> bool:
        """Whether one of some kinds of run beats what answers the same for every crystal by a fifth."""
        for runs in groups:
            e, own = runs[0].experiment, simple(self.dft, runs[0])
            known = {name: fmean(b.mae for b in found) for name, found in own.items()}
            if e.data == self._card.data["fingerprint"] and e.label in self._card.accuracy:
                known |= self._card.accuracy[e.label].errors.baselines
            trivial = [fmean(run.metrics["test_mad"] for run in runs), *(known[n] for n in TRIVIAL if n in known)]
            if fmean(run.metrics["test_mae"] for run in runs) <= (1 - FIFTH) * min(trivial):
                return True
        return False

    @cached_property
    def _card(self) -> EnsembleCard:
        return read_card(released_models()["pbe"])


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
        return [(own, other, compare(results.seeds(entry), results.seeds(reference), OPEN_GAP_MAE).reduction)]
    if len(results.plan.entries[entry].sizes) == 1:
        return [(own, other, results.comparison(entry, reference).reduction)]
    sizes = [{int(run.metrics["n_train"]) for run in some} for some in (own, other)]
    found = []
    for size in sorted(set.intersection(*sizes)):
        a, b = ([run for run in some if run.metrics["n_train"] == size] for some in (own, other))
        found.append((a, b, compare([run.errors for run in a], [run.errors for run in b]).reduction))
    return found


def _rises(run: Run) -> float:
    """Mean over the evaluations of the relative rise of the validation error since the one before; 0 where it falls."""
    logs = np.log(run.curve["validation_mae"].to_numpy(float))
    return float(np.maximum(np.diff(logs), 0).mean())


def _relative(first: Estimate, second: Estimate) -> Estimate:
    """1 - first / second for errors on different crystals, the logarithms of both taken as independent and normal."""
    z = float(stats.norm.ppf(0.975))
    errors = [math.log(e.high / e.low) / (2 * z) for e in (first, second)]
    log = math.log(first.value / second.value)
    half = z * math.hypot(*errors)
    return Estimate(-math.expm1(log), -math.expm1(log + half), -math.expm1(log - half))

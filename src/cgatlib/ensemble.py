"""Models to use: ensembles of trained networks, the released ones by name, any other by its folder.

A model's folder holds ``card.json`` and one ``<seed>.safetensors`` per member. The folder of a single run
(``model.json``, ``weights.safetensors``) is a model of one member, without uncertainty.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.cards import EnsembleCard, Member
from cgatlib.crystals.checks import KNOWN, PROPERTIES, SYMBOLS, Crystal, check
from cgatlib.files import holds_only, made_once, replacing
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.kernel import form_of
from cgatlib.model.cgat import ModelConfig
from cgatlib.predictor import ModelCard, Predictor, load_network, reading_model, save_network
from cgatlib.splits import Indices
from cgatlib.structures import Candidate, candidates, read_files
from cgatlib.values import from_plain

if TYPE_CHECKING:
    from cgatlib.experiments.experiment import Run

RELEASED_MODELS = Path(__file__).parent / "released_models"
_CHUNK = 500  # crystals packed at a time, while other processes read on


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks that differ in their seeds, as one model.

    Args:
        members: networks of one configuration. card: None for a single run, of which nothing more is known.
    """

    members: tuple[Predictor, ...]
    card: EnsembleCard | None = None

    def predict(
        self, structures: Any, ids: Sequence[Any] | None = None, known: Mapping[str, Sequence[float]] | None = None
    ) -> pd.DataFrame:
        """Predict for pymatgen Structures, ASE Atoms, `Crystal` objects or paths of files (one, or several).

        Args:
            ids: one for each. known: where the model learnt from pairs, the value of each by the cheaper functional,
                e.g. ``{"band_gap": gaps}``.

        Returns:
            One row per structure, in order: ``material_id`` (of `ids`, of the Crystal, the path, or counted from 0),
            ``prediction`` (mean of the members), ``uncertainty`` (their standard deviation times the card's factor:
            two thirds of the errors are expected to be smaller), ``unit``, ``note``. What cannot be judged (an element
            that was not in the training data, overlapping atoms, too few neighbours, ...) has no prediction and the
            reason as its note; what lies outside the training data in another respect is predicted and noted. A model
            of several labels has the middle three columns for each, such as ``prediction_e_form``.

        Raises:
            CgatError: something is no structure, the number of ids differs, or known values are missing or not asked
                for.
        """
        self._refuse_unpaired(known or {}, "predict(structures, known={{{!r}: values}})")
        return self._predict(zip(*candidates(structures, ids, known), strict=True))

    def predict_files(
        self, paths: Sequence[Path], workers: int = 1, known: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """`predict` for structure files (id = stem) and parquet tables, which `workers` processes read.

        Args:
            known: where the model learnt from pairs, the column of the known values of each label; as in training by
                default.

        Raises:
            CgatError: a table cannot be read or lacks a column, a structure file is given where a column is needed,
                or there is nothing to predict.
        """
        columns = known or self._columns
        self._refuse_unpaired(columns, "--known {}=COLUMN")
        found = self._predict(read_files(paths, workers, columns))
        if found.empty:
            raise CgatError("there are no structures to predict")
        return found

    def embed(self, structures: Any) -> np.ndarray:
        """What the members have learnt of each structure, side by side: (n, width), for a machine of your own.

        Args:
            structures: as `predict` takes them.

        Raises:
            CgatError: there are none, or one cannot be judged: its place and the reason are named.
        """
        names, crystals = candidates(structures)
        if not crystals:
            raise CgatError("there are no structures to embed")
        graphs, _, notes = self._graphs(crystals)
        refuse_noted(names, notes)
        return np.concatenate([member.embed_graphs(graphs) for member in self.members], axis=1)

    def fine_tune(
        self,
        structures: Any,
        values: Sequence[float],
        label: str,
        recipe: str | None = None,
        *,
        functional: str = "not stated",
        known: Sequence[float] | None = None,
        seed: int = 0,
        **training: Any,
    ) -> "Ensemble":
        """A model that starts from this one and has learnt `values` of `structures`, with a card of its own.

        Args:
            structures: as `predict` takes them. values, label, recipe, functional, known, training: as of
                `cgatlib.recipes.tune`.
            seed: another one gives other members: a model of three has the seeds 0, 1, 2; the next 3, 4, 5.

        Raises:
            CgatError: nothing can start from this model, the label or recipe is unknown, the values are not enough, or
                a structure cannot be taken: its place and the reason are named.
        """
        from cgatlib.recipes import tune

        n = len(self.members)
        seeds = range(seed * n, (seed + 1) * n)
        return tune(
            self, structures, values, label, recipe, functional=functional, known=known, seeds=seeds, **training
        )

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder, where `load_model` finds it; one that holds a model is replaced.

        Raises:
            CgatError: the folder holds something else, or this is a single run, which is kept in its own folder.
        """
        from cgatlib.release import is_model

        if self.card is None:
            raise CgatError("a single run is kept in its own folder: only a model with a card can be saved")
        with replacing(Path(folder), "a model", is_model) as part:
            part.mkdir()
            pairs = zip(self.card.members, self.members, strict=True)
            members = tuple(replace(m, sha256=save_network(p.network, part / m.file)) for m, p in pairs)
            (part / "card.json").write_text(replace(self.card, members=members).to_json())

    def outputs(self, graphs: PackedGraphs, rows: Indices | None = None, known: np.ndarray | None = None) -> np.ndarray:
        """Predictions of every member, (members, G), or (members, G, L) of several labels."""
        return np.stack([member.predict_graphs(graphs, rows, known) for member in self.members])

    @property
    def _columns(self) -> dict[str, str]:
        """Where the known values stood in training, by label; empty where none are asked for."""
        if self.members[0].card.form != "paired":
            return {}
        label = self.members[0].card.label
        return {label: self.card.data.get("known values", KNOWN + label) if self.card else KNOWN + label}

    def _refuse_unpaired(self, known: Mapping[str, Any], how: str) -> None:
        """Known values must be those that the model asks for; `how` says how to give them."""
        if list(known) == list(self._columns):
            return
        if not self._columns:
            raise CgatError(f"this model asks for no known values; {', '.join(known)} was given")
        (label,) = self._columns
        raise CgatError(
            f"this model corrects the {label} that each crystal has by a cheaper functional: give that, as "
            f"{how.format(label)}"
        )

    def _predict(self, named: Iterable[tuple[str, Candidate]]) -> pd.DataFrame:
        rest = iter(named)
        chunks = iter(lambda: list(islice(rest, _CHUNK)), [])
        parts = [self._frame(*zip(*chunk, strict=True)) for chunk in chunks] or [self._frame((), ())]
        return pd.concat(parts, ignore_index=True)

    def _frame(self, ids: Sequence[str], crystals: Sequence[Candidate]) -> pd.DataFrame:
        crystals = [self._unpaired(crystal) or crystal for crystal in crystals]
        graphs, judged, notes = self._graphs(crystals)
        kept = [crystal for row in judged if isinstance(crystal := crystals[row], Crystal)]
        for row, crystal in zip(judged, kept, strict=True):
            notes[row] = self.card.domain.warnings(crystal) if self.card else ""
        labels = self.members[0].card.labels
        known = np.array([c.labels[KNOWN + labels[0]] for c in kept]) if self._columns else None
        outputs = self.outputs(graphs, known=known).reshape(len(self.members), len(graphs), len(labels))
        finite = np.isfinite(outputs).all(axis=(0, 2))
        for row in judged[~finite]:
            notes[row] = "the network's output is not a finite number"
        columns: dict[str, Any] = {}
        for label, values in zip(labels, np.moveaxis(outputs[:, finite], 2, 0), strict=True):
            prediction, uncertainty = np.full((2, len(crystals)), np.nan)
            prediction[judged[finite]] = values.mean(axis=0)
            if self.card and (u := self.card.accuracy[label].uncertainty):
                uncertainty[judged[finite]] = u.factor * values.std(axis=0, ddof=1)
            found = {"prediction": prediction, "uncertainty": uncertainty, "unit": PROPERTIES[label].unit}
            columns |= found if len(labels) == 1 else {f"{name}_{label}": value for name, value in found.items()}
        return pd.DataFrame({"material_id": list(ids), **columns, "note": notes})

    def _graphs(self, crystals: Sequence[Candidate]) -> tuple[PackedGraphs, NDArray[np.int64], list[str]]:
        """Graphs of what can be judged, (G,) places of these, and for each crystal why it cannot, or nothing."""
        notes = [crystal if isinstance(crystal, str) else self._objection(crystal) for crystal in crystals]
        fit = [i for i, note in enumerate(notes) if not note]
        kept = [crystal for i in fit if isinstance(crystal := crystals[i], Crystal)]
        graphs, rejected = pack([(c.lattice, c.numbers, c.frac_coords) for c in kept], self.members[0].card.graph)
        for place, reason in rejected.items():
            notes[fit[place]] = reason
        return graphs, np.array([i for i in fit if not notes[i]], dtype=np.int64), notes

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset.intersection(*(frozenset(member.card.elements) for member in self.members))

    def _unpaired(self, crystal: Candidate) -> str:
        """Which known value of a crystal is missing, if one is."""
        for label, column in self._columns.items():
            if isinstance(crystal, Crystal) and KNOWN + label not in crystal.labels:
                return f"no known {label}: {column} has no value"
        return ""

    def _objection(self, crystal: Crystal) -> str:
        if reason := check(crystal):
            return reason
        unseen = sorted(set(crystal.numbers.tolist()) - self._known)
        names = ", ".join(SYMBOLS[z - 1] for z in unseen)
        return f"element not in the training data: {names}" if unseen else ""


def refuse_noted(names: Iterable[str], reasons: Iterable[str]) -> None:
    """Refuse structures together where a reason is stated for one of them.

    Raises:
        CgatError: names the place of the first, its name where it has one, the reason, and how many more there are.
    """
    bad = [(i, name, reason) for i, (name, reason) in enumerate(zip(names, reasons, strict=True)) if reason]
    if bad:
        place, name, reason = bad[0]
        which = f"structure {place}" + (f" ({name})" if name != str(place) else "")
        others = f" (and {len(bad) - 1} more cannot be taken)" if len(bad) > 1 else ""
        raise CgatError(f"{which}: {reason}{others}")


def released_models() -> dict[str, Path]:
    """Folders of the models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(RELEASED_MODELS.glob("*/card.json"))}


def find_model(name_or_folder: str | Path) -> Path:
    """Folder of a model.

    Raises:
        CgatError: neither the name of a released model (they are listed) nor a folder.
    """
    known = released_models()
    if str(name_or_folder) in known:
        return known[str(name_or_folder)]
    if not Path(name_or_folder).is_dir():
        names = ", ".join(known) or "none"
        raise CgatError(f"no model {str(name_or_folder)!r}: neither a folder nor a released model; known: {names}")
    return Path(name_or_folder)


def load_model(name_or_folder: str | Path) -> Ensemble:
    """A released model by its name, or the model in a folder; nothing in the files is executed.

    Raises:
        CgatError: there is no such model (the released ones are listed), or a file is missing or damaged.
    """
    folder = find_model(name_or_folder)
    if not (folder / "card.json").exists():
        return Ensemble((Predictor.load(folder),))
    card = read_card(folder)
    with reading_model(folder):
        return Ensemble(tuple(_load_member(folder, card, member) for member in card.members), card)


def read_card(folder: Path) -> EnsembleCard:
    """The card of the model in a folder.

    Raises:
        CgatError: there is none, or it is damaged.
    """
    with reading_model(folder):
        return EnsembleCard.from_json((folder / "card.json").read_text())


def _load_member(folder: Path, card: EnsembleCard, member: Member) -> Predictor:
    model = from_plain(ModelConfig, member.experiment["model"], "card.json: model")
    graph = from_plain(GraphConfig, member.experiment["graph"], "card.json: graph")
    form = form_of(member.experiment["transfer"]["mode"])
    network = load_network(model, folder / member.file, member.sha256, len(card.accuracy), form)
    what = card.label, card.unit, card.functional, member.statistics
    return Predictor(network, ModelCard(*what, model, graph, card.domain.numbers, tuple(card.more_labels), form))


def starting_points(name_or_folder: str | Path, cache: Path) -> list["Run"]:
    """The members of a model as runs that others can start from (experiment and weights; no more is promised).

    Args:
        name_or_folder: a released model, the folder of a model, or that of a run.
        cache: where the members of a model get a folder of their own, by key and weights.

    Raises:
        CgatError: there is no such model, or it does not say how it was trained.
    """
    from cgatlib.experiments.experiment import Run

    folder = find_model(name_or_folder)
    if (folder / "experiment.json").exists():
        Predictor.load(folder)  # refuses damaged weights before any work
        return [Run(folder)]
    return starts_of(load_model(folder), f"{folder}", cache)


def starts_of(model: Ensemble, name: str, cache: Path) -> list["Run"]:
    """As `starting_points` of a model in memory; `name` is for messages.

    Raises:
        CgatError: it does not say how it was trained, or is of a form from which none can start.
    """
    from cgatlib.experiments.experiment import Experiment, Run

    if model.card is None:
        raise CgatError(f"{name} does not say how it was trained (no experiment.json): nothing can start from it")
    if (form := model.members[0].card.form) != "network":
        raise CgatError(f"{name} is a {form} model, from which nothing can start: take the one that it started from")
    runs = []
    for predictor, member in zip(model.members, model.card.members, strict=True):
        place = cache / f"{Experiment.from_dict(member.experiment).key}-{member.sha256[:8]}"
        made_once(place, "a member of a model", _is_start, partial(_write_start, predictor, member.experiment))
        runs.append(Run(place))
    return runs


def _is_start(folder: Path) -> bool:
    return holds_only(folder, "experiment.json", "model.json", "weights.safetensors")


def _write_start(predictor: Predictor, experiment: dict[str, Any], folder: Path) -> None:
    predictor.save(folder)
    (folder / "experiment.json").write_text(json.dumps(experiment, indent=1))

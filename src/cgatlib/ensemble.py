"""Models to use: ensembles of trained networks, the released ones by name, any other by its folder.

A folder holds ``card.json``, the weights of each member and what the uncertainty is estimated from. Members that differ
in their seeds alone and predict the same properties are a trunk; a model may have several. The folder of a single run
is a model of one member, without uncertainty; one with a ``view.json`` shows one property of a released model.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.cards import EnsembleCard, Member, View, checked
from cgatlib.crystals.crystal import KNOWN, PROPERTIES, SYMBOLS, Crystal, check
from cgatlib.crystals.structures import Candidate, candidates, read_files
from cgatlib.files import holds_only, made_once, replacing
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.model.config import ModelConfig
from cgatlib.predictor import FILES, ModelCard, Predictor, load_network, reading_model, save_network
from cgatlib.splits import Indices
from cgatlib.transfer import form_of
from cgatlib.uncertainty import Estimator, load_estimators, save_estimators
from cgatlib.values import from_plain

if TYPE_CHECKING:
    from cgatlib.runs.experiment import Run

RELEASED_MODELS = Path(__file__).parent / "released_models"
Array = NDArray[np.float64]
_CHUNK = 500  # crystals packed at a time, while other processes read on


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """Networks as one model.

    Args:
        members: networks; those for the same labels, a trunk, differ in their seeds alone, and their mean is predicted.
        card: None for a single run, of which nothing more is known.
        estimators: of the uncertainty of each trunk, in order; none where it is not estimated.
    """

    members: tuple[Predictor, ...]
    card: EnsembleCard | None = None
    estimators: tuple[Estimator, ...] = ()

    def __repr__(self) -> str:
        """What is predicted; weights and card would fill pages of a notebook."""
        return f"<model of {', '.join(self.labels)} ({self.members[0].card.functional}), members: {len(self.members)}>"

    @property
    def trunks(self) -> dict[tuple[str, ...], tuple[Predictor, ...]]:
        """The members by the labels that are taken from them; a member may predict more."""
        named = [m.labels for m in self.card.members] if self.card else [m.card.labels for m in self.members]
        pairs = list(zip(named, self.members, strict=True))
        return {labels: tuple(m for taken, m in pairs if taken == labels) for labels in dict.fromkeys(named)}

    @property
    def labels(self) -> tuple[str, ...]:
        """What is predicted, in the order of the columns."""
        return tuple(self.card.accuracy) if self.card else self.members[0].card.labels

    def view(self, label: str) -> "Ensemble":
        """One property of this model as a model of its own; `CgatError` where it does not predict it."""
        if self.card is None:
            raise CgatError("a single run has no card of which one label could be shown")
        card = self.card.view(label)
        place, labels = next((i, labels) for i, labels in enumerate(self.trunks) if label in labels)
        return Ensemble(self.trunks[labels], card, self.estimators[place : place + 1])

    def predict(
        self, structures: Any, ids: Sequence[Any] | None = None, known: Mapping[str, Sequence[float]] | None = None
    ) -> pd.DataFrame:
        """Predict for pymatgen Structures, ASE Atoms, `Crystal` objects or paths of files (one, or several).

        Args:
            structures: one or several.
            ids: one for each.
            known: where the model learnt from pairs, the value of each by the cheaper functional, e.g.
                ``{"band_gap": gaps}``.

        Returns:
            A row for each structure, in order, with ``material_id`` (of `ids`, of the Crystal, the path, or counted
            from 0), ``prediction`` (mean of the members), ``uncertainty`` (two thirds of the errors are expected to be
            smaller), ``unit``, ``note``. What cannot be judged (an unseen element, overlapping atoms, ...) has no
            prediction and the reason as its note; what else lies outside the training data is predicted and noted. Of
            several labels, the middle three columns are there for each, such as ``prediction_e_form``.

        Raises:
            CgatError: something is no structure, the number of ids differs, or known values are missing or unasked for.
        """
        self._refuse_unpaired(known or {}, "predict(structures, known={{{!r}: values}})")
        return self._predict(zip(*candidates(structures, ids, known), strict=True))

    def predict_files(
        self, paths: Sequence[Path], workers: int = 1, known: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """`predict` for structure files (id = stem) and parquet tables, which `workers` processes read.

        Args:
            paths: of the files.
            workers: processes.
            known: where the model learnt from pairs, the column of each label's known values, if not that of training.

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
        """Crystal embeddings of all members side by side, (n, width), as inputs of another model.

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
        self, structures: Any, values: Sequence[float], label: str, recipe: str | None = None, **options: Any
    ) -> "Ensemble":
        """A model that starts from this one and has learnt `values` of `structures`; it has a card of its own.

        The arguments, ``functional``, ``seed`` and others among them, are those of `cgatlib.recipes.tune`.
        """
        from cgatlib.recipes import tune

        return tune(self, structures, values, label, recipe, **options)

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
            half = self.card.half
            members = tuple(replace(m, sha256=save_network(p.network, part / m.file, half)) for m, p in pairs)
            estimates = save_estimators(self.estimators, part) if self.estimators else None
            (part / "card.json").write_text(replace(self.card, members=members, estimates=estimates).to_json())

    @property
    def _columns(self) -> dict[str, str]:
        """Where the known values stood in training, by label; empty where none are asked for."""
        if self.members[0].card.form != "paired":
            return {}
        label = self.members[0].card.label
        return {label: self.card.data.get("known values", label + KNOWN) if self.card else label + KNOWN}

    def _refuse_unpaired(self, known: Mapping[str, Any], how: str) -> None:
        """Known values must be those that the model asks for; `how` says how to give them."""
        if known and not self._columns:
            raise CgatError(f"this model asks for no known values; {', '.join(known)} was given")
        if list(known) != list(self._columns):
            (label,) = self._columns
            raise CgatError(
                f"this model corrects the {label} that each crystal has by a cheaper functional: give that, as "
                f"{how.format(label)}"
            )

    def outputs(
        self, graphs: PackedGraphs, rows: Indices | None = None, known: Array | None = None
    ) -> dict[str, Array]:
        """Predictions of each member, (members, G), by label; `known` (G,) where the model learnt from pairs."""
        found: dict[str, Array] = {}
        for labels, members in self.trunks.items():
            learnt = members[0].card.labels
            each = np.stack([member.predict_graphs(graphs, rows, known).reshape(-1, len(learnt)) for member in members])
            found |= {label: each[:, :, learnt.index(label)] for label in labels}
        return {label: found[label] for label in self.labels}

    def _uncertainties(self, outputs: dict[str, Array], graphs: PackedGraphs) -> dict[str, Array]:
        """Expected error of the mean of each label's `outputs`, (G,), in its unit; NaN where it is not estimated."""
        found = {label: np.full(values.shape[1], np.nan) for label, values in outputs.items()}
        accuracy = {} if self.card is None else self.card.accuracy
        for place, (labels, members) in enumerate(self.trunks.items()):
            known = {label: u for label in labels if label in accuracy and (u := accuracy[label].uncertainty)}
            if not self.estimators:
                found |= {label: u.factor * outputs[label].std(axis=0, ddof=1) for label, u in known.items()}
            elif known:
                embeddings = members[0].embed_graphs(graphs)
                for label, u in known.items():
                    scale = members[0].scale(label)
                    estimate = self.estimators[place](label, embeddings, outputs[label] / scale)
                    found[label] = scale * u.factor * estimate
        return found

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
        known = [[crystal.labels[label + KNOWN] for crystal in kept] for label in self._columns]
        outputs = self.outputs(graphs, known=np.array(known[0]) if known else None)
        finite = np.isfinite(np.concatenate(list(outputs.values()))).all(axis=0)
        for row in judged[~finite]:
            notes[row] = "the network's output is not a finite number"
        uncertainties = self._uncertainties(outputs, graphs)
        columns: dict[str, Any] = {}
        for label, values in outputs.items():
            prediction, uncertainty = np.full((2, len(crystals)), np.nan)
            prediction[judged[finite]] = values[:, finite].mean(axis=0)
            uncertainty[judged[finite]] = uncertainties[label][finite]
            found = {"prediction": prediction, "uncertainty": uncertainty, "unit": PROPERTIES[label].unit}
            columns |= found if len(outputs) == 1 else {f"{name}_{label}": value for name, value in found.items()}
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

    def _unpaired(self, crystal: Candidate) -> str:
        """Which known value of a crystal is missing, if one is."""
        for label, column in self._columns.items():
            if isinstance(crystal, Crystal) and label + KNOWN not in crystal.labels:
                return f"no known {label}: {column} has no value"
        return ""

    def _objection(self, crystal: Crystal) -> str:
        if reason := check(crystal):
            return reason
        known = set.intersection(*(set(member.card.elements) for member in self.members))
        unseen = sorted(set(crystal.numbers.tolist()) - known)
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
    folders = {path.parent for name in ("card.json", "view.json") for path in RELEASED_MODELS.glob(f"*/{name}")}
    return {folder.name: folder for folder in sorted(folders)}


def find_model(name_or_folder: str | Path) -> Path:
    """Folder of a model; a text that is the name of a released model means that, a `Path` always a folder.

    Raises:
        CgatError: neither the name of a released model (they are listed) nor a folder.
    """
    known = released_models()
    if isinstance(name_or_folder, str) and name_or_folder in known:
        return known[name_or_folder]
    if not Path(name_or_folder).is_dir():
        names = ", ".join(known) or "none"
        raise CgatError(f"no model {str(name_or_folder)!r}: neither a folder nor a released model; known: {names}")
    return Path(name_or_folder)


def _viewed(folder: Path) -> tuple[Path, str] | None:
    """The folder of the model and the label that a view shows; None where the folder is no view."""
    if not (folder / "view.json").exists():
        return None
    with reading_model(folder):
        view = checked(View, (folder / "view.json").read_text(), "view.json")
        whole = released_models().get(view.model)
        if whole is None or not (whole / "card.json").exists():
            raise CgatError(f"view.json: {view.model!r} is no released model of which this could be a view")
    return whole, view.label


def files_of(folder: Path) -> Path:
    """Where the weights of the model in a folder lie, which a view has in another."""
    viewed = _viewed(folder)
    return viewed[0] if viewed else folder


def load_model(name_or_folder: str | Path) -> Ensemble:
    """A released model by its name, or the model in a folder; nothing in the files is executed.

    Raises:
        CgatError: there is no such model (the released ones are listed), or a file is missing or damaged.
    """
    folder = find_model(name_or_folder)
    if viewed := _viewed(folder):
        return load_model(viewed[0]).view(viewed[1])
    if not (folder / "card.json").exists():
        return Ensemble((Predictor.load(folder),))
    card = read_card(folder)
    with reading_model(folder):
        model = Ensemble(tuple(_load_member(folder, card, member) for member in card.members), card)
        if card.estimates is None:
            return model
        trunks = [(labels, them[0].card.model.embedding_width, len(them)) for labels, them in model.trunks.items()]
        return replace(model, estimators=load_estimators(folder, card.estimates, trunks))


def read_card(folder: Path) -> EnsembleCard:
    """The card of the model in a folder.

    Raises:
        CgatError: there is none, or it is damaged.
    """
    if viewed := _viewed(folder):
        return read_card(viewed[0]).view(viewed[1])
    with reading_model(folder):
        return EnsembleCard.from_json((folder / "card.json").read_text())


def _load_member(folder: Path, card: EnsembleCard, member: Member) -> Predictor:
    model = from_plain(ModelConfig, member.experiment["model"], "card.json: model")
    graph = from_plain(GraphConfig, member.experiment["graph"], "card.json: graph")
    form = form_of(member.experiment["transfer"]["mode"])
    network = load_network(model, folder / member.file, member.sha256, len(member.learnt), form)
    label, *more = member.learnt
    what = label, PROPERTIES[label].unit, card.functional, member.statistics
    return Predictor(network, ModelCard(*what, model, graph, card.domain.numbers, tuple(more), form))


def starting_points(
    model: str | Path | Ensemble, cache: Path, labels: Sequence[str] = (), source_label: str | None = None
) -> list["Run"]:
    """The members of a model as runs that others can start from (experiment and weights; no more is promised).

    Args:
        model: a released model, the folder of a model, that of a run, or a loaded model.
        cache: where the members of a model get a folder of their own, by key and weights.
        labels: to be learnt. source_label: the one to start from instead, or ``"fresh"``; they decide between trunks.

    Raises:
        CgatError: there is no such model, it does not say how it was trained, none can start from its form, or several
            trunks could be meant.
    """
    from cgatlib.runs.experiment import Experiment, Run

    name: str | Path = "the model"
    if not isinstance(model, Ensemble):
        name = folder = find_model(model)
        if viewed := _viewed(folder):
            folder = viewed[0]
            known = set(read_card(folder).accuracy) & set(labels)
            source_label = source_label or (None if known else viewed[1])
        model = load_model(folder)  # refuses damaged weights before any work
        if (folder / "experiment.json").exists():
            return [Run(folder)]
    if model.card is None:
        raise CgatError(f"{name} does not say how it was trained (it has no card): nothing can start from it")
    trunk, runs = _trunk(list(model.trunks), labels, source_label), []
    for predictor, member in zip(model.trunks[trunk], model.card.trunks[trunk], strict=True):
        if (form := predictor.card.form) != "network":
            raise CgatError(f"{name} has the form {form!r}, from which nothing can start: take what it started from")
        place = cache / f"{Experiment.from_dict(member.experiment).key}-{member.sha256[:8]}"
        write = partial(_write_start, predictor, member.experiment)
        made_once(place, "a member of a model", lambda folder: holds_only(folder, "experiment.json", *FILES), write)
        runs.append(Run(place))
    return runs


def _trunk(trunks: Sequence[tuple[str, ...]], labels: Sequence[str], source_label: str | None) -> tuple[str, ...]:
    """Labels of the trunk to start from: the one with `source_label`, else with most of `labels`."""
    wanted = labels if source_label in (None, "fresh") else [source_label]
    shared = [len(set(trunk) & set(wanted)) for trunk in trunks]
    if not max(shared) and len(trunks) > 1 and source_label != "fresh":
        known = ", ".join(sorted(label for trunk in trunks for label in trunk))
        raise CgatError(
            f"the model predicts {known}, not {', '.join(wanted) or 'what is to be learnt'}: "
            "source_label must name the property to start from, or 'fresh'"
        )
    return trunks[shared.index(max(shared))]


def _write_start(predictor: Predictor, experiment: dict[str, Any], folder: Path) -> None:
    predictor.save(folder)
    (folder / "experiment.json").write_text(json.dumps(experiment, indent=1))

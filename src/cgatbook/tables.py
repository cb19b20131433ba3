"""The tables and runs of a page: made here, or known from what is stored with the repository."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgatbook.notebooks import effective_values, find_root, read_notebooks, read_profile
from cgatlib import CgatError
from cgatlib.crystals.declared import load_source
from cgatlib.crystals.summary import TableSummary, summarise

if TYPE_CHECKING:
    from cgatlib.runs.experiment import Experiment, Run

ORIGINS = {
    "surrogate": "labels computed by machine-learned interatomic potentials (CHGNet), not by DFT",
    "dft": "labels computed by DFT",
}
"""Where labels come from; a page must never show numbers without saying which."""

KEPT = Path(".cgatlib/tables")
"""Where imported tables are kept, in the folder of the book."""


@dataclass(frozen=True)
class BookTable:
    """A table as a page knows it: in numbers, and the file it is in, where that is here."""

    table: TableSummary
    path: Path | None


def load_tables(
    sources: Mapping[str, Mapping[str, Any]], data: str, stored: str = "", reference: str | None = None
) -> dict[str, BookTable]:
    """Tables as `parameters.yml` declares them, imported through the same checks as any user's data.

    Args:
        sources: name -> ``file`` (in the folder `data`), ``functional`` (never guessed), ``origin`` (a key of
            `ORIGINS`); optional ``labels`` (our name -> column), ``agree`` (label -> [column, tolerance]:
            rows whose label differs from that column by more than this fraction are refused), ``borrowed`` (labels
            that are not shown, because the cells they follow from are another functional's) and ``fingerprint`` (of
            the table whose results are stored).
        data: folder, relative to the book's or absolute; empty: summaries stand in for the tables, which are not here.
        stored: folder of stored results, relative to the book's, where those summaries are.
        reference: name of the table that the others' labels are compared with, the first one by default.

    Returns:
        Tables by name. What is imported is kept in the folder `KEPT` under a hash of file and declaration.

    Raises:
        CgatError: functional or origin is not stated, a file cannot be imported, or there is neither file nor summary.
    """
    root = find_root(Path.cwd())
    for name, entry in sources.items():
        if "origin" not in entry:
            raise CgatError(f"source {name} does not state its origin")
        if entry["origin"] not in ORIGINS:
            raise CgatError(f"source {name}: unknown origin {entry['origin']!r}; known: {', '.join(ORIGINS)}")
    paths: dict[str, Path] = {}
    if data:
        found = {name: load_source(name, entry, root / data, root / KEPT) for name, entry in sources.items()}
        paths = {name: source.path for name, source in found.items()}
        summaries = summarise(found, reference or next(iter(found)))
    else:
        summaries = {name: _absent_table(name, entry, root / stored) for name, entry in sources.items()}
    borrowed = {name: entry.get("borrowed", ()) for name, entry in sources.items()}
    return {name: BookTable(table.without(borrowed[name]), paths.get(name)) for name, table in summaries.items()}


def _absent_table(name: str, entry: Mapping[str, Any], stored: Path) -> TableSummary:
    """The stored summary of a table that is not here."""
    try:
        return TableSummary.read(stored, str(entry.get("fingerprint")))
    except CgatError as error:
        raise CgatError(
            f"source {name}: neither {entry['file']} nor a stored summary of it is here; name the folder of the tables "
            "with --data"
        ) from error


def get_runs(
    tables: Mapping[str, BookTable], experiments: Iterable["Experiment"], workers: int, stored: str = ""
) -> list["Run"]:
    """The runs of experiments, each once: stored results as they are, the others from the project's run store.

    Args:
        tables: that missing runs are trained on. experiments: what is asked for. workers: runs trained at a time.
        stored: folder of archives of runs, relative to the book's.

    Raises:
        CgatError: a run is not stored, and the table to train it on is not here.
    """
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.runs.archive import find_runs
    from cgatlib.runs.store import Runs

    root = find_root(Path.cwd())
    home = root / ".cgatlib"
    store = Runs(home / "runs", cache=home / "graphs", stored=find_runs(root / stored) if stored else {})
    store.add(*(CrystalTable.open(t.path) for t in tables.values() if t.path is not None))
    asked = list(dict.fromkeys(experiments))
    missing = store.missing(asked).values()
    absent = {t.table.fingerprint: name for name, t in tables.items() if t.path is None}
    lacking = [absent[e.data] for e in missing if e.data in absent]
    if lacking:
        raise CgatError(
            f"runs are needed that are not stored ({len(lacking)}), and their tables are not here to train them: "
            f"{', '.join(dict.fromkeys(lacking))}; name their folder with --data, or ask for what is stored"
        )
    return store.get_all(asked, workers)


def summarise_tables(root: Path, profile: str, data: Path) -> list[Path]:
    """Write the summaries that stand in for the tables of a profile, and return their files.

    Args:
        root: folder of the book. profile: one whose pages have stored results. data: folder of its tables.

    Raises:
        CgatError: the profile is unknown or stores nothing, or a table cannot be imported.
    """
    values = effective_values(read_notebooks(root), read_profile(root, profile), {}).values()
    page = next((v for v in values if v.get("stored") and "sources" in v), None)
    if page is None:
        raise CgatError(f"profile {profile} has no stored results that summaries of its tables could go with")
    found = {name: load_source(name, entry, data, root / KEPT) for name, entry in page["sources"].items()}
    summaries = summarise(found, page["source"])
    for name, table in summaries.items():
        stated = page["sources"][name].get("fingerprint", table.fingerprint)
        if stated != table.fingerprint:
            raise CgatError(f"source {name}: the profile states the fingerprint {stated}, not {table.fingerprint}")
    return [table.write(root / page["stored"]) for table in summaries.values()]

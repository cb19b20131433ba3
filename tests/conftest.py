"""Crystals and files that several tests make use of."""

import ast
import importlib.util
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from threadpoolctl import threadpool_info

from cgatlib.cli import main
from cgatlib.crystals.crystal import ATOMIC_NUMBERS, SYMBOLS, Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.model.config import ModelConfig
from cgatlib.release import release
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig

REPOSITORY = Path(__file__).parents[1]

# Networks of the tests are too small to share between threads, which only wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, too
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# The same examples everywhere, and no time limits, which a busy machine would miss.
hypothesis.settings.register_profile("cgatlib", derandomize=True, deadline=None, max_examples=40, database=None)
hypothesis.settings.load_profile("cgatlib")

MakeCrystal = Callable[..., Crystal]


def pytest_report_header() -> str:
    """What numbers are computed with: rounding differs between kernels."""
    blas = {library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"}
    openblas = f"OpenBLAS {', '.join(sorted(blas))}" if blas else "no OpenBLAS"
    return f"kernels: {openblas}; torch {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real tables: $CGATLIB_DATA, or shared/data/mp beside the repository."""
    folder = Path(os.environ.get("CGATLIB_DATA", REPOSITORY.parent / "shared/data/mp"))
    if not (folder / "pbe.parquet").is_file():
        pytest.skip(f"no real tables in {folder}; set CGATLIB_DATA")
    return folder


@pytest.fixture(scope="session")
def make_crystal() -> MakeCrystal:
    """Return a maker of rock salt cells: lattice constant, two atomic numbers, id, labels."""

    def make(material_id: str = "x-1", numbers: tuple[int, int] = (11, 17), a: float = 5.6, **labels: float) -> Crystal:
        lattice = a / 2 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        coords = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
        return Crystal(material_id, lattice, np.array(numbers), coords, labels)

    return make


@pytest.fixture(scope="session")
def structure_dict() -> Callable[[Crystal], dict[str, Any]]:
    """Return a writer of pymatgen's dictionary of a crystal, without pymatgen."""

    def write(crystal: Crystal) -> dict[str, Any]:
        sites = [
            {"species": [{"element": SYMBOLS[z - 1], "occu": 1}], "abc": abc, "properties": {"magmom": 0.0}}
            for z, abc in zip(crystal.numbers, crystal.frac_coords.tolist(), strict=True)
        ]
        return {"@class": "Structure", "lattice": {"matrix": crystal.lattice.tolist()}, "sites": sites}

    return write


@pytest.fixture(scope="session")
def alexandria_entry(
    make_crystal: MakeCrystal, structure_dict: Callable[[Crystal], dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Return a writer of one Alexandria entry; keywords change its ``data``, None removes a key."""

    def write(material_id: str = "agm1", crystal: Crystal | None = None, **data: Any) -> dict[str, Any]:
        values = {"mat_id": material_id, "e_form": -1.5, "e_above_hull": 0.01, "band_gap_ind": 5.0} | data
        return {
            "@class": "ComputedStructureEntry",
            "energy": -7.0,
            "data": {k: v for k, v in values.items() if v is not None},
            "structure": structure_dict(crystal or make_crystal()),
        }

    return write


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it are skipped without it."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden" / "meta.json").exists():
        pytest.skip("the full golden set does not lie beside the repository")
    return folder


_FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
_PROTOTYPES = {
    "rocksalt": (_FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], 1.0),
    "zincblende": (_FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], 1.1),
    "CsCl": (np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], 0.62),
}
_COMPOUNDS = list(product("Li Na K Rb Mg Ca Sr Ba".split(), "F Cl Br O S Se".split(), _PROTOTYPES))


def _binary(cation: str, anion: str, prototype: str, expansion: float = 1.0) -> Crystal:
    """A binary compound with a made-up but smooth formation energy."""
    cell, places, scale = _PROTOTYPES[prototype]
    numbers = np.array([ATOMIC_NUMBERS[cation], ATOMIC_NUMBERS[anion]])
    lattice = scale * expansion * (4.0 + 0.02 * numbers.sum()) * cell
    energy = -2 + 0.3 * np.cos(numbers[0]) + 0.2 * np.sin(numbers[1]) + 0.1 * list(_PROTOTYPES).index(prototype)
    labels = {"e_form": float(energy), "volume_per_atom": float(abs(np.linalg.det(lattice)) / 2)}
    return Crystal(f"{cation}{anion}-{prototype}", lattice, numbers, np.array(places, dtype=float), labels)


@pytest.fixture(scope="session")
def table() -> CrystalTable:
    """144 binary compounds, "PBE"."""
    return CrystalTable.from_crystals([_binary(*names) for names in _COMPOUNDS], "PBE")


@pytest.fixture(scope="session")
def other_table() -> CrystalTable:
    """The same compounds at another volume, "PBEsol"; one in seven has no formation energy."""
    rows = [_binary(*names, expansion=0.97) for names in _COMPOUNDS]
    for row in rows[::7]:
        del row.labels["e_form"]
    return CrystalTable.from_crystals(rows, "PBEsol")


@pytest.fixture(scope="session")
def table_paths(
    table: CrystalTable, other_table: CrystalTable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Parquet files of `table` and `other_table`."""
    folder = tmp_path_factory.mktemp("tables")
    table.write(folder / "pbe.parquet")
    other_table.write(folder / "pbesol.parquet")
    return folder / "pbe.parquet", folder / "pbesol.parquet"


@pytest.fixture(scope="session")
def tiny_model() -> ModelConfig:
    """The smallest network with every part of the real one."""
    return ModelConfig(8, 8, 2, 2, neighbours=4, output_widths=(16, 8), roost_steps=1)


@pytest.fixture(scope="session")
def tiny_graph() -> GraphConfig:
    """Graphs for `tiny_model`."""
    return GraphConfig(neighbours=4)


@pytest.fixture(scope="session")
def seed_runs(
    table: CrystalTable,
    table_paths: tuple[Path, Path],
    tiny_model: ModelConfig,
    tiny_graph: GraphConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Run]:
    """Finished runs on `table` that differ in their seed; graphs are cached in ``.graphs`` beside them."""
    training = TrainingConfig(steps=20, batch_size=16, learning_rate=0.01, cycles=1, evaluations=2)
    split = SplitConfig(0, 0.6, 0.2, 0.2)
    experiments = [
        Experiment(table.fingerprint, "PBE", "e_form", None, s, None, graph=tiny_graph, split=split, model=tiny_model,
                   training=training)
        for s in (0, 1)
    ]  # fmt: skip
    root = tmp_path_factory.mktemp("seeds")
    return Runs(root, {table.fingerprint: table}, root / ".graphs").get_all(experiments)


@pytest.fixture(scope="session")
def model_folder(seed_runs: list[Run], table: CrystalTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model made of `seed_runs`."""
    out = tmp_path_factory.mktemp("models") / "binaries"
    release(seed_runs, table, out, Runs(seed_runs[0].path.parent), {"name": "binaries", "licence": "none"})
    return out


@pytest.fixture
def run_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Return a function that runs the code cells of a page of the book in this process and returns what they show.

    Of a figure the list has name and data, as no figure is rendered; it has what is glued into the prose, too.
    """
    from cgatbook import pages
    from cgatbook.notebooks import Values, read_notebooks

    def run(name: str, values: Values, root: Path) -> list[Any]:
        shown: list[Any] = []
        monkeypatch.chdir(root)
        monkeypatch.setattr("IPython.display.display", shown.append)
        monkeypatch.setattr(pages, "say", lambda **numbers: shown.append(numbers))
        monkeypatch.setattr(pages, "show_figure", lambda figure, name, caption, alt, data: (name, data))
        notebook = read_notebooks(REPOSITORY)[name]
        names = notebook.values(values)
        for cell in notebook.node.cells:
            if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
                *body, last = ast.parse(cell.source).body
                final = [] if isinstance(last, ast.Expr) else [last]
                exec(compile(ast.Module([*body, *final], []), name, "exec"), names)
                if isinstance(last, ast.Expr):
                    shown.append(eval(compile(ast.Expression(last.value), name, "eval"), names))
        return shown

    return run


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision for new tensors and networks."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def imported() -> Callable[[str], set[str]]:
    """Return a function that gives the modules of this package that a module imports at its top."""

    def find(module: str) -> set[str]:
        spec = importlib.util.find_spec(f"cgatlib.{module}")
        assert spec is not None
        assert spec.origin is not None
        body = ast.parse(Path(spec.origin).read_text()).body
        names = [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
        return {name.removeprefix("cgatlib.") for name in names if name.startswith("cgatlib.")}

    return find


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Result]:
    """Return a function that runs a command in this process; it must end with the exit code `code`."""

    def run(*words: object, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def refused(invoke: Callable[..., Result]) -> Callable[..., str]:
    """Return a function that runs a command which is refused, and gives the one sentence that says why."""

    def run(*words: object) -> str:
        result = invoke(*words, code=2)
        assert isinstance(result.exception, SystemExit)
        lines = result.stderr.strip().splitlines()
        assert [line.startswith("Error: ") for line in lines[-1:]] == [True], result.output
        assert sum(line.startswith("Error: ") for line in lines) == 1
        return lines[-1].removeprefix("Error: ")

    return run

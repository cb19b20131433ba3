"""What is installed, written down and promised in different files agrees."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import partial
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

import cgatlib
from cgatbook.cli import EXTRA
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.config import MODELS
from cgatlib.recipes import _TRAINING

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
README = (ROOT / "README.md").read_text()
SUPPORTED = ("3.11", "3.12")


def lock_lines() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def pins() -> dict[str, str]:
    """Version of each package of the lock, by canonical name."""
    split = [line.split("==") for line in lock_lines()]
    return {canonicalize_name(name): version for name, version in split}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def load_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """make without what an outer `make test` hands down."""
    inherited = ("MAKE", "MFLAGS", "PROFILE", "DATA", "PYTHON")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(inherited)}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


# --- the lock -------------------------------------------------------------------------------------


def test_lock_pins_each_package_once_and_exactly():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lock_lines())
    assert len(pins()) == len(lock_lines())


@pytest.mark.parametrize("pattern", ["nvidia", "cuda", "triton", "chgnet", "cgatlib"])
def test_lock_has_nothing_of_one_platform_or_of_the_demo_extra(pattern: str):
    assert not [name for name in pins() if name.startswith(pattern)]


@pytest.mark.parametrize("text", PROJECT["dependencies"] + EXTRAS["book"] + EXTRAS["dev"])
def test_lock_covers_declared_dependency(text: str):
    requirement = Requirement(text)
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_build_requirements_are_locked_because_the_build_is_not_isolated():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def imports(package: str) -> dict[str, str]:
    """Top-level module -> one file of the package that imports it; of this repository and of others."""
    found = {}
    for path in sorted((ROOT / "src" / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            found |= {name.partition(".")[0]: path.relative_to(ROOT).as_posix() for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("package", "own", "extras"),
    [("cgatlib", {"cgatlib"}, ["slurm"]), ("cgatbook", {"cgatlib", "cgatbook"}, ["book"])],
)
def test_every_import_of_a_package_is_a_declared_dependency(package: str, own: set[str], extras: list[str]):
    """So the library imports neither the pages nor what only they need."""
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in EXTRAS[extra])]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    distributions = packages_distributions()
    undeclared = {
        module: path
        for module, path in imports(package).items()
        if module not in own and not declared & {canonicalize_name(name) for name in distributions.get(module, [])}
    }
    assert not undeclared


# --- the library without the book -------------------------------------------------------------------


def without_the_book(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command where nothing that the extra ``book`` brings can be imported."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRA}));"
        "from cgatlib.cli import main; main(prog_name='cgatlib')"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_modules_of_the_extra_are_those_it_declares():
    distributions = packages_distributions()
    found = {canonicalize_name(name) for module in EXTRA for name in distributions[module]}
    assert found == {canonicalize_name(Requirement(text).name) for text in EXTRAS["book"]}


def test_help_without_the_book():
    done = without_the_book("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Build the book" in done.stdout


@pytest.mark.slow
def test_the_library_is_installed_alone(model_folder: Path, table_paths: tuple[Path, Path], tmp_path: Path):
    """In an environment of its own it predicts and fine-tunes; skipped where no index of packages answers."""
    shutil.copytree(ROOT / "src", tmp_path / "source" / "src")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    python, run = tmp_path / "venv/bin/python", partial(subprocess.run, capture_output=True, text=True, cwd=tmp_path)
    run([sys.executable, "-m", "venv", "venv"], check=True)
    done = run([python, "-m", "pip", "install", "--constraint", ROOT / "requirements.lock", tmp_path / "source"])
    if done.returncode:
        pytest.skip(f"pip cannot install the packages: {done.stderr.strip().splitlines()[-1]}")
    listed = run([python, "-m", "pip", "list", "--format", "freeze"], check=True).stdout.splitlines()
    installed = {canonicalize_name(line.partition("==")[0]) for line in listed}
    assert not installed & {"jupyter-book", "papermill", "jupytext", "ipykernel"}
    for words in (
        ("predict", "--model", model_folder, table_paths[0], "--out", "predictions.csv"),
        ("transfer", table_paths[1], "--from", model_folder, "--label", "volume_per_atom", "--fast", "--out", "mine"),
        ("predict", "--model", "./mine", table_paths[1], "--out", "volumes.csv"),
    ):
        done = run([python.with_name("cgatlib"), *words])
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["book"], ["book", "build"], ["book", "parameters", "--json"]], ids=" ".join)
def test_without_its_packages_the_book_says_what_to_install(words: list[str]):
    done = without_the_book(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().splitlines()[-1].startswith("Error: the book needs IPython, ipykernel, jupyter_book,")
    assert "pip install '.[book]'" in done.stderr


# --- Python versions and environments ---------------------------------------------------------------


def test_supported_python_versions_agree():
    minors = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    matrix = load_yaml(".github/workflows/ci.yml")["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert tuple(minors) == tuple(matrix) == SUPPORTED
    assert SUPPORTED[0] in SpecifierSet(PROJECT["requires-python"])
    assert f"Python {' or '.join(SUPPORTED)}" in README
    assert all(f"python{minor}" in (ROOT / "Makefile").read_text() for minor in SUPPORTED)


def test_conda_environment_is_the_lock():
    environment = load_yaml("environment.yml")
    python, _, pip = environment["dependencies"]
    assert python.removeprefix("python=") in SUPPORTED
    assert pip["pip"] == ["--requirement requirements.lock", "--editable .[book,dev]"]


# --- one version, one entry point ---------------------------------------------------------------------


def test_version_is_the_same_everywhere():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert cgatlib.__version__ == load_yaml("CITATION.cff")["version"] == newest[1]


def test_citation_names_the_paper():
    (paper,) = load_yaml("CITATION.cff")["references"]
    assert paper["doi"] in README
    assert paper["doi"] in (cgatlib.__doc__ or "")


@pytest.mark.parametrize("text", [PROJECT["scripts"]["cgatlib"], *PROJECT["entry-points"]["cgatlib.commands"].values()])
def test_entry_point_exists(text: str):
    module, function = text.split(":")
    assert callable(getattr(importlib.import_module(module), function))


# --- commands that the documents name -------------------------------------------------------------------


def documented(pattern: str) -> list[tuple[str, str]]:
    """(document, match) for each distinct match of a pattern in the documents' commands."""
    texts = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", ".ci/run")}
    return sorted({(name, match) for name, text in texts.items() for match in re.findall(pattern, text)})


@pytest.mark.parametrize(("document", "target"), documented(r"(?:`|^|\n|step )make ([a-z-]+)"))
def test_make_target_of_the_documents_exists(document: str, target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), document


def shell_commands() -> list[list[str]]:
    """Words of the cgatlib commands in README's shell blocks."""
    lines = "\n".join(blocks("sh")).splitlines()
    return [line.split()[1:] for line in lines if line.startswith("cgatlib ")]


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The click command that words call, and the words left for it."""
    command: click.Command = importlib.import_module("cgatlib.cli").main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("words", shell_commands(), ids=" ".join)
def test_command_of_the_readme_parses(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    command, rest = resolve(words)
    monkeypatch.chdir(tmp_path)
    for word in rest:  # options may insist on files that exist
        if "." in word or "/" in word:
            path = tmp_path / word.replace("*", "x")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix:
                path.touch()
            else:
                path.mkdir(exist_ok=True)
    command.make_context(command.name, [word.replace("*", "x") for word in rest])


EXAMPLE = """
import cgatlib as cg
model = cg.load_model("pbe")
assert len(model.embed(structures)) == len(structures)
model.fine_tune(structures, values, label="band_gap").predict(others)
assert set(dir(cg)) == set(cg.__all__) >= {"CGATRegressor", "CgatError"}
"""


@pytest.mark.parametrize("code", [*blocks("python"), EXAMPLE])
def test_python_of_the_readme_runs(
    code: str, table, table_paths, model_folder, tiny_model, tiny_graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With small tables, networks and models in the place of those that it names, and few steps."""
    (tmp_path / "data" / "demo").mkdir(parents=True)
    for path, name in zip(table_paths, ("pbe", "r2scan"), strict=True):
        shutil.copy(path, tmp_path / "data" / "demo" / f"{name}.parquet")
    shutil.copytree(model_folder, tmp_path / "released" / "pbe")
    monkeypatch.setattr("cgatlib.ensemble.RELEASED_MODELS", tmp_path / "released")
    monkeypatch.setattr("cgatlib.recipes._FEWEST_STEPS", 4)
    monkeypatch.setattr("cgatlib.recipes._TRAINING", replace(_TRAINING, evaluations=2))
    monkeypatch.setattr("cgatlib.recipes._EPOCHS", (0, 1))
    for size in ("tiny", "small"):
        monkeypatch.setitem(MODELS, size, tiny_model)
        monkeypatch.setitem(GRAPHS, size, tiny_graph)
    monkeypatch.chdir(tmp_path)
    crystals = list(table)
    names = {"structures": crystals[::3], "values": np.linspace(0, 5, 48), "others": crystals[1:9]}
    names |= {each.__name__: each for each in (SVR, StandardScaler, cross_val_score, make_pipeline)}
    exec(re.sub(r"=\d{3,}", "=4", code), names)


# --- make, hooks, CI --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], '--profile "demo"'),
        (["PROFILE=ci"], '--profile "ci"'),
        (["DATA=my tables"], '--profile "mp" --data "my tables"'),
        (["DATA=tables", "PROFILE=demo"], '--profile "demo" --data "tables"'),
    ],
)
def test_book_profile_follows_from_what_is_given(arguments: list[str], expected: str):
    done = make("--dry-run", "--assume-old=.venv/.installed", "book", *arguments)
    assert f"cgatlib book build {expected}" in done.stdout


def test_other_python_is_refused_in_one_sentence(tmp_path: Path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("test", "PYTHON=false", cwd=tmp_path)
    assert done.returncode != 0
    assert "needs Python 3.11 or 3.12" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_hooks_are_local():
    assert [repo["repo"] for repo in load_yaml(".pre-commit-config.yaml")["repos"]] == ["local"]


def test_ci_is_the_script_and_the_script_is_the_readme():
    steps = load_yaml(".github/workflows/ci.yml")["jobs"]["check"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    script = (ROOT / ".ci/run").read_text()
    assert "make book PROFILE=ci" in script
    assert script.rindex("make test") > script.rindex("make book")  # pytest's summary ends the output
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_files_name_no_place_of_this_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    suffixes = {"", ".md", ".py", ".toml", ".lock", ".yml", ".cff", ".csv", ".json"}
    files = [ROOT / name for name in listed.stdout.splitlines() if Path(name).suffix in suffixes]
    local = re.compile(r"(?<![\w.~/])/(?:home|root|tmp|work|Users|opt)/\w")
    assert not [path for path in files if path.exists() and local.search(path.read_text(errors="ignore"))]

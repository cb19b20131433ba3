"""The book's own notebooks and profiles, without executing them."""

import ast
import re
from pathlib import Path

import jupytext
import pytest
import yaml

from cgatbook.executing import _key
from cgatbook.notebooks import effective_values, pages, parse_overrides, read_notebooks, read_profile

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = read_notebooks(ROOT)
STUDIES = [name for name in NOTEBOOKS if name[:2].isdigit()]
PROFILES = yaml.safe_load((ROOT / "book" / "parameters.yml").read_text())["profiles"]
KINDS = {"str": str, "int": int, "float": float, "list": list, "dict": dict, "bool": bool}


def test_the_book_is_complete() -> None:
    assert [path.stem for path in pages(ROOT)][:2] == ["index", "methods"]
    assert [name[:2] for name in STUDIES] == [f"{number:02}" for number in range(1, len(STUDIES) + 1)]
    assert len(STUDIES) >= 5
    assert {path.name for path in (ROOT / "book").glob("*.md")} == {path.name for path in pages(ROOT)}


def test_no_executed_notebook_is_kept_beside_its_source() -> None:
    assert not [path for path in (ROOT / "book").glob("*.ipynb") if path.with_suffix(".md").exists()]


@pytest.mark.parametrize("name", NOTEBOOKS)
class TestNotebook:
    def test_canonical_for_jupytext(self, name: str) -> None:
        text = NOTEBOOKS[name].path.read_text()
        written = jupytext.writes(jupytext.reads(text, fmt="md:myst"), fmt="md:myst")
        assert re.sub(r"    jupytext_version: .*\n", "", written) == text

    def test_python_kernel(self, name: str) -> None:
        assert NOTEBOOKS[name].node.metadata.kernelspec.name == "python3"

    def test_every_parameter_is_typed_and_explained(self, name: str) -> None:
        cell = next(c for c in NOTEBOOKS[name].node.cells if "parameters" in c.metadata.get("tags", []))
        assigned = ast.parse(cell.source).body
        assert all(isinstance(node, ast.AnnAssign) for node in assigned)
        assert [node.target.id for node in assigned] == list(NOTEBOOKS[name].parameters)  # papermill sees them all
        for parameter in NOTEBOOKS[name].parameters.values():
            assert type(parameter.default) is KINDS[parameter.kind], parameter.name
            assert len(parameter.meaning) > 10, parameter.name

    def test_every_code_cell_compiles(self, name: str) -> None:
        for cell in NOTEBOOKS[name].node.cells:
            if cell.cell_type == "code":
                ast.parse(cell.source)

    def test_every_number_in_prose_is_made_by_code(self, name: str) -> None:
        """What the prose glues in is what the code says."""
        cells = NOTEBOOKS[name].node.cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        said = {k.arg for n in ast.walk(ast.parse(code)) if _is_say(n) for k in n.keywords}
        glued = set(re.findall(r"\{glue:text\}`([a-z_0-9]+)", prose))
        assert None in said or glued <= said  # None: a mapping of numbers
        assert said <= glued | {None}


@pytest.mark.parametrize("name", [*STUDIES, "methods", "howto"])
def test_page_ends_with_provenance(name: str) -> None:
    assert re.search(r"\.(footer|provenance_box)\(", NOTEBOOKS[name].node.cells[-1].source)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_files_that_a_page_reads_are_named_by_parameters(name: str) -> None:
    """What a parameter names, a change of which executes the page again; published numbers always count."""
    cells = [c for c in NOTEBOOKS[name].node.cells if c.cell_type == "code"]
    code = "\n".join(c.source for c in cells if "parameters" not in c.metadata.get("tags", []))
    assert not re.findall(r"[\"'](?:data|benchmarks|book)/(?!published)[\w/.]+", code)


def _is_say(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "pages.say"


@pytest.mark.parametrize("name", PROFILES)
def test_profile_fits_the_notebooks(name: str) -> None:
    profile = read_profile(ROOT, name)
    for values in effective_values(NOTEBOOKS, profile, {}).values():
        assert values.get("profile", name) == name


def test_changes_of_a_demonstration_are_part_of_what_is_built() -> None:
    """On every page that trains; other changes, another execution."""
    profile = read_profile(ROOT, "ci")
    before, after = (
        effective_values(NOTEBOOKS, profile, parse_overrides(overrides))
        for overrides in ([], ["common.changes={steps: 500, seeds: [0, 1]}"])
    )
    trains = [name for name, notebook in NOTEBOOKS.items() if "workers" in notebook.parameters]
    assert [name for name in NOTEBOOKS if before[name] != after[name]] == trains != []
    assert after[trains[0]]["changes"] == {"steps": 500, "seeds": [0, 1]}
    assert len({_key(ROOT, NOTEBOOKS[trains[0]], values[trains[0]]) for values in (before, after)}) == 2


def test_demo_is_what_the_notebooks_say() -> None:
    """Run by hand, a notebook shows what `make book` shows."""
    profile = read_profile(ROOT, "demo")
    effective = effective_values(NOTEBOOKS, profile, {})
    differing = {
        f"{name}.{key}": (value, NOTEBOOKS[name].parameters[key].default)
        for name, values in effective.items()
        for key, value in values.items()
        if value != NOTEBOOKS[name].parameters[key].default
    }
    assert differing == {}


@pytest.mark.parametrize("name", PROFILES)
def test_budget_reads_the_runs_of_the_size_study(name: str) -> None:
    values = effective_values(NOTEBOOKS, read_profile(ROOT, name), {})
    study, budget = values["03_size_scaling"], values["04_compute_budget"]
    shared = set(study) & set(budget)
    assert {key: study[key] for key in shared} == {key: budget[key] for key in shared}

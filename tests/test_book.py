"""The book's pipeline on a small book of its own; rendering and executing are marked slow."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cgatlib import CgatError
from cgatlib.book import build as book_module
from cgatlib.book import executing
from cgatlib.book.build import build
from cgatlib.book.notebooks import effective_values, parse_overrides, read_notebooks, read_profile
from cgatlib.cli import main
from cgatlib.cli.book import book as command

PROJECT = Path(__file__).resolve().parents[1]

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""

NOTEBOOK = (
    HEADER
    + """
# {title}

```{{code-cell}} ipython3
:tags: [parameters]

sizes: list = [1, 2]  # how many crystals
rate: float = 0.5  # step width
label: str = "e_form"  # property
data: str = "data/demo"  # folder of the tables
sources: dict = {{"pbe": {{"file": "table.txt"}}}}  # tables
```

```{{code-cell}} ipython3
print("sum of sizes", sum(sizes))
print("executed in", __import__("pathlib").Path.cwd().name)
{code}
```
"""
)

PROFILES = """
profiles:
  demo:
    about: the defaults
  ci:
    about: small
    common: {label: volume}
    notebooks:
      02_second: {sizes: [7]}
  mp:
    about: real tables
    needs_data: true
"""


def write_notebook(root: Path, name: str, code: str = "") -> None:
    (root / "book" / f"{name}.md").write_text(NOTEBOOK.format(title=f"Page {name}", code=code))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A book of one plain page and two notebooks, with a table as data."""
    folder = tmp_path / "project"
    (folder / "book").mkdir(parents=True)
    (folder / "data" / "demo").mkdir(parents=True)
    (folder / "data" / "demo" / "table.txt").write_text("1")
    (folder / "_config.yml").write_text("title: T\nauthor: A\nexecute: {execute_notebooks: force}\n")
    toc = "format: jb-book\nroot: book/index\nchapters:\n- file: book/01_first\n- file: book/02_second\n"
    (folder / "_toc.yml").write_text(toc)
    (folder / "book" / "index.md").write_text("# Start\n\nSee [the first](01_first).\n")
    (folder / "book" / "parameters.yml").write_text(PROFILES)
    write_notebook(folder, "01_first")
    write_notebook(folder, "02_second")
    return folder


class TestParameters:
    def test_precedence(self, root: Path) -> None:
        notebooks = read_notebooks(root)
        overrides = parse_overrides(["02.sizes=[9, 10]", "common.rate=2"])
        values = effective_values(notebooks, read_profile(root, "ci"), overrides)
        assert values["01_first"]["sizes"] == [1, 2]
        assert values["01_first"]["label"] == "volume"
        assert values["02_second"]["sizes"] == [9, 10]
        assert values["02_second"]["rate"] == 2.0
        assert isinstance(values["02_second"]["rate"], float)

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("03_third.sizes=[1]", "unknown notebook '03_third'; known: 01_first, 02_second"),
            ("0.sizes=[1]", "ambiguous notebook '0'; known: 01_first, 02_second"),
            ("01.colour=red", "has no parameter 'colour'; it has: sizes, rate, label, data, sources"),
            ("common.colour=red", "no notebook has a parameter 'colour'; known: sizes, rate"),
            ("01.sizes=12", "sizes of notebook 01_first takes a list such as [1, 2], not 12"),
            ("01.sizes=[a]", "sizes of notebook 01_first takes a list such as [1, 2], not ['a']"),
            ("01.rate=fast", "rate of notebook 01_first takes a float"),
            ("01.rate=true", "rate of notebook 01_first takes a float"),
            ("01.label=5", "label of notebook 01_first takes a str"),
            ("sizes=[1]", "write NOTEBOOK.PARAMETER=VALUE"),
            ("01.sizes", "write NOTEBOOK.PARAMETER=VALUE"),
            ("01.sizes=[1", "is no YAML"),
        ],
    )
    def test_refused(self, root: Path, override: str, expected: str) -> None:
        with pytest.raises(CgatError) as caught:
            build(root, "ci", [override])
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (root / "_build").exists()

    def test_unknown_profile(self, root: Path) -> None:
        with pytest.raises(CgatError, match="unknown profile 'huge'; known: demo, ci, mp"):
            build(root, "huge")

    @pytest.mark.parametrize(
        ("profile", "data", "expected"),
        [
            ("mp", None, "name it with --data"),
            ("ci", "data", "profile ci uses the embedded tables"),
            (None, "nowhere", "does not exist"),
        ],
    )
    def test_data_folder(self, root: Path, profile: str | None, data: str | None, expected: str) -> None:
        with pytest.raises(CgatError, match=expected):
            build(root, profile, data=None if data is None else root / data)

    def test_profile_must_fit_the_notebooks(self, root: Path) -> None:
        (root / "book" / "parameters.yml").write_text(PROFILES.replace("{sizes: [7]}", "{size: 7}"))
        with pytest.raises(CgatError, match="02_second has no parameter 'size'"):
            build(root, "ci")

    def test_exactly_one_parameters_cell(self, root: Path) -> None:
        path = root / "book" / "01_first.md"
        path.write_text(path.read_text().replace(":tags: [parameters]", ":tags: [hide-input]"))
        with pytest.raises(CgatError, match="has 0 cells tagged 'parameters'"):
            read_notebooks(root)

    def test_missing_page(self, root: Path) -> None:
        (root / "book" / "02_second.md").unlink()
        with pytest.raises(CgatError, match=r"_toc.yml lists book/02_second.md, which does not exist"):
            read_notebooks(root)


class TestCommand:
    def test_parameters(self, root: Path) -> None:
        result = CliRunner().invoke(command, ["parameters", "--root", str(root)])
        assert result.exit_code == 0
        assert "sizes: list = [1, 2]\n      how many crystals" in result.output

    def test_parameters_as_json(self, root: Path) -> None:
        result = CliRunner().invoke(command, ["parameters", "--root", str(root), "--profile", "ci", "--json"])
        assert json.loads(result.output)["02_second"]["sizes"] == [7]

    def test_root_is_found_upwards(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root / "data" / "demo")
        assert CliRunner().invoke(command, ["parameters"]).exit_code == 0
        monkeypatch.chdir(root.parent)
        assert "no book" in str(CliRunner().invoke(command, ["parameters"]).exception)

    def test_unknown_profile_is_one_sentence(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["book", "build", "--root", str(root), "--profile", "huge"])
        assert result.exit_code == 2
        assert "Error: unknown profile 'huge'; known: demo, ci, mp\n" in result.output
        assert "Traceback" not in result.output


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the notebooks that were executed; neither kernel nor Sphinx is started."""
    names: list[str] = []

    def execute(root: Path, notebook, values):
        names.append(notebook.name)
        return executing._cleaned(executing._with_parameter_table(notebook, values))

    def run(command, **kwargs):
        html = Path(command[command.index("--path-output") + 1]) / "_build" / "html"
        html.mkdir(parents=True)
        (html / "index.html").write_text("\n".join(sorted(names)))
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(executing, "_execute", execute)
    monkeypatch.setattr(book_module, "subprocess", SimpleNamespace(run=run, PIPE=-1, STDOUT=-2))
    monkeypatch.setattr(book_module, "code_version", lambda: dict.fromkeys(("version", "commit", "dirty", "sources")))
    return names


class TestCache:
    """What is executed again, both ways: only what was touched, and everything that was touched."""

    @pytest.fixture(autouse=True)
    def _first_build(self, root: Path, executions: list[str]) -> None:
        build(root, "ci")
        assert executions == ["01_first", "02_second"]
        executions.clear()

    def test_nothing_changed(self, root: Path, executions: list[str]) -> None:
        build(root, "ci")
        assert executions == []

    def test_prose(self, root: Path, executions: list[str]) -> None:
        path = root / "book" / "02_second.md"
        path.write_text(path.read_text() + "\nMore prose.\n")
        build(root, "ci")
        assert executions == ["02_second"]

    def test_plain_page(self, root: Path, executions: list[str]) -> None:
        (root / "book" / "index.md").write_text("# Another start\n")
        build(root, "ci")
        assert executions == []

    def test_parameter(self, root: Path, executions: list[str]) -> None:
        build(root, "ci", ["01.rate=0.25"])
        assert executions == ["01_first"]

    def test_data(self, root: Path, executions: list[str]) -> None:
        (root / "data" / "demo" / "table.txt").write_text("2")
        build(root, "ci")
        assert executions == ["01_first", "02_second"]

    @pytest.mark.parametrize("named", ["data/runs/some", "data/runs/some/curves.txt"])
    def test_files_named_by_parameters(self, root: Path, executions: list[str], named: str) -> None:
        path = root / "data" / "runs" / "some" / "curves.txt"
        override = [f"01.label={named}"]
        build(root, "ci", override)
        path.parent.mkdir(parents=True)
        path.write_text("1")  # appears
        build(root, "ci", override)
        build(root, "ci", override)  # stays
        path.write_text("2")  # changes
        build(root, "ci", override)
        path.unlink()  # is gone: as before it appeared, but the last execution saw it
        build(root, "ci", override)
        assert executions == ["01_first"] * 4

    def test_other_files_of_the_data_folder(self, root: Path, executions: list[str]) -> None:
        (root / "data" / "demo" / "unrelated.txt").write_text("large")
        build(root, "ci")
        assert executions == []

    def test_sources(self, root: Path, executions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executing, "source_digest", lambda: "changed")
        build(root, "ci")
        assert executions == ["01_first", "02_second"]

    def test_force_and_only(self, root: Path, executions: list[str]) -> None:
        build(root, "ci", only=["02"], force=True)
        assert executions == ["02_second"]

    def test_only_shows_no_stale_page(self, root: Path, executions: list[str]) -> None:
        write_notebook(root, "01_first", "changed = True")
        build(root, "ci", only=["02"])
        assert executions == []
        stub = (root / "_build" / "stage" / "book" / "01_first.md").read_text()
        assert stub == "# Page 01_first\n\nThis page was not executed in this build.\n"

    def test_profiles_do_not_evict_each_other(self, root: Path, executions: list[str]) -> None:
        build(root, "demo")
        build(root, "ci")
        assert executions == ["01_first", "02_second"]

    def test_broken_cache_file_is_not_trusted(self, root: Path, executions: list[str]) -> None:
        cached = root / "_build" / "executed" / "ci" / "01_first.ipynb"
        node = json.loads(cached.read_text())
        node["metadata"]["cgatlib_key"] = "0" * 16
        cached.write_text(json.dumps(node))
        build(root, "ci")
        assert executions == ["01_first"]


def test_effective_parameters_are_shown(root: Path, executions: list[str]) -> None:
    build(root, "ci")
    page = json.loads((root / "_build" / "stage" / "book" / "02_second.ipynb").read_text())
    text = "".join("".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "markdown")
    assert "2 of 5 differ from the defaults" in text
    assert "| `sizes` | **`[7]`** | `[1, 2]` | how many crystals |" in text


@pytest.mark.slow
class TestRealBuild:
    """With kernels and Sphinx."""

    def test_end_to_end(self, root: Path) -> None:
        lines: list[str] = []
        first = build(root, "ci", echo=lines.append)
        page = (first.parent / "book" / "02_second.html").read_text()
        assert first == root / "_build" / "html" / "index.html"
        assert "sum of sizes 7" in page
        assert "executed in project" in page
        assert "profile ci" in page
        assert str(first) in lines[-1]

        (root / "book" / "01_first.md").write_text(
            (root / "book" / "01_first.md").read_text() + "\nSee [](nowhere.md).\n"
        )
        with pytest.raises(CgatError, match=r"did not render: .*01_first"):
            build(root, "ci")
        assert (first.parent / "book" / "02_second.html").read_text() == page

    def test_failing_notebook(self, root: Path) -> None:
        html = root / "_build" / "html"
        html.mkdir(parents=True)
        (html / "index.html").write_text("previous")
        write_notebook(root, "02_second", "raise ZeroDivisionError('too small')")
        with pytest.raises(CgatError) as caught:
            build(root, "ci")
        assert "notebook 02_second failed in code cell" in str(caught.value)
        assert "ZeroDivisionError: too small" in str(caught.value)
        assert (html / "index.html").read_text() == "previous"
        assert (root / "_build" / "executed" / "ci" / "01_first.ipynb").is_file()  # a rerun resumes here

    def test_plain_jupyter_book(self, root: Path) -> None:
        """Without our pipeline: the book's own configuration executes the notebooks with their defaults."""
        shutil.copy(PROJECT / "_config.yml", root)
        shutil.copy(PROJECT / "book" / "references.bib", root / "book")
        shutil.copytree(PROJECT / "book" / "assets", root / "book" / "assets")
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(root), "-W"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "sum of sizes 3" in (root / "_build" / "html" / "book" / "01_first.html").read_text()

    def test_dying_kernel(self, root: Path) -> None:
        write_notebook(root, "01_first", f"import os; os.kill(os.getpid(), {int(os.name == 'posix') * 9})")
        with pytest.raises(CgatError, match="the kernel of notebook 01_first died"):
            build(root, "ci")

"""The book's pipeline on a small book of its own; rendering and executing are marked slow."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from click.testing import CliRunner
from filelock import FileLock

from cgatbook import build as book_module
from cgatbook import executing
from cgatbook.build import build
from cgatbook.cli import book as command
from cgatbook.notebooks import effective_values, parse_overrides, read_notebooks, read_profile
from cgatbook.printing import print_book
from cgatlib import CgatError
from cgatlib.cli import main

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
demonstration: str = "data/plan.yaml"  # plan whose tables are read
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
    common: {data: ""}
  paper:
    about: tables of which nothing is stored
    needs_data: true
    common: {data: ""}
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
    (folder / "data" / "plan.yaml").write_text("tables: {pbe: {file: table.txt}}")
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
            ("01.colour=red", "has no parameter 'colour'; it has: sizes, rate, label, data, demonstration"),
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
        with pytest.raises(CgatError, match="unknown profile 'huge'; known: demo, ci, mp, paper"):
            build(root, "huge")

    @pytest.mark.parametrize(
        ("profile", "data", "expected"),
        [
            ("paper", None, "profile paper reads tables from a folder; name it with --data DIR"),
            ("ci", "data", "profile ci uses the embedded tables"),
            (None, "nowhere", "does not exist"),
        ],
    )
    def test_data_folder(self, root: Path, profile: str | None, data: str | None, expected: str) -> None:
        with pytest.raises(CgatError, match=expected):
            build(root, profile, data=None if data is None else root / data)

    def test_a_profile_of_stored_results_needs_no_data(self, root: Path, executions: list[str]) -> None:
        for data, expected in ((None, "`''`"), (root / "data", "`'path/to/tables'`")):
            build(root, "mp", data=data)
            page = json.loads((root / "_build" / "stage" / "book" / "01_first.ipynb").read_text())
            assert expected in "".join("".join(cell["source"]) for cell in page["cells"])
        assert len(executions) == 4  # other tables, another page

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

    def test_parameters_of_the_book(self) -> None:
        output = CliRunner().invoke(command, ["parameters", "--root", str(PROJECT), "--profile", "mp"]).output
        for name, notebook in read_notebooks(PROJECT).items():
            assert f"{name}\n" in output
            for parameter in notebook.parameters.values():
                assert f"  {parameter.name}: {parameter.kind} = " in output
                assert f"      {parameter.meaning}\n" in output

    def test_only_of_an_unknown_notebook(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["book", "build", "--root", str(root), "--only", "03"])
        assert (result.exit_code, result.output) == (2, "Error: unknown notebook '03'; known: 01_first, 02_second\n")

    def test_parameters_of_an_unknown_profile(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["book", "parameters", "--root", str(root), "--profile", "huge"])
        assert (result.exit_code, result.output) == (2, "Error: unknown profile 'huge'; known: demo, ci, mp, paper\n")

    def test_root_is_found_upwards(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root / "data" / "demo")
        assert CliRunner().invoke(command, ["parameters"]).exit_code == 0
        monkeypatch.chdir(root.parent)
        assert "no book" in str(CliRunner().invoke(command, ["parameters"]).exception)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--profile", "huge"], "unknown profile 'huge'; known: demo, ci, mp, paper"),
            (["-p", "03.sizes=[1]"], "unknown notebook '03'; known: 01_first, 02_second"),
            (["-p", "01.size=[1]"], "notebook 01_first has no parameter 'size'; it has: sizes, rate, label, data"),
            (["--profile", "paper"], "profile paper reads tables from a folder; name it with --data DIR"),
            (["-p", "01.rate=fast"], "parameter rate of notebook 01_first takes a float such as 0.5, not 'fast'"),
        ],
    )
    @pytest.mark.parametrize("verb", ["build", "pdf"])
    def test_one_sentence(self, root: Path, verb: str, options: list[str], expected: str) -> None:
        browser = ["--browser", "true"] if verb == "pdf" else []
        result = CliRunner().invoke(main, ["book", verb, "--root", str(root), *options, *browser])
        assert result.exit_code == 2
        assert f"Error: {expected}" in result.output
        assert len(result.output.strip().splitlines()) == 1
        assert not (root / "_build").exists()


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the notebooks that were executed; neither kernel nor Sphinx is started."""
    names: list[str] = []

    def execute(root: Path, notebook, values):
        names.append(notebook.name)
        return executing._source(notebook, values)

    def run(command, **kwargs):
        option = dict(itertools.pairwise(command))
        html = Path(option["--path-output"]) / "_build" / option["--builder"]
        (html / "book").mkdir(parents=True)
        (html / "index.html").write_text("\n".join(sorted(names)))
        (html / "book" / "index.html").write_text("all chapters")
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(executing, "_execute", execute)
    monkeypatch.setattr(book_module, "subprocess", SimpleNamespace(run=run, PIPE=-1, STDOUT=-2))
    monkeypatch.setattr(book_module, "code_version", lambda: dict.fromkeys(("version", "commit", "dirty")))
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
        assert executions == []
        page = json.loads((root / "_build" / "stage" / "book" / "02_second.ipynb").read_text())
        assert [cell["cell_type"] for cell in page["cells"]] == ["markdown", "code", "code", "markdown", "markdown"]
        assert "More prose." in "".join(page["cells"][-2]["source"])

    def test_code(self, root: Path, executions: list[str]) -> None:
        write_notebook(root, "02_second", "changed = True")
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
        monkeypatch.setattr(executing, "source_digest", lambda package: "changed")
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

    @pytest.mark.parametrize("key", [None, "0" * 16])
    def test_broken_cache_file_is_not_trusted(self, root: Path, executions: list[str], key: str | None) -> None:
        cached = root / "_build" / "executed" / "ci" / "01_first.ipynb"
        node = json.loads(cached.read_text())
        node["metadata"]["cgatlib_key"] = key
        cached.write_text(json.dumps(node) if key else "{")
        build(root, "ci")
        assert executions == ["01_first"]

    def test_all_in_one_command(self, root: Path, executions: list[str]) -> None:
        """What the book's first page tells its readers to type."""
        options = ["--profile", "ci", "-p", "02_second.sizes=[250,500,1000]", "--only", "02", "--force"]
        result = CliRunner().invoke(main, ["book", "build", "--root", str(root), *options])
        assert (result.exit_code, executions) == (0, ["02_second"])
        assert "[250, 500, 1000]" in (root / "_build" / "stage" / "book" / "02_second.ipynb").read_text()


def killed_build(root: Path, survived: int) -> int:
    """Exit status of a build in a process of its own that ends after so many replacements of files."""
    child = os.fork()
    if child == 0:
        steps, replace = iter(range(survived)), os.replace
        os.replace = lambda *paths: replace(*paths) if next(steps, None) is not None else os._exit(9)
        build(root, "ci", ["common.rate=0.2"], force=True)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestInterrupted:
    """However a build ends, the next one is right."""

    def test_killed_at_every_replacement(self, root: Path, executions: list[str]) -> None:
        """The steps that change what a later build sees are `os.replace`: two notebooks, old HTML away, new HTML in."""
        html = root / "_build" / "html"
        build(root, "ci", ["common.rate=0.1"])
        for survived in range(4):
            assert killed_build(root, survived) == 9
            assert html.exists() == (survived < 3)
            executions.clear()
            build(root, "ci", ["common.rate=0.2"])
            assert len(executions) == max(2 - survived, 0)
            assert (html / "index.html").read_text() == "\n".join(sorted(executions))
            assert [path.name for path in (root / "_build").iterdir() if path.name.startswith(".")] == []
            shutil.rmtree(root / "_build" / "executed")
            build(root, "ci", ["common.rate=0.1"])

    def test_a_rerun_after_a_failing_page_executes_that_page_alone(
        self, root: Path, executions: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        html = root / "_build" / "html" / "index.html"
        build(root, "demo")
        previous = html.read_text()
        execute = executing._execute

        def fail(root: Path, notebook, values):
            if notebook.name == "02_second":
                raise CgatError("notebook 02_second failed in code cell 3")
            return execute(root, notebook, values)

        executions.clear()
        monkeypatch.setattr(executing, "_execute", fail)
        with pytest.raises(CgatError, match="notebook 02_second failed"):
            build(root, "ci")
        assert html.read_text() == previous
        assert executions == ["01_first"]
        monkeypatch.setattr(executing, "_execute", execute)
        executions.clear()
        build(root, "ci")
        assert executions == ["02_second"]

    def test_unknown_notebook_alone(self, root: Path) -> None:
        with pytest.raises(CgatError, match="unknown notebook '03'; known: 01_first, 02_second"):
            build(root, "ci", only=["03"])

    def test_two_at_once(self, root: Path, executions: list[str]) -> None:
        (root / "_build").mkdir()
        with FileLock(root / "_build" / "lock"), pytest.raises(CgatError, match="another build of the book in"):
            build(root, "ci")
        build(root, "ci")


class TestPrint:
    """With programs that stand in for the browser."""

    @pytest.fixture
    def browser(self, tmp_path: Path) -> Path:
        """A "browser" that prints the page it is given as it is."""
        path = tmp_path / "browser"
        path.write_text(
            "#!/bin/sh\nfor option; do case $option in --print-to-pdf=*) pdf=${option#*=};; esac; done\n"
            'cp "${option#file://}" "$pdf"\n'
        )
        path.chmod(0o755)
        return path

    def test_pdf(self, root: Path, executions: list[str], browser: Path) -> None:
        lines: list[str] = []
        pdf = print_book(root, "ci", browser=str(browser), echo=lines.append)
        assert pdf == root / "_build" / "book.pdf"
        assert pdf.read_text() == "all chapters"  # and not the page that leads to the first one
        assert executions == ["01_first", "02_second"]
        assert str(pdf) in lines[-1]
        build(root, "ci")
        print_book(root, "ci", browser=str(browser), out=root / "other" / "b.pdf")
        assert (root / "other" / "b.pdf").is_file()
        assert len(executions) == 2  # shared with `build`

    @pytest.mark.parametrize(
        ("program", "expected"),
        [
            ("#!/bin/sh\necho no display >&2; exit 3\n", r"did not print the book \(exit status 3\): no display"),
            ("#!/bin/sh\n", "exit status 0"),
            ("no program\0", "did not print the book: "),
        ],
    )
    def test_failing_browser(self, root: Path, executions: list[str], browser: Path, program: str, expected) -> None:
        browser.write_text(program)
        (root / "_build").mkdir()
        (root / "_build" / "book.pdf").write_text("previous")
        with pytest.raises(CgatError, match=expected):
            print_book(root, "ci", browser=str(browser))
        assert (root / "_build" / "book.pdf").read_text() == "previous"

    def test_no_browser(self, root: Path, executions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(CgatError, match="there is no browser 'netscape' to print"):
            print_book(root, "ci", browser="netscape")
        monkeypatch.setenv("PATH", str(root))
        with pytest.raises(CgatError, match=r"none of chromium, .* is on the PATH; install one or name it with"):
            print_book(root, "ci")
        assert executions == []  # said before the work begins


def test_no_machine_paths_in_what_is_published(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = root.parent / 'the "tables"'
    tables.mkdir()
    (tables / "table.txt").write_text("1")
    notebook = read_notebooks(root)["01_first"]
    values = {**notebook.values(), "data": str(tables)}

    def run(root: Path, notebook, values):
        node = executing._source(notebook, values)
        output = nbformat.v4.new_output("stream", text=f"read {values['data']}/table.txt, wrote {root}/_build")
        node.cells[1].outputs = [output]
        return node

    monkeypatch.setattr(executing, "_execute", run)
    cached = root / "_build" / "01_first.ipynb"
    first = executing.execute(root, notebook, values, cached)
    again = executing.reusable(root, notebook, values, cached)
    for node in (first, again):
        assert "cgatlib_key" not in node.metadata
        assert str(root.parent) not in json.loads(json.dumps(nbformat.writes(node)))
        assert node.cells[1].outputs[0].text == "read path/to/tables/table.txt, wrote ./_build"
        assert "`'path/to/tables'`" in node.cells[-1].source


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
        assert 'notebook 02_second failed in code cell 2 (\'print("sum of sizes"' in str(caught.value)
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

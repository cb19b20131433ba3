"""`python -m cgatbook.front` writes the front page's answer into README.md, after stored runs have changed."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from cgatbook import answers, pages
from cgatbook.notebooks import find_root
from cgatbook.stored import Archives
from cgatlib.figures.runs import reductions
from cgatlib.figures.style import save_figure

ORDER = ("converged", "real_data")


def write(root: Path) -> None:
    """Rewrite ``book/answer.svg`` and the sentences of README.md."""
    real = Archives.open(root, [(f"data/plans/{name}.yaml", f"data/runs/{name}") for name in ORDER])
    published = pages.published("table1.csv")
    found = answers.reductions(real, published)
    with TemporaryDirectory() as folder:
        drawn = save_figure(reductions(found), found, Path(folder), "answer")["svg"].read_text()
    (root / "book" / "answer.svg").write_text(drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    said = "\n".join(f"- {sentence}" for sentence in answers.front_sentences(real, published))
    readme = root / "README.md"
    text = re.sub(r"(<!-- answer -->\n).*?(<!-- end -->)", rf"\g<1>{said}\n\g<2>", readme.read_text(), flags=re.DOTALL)
    readme.write_text(text)


if __name__ == "__main__":
    write(find_root(Path.cwd()))

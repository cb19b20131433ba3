"""``cgatlib checkpoint``: networks trained by the authors' released code."""

from pathlib import Path

import click


@click.group()
def checkpoint() -> None:
    """Use checkpoints of the authors' released code."""


@checkpoint.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the model.")
@click.option("--label", required=True, help="Property it predicts: e_form, e_above_hull, volume_per_atom, band_gap.")
@click.option("--functional", required=True, help="Functional of its training labels.")
def import_(file: Path, out: Path, label: str, functional: str) -> None:
    """Turn FILE, a checkpoint of the released code, into a model that `cgatlib predict` takes.

    Nothing in the file is executed: one that holds more than tensors and plain containers is refused. Sizes are read
    off the weights. The file does not say which elements the network was trained on, so none is refused later.

    \b
    Example:
      cgatlib checkpoint import e_form.ckpt --out models/e_form --label e_form --functional PBE
    """
    from cgatlib.files import refuse_same, replacing
    from cgatlib.predictor import import_released, is_network

    refuse_same(out, file)
    with replacing(out, "an imported model", is_network) as part:
        predictor = import_released(file, label, functional)
        predictor.save(part)
    c = predictor.card.model
    click.echo(f"model: {out} (C {c.atom_width}, D {c.edge_width}, {c.heads} heads, {c.steps} steps, k {c.neighbours})")

"""Crystals as (lattice (3, 3) in Å, atomic numbers (n,), fractional coordinates (n, 3)) for tests of geometry."""

import numpy as np


def rocksalt(a=5.6):
    return a / 2 * (1 - np.eye(3)), np.array([11, 17]), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite(a=3.9):
    coords = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return a * np.eye(3), np.array([38, 22, 8, 8, 8]), coords


def rutile(a=4.59, c=2.96, u=0.305):
    o = np.array([[u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]])
    return np.diag([a, a, c]), np.array([22, 22, 8, 8, 8, 8]), np.concatenate([[[0, 0, 0], [0.5, 0.5, 0.5]], o])


def close_packed(a=3.2, c=5.2):
    lattice = np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]])
    return lattice, np.array([12, 12]), np.array([[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])


def fluorite(a=5.4):
    return a / 2 * (1 - np.eye(3)), np.array([20, 9, 9]), np.array([[0.0] * 3, [0.25] * 3, [0.75] * 3])


def triclinic():
    lattice = np.array([[4.1, 0.3, -0.2], [0.5, 4.6, 0.4], [-0.6, 0.2, 5.2]])
    coords = np.array([[0.02, 0.11, 0.07], [0.52, 0.43, 0.31], [0.13, 0.62, 0.71], [0.66, 0.08, 0.83]])
    return lattice, np.array([20, 6, 8, 8]), coords


def random_cell(seed, atoms=4, stretch=1.0):
    """A triclinic cell with atoms at general positions, no two nearer than 1.5 Å."""
    rng = np.random.default_rng(seed)
    lattice = np.diag([4.0, 4.4, 4.8 * stretch]) + rng.uniform(-0.8, 0.8, (3, 3))
    while True:
        coords = rng.random((atoms, 3))
        delta = coords[:, None] - coords[None]
        distance = np.linalg.norm((delta - np.round(delta)) @ lattice, axis=-1)[np.triu_indices(atoms, 1)]
        if (distance > 1.5).all():
            return lattice, rng.integers(1, 90, atoms), coords


# The same crystal described otherwise


def permuted(cell):
    order = np.random.default_rng(1).permutation(len(cell[1]))
    return cell[0], cell[1][order], cell[2][order]


def shifted(cell):
    return cell[0], cell[1], cell[2] + np.array([0.3137, -2.25, 7.111])


def rotated(cell):
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    return cell[0] @ (q * np.sign(np.linalg.det(q))), cell[1], cell[2]


def other_cell(cell):
    """Another basis of the same lattice."""
    change = np.array([[1, 1, 0], [0, 1, 2], [0, 0, 1]])
    return change @ cell[0], cell[1], cell[2] @ np.linalg.inv(change)


def supercell(cell):
    lattice, numbers, coords = cell
    size = np.array([2, 1, 3])
    repeats = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(-1, 3)
    new = ((coords[None] + repeats[:, None]) / size).reshape(-1, 3)
    return lattice * size[:, None], np.tile(numbers, len(repeats)), new


MOVES = [permuted, shifted, rotated, other_cell, supercell]

"""Which elements go on which prototype: known compounds first, then five sampling rules with a fixed seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from known import KNOWN
from prototypes import Prototype
from pymatgen.core import Element

# CHGNet 0.3.0 knows 89 elements; noble gases are left out by choice, Yb because the r2SCAN potential saw none.
ABSENT = {"He", "Ne", "Ar", "Kr", "Xe", "Po", "At", "Rn", "Fr", "Ra", "Yb"}
ELEMENTS = [Element.from_Z(z).symbol for z in range(1, 95) if Element.from_Z(z).symbol not in ABSENT]
ANIONS = {"O": 3.0, "S": 2.0, "F": 2.0, "Cl": 1.8, "Se": 1.6, "N": 1.5, "Te": 1.2, "Br": 1.2, "I": 1.2, "P": 1.2}
ANIONS |= {"As": 1.0, "H": 0.8, "C": 0.8, "Sb": 0.7, "Si": 0.6, "B": 0.5, "Ge": 0.4, "Bi": 0.4}
RARE = {"Tc": 0.5, "Pm": 0.3, "Ac": 0.3, "Th": 0.5, "Pa": 0.3, "U": 0.5, "Np": 0.3, "Pu": 0.3}
LANTHANIDE_WEIGHT = 0.5
# rule -> share of the draws
RULES = {"substitution": 0.30, "charge": 0.25, "system": 0.15, "polymorph": 0.12, "random": 0.18}
SIMILARITY = 7.0  # decay of the substitution weight in steps of the Pettifor (Mendeleev) number
# candidates of one round by number of elements: ternary and quaternary prototypes hold far more compounds
PER_ROUND = {2: 6, 3: 15, 4: 20}


@dataclass(frozen=True)
class Candidate:
    """A decorated prototype, before its volume is known."""

    prototype: Prototype
    elements: tuple[str, ...]  # element of each slot
    rule: str

    @property
    def key(self) -> str:
        """Name of the candidate in the caches."""
        return f"{self.prototype.label}|{'-'.join(self.elements)}"

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers, shape (n,)."""
        return np.array([Element(self.elements[slot]).Z for slot in self.prototype.slot_of_atom])


def _weight(symbol: str) -> float:
    if symbol in RARE:
        return RARE[symbol]
    return LANTHANIDE_WEIGHT if 58 <= Element(symbol).Z <= 71 else 1.0


WEIGHTS = np.array([_weight(symbol) for symbol in ELEMENTS])
PETTIFOR = np.array([Element(symbol).mendeleev_no for symbol in ELEMENTS], dtype=float)
NEGATIVITY = {symbol: float(Element(symbol).X) for symbol in ELEMENTS}
OXIDATION = {symbol: Element(symbol).common_oxidation_states for symbol in ELEMENTS}


def charge_balanced(elements: tuple[str, ...], counts: tuple[int, ...]) -> bool:
    """Common oxidation states sum to zero with every anion more electronegative than every cation."""
    for states in product(*(OXIDATION[element] for element in elements)):
        if sum(q * n for q, n in zip(states, counts, strict=True)) != 0:
            continue
        cations = [NEGATIVITY[e] for e, q in zip(elements, states, strict=True) if q > 0]
        anions = [NEGATIVITY[e] for e, q in zip(elements, states, strict=True) if q < 0]
        if cations and anions and max(cations) < min(anions):
            return True
    return False


class Sampler:
    """Draws decorations; remembers what was drawn so that later draws add polymorphs and competing phases."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.formulas: dict[tuple[int, ...], list[tuple[tuple[int, str], ...]]] = defaultdict(list)
        self.systems: dict[int, list[tuple[str, ...]]] = defaultdict(list)

    def draw(self, prototype: Prototype) -> tuple[tuple[str, ...], str] | None:
        """One decoration and the rule it came from; None when the rule finds nothing for this prototype."""
        rule = str(self.random.choice(list(RULES), p=list(RULES.values())))
        elements = getattr(self, f"_{rule}")(prototype)
        return None if elements is None else (elements, rule)

    def remember(self, prototype: Prototype, elements: tuple[str, ...]) -> None:
        """Keep a decoration for the polymorph and system rules."""
        divisor = int(np.gcd.reduce(prototype.counts))
        amounts = sorted((n // divisor, e) for n, e in zip(prototype.counts, elements, strict=True))
        self.formulas[prototype.stoichiometry].append(tuple(amounts))
        self.systems[len(elements)].append(elements)

    def _pick(self, weights: np.ndarray) -> str:
        return ELEMENTS[int(self.random.choice(len(ELEMENTS), p=weights / weights.sum()))]

    def _substitution(self, prototype: Prototype) -> tuple[str, ...] | None:
        """Each element near, on Pettifor's chemical scale, to the one the library has in that slot."""
        for _ in range(50):
            picked = tuple(
                self._pick(WEIGHTS * np.exp(-np.abs(PETTIFOR - slot.mendeleev_no) / SIMILARITY))
                for slot in prototype.slots
            )
            if len(set(picked)) == len(picked):
                return picked
        return None

    def _charge(self, prototype: Prototype) -> tuple[str, ...] | None:
        """An anion in the most electronegative slot, anything elsewhere, kept when the charges balance."""
        anion_slot = int(np.argmax([float(slot.X) for slot in prototype.slots]))
        names, weights = list(ANIONS), np.array(list(ANIONS.values()))
        for _ in range(200):
            picked = [self._pick(WEIGHTS) for _ in prototype.slots]
            picked[anion_slot] = str(self.random.choice(names, p=weights / weights.sum()))
            if len(set(picked)) == len(picked) and charge_balanced(tuple(picked), prototype.counts):
                return tuple(picked)
        return None

    def _system(self, prototype: Prototype) -> tuple[str, ...] | None:
        """A chemical system met before, filled in the library's order of electronegativity: competing phases."""
        known = self.systems[len(prototype.slots)]
        if not known:
            return None
        elements = sorted(known[int(self.random.integers(len(known)))], key=NEGATIVITY.__getitem__)
        order = np.argsort([float(slot.X) for slot in prototype.slots], kind="stable")
        placed = [""] * len(order)
        for slot, element in zip(order, elements, strict=True):
            placed[int(slot)] = element
        return tuple(placed)

    def _polymorph(self, prototype: Prototype) -> tuple[str, ...] | None:
        """A formula met before in another prototype of the same stoichiometry."""
        known = self.formulas[prototype.stoichiometry]
        if not known:
            return None
        amounts = list(known[int(self.random.integers(len(known)))])
        self.random.shuffle(amounts)
        divisor = int(np.gcd.reduce(prototype.counts))
        placed = []
        for count in prototype.counts:
            match = next(pair for pair in amounts if pair[0] == count // divisor)
            amounts.remove(match)
            placed.append(str(match[1]))
        return tuple(placed)

    def _random(self, prototype: Prototype) -> tuple[str, ...] | None:
        """Any elements anywhere: mostly unstable."""
        picked = self.random.choice(ELEMENTS, size=len(prototype.slots), replace=False)
        return tuple(str(symbol) for symbol in picked)


def elemental_candidates(prototypes: list[Prototype]) -> list[Candidate]:
    """Every elemental prototype with every element: candidates for the set and for the reference energies."""
    return [Candidate(p, (e,), "element") for p in prototypes if len(p.slots) == 1 for e in ELEMENTS]


def compound_candidates(prototypes: list[Prototype], seed: int) -> Iterator[Candidate]:
    """Distinct decorations without end: known compounds, then rounds over the prototypes (any prefix is balanced)."""
    by_label = {p.label: p for p in prototypes}
    compounds = [p for p in prototypes if len(p.slots) > 1]
    sampler, seen = Sampler(seed), set()
    for label, filling in KNOWN:
        prototype = by_label[label]
        elements = prototype.canonical(tuple(filling[slot.symbol] for slot in prototype.slots))
        seen.add((label, elements))
        sampler.remember(prototype, elements)
        yield Candidate(prototype, elements, "known")
    while True:
        for prototype in compounds:
            for _ in range(PER_ROUND[len(prototype.slots)]):
                drawn = sampler.draw(prototype)
                if drawn is None:
                    continue
                elements = prototype.canonical(drawn[0])
                if (prototype.label, elements) not in seen:
                    seen.add((prototype.label, elements))
                    sampler.remember(prototype, elements)
                    yield Candidate(prototype, elements, drawn[1])

"""What the paper claims of its data."""

from cgatbook.claims.evidence import Evidence
from cgatbook.claims.paper import consistent, quotient, rarer, table_order
from cgatbook.claims.verdict import Verdict, claim

GAP_MEANS = ("numbers/band_gap_mean_PBE", "numbers/band_gap_mean_SCAN")
NO_HULL = "The Materials Project tables hold no energies above the hull for PBEsol, SCAN or r²SCAN."
BEYOND = ("PBEsol", "SCAN", "r2SCAN")


@claim("data", "Sections II and IV.A")
def sizes(e: Evidence) -> Verdict:
    """80% of the {numbers/high_fidelity_set} PBEsol and SCAN entries make the training set of
    {numbers/training_sizes/1}.
    """
    return Verdict.of(quotient(e.paper, ["numbers/training_sizes/1"], "numbers/high_fidelity_set", "80%"))


@claim("data", "Section IV.A")
def elements(e: Evidence) -> Verdict:
    """Oxygen, nitrogen and lithium are the most frequent elements of the PBE set, and noble gases are absent."""
    counts = e.paper.elements["pbe"].dropna()
    noble = "He Ne Ar Kr Xe Rn".split()
    top = ", ".join(f"{symbol} {count:,.0f}" for symbol, count in counts.nlargest(3).items())
    fits = counts.nlargest(3).index.tolist() == ["O", "N", "Li"] and not set(counts.index) & set(noble)
    return Verdict.of(consistent(fits, f"{top}; none of {', '.join(noble)}"))


@claim("data", "Section IV.A")
def oxygen(e: Evidence) -> Verdict:
    """Oxygen is even more prevalent in the PBEsol and SCAN set than in the PBE set."""
    less, text = rarer(e.paper, "O")
    ours = [e.element_share("O", "pbe", table, "above") for table in ("pbesol", "r2scan")]
    return Verdict.of(consistent(not less, text), *ours)


@claim("data", "Section IV.A")
def nitrogen(e: Evidence) -> Verdict:
    """Nitrogen and hydrogen appear less often in the PBEsol and SCAN set than in the PBE set."""
    printed = [consistent(*rarer(e.paper, element)) for element in ("N", "H")]
    return Verdict.of(*printed, *(e.element_share(element, "pbe", "pbesol", "below") for element in ("N", "H")))


@claim("data", "Section IV.A, Fig. 2", ("e_above_hull", "SCAN"))
def stability(e: Evidence) -> Verdict:
    """The materials of the PBEsol and SCAN set are on average far more stable than those of the PBE set."""
    return Verdict.of(e.absent(NO_HULL, "e_above_hull", BEYOND))


@claim("data", "Section IV.A, Fig. 2", ("volume_per_atom", "PBEsol"))
def volumes(e: Evidence) -> Verdict:
    """PBE volumes are larger than PBEsol volumes (mean {numbers/volume_PBE/1} against {numbers/volume_PBEsol/1}
    Å³/atom), as expected from the underbinding of PBE.
    """
    means = ("numbers/volume_PBE/1", "numbers/volume_PBEsol/1")
    return Verdict.of(e.shift("volume_per_atom", "pbe", "pbesol", "above", means))


@claim("data", "Section II, Fig. 2", ("band_gap", "SCAN"))
def gaps(e: Evidence) -> Verdict:
    """PBE underestimates band gaps more than SCAN does; the mean gap is {numbers/band_gap_mean_PBE} eV in the PBE and
    {numbers/band_gap_mean_SCAN} eV in the SCAN set.
    """
    return Verdict.of(*(e.shift("band_gap", "pbe", table, "below", GAP_MEANS) for table in ("scan", "hse")))


@claim("data", "Sections II and IV.A", ("band_gap", "SCAN"))
def metals(e: Evidence) -> Verdict:
    """PBE takes some semiconductors for metals; the share of metals is roughly {numbers/metal_ratio} times larger in
    the PBE set.
    """
    ratio = ("numbers/metal_ratio", "1")
    return Verdict.of(*(e.shift("band_gap", "pbe", t, "above", ratio, metals=True) for t in ("scan", "hse")))


@claim("data", "Section II")
def gap_error(e: Evidence) -> Verdict:
    """Metals, whose gap is exactly zero, make the mean error of the gap artificially small."""
    return Verdict.of(e.smaller_on_metals("gap-pbe"), e.smaller_on_metals("gap-hse-full"))


@claim("data", "Section I")
def pbesol_volumes(e: Evidence) -> Verdict:
    """PBEsol reduces the percentage error of volumes by 40% compared with PBE."""
    reason = "The tables hold no measured volumes to compare the calculated ones with."
    return Verdict.of(e.absent(reason, "volume_per_atom", ["experiment"]))


@claim("data", "Section I")
def scan_energies(e: Evidence) -> Verdict:
    """SCAN has about half the error of PBE for formation energies."""
    reason = "The tables hold no measured formation energies to compare the calculated ones with."
    return Verdict.of(e.absent(reason, "e_form", ["experiment"]))


@claim("data", "Sections I and II")
def smaller_worse(e: Evidence) -> Verdict:
    """Trained from scratch on the smaller PBEsol and SCAN sets, networks have a larger error than trained on PBE."""
    volumes = [e.larger_error(f"volume-{target}-none", "volume-pbe") for target in ("pbesol", "r2scan")]
    return Verdict.of(table_order(e.paper, ["PBE"], "none"), *volumes, e.larger_error("gap-hse-none", "gap-pbe"))


@claim("data", "Section I")
def best_models(e: Evidence) -> Verdict:
    """Graph networks are the best models for more than ten thousand compounds.

    Tested against boosted trees on the composition alone.
    """
    return Verdict.of(e.beats_boosting("volume-r2scan-none"), e.beats_boosting("volume-r2scan-full"))


@claim("data", "Section II", ("e_above_hull", "PBEsol"))
def fair(e: Evidence) -> Verdict:
    """One test set for all experiments makes the comparison fair.

    Nothing is said of its crystals in the PBE pre-training set; tested is whether having seen them changes the error.
    """
    entries = ("volume-pbesol-full", "volume-pbesol-head", "volume-r2scan-full")
    return Verdict.of(*(e.same(f"{entry}-seen", entry) for entry in entries))

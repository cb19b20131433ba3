"""What the paper claims of the sizes of the training and the pre-training set, and of what they cost."""

from scipy import constants

from cgatbook.claims.evidence import Evidence
from cgatbook.claims.lines import (
    Sizes,
    best_share,
    equivalent,
    error_falls,
    meeting,
    pays_equally,
    pretraining_slope,
    slope_drops,
    straight_line,
)
from cgatbook.claims.paper import budget, consistent, place_text, quotient
from cgatbook.claims.verdict import FIFTH, Verdict, claim
from cgatbook.published import PLACES, published_lines
from cgatlib.figures.style import short_count

PAIRS = ("volume-r2scan-sizes", "gap-hse-sizes")
GRID = (*(f"volume-r2scan-from-{n}" for n in (2000, 4000, 8000, 16000)), "volume-r2scan-sizes-full")
HULL = ("e_above_hull", "SCAN")


def pairs(e: Evidence) -> list[Sizes]:
    """Curves without and with transfer of both targets."""
    return [Sizes.of(e, f"{pair}-none", f"{pair}-full") for pair in PAIRS]


@claim("sizes", "Abstract, Figs. 3 and 4", HULL, first=True)
def line(e: Evidence) -> Verdict:
    """The error is a straight line in the training size on doubly logarithmic axes, with and without transfer."""
    return Verdict.of(*(straight_line(s, s.at(mode)) for s in pairs(e) for mode in ("none", "full")))


@claim("sizes", "Abstract, Section II, Fig. 3", HULL)
def pretraining_line(e: Evidence) -> Verdict:
    """The error is a straight line in the size of the pre-training set, too."""
    sizes = Sizes.of(e, *GRID)
    return Verdict.of(straight_line(sizes, sizes.by_pretraining))


@claim("sizes", "Abstract, Section II, Fig. 3", HULL, first=True)
def pretraining_helps(e: Evidence) -> Verdict:
    """The error decreases significantly and consistently with the size of the pre-training set."""
    sizes = Sizes.of(e, *GRID)
    return Verdict.of(error_falls(sizes, sizes.by_pretraining))


@claim("sizes", "Section II, Fig. 3", HULL)
def tenth(e: Evidence) -> Verdict:
    """No transfer has the largest error in all cases, even with a pre-training set reduced by a factor of 10.

    Tested with an eighth, at each training size.
    """
    ratio = quotient(e.paper, ["numbers/pretraining_sizes/1"], "numbers/pretraining_sizes/0", "10")
    return Verdict.of(ratio, e.better("volume-r2scan-from-4000", "volume-r2scan-sizes-none"))


@claim("sizes", "Section II, Fig. 3", HULL)
def alike(e: Evidence) -> Verdict:
    """Lines against training size have very similar slopes for pre-training sets of different sizes.

    Tested is whether the slopes after the smallest and after the largest one differ by less than a fifth.
    """
    return Verdict.of(slope_drops(Sizes.of(e, *GRID), "equal", FIFTH))


@claim("sizes", "Section II, Fig. 3", HULL)
def slope_decreases(e: Evidence) -> Verdict:
    """The slope against training size decreases slightly as the pre-training set grows."""
    return Verdict.of(slope_drops(Sizes.of(e, *GRID), "above"))


@claim("sizes", "Abstract", HULL)
def similar(e: Evidence) -> Verdict:
    """The slope against pre-training size is similar to that against training size.

    Similar is what differs by less than a fifth.
    """
    return Verdict.of(pretraining_slope(Sizes.of(e, *GRID), "equal", FIFTH))


@claim("sizes", "Section II, Fig. 3", HULL)
def slopes(e: Evidence) -> Verdict:
    """The slope against pre-training size is smaller than that against training size."""
    printed = quotient(e.paper, ["numbers/balanced_ratio"], "numbers/cost_ratio_SCAN", high=1)
    return Verdict.of(printed, pretraining_slope(Sizes.of(e, *GRID), "above"))


@claim("sizes", "Abstract, Section II, Fig. 4", ("e_form", "SCAN"), first=True)
def accuracy(e: Evidence) -> Verdict:
    """With transfer, {numbers/chemical_accuracy_size} training crystals suffice for chemical accuracy
    ({numbers/chemical_accuracy} meV/atom), fewer than without.
    """
    n, bound = (e.paper[f"numbers/chemical_accuracy{end}"].value for end in ("_size", ""))
    lines = {place_text(*place): published_lines(e.paper, *place) for place in PLACES}
    found = {name: (float(full.predict(n)), none.invert(bound)) for name, (none, full) in lines.items()}
    texts = [f"{name} {mae:.0f} with, at {short_count(size)} without transfer" for name, (mae, size) in found.items()]
    fits = all(mae < bound and size > n for mae, size in found.values())
    printed = consistent(fits, f"meV/atom at {short_count(n)}: {'; '.join(texts)}", "lines through the printed numbers")
    reason = "Formation energies beyond PBE are known for some hundreds of crystals only, not for ten thousand."
    return Verdict.of(printed, e.absent(reason, "e_form", ["PBEsol", "SCAN", "r2SCAN", "HSE"], 10_000))


@claim("sizes", "Section II")
def kilocalorie(e: Evidence) -> Verdict:
    """Chemical accuracy is {numbers/chemical_accuracy} meV/atom.

    Tested is whether that is 1 kcal/mol.
    """
    value, bound = 1e6 * constants.calorie / constants.N_A / constants.e, e.paper["numbers/chemical_accuracy"]
    return Verdict.of(consistent(bound.low <= value <= bound.high, f"1 kcal/mol = {value:.1f} meV", "CODATA"))


@claim("sizes", "Section II, Fig. 4", HULL)
def crossing(e: Evidence) -> Verdict:
    """Extrapolated, no transfer catches up with full transfer at {numbers/crossing_e_form_SCAN} to
    {numbers/crossing_e_above_hull_PBEsol} training crystals, nine times the largest set.
    """
    return Verdict.of(*map(meeting, pairs(e)))


@claim("sizes", "Section II", HULL)
def double(e: Evidence) -> Verdict:
    """Without transfer it needs at least twice the crystals ({numbers/equivalent_e_form_SCAN} to
    {numbers/equivalent_e_above_hull_PBEsol}) to equal the best network with transfer.
    """
    names = [f"numbers/equivalent_{label}_{functional}" for label, functional in PLACES]
    return Verdict.of(
        quotient(e.paper, names, "numbers/training_sizes/1", low=2), *(equivalent(s, 2) for s in pairs(e))
    )


@claim("sizes", "Section II", ("band_gap", "HSE"))
def hybrids(e: Evidence) -> Verdict:
    """Transfer will allow networks for hybrid functionals, of which few calculations exist.

    Tested is whether it helps at each training size.
    """
    return Verdict.of(e.better("gap-hse-sizes-full", "gap-hse-sizes-none"))


@claim("budget", "Section II, Fig. 5", HULL)
def start(e: Evidence) -> Verdict:
    """With {numbers/budget_start/0} pre-training and {numbers/budget_start/1} training crystals, SCAN calculations
    reduce the error far more per cost than PBE calculations.
    """
    sizes = e.paper["numbers/budget_start/0"], e.paper["numbers/budget_start/1"]
    ours = pays_equally(Sizes.of(e, *GRID), sizes[0].value / sizes[1].value, "above")
    return Verdict.of(budget(e.paper, *sizes, "training"), ours)


@claim("budget", "Section II, Fig. 5", HULL)
def equal(e: Evidence) -> Verdict:
    """With equal set sizes, PBE calculations pay more."""
    size = e.paper["numbers/training_sizes/1"]
    return Verdict.of(budget(e.paper, size, size, "pre-training"), pays_equally(Sizes.of(e, *GRID), 1, "below"))


@claim("budget", "Section II, Fig. 5", HULL, first=True)
def four(e: Evidence) -> Verdict:
    """With {numbers/balanced_ratio} times as many pre-training crystals both pay about equally."""
    return Verdict.of(pays_equally(Sizes.of(e, *GRID), e.paper["numbers/balanced_ratio"].value, "equal"))


@claim("budget", "Section II, Fig. 5", ("band_gap", "HSE"))
def hybrids_shift(e: Evidence) -> Verdict:
    """Hybrid functionals, which cost more, shift the balance further towards PBE calculations.

    Tested at twice the cost of SCAN; the slopes for a hybrid functional would need pre-training sets of several sizes.
    """
    even, cost = e.paper["numbers/balanced_ratio"].value, e.paper["numbers/cost_ratio_SCAN"].value
    text = f"both pay equally at {even:g} pre-training crystals per training crystal at c = {cost:g}, "
    text += f"at {2 * even:g} for c = {2 * cost:g} and the same slopes"
    circular = "the balance is c α/β, so that a larger c put in comes out, whatever the slopes"
    return Verdict.of(consistent(True, text, "lines through the printed numbers", circular))


@claim("budget", "Section II")
def cost(e: Evidence) -> Verdict:
    """A SCAN calculation costs at least {numbers/cost_ratio_SCAN} PBE calculations."""
    return Verdict.of(e.absent("The tables hold results of calculations and not what they cost.", "cost"))


@claim("budget", "Section III", HULL)
def share(e: Evidence) -> Verdict:
    """The slopes determine relative sizes of the two sets that minimise the error at a given cost."""
    return Verdict.of(best_share(Sizes.of(e, *GRID)))

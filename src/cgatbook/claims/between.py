"""What the paper claims of transfer between properties."""

from cgatbook.answers import UNLIKE
from cgatbook.claims.evidence import Evidence
from cgatbook.claims.paper import consistent
from cgatbook.claims.verdict import Verdict, claim

GAIN = "numbers/inter_property_gain"


@claim("between", "Section II, Fig. 6")
def head(e: Evidence) -> Verdict:
    """Between volume and formation energy, retraining the head alone is no better than no transfer."""
    return Verdict.of(*(e.worse(f"{pair}-head", none) for pair, none in UNLIKE.items()))


@claim("between", "Section II")
def head_rule(e: Evidence) -> Verdict:
    """That retraining the head does not help between properties is a general rule."""
    more = {"e_form-gap": "gap-none", "e_form-e_hull": "e_hull-none", "e_hull-e_form": "e_form-none"}
    return Verdict.of(*(e.worse(f"{pair}-head", none) for pair, none in {**UNLIKE, **more}.items()))


@claim("between", "Section II, Fig. 6")
def unstable(e: Evidence) -> Verdict:
    """Full transfer between volume and formation energy leads to a very unstable learning curve.

    Tested is whether the validation error rises further between evaluations than without transfer.
    """
    return Verdict.of(*(e.unstable(f"{pair}-full", none) for pair, none in UNLIKE.items()))


@claim("between", "Section II, Fig. 6")
def full(e: Evidence) -> Verdict:
    """Between volume and formation energy, full transfer is no better than no transfer."""
    return Verdict.of(*(e.worse(f"{pair}-full", none) for pair, none in UNLIKE.items()))


@claim("between", "Section II, Fig. 6")
def slow(e: Evidence) -> Verdict:
    """A tenth and a hundredth of the learning rate do not make full transfer between them better than no transfer."""
    return Verdict.of(*(e.worse(f"{pair}-{way}", none) for pair, none in UNLIKE.items() for way in ("slow", "slower")))


@claim("between", "Section II")
def decay(e: Evidence) -> Verdict:
    """Neither does another weight decay.

    Tested at 0.01, 0.001 and 0.0001.
    """
    return Verdict.of(*(e.worse(f"e_form-volume-decay_{x}", "volume-pbesol-none") for x in ("0.01", "0.001", "0.0001")))


@claim("between", "Section II")
def dissimilar(e: Evidence) -> Verdict:
    """The reason is that the two properties are too dissimilar.

    Tested is whether nothing else makes a difference, such as normalising the label by the statistics of the pre-
    training label, as the released code does, instead of those of the new one.
    """
    ours = [e.same(f"{pair}-old_statistics", f"{pair}-full") for pair in UNLIKE]
    return Verdict.of(*ours, e.variant("volume-old_statistics", "volume-new_statistics"))


@claim("between", "Section II, Fig. 7", ("e_form", "SCAN"))
def hull_full(e: Evidence) -> Verdict:
    """Between the related E_hull and E_form, full transfer reduces the error considerably
    ({numbers/inter_property_gain}; the text says from E_form to E_hull, Fig. 7 the reverse).
    """
    beyond = e.better("e_hull-r2scan_e_form-full", "r2scan_e_form-none", GAIN)
    pairs = {"e_hull-e_form-full": "e_form-none", "e_form-e_hull-full": "e_hull-none"}
    return Verdict.of(beyond, *(e.better(entry, none, GAIN) for entry, none in pairs.items()))


@claim("between", "Section II, Fig. 7", ("e_form", "SCAN"))
def hull_head(e: Evidence) -> Verdict:
    """There, retraining the head alone brings no significant reduction."""
    beyond = e.worse("e_hull-r2scan_e_form-head", "r2scan_e_form-none")
    return Verdict.of(beyond, e.worse("e_hull-e_form-head", "e_form-none"))


@claim("between", "Section II, below Fig. 8")
def surplus(e: Evidence) -> Verdict:
    """The gain within a property is {numbers/intra_over_inter/0} to {numbers/intra_over_inter/1} larger than that
    between properties.
    """
    within, between = e.paper["table1/e_form/SCAN/full/gain"], e.paper[GAIN]
    low, high = (e.paper[f"numbers/intra_over_inter/{i}"] for i in (0, 1))
    more = within.over(between)
    text = (
        f"{within.text} is larger than {between.text} by {more.value - 1:.0%} [{more.low - 1:.0%}, {more.high - 1:.0%}]"
    )
    text += f"; {between.text} is {between.value / within.value:.0%} of {within.text}"
    return Verdict.of(consistent(more.low - 1 <= high.high and low.low <= more.high - 1, text))


@claim("between", "Sections II and III, Fig. 8", ("e_form", "SCAN"), first=True)
def within(e: Evidence) -> Verdict:
    """Transfer within a property is better than transfer between properties, so that calculations of the desired
    property are what to make.
    """
    energies = e.better("r2scan_e_form-sizes-full", "e_hull-r2scan_e_form-sizes")
    volumes = (e.better(f"volume-pbesol-{mode}", f"e_form-volume-{mode}") for mode in ("full", "head"))
    return Verdict.of(energies, *volumes)

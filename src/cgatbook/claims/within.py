"""What the paper claims of transfer within a property, from PBE to another functional."""

from cgatbook import answers
from cgatbook.claims.data import BEYOND, NO_HULL
from cgatbook.claims.evidence import Evidence
from cgatbook.claims.paper import consistent, place_text, quotient, table_order
from cgatbook.claims.verdict import Verdict, claim

TARGETS = tuple(answers.TARGETS)


@claim("within", "Section II")
def excess_pbesol(e: Evidence) -> Verdict:
    """Without transfer, the PBEsol network's error of E_hull is 9% above that of the PBE network."""
    return Verdict.of(quotient(e.paper, ["table1/e_above_hull/PBEsol/none"], "table1/e_above_hull/PBE/none", "109%"))


@claim("within", "Section II")
def excess_scan(e: Evidence) -> Verdict:
    """Without transfer, the SCAN network's error of E_hull is 23% above that of the PBE network."""
    return Verdict.of(quotient(e.paper, ["table1/e_above_hull/SCAN/none"], "table1/e_above_hull/PBE/none", "123%"))


@claim("within", "Table 1")
def percentages(e: Evidence) -> Verdict:
    """The percentages of Table 1 are the reductions of its errors."""
    rows, wrong = e.paper.table1[e.paper.table1["gain_percent"] != ""].to_dict("records"), []
    for row in rows:
        place = f"table1/{row['label']}/{row['functional']}"
        own, none, gain = (e.paper[f"{place}/{end}"] for end in (row["mode"], "none", f"{row['mode']}/gain"))
        if not (1 - own.over(none).high <= gain.high and gain.low <= 1 - own.over(none).low):
            wrong.append(place_text(row["label"], row["functional"]))
    text = "; not ".join([f"{len(rows) - len(wrong)} of {len(rows)} follow within rounding", *wrong])
    circular = "the misprinted error of the SCAN gap was corrected by means of its percentage"
    return Verdict.of(consistent(not wrong, text, circular=circular))


@claim("within", "Section II", first=True)
def always(e: Evidence) -> Verdict:
    """In all cases transfer, of the whole network or of its head alone, improves the network considerably."""
    ours = [e.better(f"{target}-{mode}", f"{target}-none") for target in TARGETS for mode in ("head", "full")]
    return Verdict.of(table_order(e.paper, ["head", "full"], "none"), *ours)


@claim("within", "Section II")
def energies(e: Evidence) -> Verdict:
    """For E_hull and E_form both procedures give a smaller error than training from scratch."""
    ours = [e.better(f"e_form-r2scan-{mode}", "e_form-r2scan-none") for mode in ("head", "full")]
    return Verdict.of(table_order(e.paper, ["head", "full"], "none", ["e_above_hull", "e_form"]), *ours)


@claim("within", "Section II, Table 1", ("e_above_hull", "SCAN"))
def hull_head(e: Evidence) -> Verdict:
    """Retraining the head alone reduces the error of E_hull by {table1/e_above_hull/PBEsol/head/gain} (PBEsol) and
    {table1/e_above_hull/SCAN/head/gain} (SCAN).
    """
    return Verdict.of(e.absent(NO_HULL, "e_above_hull", BEYOND))


@claim("within", "Section II, Table 1", ("e_above_hull", "SCAN"))
def hull_full(e: Evidence) -> Verdict:
    """Full transfer reduces the error of E_hull by {table1/e_above_hull/PBEsol/full/gain} (PBEsol) and
    {table1/e_above_hull/SCAN/full/gain} (SCAN).
    """
    return Verdict.of(e.absent(NO_HULL, "e_above_hull", BEYOND))


@claim("within", "Section II, Table 1", ("e_form", "SCAN"))
def form_head(e: Evidence) -> Verdict:
    """Retraining the head alone reduces the error of E_form by {table1/e_form/PBEsol/head/gain} (PBEsol) and
    {table1/e_form/SCAN/head/gain} (SCAN).
    """
    return Verdict.of(e.better("e_form-r2scan-head", "e_form-r2scan-none", "table1/e_form/SCAN/head/gain"))


@claim("within", "Section II, Table 1", ("e_form", "SCAN"))
def form_full(e: Evidence) -> Verdict:
    """Full transfer reduces the error of E_form by {table1/e_form/PBEsol/full/gain} (PBEsol) and
    {table1/e_form/SCAN/full/gain} (SCAN).
    """
    return Verdict.of(e.better("e_form-r2scan-full", "e_form-r2scan-none", "table1/e_form/SCAN/full/gain"))


@claim("within", "Table 1", ("volume_per_atom", "PBEsol"))
def volume_head(e: Evidence) -> Verdict:
    """Retraining the head alone reduces the error of PBEsol volumes by {table1/volume_per_atom/PBEsol/head/gain}."""
    gain = "table1/volume_per_atom/PBEsol/head/gain"
    return Verdict.of(
        *(e.better(f"volume-pbesol-head{net}", f"volume-pbesol-none{net}", gain) for net in ("", "-larger"))
    )


@claim("within", "Section II, Table 1", ("volume_per_atom", "PBEsol"), first=True)
def volume_full(e: Evidence) -> Verdict:
    """Full transfer reduces the error of PBEsol volumes by {table1/volume_per_atom/PBEsol/full/gain}."""
    gain = "table1/volume_per_atom/PBEsol/full/gain"
    return Verdict.of(
        *(e.better(f"volume-pbesol-full{net}", f"volume-pbesol-none{net}", gain) for net in ("", "-larger"))
    )


@claim("within", "Section II, Table 1", ("band_gap", "SCAN"), first=True)
def gap_full(e: Evidence) -> Verdict:
    """Full transfer reduces the error of SCAN gaps by {table1/band_gap/SCAN/full/gain}."""
    gain = "table1/band_gap/SCAN/full/gain"
    return Verdict.of(*(e.better(f"gap-{target}-full", f"gap-{target}-none", gain) for target in ("scan", "hse")))


@claim("within", "Section II, Table 1", ("band_gap", "SCAN"))
def gap_head(e: Evidence) -> Verdict:
    """For gaps, retraining the head alone is worse than no transfer ({table1/band_gap/SCAN/head/gain})."""
    gain = "table1/band_gap/SCAN/head/gain"
    return Verdict.of(*(e.worse(f"gap-{target}-head", f"gap-{target}-none", gain) for target in ("scan", "hse")))


@claim("within", "Section II", ("band_gap", "SCAN"))
def gap_open(e: Evidence) -> Verdict:
    """For gaps above 0.1 eV alone, full transfer still reduces the error by {numbers/band_gap_gain_above_cutoff}.

    Tested with networks trained on all gaps.
    """
    return Verdict.of(e.better("gap-hse-full", "gap-hse-none", "numbers/band_gap_gain_above_cutoff", gaps=True))


@claim("within", "Section II, Table 1")
def full_beats_head(e: Evidence) -> Verdict:
    """Full transfer is better than retraining the head, because the embeddings of the functionals differ."""
    ours = [e.better(f"{target}-full", f"{target}-head") for target in TARGETS]
    return Verdict.of(table_order(e.paper, ["full"], "head"), *ours)


@claim("within", "Section II", ("e_above_hull", "SCAN"))
def epochs(e: Evidence) -> Verdict:
    """Full transfer needs about {numbers/full_transfer_epochs} epochs, training from scratch {numbers/epochs}.

    Tested is when full transfer passes the lowest validation error of training from scratch.
    """
    return Verdict.of(*(e.reached_sooner(f"{target}-full", f"{target}-none") for target in TARGETS[:3]))

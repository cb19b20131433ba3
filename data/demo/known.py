"""Well-known compounds that are always in the demo set: (prototype label, {library element: our element})."""

from __future__ import annotations

# (prototype label, library elements of its slots) -> compounds, each with its elements in the order of those slots
_COMPOUNDS: dict[tuple[str, tuple[str, ...]], str] = {
    ("AB_cF8_225_a_b", ("Na", "Cl")): (
        "Li-F Li-Cl Na-F Na-Cl Na-Br K-Cl K-Br K-I Rb-Cl Mg-O Ca-O Sr-O Ba-O Mn-O Ni-O Ti-C Ti-N Zr-N Sc-N Pb-S"
    ),
    ("AB_cP2_221_b_a", ("Cs", "Cl")): "Cs-Cl Cs-Br Cs-I Tl-Cl Ni-Al Cu-Zn Fe-Al Co-Al Ni-Ti Ag-Mg",
    ("AB_cF8_216_c_a", ("Zn", "S")): "Zn-S Zn-Se Zn-Te Cd-Te Ga-As Ga-P In-P In-As Al-P Al-As B-N Si-C Cu-Cl",
    ("AB_hP4_186_b_b", ("Zn", "S")): "Zn-S Zn-O Ga-N Al-N In-N Cd-S Cd-Se Be-O Si-C",
    ("AB_hP4_194_c_a", ("Ni", "As")): "Ni-As Fe-S Cr-Se",
    ("AB_tP4_129_a_c", ("Pb", "O")): "Pb-O Sn-O",
    ("AB_tP2_123_a_d", ("Cu", "Au")): "Cu-Au Fe-Pt Ti-Al",
    ("AB_hP2_187_d_a", ("W", "C")): "W-C W-N",
    ("AB_cP8_198_a_a (FeSi)", ("Fe", "Si")): "Fe-Si Mn-Si",
    ("AB2_cF12_225_a_c", ("Ca", "F")): "Ca-F Sr-F Ba-F Ce-O U-O Th-O O-Li O-Na O-K Si-Mg Ge-Mg",
    ("A2B_tP6_136_f_a", ("Ti", "O")): "Ti-O Sn-O Mn-O Mg-F Ru-O",
    ("A2B_tI12_141_e_a", ("Ti", "O")): "Ti-O",
    ("A2B_hP9_152_c_a", ("Si", "O")): "Si-O Ge-O",
    ("A2B_cF24_227_c_a", ("Si", "O")): "Si-O",
    ("A2B_cP6_224_b_a", ("Cu", "O")): "Cu-O Ag-O",
    ("A2B_cF24_227_d_a", ("Mg", "Cu")): "Mg-Cu Y-Al Ca-Al",
    ("AB2_hP3_164_a_d", ("Cd", "I")): "Cd-I Mg-I Mg-Br Ca-I Ti-S",
    ("AB2_hP6_194_c_f", ("Mo", "S")): "Mo-S W-S Mo-Se Nb-S",
    ("AB2_hP3_191_a_d", ("Al", "B")): "Al-B Mg-B Ti-B Zr-B",
    ("AB2_tI6_139_a_e", ("Mo", "Si")): "Mo-Si W-Si",
    ("AB2_oP6_58_a_g (FeS2)", ("Fe", "S")): "Fe-S",
    ("A2B_tI12_140_h_a", ("Cu", "Al")): "Cu-Al",
    ("AB3_cP4_221_a_c", ("Au", "Cu")): "Au-Cu Al-Ni Sc-Al Ti-Pt Si-Ni",
    ("A3B_cP4_221_d_a", ("Re", "O")): "Re-O W-O Al-F",
    ("AB3_cF16_225_a_bc", ("Bi", "F")): "Bi-F Al-Fe Bi-Li",
    ("A3B_tI8_139_bd_a", ("Ti", "Al")): "Ti-Al",
    ("A3B_cP8_223_c_a", ("Cr", "Si")): "Cr-Si Nb-Sn V-Si",
    ("A3B_hP4_191_bc_a", ("Li", "N")): "Li-N",
    ("AB5_hP6_191_a_cg", ("Ca", "Cu")): "Ca-Cu La-Ni Sm-Co",
    ("A6B_cP7_221_f_a", ("Ca", "B")): "Ca-B La-B",
    ("A2B3_hR10_167_c_e", ("Al", "O")): "Al-O Cr-O Fe-O V-O Ga-O",
    ("A2B3_hR5_166_c_ac", ("Bi", "Te")): "Bi-Te Sb-Te Bi-Se",
    ("AB3C_cP5_221_a_c_b", ("Ca", "Ti", "O")): (
        "Ca-Ti-O Sr-Ti-O Ba-Ti-O Sr-Zr-O Ba-Zr-O K-Ta-O K-Nb-O La-Al-O K-Mg-F Cs-Pb-I Cs-Pb-Br Cs-Sn-I Pb-Ti-O"
    ),
    ("AB3C_hR10_148_c_f_c", ("Fe", "Ti", "O")): "Fe-Ti-O Mg-Ti-O",
    ("ABC3_hR10_161_a_a_b", ("Li", "Nb", "O")): "Li-Nb-O Li-Ta-O",
    ("ABC3_hR10_167_a_b_e (CaCO3)", ("Ca", "C", "O")): "Ca-C-O Mg-C-O Na-N-O",
    ("ABC_cF12_216_b_c_a", ("Mg", "Ag", "As")): "Sn-Ti-Ni Sn-Zr-Ni Mg-Li-As Sb-Ti-Co",
    ("AB2C_cF16_225_a_c_b", ("Mn", "Cu", "Al")): "Mn-Cu-Al Mn-Co-Si Ti-Ni-Sn V-Fe-Al Mn-Ni-Ga",
    ("ABC2_hR4_166_a_b_c", ("Na", "Cr", "S")): "Na-Cr-S Li-Co-O Na-Co-O",
    ("ABC2_tI16_122_a_b_d", ("Cu", "Fe", "S")): "Cu-Fe-S Cu-In-Se Cu-Ga-S Ag-Ga-Se",
    ("ABC_tP6_129_c_a_c", ("Pb", "F", "Cl")): "Pb-F-Cl Ba-F-Cl",
    ("AB2C4_tI14_139_a_e_ce", ("La", "Cu", "O")): "La-Cu-O La-Ni-O Sr-Ti-O",
    ("ABCD_tP8_129_c_b_a_c", ("Zr", "Cu", "Si", "As")): "La-Fe-O-As Zr-Cu-Si-As",
}

KNOWN: list[tuple[str, dict[str, str]]] = [
    (label, dict(zip(slots, compound.split("-"), strict=True)))
    for (label, slots), compounds in _COMPOUNDS.items()
    for compound in compounds.split()
]

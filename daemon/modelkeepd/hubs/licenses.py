"""Which licenses let people sell what they make with a model.

Owns the words of the hubs for licenses. True and False are said only where the license's own text
leaves no doubt; whatever has conditions on who or how much (Llama, Gemma, "other") is None.
"""

_ALLOW = frozenset({
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-2.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "creativeml-openrail-m", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl",
    "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "ms-pl", "ncsa", "odc-by", "openrail",
    "openrail++", "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
})  # fmt: skip
_FORBID = frozenset({"apple-amlr", "fair-noncommercial-research-license", "intel-research"})


def allows_commercial(license_name: str | None) -> bool | None:
    """Whether pictures or texts made with it may be sold; None: nobody can tell from the name."""
    if license_name is None:
        return None
    name = license_name.casefold()
    if name in _ALLOW:
        return True
    if name in _FORBID or name.startswith("cc-by-nc"):
        return False
    return None

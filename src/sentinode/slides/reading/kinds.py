"""The kinds of files that lie where slides are looked for, by their endings, and are not taken for slides."""

from __future__ import annotations

FLAT_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .webp .jp2".split())  # noqa: SIM905
"""Endings of flat pictures, which have to be named by themselves."""

# fmt: off
UNREAD_SUFFIXES = frozenset([
    ".vsi", ".oir", ".oib", ".oif",  # Olympus, Evident
    ".czi", ".zvi", ".lsm",  # Zeiss
    ".isyntax", ".i2syntax",  # Philips
    ".lif", ".lof", ".xlef",  # Leica
    ".qptiff", ".afi", ".ndpis",  # fluorescence of Akoya, Aperio and Hamamatsu
    ".nd2", ".ims", ".mcd",  # Nikon, Imaris, Standard BioTools
    ".kfb", ".sdpc", ".dyqx", ".tmap", ".tron", ".mds", ".mdsx",  # KFBio, Sqray, UNIC, InteMedic, Motic
    ".zarr", ".dzi",  # for browsers
])
# fmt: on
"""Endings of slides, and of folders that are slides, that Sentinode does not read."""

EXPORT = "Export them as OME-TIFF or as pyramidal TIFF: with the scanner's program, QuPath or Bio-Formats (bfconvert)."

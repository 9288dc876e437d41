"""The annotations of a slide: tumour and exclusions, from ASAP, QuPath or NCRF.

Three formats are read, all in pixels of level 0 (``scale`` takes them to another level):

- ASAP's XML, as Camelyon16 and Camelyon17 are annotated: groups ``Tumor``, ``_0``, ``_1`` and ``metastases``
  are tumour, ``Exclusion``, ``_2`` and ``normal`` are cut out of it, and a group lies in others;
- QuPath's GeoJSON: the class of each annotation says what it is, interior rings are holes;
- NCRF's JSON (Li and Ping 2018): ``positive`` and ``negative`` lists of vertices.

The tumour is the union of the tumour regions without the union of the exclusions. Other programs' files are
refused by name.
"""

from sentinode.slides.reading.annotations.matching import Matches, match_annotations, require_truth
from sentinode.slides.reading.annotations.meaning import EXCLUDED_CLASSES, TUMOUR_CLASSES
from sentinode.slides.reading.annotations.raster import fill, rasterise
from sentinode.slides.reading.annotations.reading import ReadingOptions, read_annotations
from sentinode.slides.reading.annotations.regions import BAND, Annotations, Region

__all__ = [
    "BAND",
    "EXCLUDED_CLASSES",
    "TUMOUR_CLASSES",
    "Annotations",
    "Matches",
    "ReadingOptions",
    "Region",
    "fill",
    "match_annotations",
    "rasterise",
    "read_annotations",
    "require_truth",
]

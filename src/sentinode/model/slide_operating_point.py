"""The operating point of a slide: what counts as a lesion on a map, and what a slide's score is.

It is a few numbers, chosen on annotated slides and kept in the bundle's card with what they were chosen on. It is not
the threshold of patches. That is best where half of the patches show tumour, and a slide has a hundred thousand
windows.

All evidence is measured in log-odds of tumour at an even prior (one half). So the prior that a scan was told changes
no lesion.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

PointName = Literal["sensitive", "balanced", "specific"]
POINT_NAMES: Final[tuple[PointName, ...]] = get_args(PointName)
"""The three operating points that a bundle keeps, from many lesions to few."""

ReadingName = Literal["patch", "dense"]
"""How the windows of a map were read: each as a patch of its own, or pooled from one feature map."""

READ: Final[dict[ReadingName, str]] = {"patch": "patch by patch", "dense": "densely"}
"""The readings in words."""

DEFAULT: Final[PointName] = "balanced"

LOG_ODDS_LIMIT: Final = 6.0
"""Log-odds of a window are held between minus and plus this, so that a single window cannot outvote many."""

REFERENCE_MM2: Final = 0.01
"""Area from which the size of a region is counted in doublings: about ten windows of PatchCamelyon's stride."""

UNCERTAIN_ODDS: Final = 1.5
"""A region is uncertain where its odds of being a lesion are up to this factor below those that it must reach."""

CERTAIN: Final = 0.75
"""P(a region is a lesion) from which one lesion may decide on a slide without a look at it: three of four are right."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
Microns = Annotated[float, Field(ge=0, le=2000, allow_inf_nan=False)]


class Record(BaseModel):
    """A part of an operating point: closed to unknown keys, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reached(Record):
    """A figure on the slides that the point was chosen on, with its 95 % interval over slides; None where undefined.

    Attributes:
        n: how many slides or lesions it is a figure of.
    """

    value: float | None = Field(None, allow_inf_nan=False)
    low: float | None = Field(None, allow_inf_nan=False)
    high: float | None = Field(None, allow_inf_nan=False)
    n: int = Field(0, ge=0)

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:.2f} (no interval)"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


class Target(Record):
    """What an operating point was chosen for. At least one is named.

    Attributes:
        false_lesions: false lesions on a slide without tumour, at most, on average.
        clean_negatives: share of the slides without tumour on which no lesion is reported, at least.
        sensitivity: share of the lesions that are found, at least.
    """

    false_lesions: float | None = Field(None, ge=0, le=10_000, allow_inf_nan=False)
    clean_negatives: Share | None = None
    sensitivity: Share | None = None

    @model_validator(mode="after")
    def _check_named(self) -> Target:
        if self.false_lesions is None and self.clean_negatives is None and self.sensitivity is None:
            raise ValueError("no target is named")
        return self

    def __str__(self) -> str:
        parts = []
        if self.false_lesions is not None:
            parts.append(f"at most {self.false_lesions:g} false lesions on a negative slide")
        if self.clean_negatives is not None:
            parts.append(f"at least {self.clean_negatives:.0%} of the negative slides without a lesion")
        if self.sensitivity is not None:
            parts.append(f"at least {self.sensitivity:.0%} of the lesions found")
        return ", ".join(parts)


class ChosenOn(Record):
    """The slides that a point was chosen on. It holds no date, so that the same choice gives the same bytes.

    Attributes:
        description: in words.
        slides, positive, negative: how many there are.
        lesions: annotated on the positive ones.
        window_um: distance of the maps' windows in microns.
        reading: how the maps' windows were read.
        fingerprint: SHA-256 of the maps and of the truth.
    """

    description: str
    slides: int = Field(ge=0)
    positive: int = Field(ge=0)
    negative: int = Field(ge=0)
    lesions: int = Field(ge=0)
    window_um: float | None = Field(None, gt=0, allow_inf_nan=False)
    reading: ReadingName = "patch"
    fingerprint: str = ""

    def fits(self, reading: ReadingName) -> bool:
        """Whether figures on these slides hold for maps of a reading; a point of no slides has no figures."""
        return not self.slides or reading == self.reading

    def caution(self, window_um: float, reading: ReadingName) -> str:
        """Why figures on these slides do not hold for a map; empty where they do.

        Args:
            window_um: distance of the map's windows in microns.
            reading: how they were read.
        """
        differences = []
        if self.window_um is not None and not math.isclose(self.window_um, window_um, rel_tol=0.02):
            differences.append(
                f"It was chosen on maps with a window every {self.window_um:.1f} µm, and this map has one every "
                f"{window_um:.1f} µm: its figures do not hold here."
            )
        if not self.fits(reading):
            differences.append(
                f"It was chosen on maps that were read {READ[self.reading]}, and this map was read {READ[reading]}: "
                "its figures do not hold here."
            )
        return " ".join(differences)

    def __str__(self) -> str:
        counts = f"{self.slides} slides, {self.negative} without tumour, and {self.lesions} lesions"
        return f"{self.description} ({counts})" if self.slides else self.description


class SlideOperatingPoint(Record):
    """What counts as a lesion on a map.

    1. The log-odds of the windows, held between -6 and 6, are smoothed over the tissue on each of ``scales_um``.
    2. Regions are grown where the first of these is above that of ``grow``.
    3. P(a region is a lesion) is a logistic function of its evidence: for each scale the highest smoothed log-odds in
       it, and the base-2 logarithm of its area over 0.01 mm2, by ``weights`` and ``intercept``.
    4. A region that reaches ``reach`` is a lesion.
    5. P(a slide is positive) is a logistic function of the log-odds of its best region.

    Attributes:
        scales_um: standard deviations of the Gaussians in microns, ascending; the first one outlines regions.
        grow: P(tumour) at a prior of one half from which a region is grown.
        weights: one for each scale, and one for the area.
        intercept: of the logistic function.
        reach: the P(region is a lesion) that a region must reach to be reported.
        smallest_mm2: smaller regions are left out.
        slide_slope, slide_intercept: P(slide is positive) from the log-odds of its best region.
        target: what it was chosen for, or None.
        chosen_on: the slides that it was chosen on.
        reached: figures on those slides, by name.
    """

    scales_um: tuple[Microns, ...] = Field(min_length=1, max_length=4)
    grow: Probability
    weights: tuple[Finite, ...]
    intercept: Finite
    reach: Probability
    smallest_mm2: float = Field(0.0, ge=0, le=1000, allow_inf_nan=False)
    slide_slope: float = Field(1.0, gt=0, le=1000, allow_inf_nan=False)
    slide_intercept: Finite = 0.0
    target: Target | None = None
    chosen_on: ChosenOn
    reached: dict[str, Reached] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_features(self) -> SlideOperatingPoint:
        if list(self.scales_um) != sorted(set(self.scales_um)):
            raise ValueError("the scales are not ascending")
        if len(self.weights) != len(self.scales_um) + 1:
            raise ValueError(f"{len(self.scales_um)} scales and the area need {len(self.scales_um) + 1} weights")
        return self

    @property
    def doubtful(self) -> float:
        """P from which a region that is no lesion is listed as uncertain."""
        odds = self.reach / (1 - self.reach) / UNCERTAIN_ODDS
        return odds / (1 + odds)

    @property
    def certain(self) -> float:
        """P from which a lesion decides alone; below it, a reader should look at it."""
        return max(self.reach, CERTAIN)


class SlideOperatingPoints(Record):
    """The operating points by name, and the one that is used where none is asked for."""

    points: dict[PointName, SlideOperatingPoint] = Field(min_length=1)
    default: PointName = DEFAULT

    @model_validator(mode="after")
    def _check_default(self) -> SlideOperatingPoints:
        if self.default not in self.points:
            raise ValueError(f"the default, '{self.default}', is none of the points")
        return self

    @property
    def point(self) -> SlideOperatingPoint:
        """The default."""
        return self.points[self.default]


def _general(reach_log_odds: float) -> SlideOperatingPoint:
    """The general point: one scale of two windows, P(lesion) of one half where its log-odds reach the cut."""
    slope = 1.5
    return SlideOperatingPoint(
        scales_um=(62.0,),
        grow=1 / (1 + math.exp(-1.0)),
        weights=(slope, 0.0),
        intercept=-2.5 * slope,
        reach=1 / (1 + math.exp(-slope * (reach_log_odds - 2.5))),
        chosen_on=ChosenOn(
            description="general default, not chosen for this bundle", slides=0, positive=0, negative=0, lesions=0
        ),
    )


GENERAL: Final = SlideOperatingPoints(
    points={"sensitive": _general(2.0), "balanced": _general(2.5), "specific": _general(3.0)}
)
"""For bundles without operating points of their own. Its P(lesion) is not calibrated."""

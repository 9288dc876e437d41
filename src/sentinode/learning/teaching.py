"""From a review to a better bundle, and to the answer whether it is better."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sentinode.atomic import make_folder, write_text
from sentinode.errors import DataError, Interrupted, OutputError
from sentinode.evaluation.margins import margins_of
from sentinode.learning.comparison import (
    REVIEWED,
    VALID,
    Change,
    SlideChange,
    compare_patches,
    compare_slides,
    lesions_of,
    tally,
)
from sentinode.learning.dealing import Dealt, deal_slides
from sentinode.learning.lessons import Cut, cut_replay, cut_reviewed, mix, patches_of, replay_wanted
from sentinode.learning.page import write_page
from sentinode.learning.reviews import ReviewedSlide, Reviews, read_reviews
from sentinode.learning.verdict import Verdict, decide
from sentinode.model.bundle import DENSE, PATCH, Bundle, Taught, load, require_mpp, with_card
from sentinode.model.card import as_line
from sentinode.model.engines import open_engine
from sentinode.model.slide_operating_point import ChosenOn, SlideOperatingPoint
from sentinode.patches import ALL, PatchData, PatchSet, open_data
from sentinode.progress import console
from sentinode.slides.batch import scan
from sentinode.slides.extract import PER_SLIDE, ExtractOptions
from sentinode.slides.results.batch_points import points_of_batch
from sentinode.slides.scanning.manifest import DONE, MANIFEST, Settings, read_batch
from sentinode.slides.scanning.probability_map import RECORD, ProbabilityMap, open_map
from sentinode.training import train
from sentinode.training.checkpoint import CHECKPOINT
from sentinode.training.job import BUNDLE, refuse_to_overwrite
from sentinode.training.parent import open_parent

PLAN, RESULT, PAGE = "lesson.json", "learned.json", "learned.html"
"""What the run was begun with, and what came of it."""

SHARE = 0.2
"""Share of the patches of a pass that are of the review, where the original patches are mixed in."""

MOST_REPEATS = 10
"""How often a pass shows a patch of the review, at most."""

PASSES_ALONE = 4
"""Passes over the patches where the original ones are not mixed in: a review gives few steps a pass."""


@dataclass(frozen=True)
class Learned:
    """A bundle that was taught with a review, and how it compares with the one before.

    Attributes:
        bundle: the new one.
        verdict: ``helped``, ``harmed``, ``mixed`` or ``cannot be told``, and a sentence.
        changes: the figures of both bundles.
        slides: the slides held back, by both bundles.
        lesson: what it was taught with.
        notes: what to bear in mind, as sentences.
        page: the comparison, one HTML file.
    """

    bundle: Bundle
    verdict: Verdict
    changes: tuple[Change, ...]
    slides: tuple[SlideChange, ...]
    lesson: Taught
    notes: tuple[str, ...]
    page: Path

    def as_dict(self) -> dict[str, Any]:
        """The content of ``learned.json``."""
        made_from = self.bundle.card.made_from
        return {
            "verdict": self.verdict.name,
            "sentence": self.verdict.sentence,
            "old": None if made_from is None else made_from.model_dump(),
            "new": {"name": self.bundle.card.name, "fingerprint": self.bundle.fingerprint},
            "changes": [change.as_dict() for change in self.changes],
            "slides": [asdict(slide) for slide in self.slides],
            "lesson": self.lesson.model_dump(),
            "notes": list(self.notes),
        }


@dataclass
class _Work:
    """All that the steps of one call share."""

    maps: Path
    out: Path
    old: Bundle
    settings: Settings
    reviews: Reviews
    dealt: Dealt
    data: Path | None
    valid: Path | None
    cutting: ExtractOptions
    share: float
    recipe: tuple[str, ...]
    device: str
    show: bool
    notes: list[str] = field(default_factory=list)

    def slides(self, names: Iterable[str]) -> list[ReviewedSlide]:
        wanted = set(names)
        return [slide for slide in self.reviews.slides if slide.name in wanted]

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)
        if self.show:
            console.print("Note:", style="yellow", end=" ")
            console.print(sentence, markup=False)

    def tell(self, sentence: str) -> None:
        if self.show:
            console.print(sentence, markup=False)


def learn(
    maps: str | Path,
    out: str | Path,
    *,
    start_from: str | Path | Bundle,
    data: str | Path | None = None,
    valid: str | Path | None = None,
    slides: Iterable[str | Path] = (),
    without: Sequence[str] = (),
    hold_out: int | None = None,
    share: float = SHARE,
    per_slide: int = PER_SLIDE,
    settings: Iterable[str] = (),
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    show: bool = True,
) -> Learned:
    """Teach a bundle with the reviews beside the maps of a scan, and compare it with the one before.

    Some reviewed slides are held back. Patches are cut from what was judged on the others and mixed with the original
    ones, or, where these are not at hand, with a replay sample (see :mod:`sentinode.learning.lessons`). Training goes
    on from the bundle for one pass, or, without ``data``, for four. Then both bundles are compared on the slides held
    back and on valid patches.

    ``out`` is a run as :func:`sentinode.train` makes it, with the new bundle in ``out/bundle``. ``learned.html`` and
    ``learned.json`` hold the comparison.

    Args:
        maps: the ``--out`` folder of the scan that was reviewed.
        out: the run's folder.
        start_from: the bundle to teach; ``packaged`` is the bundled model.
        data: the labelled patches that the bundle was trained on, with a train and a valid split.
        valid: labelled patches to compare the bundles on: their valid split, or all where they have no splits. None
            for the valid split of ``data``. Without ``data``, the calibration and the threshold are chosen on them.
        slides: files and folders to look for the slides in, where they are no longer where they were scanned.
        without: the names of slides that are left out.
        hold_out: how many reviewed slides are held back; None for a third, two at least. With 0 all of them teach.
        share: share of the patches of a pass that are of the review, with ``data``; each is shown ten times at most.
        per_slide: patches of each class from a slide at most.
        settings: overrides of the recipe, such as ``training.epochs=2``.
        resume: go on where an earlier call with the same arguments stopped; begin if there is none.
        device: where to compute.
        seed: random seed for the slides that are held back and for the choice of patches.
        show: whether to show progress on standard error.

    Raises:
        DataError: nobody has reviewed a slide, too few slides are reviewed, or what was reviewed cannot teach; the
            patches are not such as the bundle takes; or the run in ``out`` was begun with other arguments.
        SlideError: a reviewed slide is gone or was changed, or a map or a review is damaged.
        BundleError: the bundle cannot be loaded, its network is a class of its author's, or its microns per pixel are
            unknown.
        RecipeError: a setting is wrong.
        OutputError: ``out`` cannot be written, or contains a run and ``resume`` is False.
        Interrupted: Ctrl-C was pressed; the work so far is saved.
    """
    old = _open_old(start_from)
    if not 0 < share < 1:
        raise DataError(f"a share of {share:g} is not possible.", where="--share", hint="Give one such as 0.2.")
    reviews = read_reviews(Path(maps), elsewhere=map(Path, slides), without=without)
    checking = data is None and valid is None
    dealt = deal_slides(reviews.slides, hold_out=hold_out, checking=checking, seed=seed)
    batch, _ = read_batch(Path(maps) / MANIFEST)
    work = _Work(
        maps=Path(maps),
        out=Path(out),
        old=old,
        settings=batch,
        reviews=reviews,
        dealt=dealt,
        data=None if data is None else Path(data),
        valid=None if valid is None else Path(valid),
        cutting=_cutting(old, batch, per_slide, seed, show),
        share=share,
        recipe=tuple(settings),
        device=device,
        show=show,
    )
    _require_lesson(work)
    _open_valid(work)  # patches that the bundle does not take are refused before the work begins
    _settle(work, resume)
    _announce(work)
    cuts = _cut_all(work)
    new = _teach(work, cuts)
    changed = _compare_slides(work, new)
    changes = [*compare_slides(changed), *_compare_patches(work, new, cuts["held"])]
    assert new.card.taught is not None
    learned = Learned(
        bundle=new,
        verdict=decide(changes),
        changes=tuple(changes),
        slides=tuple(changed),
        lesson=new.card.taught,
        notes=tuple(work.notes),
        page=work.out / PAGE,
    )
    write_text(work.out / RESULT, json.dumps(learned.as_dict(), indent=2, allow_nan=False) + "\n")
    write_page(work.out / PAGE, learned.as_dict(), changes)
    return learned


def _open_old(start_from: str | Path | Bundle) -> Bundle:
    bundle = open_parent(start_from).bundle
    assert bundle is not None
    require_mpp(bundle)
    return bundle


def _cutting(bundle: Bundle, batch: Settings, per_slide: int, seed: int, show: bool) -> ExtractOptions:
    """How the patches of a review are cut: as near to each other as the windows of a scan, for lesions are small."""
    geometry = bundle.card.geometry
    return ExtractOptions(
        per_slide=per_slide,
        geometry=geometry,
        spacing=geometry.label_region,
        annotated_only=True,
        mpp=batch.mpp,
        seed=seed,
        show=show,
    )


def _require_lesson(work: _Work) -> None:
    """Refuse a review that can only teach to find less, or that has nothing to teach.

    Raises:
        DataError: it is such a review.
    """
    teach = work.slides(work.dealt.teach)
    tumour, normal = any(slide.has_tumour for slide in teach), any(slide.has_normal for slide in teach)
    if not (tumour or normal):
        raise DataError(
            f"nothing was accepted, rejected or drawn on the {len(teach)} slides that would teach.",
            where=work.maps,
            hint="Accept or reject lesions, or draw regions, first.",
        )
    if tumour:
        return
    only = "the slides that would teach have only rejected lesions and what was drawn as no tumour"
    if work.data is None:
        raise DataError(
            f"{only}: from these alone a network learns to find less.",
            where=work.maps,
            hint="Accept the lesions that are right, draw those that were missed, or give the original patches with "
            "--data DATA.",
        )
    work.note(f"{only[0].upper()}{only[1:]}. The only tumour in this lesson is that of {work.data}.")


def _settle(work: _Work, resume: bool) -> None:
    """Write down what the run is begun with, or make sure that it is the same as before.

    Raises:
        OutputError: there is a run, and it is not to go on.
        DataError: the run was begun with something else.
    """
    plan = {
        "bundle": work.old.fingerprint,
        "review": work.reviews.digest,
        "slides": asdict(work.dealt),
        "data": None if work.data is None else str(work.data.resolve()),
        "valid": None if work.valid is None else str(work.valid.resolve()),
        "share": work.share,
        "patches of a slide": work.cutting.per_slide,
        "seed": work.cutting.seed,
        "settings": list(work.recipe),
    }
    plan = json.loads(json.dumps(plan))
    path = work.out / PLAN
    refuse_to_overwrite(work.out, resume)
    if path.exists() and not resume:
        raise OutputError(
            "this folder already contains a run of 'sentinode learn'.",
            where=work.out,
            hint="Continue it with --resume, or choose another folder with --out.",
        )
    if not path.exists():
        if resume and (work.out / CHECKPOINT).exists():
            raise OutputError(
                "the run in this folder is not one of 'sentinode learn'.", where=work.out, hint="Choose another --out."
            )
        make_folder(work.out)
        write_text(path, json.dumps(plan, indent=1) + "\n")
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key, value in plan.items() if begun[key] != value]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("what this run was begun with cannot be read.", where=path, hint="Begin another.") from error
    if other:
        raise DataError(
            f"the run in this folder was begun otherwise ({', '.join(other)} differ). A slide that was held back "
            "could have taught it.",
            where=work.out,
            hint="Resume with the same review and options, or begin in another folder.",
        )


def _announce(work: _Work) -> None:
    reviews, dealt = work.reviews, work.dealt
    people = len({who for slide in reviews.slides for who in slide.reviewers})
    work.tell(
        f"{len(reviews.slides)} slides are reviewed, by {people} reviewer{'' if people == 1 else 's'}. "
        f"{len(dealt.teach)} teach: {', '.join(dealt.teach)}. "
        + (f"{len(dealt.hold)} are held back: {', '.join(dealt.hold)}." if dealt.hold else "None is held back.")
        + (f" {len(dealt.check)} check the training: {', '.join(dealt.check)}." if dealt.check else "")
    )
    if reviews.unreviewed:
        work.note(f"{len(reviews.unreviewed)} scanned slides are not reviewed, and do not count.")
    if reviews.left_out:
        work.note(f"Left out as you asked: {', '.join(reviews.left_out)}.")
    for sentence in reviews.disagreements:
        work.note(f"Two reviewers disagree, and the later one counts. {sentence}.")
    others = [slide.name for slide in reviews.slides if slide.bundle != work.old.fingerprint]
    if others:
        work.note(
            f"Another bundle than --from made the maps of {len(others)} reviewed slides, such as {others[0]}: the "
            "review speaks of that one's errors. The slides held back are scanned with both bundles."
        )
    if work.settings.icc:
        work.note("The maps were scanned with --icc, and patches are cut without it.")
    if work.data is not None:
        _say_whether_known(work)


def _say_whether_known(work: _Work) -> None:
    """Note where the patches of ``--data`` are not those that the bundle was trained on."""
    data = _original(work)
    seen = work.old.card.data.get("fingerprint", {}).get("train")
    if "train" in data.splits and seen is not None and data["train"].fingerprint() != seen:
        work.note(
            f"{work.data} is not the data that the bundle was trained on: what it shows is learnt, and what it lacks "
            "may be forgotten."
        )
    if known := sorted(data.slides("train") & set(work.dealt.hold)):
        work.note(
            f"{len(known)} slides held back, such as {known[0]}, are called like slides of {work.data}. If they are "
            "the same, both bundles were trained on them."
        )


def _cut_all(work: _Work) -> dict[str, Cut]:
    """The patches of the lesson, of the slides that check it, and of those held back."""
    patches, dealt = work.out / "patches", work.dealt
    teach, check, hold = (work.slides(names) for names in (dealt.teach, dealt.check, dealt.hold))
    cuts = {
        "taught": cut_reviewed(teach, patches / "taught", work.cutting),
        "held": cut_reviewed(hold, patches / "held-out", work.cutting),
        "checked": cut_reviewed(check, patches / "checked", work.cutting),
    }
    if cuts["taught"].total == 0:
        raise DataError(
            "what was judged gives no patch: none of it lies on tissue and away from the slide's border, or the "
            "regions are smaller than the square that a label covers.",
            where=work.maps,
            hint="Review larger lesions, or draw regions.",
        )
    if work.data is None:
        for name, slides, of in (("replay", teach, "taught"), ("checked replay", check, "checked")):
            folder = patches / name.replace(" ", "-")
            cuts[name] = cut_replay(slides, folder, work.cutting, wanted=replay_wanted(cuts[of]))
    for name, words in (("taught", "The review gives"), ("replay", "The replay sample gives")):
        if name in cuts:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted((cuts[name].kinds or {}).items()))
            work.tell(f"{words} {cuts[name].total} patches: {kinds or 'none'}.")
    return cuts


def _teach(work: _Work, cuts: dict[str, Cut]) -> Bundle:
    """The new bundle; trained unless it is there."""
    if (work.out / BUNDLE).exists() and (done := load(work.out)).card.taught is not None:
        return done
    data, also, repeats = _training_data(work, cuts)
    going_on = (work.out / CHECKPOINT).exists()
    recipe = work.recipe if work.data is not None else (f"training.epochs={PASSES_ALONE}", *work.recipe)
    try:
        bundle = train(
            data,
            work.out,
            start_from=None if going_on else work.old,
            resume=going_on,
            also=also,
            settings=() if going_on else recipe,
            device=work.device,
            show=work.show,
        )
    except Interrupted as stopped:
        raise Interrupted(
            stopped.what, where=work.out, hint="Run the same command with --resume to continue."
        ) from None
    return _finish_card(work, bundle, cuts, repeats)


def _training_data(work: _Work, cuts: dict[str, Cut]) -> tuple[Path, list[Path], int]:
    """The patches to train on, further ones, and how often a pass shows the patches of the review."""
    taught = cuts["taught"]
    assert taught.path is not None
    if work.data is not None:
        wanted = work.share / (1 - work.share) * len(_original(work)["train"]) / taught.total
        repeats = min(max(round(wanted), 1), MOST_REPEATS)
        return work.data, [taught.path] * repeats, repeats
    training = [*patches_of(taught), *patches_of(cuts["replay"])]
    valid = _open_valid(work)
    checked = [valid] if valid is not None else [*patches_of(cuts["checked"]), *patches_of(cuts["checked replay"])]
    for words, sets in (("teach", training), ("check the training", checked)):
        labels = {int(label) for one in sets for label in set(one.labels.tolist())}
        if labels != {0, 1}:
            lacks = "tumour" if 0 in labels else "normal tissue"
            raise DataError(
                f"the patches that {words} lack {lacks}.",
                where=work.maps,
                hint="Review more slides, or give the original patches with --data DATA.",
            )
    return mix(work.out / "patches" / "mixed", training, checked, work.old.card.geometry), [], 1


def _original(work: _Work) -> PatchData:
    """The original patches, with the splits that training makes where they have none of their own."""
    assert work.data is not None
    seed = int(work.old.card.recipe.get("split", {}).get("seed", 0))
    return open_data(work.data, seed=seed, expected=work.old.card.expected, show=work.show)


def _finish_card(work: _Work, bundle: Bundle, cuts: dict[str, Cut], repeats: int) -> Bundle:
    """The bundle with where it comes from, and the slide operating points of the old one carried over."""
    slides = work.slides(work.dealt.teach)
    kinds = {**(cuts["taught"].kinds or {}), **(cuts["replay"].kinds or {} if "replay" in cuts else {})}
    taught = Taught(
        slides={as_line(slide.name): slide.record.fingerprint for slide in slides},
        held_out=list(map(as_line, work.dealt.hold)),
        checked_on=list(map(as_line, work.dealt.check)),
        patches=dict(sorted(kinds.items())),
        repeated=repeats,
        with_data=None if work.data is None else as_line(work.data.resolve().name),
        reviewers=len({who for slide in slides for who in slide.reviewers}),
        disagreements=len(work.reviews.disagreements),
        review=work.reviews.digest,
    )
    old = work.old.card
    points = {name: _carried(point, work.old) for name, point in old.slide_operating_points.items()}
    update = {
        "taught": taught,
        "slide_operating_points": points,
        "slide_operating_point": old.slide_operating_point,
    }
    return with_card(bundle, bundle.card.model_copy(update=update))


def _carried(point: SlideOperatingPoint, old: Bundle) -> SlideOperatingPoint:
    """A slide operating point of the old bundle, without the figures that it reached there."""
    described = point.chosen_on.description
    if "carried over" not in described:
        described = (
            f"{described}, for the bundle {old.card.name} ({old.fingerprint[:12]}): carried over, and not chosen for "
            "this bundle"
        )
    chosen_on = ChosenOn(
        description=described,
        slides=0,
        positive=0,
        negative=0,
        lesions=0,
        window_um=point.chosen_on.window_um,
        reading=point.chosen_on.reading,
    )
    return point.model_copy(update={"target": None, "reached": {}, "chosen_on": chosen_on})


def _open_valid(work: _Work) -> PatchSet | None:
    """The valid patches to compare on, or None where there are none."""
    if work.valid is not None:
        data: PatchData = open_data(work.valid, whole=True, expected=work.old.card.expected, show=False)
        if not {ALL, "valid"} & set(data.splits):
            raise DataError(
                f"there is no valid split here, only {' and '.join(data.splits)}.",
                where=work.valid,
                hint="Give data with a valid split, or without splits.",
            )
        return data["valid" if "valid" in data.splits else ALL]
    if work.data is None:
        return None
    return _original(work)["valid"]


def _compare_patches(work: _Work, new: Bundle, held: Cut) -> list[Change]:
    """The AUC on valid and on the patches of the slides held back, by both bundles."""
    valid = _open_valid(work)
    sets = [(VALID, valid, True)] if valid is not None else []
    sets += [(REVIEWED, patches, False) for patches in patches_of(held)]
    changes = []
    for name, patches, decides in sets:
        if len(set(patches.labels.tolist())) < 2:
            work.note(f"The {name} cannot be measured: these {len(patches)} patches are of one class.")
            continue
        margins = [
            margins_of(open_engine(bundle, device=work.device), patches, f"Comparing {which}", work.show)
            for which, bundle in (("old", work.old), ("new", new))
        ]
        changes.append(compare_patches(name, patches, *margins, decides=decides))
    return changes


def _compare_slides(work: _Work, new: Bundle) -> list[SlideChange]:
    """The slides held back, scanned with the new bundle, and with the old one where its maps are not there."""
    hold = work.slides(work.dealt.hold)
    if not hold:
        return []
    point = points_of_batch(work.maps).point
    card = new.card
    if not card.slide_operating_points:
        work.note("The bundle has no slide operating point of its own. Choose one with 'sentinode operate'.")
    else:
        work.note(
            "The slide operating points are carried over from the old bundle and were not chosen for the new one. "
            "Choose them anew on annotated slides with 'sentinode operate'."
        )
    reading = work.settings.reading
    if reading == DENSE and DENSE not in card.readings:
        reading = PATCH
        work.note(
            "Dense reading could not be measured for the new bundle. The slides held back are scanned patch by patch."
        )
    elif reading == DENSE and not card.dense_is_as_good:
        work.note("Dense reading is not as good as patch by patch for the new bundle: by default, it scans the latter.")
    same = all(slide.bundle == work.old.fingerprint for slide in hold) and reading == work.settings.reading
    before = (
        {slide.record.fingerprint: open_map(slide.folder) for slide in hold}
        if same
        else _scanned(work, hold, work.old, reading, "old")
    )
    after = _scanned(work, hold, new, reading, "new")
    return [
        SlideChange(
            slide.name,
            slide.whole,
            lesions_of(slide),
            *(tally(slide, scanned[slide.record.fingerprint], point) for scanned in (before, after)),
        )
        for slide in hold
    ]


def _scanned(
    work: _Work, hold: Sequence[ReviewedSlide], bundle: Bundle, reading: str, which: str
) -> dict[str, ProbabilityMap]:
    """The maps of the slides held back by a bundle, by the slides' fingerprints; scanned unless they are there.

    Raises:
        DataError: a slide could not be scanned.
    """
    settings, folder = work.settings, work.out / "held-out" / which
    work.tell(f"Scanning {len(hold)} slides held back with the {which} bundle.")
    states = scan(
        bundle,
        [slide.path for slide in hold],
        folder,
        stride=settings.stride,
        prior=settings.prior,
        mpp=settings.mpp,
        icc=settings.icc,
        reading=reading,
        device=work.device,
        show=work.show,
    )
    if failed := [state for state in states if state.state != DONE]:
        raise DataError(
            f"{len(failed)} slides held back could not be scanned, the first for this reason: {failed[0].reason}",
            where=folder,
            hint="Put the slide right and run the same command with --resume.",
        )
    maps = [open_map(record.parent) for record in folder.glob(f"*/{RECORD}")]
    return {one.slide.fingerprint: one for one in maps}

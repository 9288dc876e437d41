"""A slide's verdict: one sentence, and the regions on which it hangs."""

import dataclasses

import numpy as np
from made_maps import blob, made_map, made_point

from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.results.verdict import verdict_of


def verdict(*regions, reach=0.5, unassessable=None):
    """The verdict on a slide with a square of 10 windows (0.44 mm) for each probability."""
    probability = blob(100, 100)
    for at, high in enumerate(regions):
        top, left = divmod(at, 4)
        probability[20 * top + 2 : 20 * top + 12, 20 * left + 2 : 20 * left + 12] = high
    return verdict_of(
        find_lesions(with_unassessable(made_map(probability), unassessable), point=made_point(grow=0.3, reach=reach))
    )


def with_unassessable(made, shares):
    """The same map, which says that shares of its tissue cannot be judged."""

    class Partly(type(made)):
        unassessable = property(lambda _: shares or {})

    return Partly(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})


def test_a_certain_lesion_decides():
    found = verdict(0.99, 0.6)
    assert found.sentence == "Micrometastasis: 2 lesions, the largest 0.44 mm."
    assert (found.certain, found.look_at, found.not_judged) == (True, (), "")
    assert found.probability > 0.98


def test_a_slide_that_hangs_on_one_weak_region_says_which():
    found = verdict(0.6, 0.45)
    assert found.sentence == "Micrometastasis, uncertain: look at region 1 (P(lesion) 0.60, 0.44 mm)."
    assert (found.certain, found.look_at) == (False, (1,))


def test_several_weak_regions_are_named_up_to_three():
    assert "look at regions 1 and 2 (" in verdict(0.7, 0.6).sentence
    assert verdict(0.7, 0.65, 0.6, 0.55).look_at == (1, 2, 3)


def test_nothing_near_a_lesion_is_negative_and_certain():
    found = verdict(0.3)
    assert (found.sentence, found.certain) == ("Negative: no lesion was found.", True)


def test_a_region_that_comes_near_makes_negative_uncertain():
    found = verdict(0.45)
    assert found.sentence == "Negative, uncertain: look at region 1 (P(lesion) 0.45, 0.44 mm)."
    assert not found.certain and found.look_at == (1,)


def test_a_slide_of_which_nothing_can_be_assessed_has_no_verdict():
    nothing = verdict_of(find_lesions(made_map(np.full((5, 5), np.nan))))
    assert nothing.sentence.startswith("Not judged") and nothing.probability is None and not nothing.certain


def test_what_could_not_be_judged_is_said_and_much_of_it_makes_negative_uncertain():
    little, much = (verdict(unassessable={"blurred": share, "pen": 0.04}) for share in (0.05, 0.3))
    assert little.not_judged == "9.0% of the tissue could not be judged (blurred 5.0%, pen 4.0%)."
    assert little.certain and not much.certain
    assert "in the tissue that could be judged" in much.sentence
    assert verdict(0.99, unassessable={"blurred": 0.3}).certain


def test_shares_that_would_be_shown_as_nothing_are_not_listed():
    assert verdict(unassessable={"ink": 0.0004}).not_judged == "Less than 0.1% of the tissue could not be judged."
    assert verdict(unassessable={"ink": 0.0004, "fold": 0.0003}).not_judged == "0.1% of the tissue could not be judged."
    some = verdict(unassessable={"fold": 0.02, "ink": 0.0002})
    assert some.not_judged == "2.0% of the tissue could not be judged (fold 2.0%)."

"""The step that a network takes on a batch: what it shall answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from sentinode.errors import RecipeError
from sentinode.model.classifier import build_classifier
from sentinode.recipes import load_recipe
from sentinode.training.learner import Learner, Stage
from sentinode.training.optimisation import moving_average

STAGE = Stage(1, "all layers", epochs=4, steps=40, head_only=False)


def a_learner(
    teacher: float, parts: int = 2, *, surroundings: float = 0.0, backbone: str = "test_resnet", side: int = 0
) -> Learner:
    settings = [f"training.teacher={teacher}", "training.ema=0.9", f"training.surroundings={surroundings}"]
    recipe = load_recipe("quick", settings)
    network = build_classifier(backbone, side=side)[0]
    average = moving_average(network, 0.9)
    network.load_state_dict(build_classifier(backbone, side=side)[0].state_dict())  # so that the two answer otherwise
    return Learner(Fabric(accelerator="cpu"), recipe, STAGE, network, average, parts)


def test_without_a_teacher_the_targets_are_the_labels() -> None:
    images, labels = torch.randint(256, (4, 96, 96, 3), dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    targets = a_learner(0.0)._targets(images, labels, step=20)
    assert torch.equal(targets, torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0]]))


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (5, 0.2), (10, 0.4), (39, 0.4)])
def test_the_moving_average_has_its_share_of_the_targets_after_a_first_pass(step: int, share: float) -> None:
    images, labels = torch.randint(256, (4, 96, 96, 3), dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    learner = a_learner(0.4)
    assert learner.average is not None
    with torch.no_grad():
        taught = learner.average.module.eval()(images).softmax(1)
    expected = (1 - share) * torch.nn.functional.one_hot(labels, 2) + share * taught
    torch.testing.assert_close(learner._targets(images, labels, step), expected)


def test_teaching_changes_nothing_in_the_moving_average() -> None:
    learner = a_learner(0.4)
    assert learner.average is not None
    before = {key: value.clone() for key, value in learner.average.state_dict().items()}
    learner._targets(torch.randint(256, (4, 96, 96, 3), dtype=torch.uint8), torch.tensor([0, 1, 1, 0]), step=20)
    assert all(torch.equal(value, before[key]) for key, value in learner.average.state_dict().items())


def test_a_step_that_ran_out_of_memory_draws_what_it_would_have_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.randint(256, (8, 96, 96, 3), dtype=torch.uint8), torch.arange(8) % 2
    given = images.clone()
    in_halves = a_learner(0.4)
    in_quarters = a_learner(0.4, parts=4)
    in_quarters.network.load_state_dict(in_halves.network.state_dict())
    in_quarters.average.load_state_dict(in_halves.average.state_dict())
    compute = Learner._gradients

    def small_memory(self: Learner, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = compute(self, images, targets)  # memory runs out after some gradients are there
        if self.parts < 4:
            raise torch.OutOfMemoryError("out of memory")
        return loss

    monkeypatch.setattr(Learner, "_gradients", small_memory)
    for learner in (in_halves, in_quarters):
        learner.set_mode()
    # The statistics of batch norms move at each attempt, and the weights' gradients do not depend on them.
    losses = [learner.train_step(images, labels, step=20) for learner in (in_halves, in_quarters)]
    assert in_halves.parts == 4
    assert losses[0] == losses[1]
    assert torch.equal(images, given)
    for ours, theirs in zip(in_halves.network.parameters(), in_quarters.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("surroundings", "sides"), [(0.0, {96}), (1.0, {96 + 2 * 32}), (0.5, {96, 96 + 2 * 32})])
def test_in_a_share_of_the_steps_patches_lie_in_their_mirror_image(surroundings: float, sides: set[int]) -> None:
    learner = a_learner(0.0, surroundings=surroundings)
    rng = torch.Generator().manual_seed(0)
    images = torch.from_numpy(np.random.default_rng(0).integers(256, size=(2, 96, 96, 3), dtype=np.uint8))
    seen = [learner._surrounded(images, rng) for _ in range(20)]
    assert {each.shape[1] for each in seen} == sides
    for each in seen:
        around = (each.shape[1] - 96) // 2
        assert torch.equal(each[:, around : around + 96, around : around + 96], images)
        assert torch.equal(each[:, : 2 * around], each[:, : 2 * around].flip(1))


def test_surroundings_for_a_network_that_cannot_read_densely_are_refused() -> None:
    with pytest.raises(RecipeError, match="cannot read densely") as refused:
        a_learner(0.0, surroundings=0.5, backbone="test_vit", side=160)
    assert refused.value.where == "training.surroundings"

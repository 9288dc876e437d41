"""One stage's optimiser, and the step that it takes on each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from lightning.fabric import Fabric
from timm.utils.distributed import distribute_bn
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from sentinode.augmentation.transforms import Augment
from sentinode.errors import BundleError, DeviceError, RecipeError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.classifier import Classifier
from sentinode.model.dense import lattice_of, with_surroundings
from sentinode.progress import console
from sentinode.recipes import Recipe
from sentinode.training.optimisation import (
    AVERAGED_EVERY,
    clip_gradients,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)


@dataclass(frozen=True)
class Stage:
    """A part of the run in which the same layers learn."""

    index: int
    title: str
    epochs: int
    steps: int
    head_only: bool


class Learner:
    """What learns in a stage, its optimiser, and its steps.

    Args:
        fabric: the device, the precision and the other processes.
        recipe: every hyperparameter.
        stage: which layers learn, and for how many steps.
        network: uint8 (B, S, S, 3) to logits (B, 2).
        average: the moving average of the network's weights, or None.
        parts: portions in which a batch is computed; doubled when memory runs out.
        geometry: of the patches.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        stage: Stage,
        network: nn.Module,
        average: AveragedModel | None,
        parts: int,
        geometry: PatchGeometry = PCAM,
    ) -> None:
        self.fabric, self.recipe, self.stage = fabric, recipe, stage
        self.network, self.average, self.parts = network, average, parts
        self.rate = 0.0
        self.augment = Augment(**recipe.augment.model_dump(), geometry=geometry)
        self.surroundings = 0
        if recipe.training.surroundings and not stage.head_only:
            self.surroundings = _pixels_around(network)
        self.learns = network.head if stage.head_only and isinstance(network, Classifier) else network
        optimizer = make_optimizer(self.learns, recipe.optimizer, head_only=stage.head_only)
        compiled = cast(nn.Module, torch.compile(self.learns)) if recipe.training.compile else self.learns
        self.forward, self.optimizer = fabric.setup(compiled, optimizer)

    def set_mode(self) -> None:
        """Training mode for what learns; a frozen backbone keeps its batch norms' statistics."""
        self.network.eval()
        self.learns.train()

    def train_step(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """One step of the optimiser on uint8 (B, S, S, 3) and int64 (B,).

        Returns the mean loss of the whole batch, that of the other processes' shares included.
        """
        self._set_rate(step)
        loss = self._gradients_within_memory(images, labels, step)
        if self.recipe.optimizer.gradient_clip:
            clip_gradients(self.optimizer.optimizer, self.recipe.optimizer.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None and ((step + 1) % AVERAGED_EVERY == 0 or step + 1 == self.stage.steps):
            self.share_statistics()
            self.average.update_parameters(self.network)
        return loss if self.fabric.world_size == 1 else cast(Tensor, self.fabric.all_reduce(loss, reduce_op="mean"))

    def share_statistics(self) -> None:
        """Give all processes the mean of their batch norms' running statistics, so that all hold the same network.

        Each has seen its own share of the patches. Means are averaged, and so are variances, as timm's training does.
        """
        if self.fabric.world_size > 1:
            distribute_bn(self.learns, self.fabric.world_size, reduce=True)  # type: ignore[no-untyped-call]

    def _gradients_within_memory(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """Add this batch's gradients, computed in more parts where memory does not hold it at once.

        Returns the mean loss of this process's share.
        """
        while True:
            rng = self._seed(step)  # before each attempt, so that all draw the same
            try:
                targets = self._targets(images, labels, step)
                augmented = self.augment(images, rng)
                mixed, targets = self.augment.mix(augmented, targets, rng)
                return self._gradients(self._surrounded(mixed, rng), targets)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(images), error)

    def _surrounded(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """In the recipe's share of the steps, the patches in a narrow part of their mirror image.

        So the network learns to do without the zeros at a patch's border, which dense reading does not have.
        """
        share = self.recipe.training.surroundings
        if not self.surroundings or not float(torch.rand((), generator=rng)) < share:
            return images
        return with_surroundings(images, self.surroundings)

    def _set_rate(self, step: int) -> None:
        optimizer = self.recipe.optimizer
        peak = optimizer.head_lr if self.stage.head_only else optimizer.lr
        self.rate = peak * learning_rate_factor(step, self.stage.steps, optimizer)
        set_learning_rate(self.optimizer, self.rate)

    def _targets(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """The targets, (B, 2): the labels, and a share of the moving average's predictions.

        A network memorises wrong labels late. The average has not learnt them yet, and so corrects them (mean teacher,
        Tarvainen and Valpola 2017; for wrong labels, Liu et al. 2020). It sees the patches without augmentation.
        """
        targets = functional.one_hot(labels, 2).float()
        if self.average is None or not self.recipe.training.teacher:
            return targets
        share = self.recipe.training.teacher * min(1.0, step * self.stage.epochs / self.stage.steps)
        self.average.eval()
        with torch.no_grad(), self.fabric.autocast():
            logits = torch.cat([self.average.module(part) for part in images.chunk(self.parts)])
        return targets.lerp(logits.float().softmax(1), share)

    def _seed(self, step: int) -> torch.Generator:
        """Random numbers that follow from the step alone, so that a resumed run draws what it would have drawn."""
        numbers = (self.recipe.training.seed, self.stage.index, step, self.fabric.global_rank)
        seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.manual_seed(seed)  # dropout draws from the global generator
        return torch.Generator().manual_seed(seed)

    def _gradients(self, images: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=images.device)
        portions = list(zip(images.chunk(self.parts), targets.chunk(self.parts), strict=True))
        for number, (inputs, wanted) in enumerate(portions, 1):
            more = number < len(portions) and self.fabric.world_size > 1
            with self.fabric.no_backward_sync(self.forward, enabled=more):
                logits = self.forward(self._inputs(inputs)).float()
                loss = functional.cross_entropy(
                    logits, wanted, label_smoothing=self.recipe.training.label_smoothing
                ) * (len(inputs) / len(images))
                self.fabric.backward(loss)
            total += loss.detach()
        return total

    def _inputs(self, images: Tensor) -> Tensor:
        """What the learning part takes: patches, or the frozen backbone's features of them."""
        if self.learns is self.network or not isinstance(self.network, Classifier):
            return images
        with torch.no_grad(), self.fabric.autocast():
            return self.network.features(images)

    def _halve(self, size: int, error: RuntimeError) -> None:
        if self.fabric.world_size > 1 or self.parts >= size:
            raise DeviceError(
                f"there is not enough memory, even for a batch in {self.parts} parts.",
                where=str(self.fabric.device),
                hint="Set training.accumulate higher, or choose a smaller backbone.",
            ) from error
        self.parts *= 2
        self.optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        console.print(f"Out of memory: computing each batch of {size} in {self.parts} parts from now on.", markup=False)


def _pixels_around(network: nn.Module) -> int:
    """Pixels of surroundings on each side of a patch: about a quarter of it, and a whole number of cells.

    Raises:
        RecipeError: the network cannot read densely.
    """
    try:
        lattice = lattice_of(network.eval())
    except BundleError as error:
        raise RecipeError(
            error.what, where="training.surroundings", hint="Leave training.surroundings at 0 for this network."
        ) from error
    return min(lattice.up(lattice.size / 4), lattice.size)


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text or "out of memory" in text

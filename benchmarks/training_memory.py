"""How much memory a training step holds: the figures of docs/full-pcam.md.

    python benchmarks/training_memory.py [--recipe full_pcam] [--set KEY=VALUE]...

Counts, on any machine, the bytes of every tensor that the forward pass keeps for the backward pass in bfloat16, for two
sizes of batch, so that what belongs to a patch and what belongs to the network come apart; and adds the weights, their
gradients, the optimiser's two moments and the moving average. What a device needs beside these (workspaces of its
libraries, fragments) is not counted. With CUDA, it also takes two steps there and prints what PyTorch held at most. A
teacher's pass keeps nothing for backward, and is left out.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional

from sentinode.augmentation.transforms import Augment
from sentinode.model.classifier import PATCH, build_classifier
from sentinode.recipes import Recipe, load_recipe
from sentinode.training.optimisation import make_optimizer

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="full_pcam")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe's key")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, [*arguments.set, "model.weights=none"])
    network, _ = build_classifier(**recipe.model.model_dump())
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    few, many = kept(network, 8), kept(network, 16)
    each = (many - few) / 8
    parameters = sum(parameter.numel() for parameter in network.parameters())
    copies = 4 + bool(recipe.training.ema)  # weights, gradients, two moments, and the average
    fixed = copies * 4 * parameters + (few - 8 * each)
    batch = recipe.training.batch_size // recipe.training.accumulate
    print(f"{recipe.model.backbone}, {parameters / 1e6:.1f} million parameters, batches of {batch}")
    print(f"kept for backward, a patch      {each / MIB:8.1f} MiB")
    print(f"weights and all that follows    {fixed / MIB:8.0f} MiB")
    print(f"together                        {(fixed + batch * each) / MIB:8.0f} MiB")
    if torch.cuda.is_available():
        print(f"held at most on the device      {on_device(network, recipe, batch) / MIB:8.0f} MiB")


def kept(network: nn.Module, count: int) -> int:
    """Bytes that the forward pass of ``count`` patches in bfloat16 keeps for backward, parameters apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(count, PATCH, PATCH, 3, dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        logits = network(images)  # held until the count is done, or storages would be used twice
        found = sum(size for place, size in storages.items() if place not in own)
    del logits
    return found


def on_device(network: nn.Module, recipe: Recipe, batch: int) -> int:
    """Bytes that PyTorch held at most in two steps on the GPU."""
    device = torch.device("cuda")
    network = network.to(device)
    optimizer = make_optimizer(network, recipe.optimizer)
    augment = Augment(**recipe.augment.model_dump())
    images = torch.randint(256, (batch, PATCH, PATCH, 3), dtype=torch.uint8, device=device)
    labels = torch.arange(batch, device=device) % 2
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            logits = network(augment(images, torch.Generator().manual_seed(0))).float()
        functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    average = sum(p.numel() * 4 for p in network.parameters()) if recipe.training.ema else 0
    return torch.cuda.max_memory_allocated() + average


if __name__ == "__main__":
    main()

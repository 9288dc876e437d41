"""What an installation weighs: each extra's packages with all that they need, from the records of this environment.

python benchmarks/install_size.py
"""

from __future__ import annotations

import argparse
from importlib import metadata

from packaging.requirements import Requirement

COMBINATIONS = ((), ("slides",), ("slides", "fast"), ("train", "slides", "fast", "app"))
PYTORCH = ("torch", "triton", "nvidia-", "cuda-")


def needed(name: str, extras: frozenset[str], seen: dict[str, int]) -> dict[str, int]:
    """The bytes of every distribution that ``name`` needs, by name, added to ``seen``."""
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        key = requirement.name.lower().replace("_", "-")
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras)
        if not wanted:
            continue
        if key == name:
            needed(name, frozenset(requirement.extras), seen)
        elif key not in seen:
            files = metadata.files(key) or []
            seen[key] = sum(file.size or 0 for file in files)
            needed(key, frozenset({"", *requirement.extras}), seen)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=12, help="how many packages to name")
    arguments = parser.parse_args()
    for extras in COMBINATIONS:
        sizes = needed("sentinode", frozenset({"", *extras}), {})
        heavy = sum(size for key, size in sizes.items() if key.startswith(PYTORCH))
        total = sum(sizes.values())
        print(f"sentinode[{','.join(extras)}]: {len(sizes)} packages, {total / 1e6:,.0f} MB", end="")
        print(f", {(total - heavy) / 1e6:,.0f} MB of them not PyTorch and CUDA")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[: arguments.largest]:
        print(f"  {name:24} {size / 1e6:8,.0f} MB")
    print(f"PyTorch {metadata.version('torch')}")


if __name__ == "__main__":
    main()

"""Make a run the bundle that comes with Sentinode, and write its model card.

    python benchmarks/package_bundle.py --data DATA --run RUN [--initial-weights TEXT] [--set KEY=VALUE]

RUN was trained on patches that are CC0 alone, from nothing or from weights whose licence permits it:
`sentinode train DATA --out RUN --recipe slides`. Where it began with a file, say what that was, and its licence. Where
it went on from a bundle, state with --set what it changed in the recipe. The
bundle goes to src/sentinode/packaged, its card to docs/model-card.md and docs/images/stress.png. DATA has valid and
test. Before that, `sentinode check` measures how RUN reads densely, and slide_point.py chooses its slide operating
point and writes the copy that is packaged.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from sentinode.evaluation import evaluate
from sentinode.evaluation.stress import stress
from sentinode.model import bundle as bundles
from sentinode.model.site_reference import write_reference
from sentinode.patches import open_data
from sentinode.recipes import load_recipe
from sentinode.scoring import METRICS

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
DOCS = Path(__file__).parents[1] / "docs"
LARGEST = 5_000_000
LICENCE = "Apache-2.0, as Sentinode; trained on PatchCamelyon, which is CC0."
PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0")
NOTHING = "random initialisation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled patches with valid and test")
    parser.add_argument("--run", type=Path, required=True, help="the run, or its bundle")
    parser.add_argument("--initial-weights", help="what the run's weights file was, and its licence")
    parser.add_argument("--recipe", default="slides", help="the shipped recipe that the run followed")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="what the run changed in it")
    parser.add_argument("--name", default="sentinode-small")
    arguments = parser.parse_args()
    trained = bundles.load(arguments.run)
    initial = trained.card.initial_weights
    if initial.startswith("file ") and arguments.initial_weights:
        initial = arguments.initial_weights
    if initial != NOTHING and not re.search(rf"\b({'|'.join(map(re.escape, PERMISSIVE))})\b", initial.lower()):
        raise SystemExit(
            f"{arguments.run} began with {initial}: no permissive licence is stated, so it is not shipped."
        )
    if not follows(trained.card, arguments.recipe, arguments.set):
        raise SystemExit(f"{arguments.run} did not follow the recipe {arguments.recipe} {' '.join(arguments.set)}.")
    if trained.card.toy:
        raise SystemExit(f"{arguments.run} was trained on generated patches: it is a toy.")
    recipe = {**trained.card.recipe, "model": dict(trained.card.recipe["model"])}
    recipe["model"]["weights"] = Path(recipe["model"]["weights"]).name  # a file's place is of no use elsewhere
    changed = {"name": arguments.name, "licence": LICENCE, "initial_weights": initial, "recipe": recipe}
    card = trained.card.model_copy(update=changed)
    packaged = bundles.save(bundles.PACKAGED, trained.classifier(), card)
    data = open_data(arguments.data)
    packaged = write_reference(packaged, data["valid"])
    size = sum(file.stat().st_size for file in bundles.PACKAGED.iterdir())
    if size > LARGEST:
        raise SystemExit(f"{size:,} bytes are too many for the repository.")
    with tempfile.TemporaryDirectory() as folder:
        scores = {
            name: evaluate(packaged, data, name.partition("_")[0], Path(folder, name), tta=name.endswith("_tta")).scores
            for name in ("valid", "valid_tta", "test", "test_tta")
        }
        stress(packaged, data, "valid", folder, precision="float32")
        shutil.copyfile(Path(folder, "stress.png"), DOCS / "images" / "stress.png")
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        TEMPLATE.read_text("utf-8")
    )
    counts = {split: sum(counted.values()) for split, counted in card.data["counts"].items()}
    page = template.render(card=card, counts=counts, size=size, figures=METRICS, recipe=arguments.recipe, **scores)
    (DOCS / "model-card.md").write_text(page, encoding="utf-8", newline="\n")
    print(DOCS / "model-card.md")


def follows(card: bundles.Card, recipe: str, changed: Sequence[str] = ()) -> bool:
    """Whether a run followed a shipped recipe with what it changed, its initial weights and its seed aside.

    The run may be older than a key of the recipe. It then had the key's default.
    """
    trained = load_recipe(card.recipe)
    settings = [f"model.weights={trained.model.weights}", f"training.seed={card.seed}"]
    return trained == load_recipe(recipe, [*settings, *changed])


if __name__ == "__main__":
    main()

"""A frozen backbone: uint8 patches in, one vector of features for each patch out. Nothing of it is trained."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import errors as hub
from torch import Tensor, nn

import sentinode.model.equivariant  # noqa: F401  (timm learns its names)
from sentinode.errors import BundleError, RecipeError, WeightsError, nearest
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle, load
from sentinode.model.bundle_files import is_bundle
from sentinode.model.classifier import MEAN, STD, Classifier, Pool, input_unit, load_backbone, pooling_for
from sentinode.progress import console

PACKAGED = "packaged"
"""The word that stands for the bundle that comes with Sentinode."""

HUBS = ("hf-hub:", "hf_hub:")
LOCAL = "local-dir:"
POOLINGS = ("own", "avg", "max", "avgmax", "centre", "avgcentre")
"""How a feature map becomes one vector; ``own`` is what the backbone or the bundle does by itself."""


@dataclass(frozen=True)
class Frozen:
    """A backbone that is ready to compute features.

    Attributes:
        network: from uint8 (B, S, S, 3) to float (B, D).
        name: what the user called it.
        weights: a sentence on the source of its weights.
        digest: SHA-256 of its weights.
        side: pixels to which each side of a patch is enlarged.
        dimension: D, the number of features.
        pooling: one of ``POOLINGS``.
    """

    network: nn.Module
    name: str
    weights: str
    digest: str
    side: int
    dimension: int
    pooling: str


class _Features(nn.Module):
    """A classifier's backbone, and what makes one vector of its output."""

    def __init__(self, classifier: Classifier, pool: nn.Module | None) -> None:
        super().__init__()
        self.classifier, self.pool = classifier, pool

    def forward(self, images: Tensor) -> Tensor:
        if self.pool is not None:
            return torch.as_tensor(self.pool(self.classifier.features(images))).float()
        return torch.as_tensor(self.classifier.backbone(self.classifier.prepare(images))).float()


def open_backbone(
    source: str | Path | Bundle,
    geometry: PatchGeometry,
    *,
    weights: str | Path = "pretrained",
    pooling: str = "own",
    side: int = 0,
    options: Iterable[str] = (),
) -> Frozen:
    """Open a backbone for patches of a geometry.

    Args:
        source: a timm name such as ``resnet50``, ``hf-hub:ORGANISATION/MODEL``, a folder with a model of the hub
            (``config.json`` and weights), a bundle or its path, or ``packaged``.
        geometry: of the patches.
        weights: ``pretrained``, ``none``, or a file with timm's key names. Bundles and folders have their own.
        pooling: one of ``POOLINGS``.
        side: pixels to which patches are enlarged; 0 for the size of the patch, or for the size of the pretraining
            where the network takes only one.
        options: arguments of the network as ``KEY=VALUE``, such as ``init_values=1e-5``.

    Raises:
        RecipeError: there is no such backbone, or it does not take these patches, this pooling or an option.
        WeightsError: its weights cannot be had: no network, no access, or a file that does not fit.
        BundleError: the bundle cannot be loaded, or its network is a class of its author's.
    """
    if pooling not in POOLINGS:
        raise RecipeError(
            f"there is no pooling '{pooling}' for features.", hint=f"Choose one of {', '.join(POOLINGS)}."
        )
    bundle = _as_bundle(source)
    if bundle is not None:
        classifier, name, origin = _of_bundle(bundle, geometry, weights, side, options)
        pool: nn.Module | None = next(iter(classifier.head.children()))
    else:
        name = str(source)
        classifier, origin = _of_timm(name, geometry, str(weights), side, _parsed(options), pooled=pooling == "own")
        pool = None
    if pooling != "own":
        pool = Pool(pooling_for(pooling, geometry), geometry)
    network = _Features(classifier, pool).eval().requires_grad_(False)
    dimension = _dimension(network, name)
    return Frozen(network, name, origin, _digest(network), classifier.side, dimension, pooling)


def _as_bundle(source: str | Path | Bundle) -> Bundle | None:
    """The bundle that ``source`` names, or None where it names something else."""
    if isinstance(source, Bundle):
        return source
    if str(source) == PACKAGED:
        return load()
    path = Path(source)
    if is_bundle(path) or is_bundle(path / "bundle"):
        return load(path)
    return None


def _of_bundle(
    bundle: Bundle, geometry: PatchGeometry, weights: str | Path, side: int, options: Iterable[str]
) -> tuple[Classifier, str, str]:
    """A bundle's network, its name, and where its weights are from."""
    if str(weights) != "pretrained" or side or list(options):
        raise RecipeError(
            "a bundle has its own weights, side and options.",
            where=bundle.path,
            hint="Leave out --weights, --side and --option, or name a timm backbone.",
        )
    network = bundle.classifier()
    if not isinstance(network, Classifier):
        raise BundleError(
            f"its network is a class of its author's, {bundle.card.architecture.class_name}: it has no backbone whose "
            "features are known.",
            where=bundle.path,
            hint="Write the features with your own code, as an .npz with the arrays features, labels, ids and split.",
        )
    if network.geometry.size != geometry.size:
        size = network.geometry.size
        raise BundleError(
            f"the bundle takes patches of {size} x {size} pixels, and these have {geometry.size} x {geometry.size}.",
            where=bundle.path,
            hint="Name a timm backbone, which takes any size, or give patches of the bundle's size.",
        )
    return network, bundle.card.name, f"bundle {bundle.card.name} ({bundle.fingerprint[:12]})"


def _of_timm(
    name: str, geometry: PatchGeometry, weights: str, side: int, options: dict[str, Any], *, pooled: bool
) -> tuple[Classifier, str]:
    """A network of timm, of its hub or of a folder, and where its weights are from."""
    address = _address(name)
    pretrained = weights in ("pretrained", "imagenet")
    if address.startswith(LOCAL) and not pretrained:
        raise RecipeError("this folder has its own weights.", where=name, hint="Leave out --weights.")
    options |= {"num_classes": 0} | ({} if pooled else {"global_pool": ""})
    net = _create(address, name, options, pretrained)
    config = getattr(net, "pretrained_cfg", None) or {}
    native = int((config.get("input_size") or (3, geometry.size))[-1])
    wanted = side or (native if config.get("fixed_input_size") else geometry.size)
    if wanted < geometry.size:
        raise RecipeError(
            f"patches of {geometry.size} x {geometry.size} pixels would be reduced to {wanted} x {wanted}.",
            where=name,
            hint=f"Set --side to {geometry.size} or more.",
        )
    if config.get("fixed_input_size") and wanted != native:
        net = _create(address, name, options | {"img_size": wanted}, pretrained)
    if wanted % input_unit(net):
        unit = input_unit(net)
        raise RecipeError(
            f"'{name}' cannot take {wanted} x {wanted} pixels: its side must be a multiple of {unit}.",
            where=name,
            hint=f"For example --side {-(-wanted // unit) * unit}",
        )
    origin = "random initialisation"
    if pretrained:
        origin = f"{config.get('hf_hub_id') or address} ({config.get('license') or 'licence not stated'})"
    elif weights != "none":
        origin = load_backbone(net, Path(weights))
    mean, std = config.get("mean") or MEAN, config.get("std") or STD
    return Classifier(net, nn.Identity(), mean, std, wanted, geometry), origin


def _address(name: str) -> str:
    """What timm is asked for.

    Raises:
        RecipeError: it is a file, an empty folder, or no name that timm knows.
    """
    path = Path(name.removeprefix(LOCAL))
    if name.startswith(HUBS):
        return name
    if path.is_file():
        raise RecipeError(
            "this is a file: it does not say which network its weights belong to.",
            where=name,
            hint=f"Name the network too: --backbone NAME --weights {name}",
        )
    if path.is_dir() or name.startswith(LOCAL):
        if not (path / "config.json").is_file():
            raise RecipeError(
                "there is neither a bundle (card.json) nor a model of the hub (config.json) in this folder.",
                where=name,
                hint="Give a bundle, a folder with config.json and weights, or a name that timm knows.",
            )
        return f"{LOCAL}{path}"
    if not timm.is_model(name.partition(".")[0]):
        guess = nearest(name, timm.list_models())
        raise RecipeError(
            f"timm has no backbone '{name}'{f'; did you mean {guess!r}' if guess else ''}, and there is no bundle or "
            "folder of this name.",
            where="--backbone",
            hint="Give a timm name such as resnet50, hf-hub:ORGANISATION/MODEL, a folder, or a bundle.",
        )
    return name


def _create(address: str, name: str, options: dict[str, Any], pretrained: bool) -> nn.Module:
    """The network from timm; whatever goes wrong is said in plain words."""
    if pretrained and not address.startswith(LOCAL):
        console.print(f"Fetching the weights of {name}, unless they are in the cache.", markup=False)
    try:
        # timm opens safetensors, or pickles of tensors alone.
        return timm.create_model(address, pretrained=pretrained, **options)
    except (AssertionError, TypeError) as error:
        given = ", ".join(f"{key}={value}" for key, value in options.items() if key not in ("num_classes",))
        raise RecipeError(
            f"the network does not take these options ({given}): {_first_line(error)}.",
            where=name,
            hint="Change or leave out --option and --side.",
        ) from error
    except Exception as error:  # the hub's client raises whatever its transport does
        raise _refusal(name, error) from error


def _refusal(name: str, error: BaseException) -> WeightsError:
    """What the hub's or timm's error means, and what to do."""
    page = f"https://huggingface.co/{name.partition(':')[2].partition('@')[0]}" if name.startswith(HUBS) else "its page"
    causes = list(_chain(error))
    if any(isinstance(cause, hub.GatedRepoError) for cause in causes):
        return WeightsError(
            "this model is gated: the hub gives it only to people who have accepted its conditions, and asks for "
            "their token.",
            where=name,
            hint=f"Accept the conditions on {page}, then run `hf auth login`, or set HF_TOKEN to your token.",
        )
    if any(isinstance(cause, hub.RepositoryNotFoundError) for cause in causes):
        return WeightsError(
            "the hub has no such model, or it is private.",
            where=name,
            hint="Check the name. For a private model run `hf auth login`, or set HF_TOKEN to your token.",
        )
    if any(_of_network(cause) for cause in causes):
        return WeightsError(
            "the hub cannot be reached, and the weights are not in the cache.",
            where=name,
            hint="Check the network (`sentinode doctor`), or give the weights as a file with --weights FILE, or a "
            "folder with config.json and weights with --backbone FOLDER.",
        )
    return WeightsError(
        f"its weights cannot be had ({_first_line(error)}).",
        where=name,
        hint="Give a file with --weights FILE, or random weights with --weights none.",
    )


def _of_network(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, hub.LocalEntryNotFoundError | hub.OfflineModeIsEnabled | ConnectionError) or bool(
        names
        & {"ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ProxyError", "URLError"}
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")[:160].rstrip(". ")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _parsed(options: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as arguments; values are read as in a recipe.

    Raises:
        RecipeError: one is not of this form, or names what Sentinode sets itself.
    """
    found: dict[str, Any] = {}
    for text in options:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key.isidentifier() or key in ("pretrained", "num_classes", "global_pool", "img_size"):
            raise RecipeError(
                f"'{text}' is not an option of a network.",
                where="--option",
                hint="For example --option init_values=1e-5. The size is --side, and the pooling --pooling.",
            )
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found


@torch.inference_mode()
def _dimension(network: _Features, name: str) -> int:
    """The number of features, seen on one blank patch.

    Raises:
        RecipeError: it takes no such patches, or its output is not one vector for each patch.
    """
    blank = torch.zeros(2, *network.classifier.geometry.shape, dtype=torch.uint8)
    try:
        features = network(blank)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        side = network.classifier.side
        raise RecipeError(
            f"it cannot take {side} x {side} pixels ({_first_line(error)}).",
            where=name,
            hint="Enlarge the patches with --side, for example to 224.",
        ) from error
    if features.dim() != 2 or features.shape[0] != 2 or not features.shape[1]:
        raise RecipeError(
            f"this backbone gives no features: its output has the shape {tuple(features.shape)}, not one vector for "
            "each patch.",
            where=name,
            hint="Choose another --pooling, such as avg, or another backbone.",
        )
    return int(features.shape[1])


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

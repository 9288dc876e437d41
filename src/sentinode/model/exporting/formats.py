"""The formats of an export: how each is written, and how it is loaded again by the program that runs it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sentinode.geometry import PatchGeometry
from sentinode.model.exporting.networks import FromFloats

INPUT, OUTPUT = "images", "logits"
OPSET = 17
"""Of ONNX: the version of its operators, which onnxruntime reads since 1.12."""

Facts = Mapping[str, Any]
"""What an export says of itself, fit for JSON."""
Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 (B, S, S, 3) to logits (B, 2)."""


@dataclass(frozen=True)
class Format:
    """One format of an export.

    Attributes:
        files: what it consists of; the first is the network.
        packages: what it needs beside PyTorch.
        extra: the extra of Sentinode that installs them.
        write: writes a network into a folder, with the export's facts inside where the format has room for them.
        load: opens what lies in a folder as a program would that has never seen Sentinode.
        floats: whether it takes float32 (B, 3, S, S) from 0 to 1, in place of uint8 (B, S, S, 3).
    """

    files: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str
    write: Callable[[nn.Module, PatchGeometry, Path, Facts], None]
    load: Callable[[Path], Scorer]
    floats: bool = False

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


def _write_onnx(network: nn.Module, geometry: PatchGeometry, folder: Path, facts: Facts) -> None:
    import onnx

    path = folder / ONNX.files[0]
    batch = {0: "batch"}
    with _quiet_torch():
        torch.onnx.export(
            network,
            (_example(geometry),),
            str(path),
            dynamo=False,  # the other exporter needs one more package, and fixes the batch of some networks
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: batch, OUTPUT: batch},
        )
    model = onnx.load(str(path))
    model.producer_name, model.producer_version = "sentinode", facts["versions"]["sentinode"]
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in facts.items()})
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path), full_check=True)


def _load_onnx(folder: Path) -> Scorer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / ONNX.files[0]), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def _write_openvino(network: nn.Module, geometry: PatchGeometry, folder: Path, facts: Facts) -> None:
    import openvino

    from sentinode.model.engines.openvino_conversion import _quiet as quiet_openvino

    with quiet_openvino():
        model = openvino.convert_model(
            network, example_input=_example(geometry), input=openvino.PartialShape([-1, *geometry.shape])
        )
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    for key, value in facts.items():
        model.set_rt_info(_text(value), ["sentinode", key])
    # By itself it would round the weights to float16.
    openvino.save_model(model, folder / OPENVINO.files[0], compress_to_fp16=False)


def _load_openvino(folder: Path) -> Scorer:
    import openvino

    compiled = openvino.Core().compile_model(folder / OPENVINO.files[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: np.asarray(compiled({INPUT: images})[OUTPUT])


def _write_torchscript(network: nn.Module, geometry: PatchGeometry, folder: Path, facts: Facts) -> None:
    _save_traced(network, _example(geometry), folder / TORCHSCRIPT.files[0], facts)


def _load_torchscript(folder: Path) -> Scorer:
    traced = _load_traced(folder / TORCHSCRIPT.files[0])
    return lambda images: _scored(traced, torch.from_numpy(images))


def _write_wsinfer(network: nn.Module, geometry: PatchGeometry, folder: Path, facts: Facts) -> None:
    model, config = WSINFER.files
    floats = _example(geometry).permute(0, 3, 1, 2) / 255
    _save_traced(FromFloats(network).eval(), floats, folder / model, facts)
    (folder / config).write_text(json.dumps(wsinfer_config(facts), indent=2) + "\n", encoding="utf-8", newline="\n")


def wsinfer_config(facts: Facts) -> dict[str, Any]:
    """WSInfer's description of a model.

    https://github.com/SBU-BMI/wsinfer-zoo/blob/main/wsinfer_zoo/schemas/model-config.schema.json
    There is no ``Normalize`` among the transforms: the network normalises its input itself.
    """
    return {
        "spec_version": "1.0",
        "architecture": facts["architecture"],
        "num_classes": 2,
        "class_names": facts["class_names"],
        "name": facts["name"],
        "patch_size_pixels": facts["patch_size"],
        "spacing_um_px": facts["mpp"],
        "transform": [{"name": "Resize", "arguments": {"size": facts["patch_size"]}}, {"name": "ToTensor"}],
        "sentinode": {key: facts[key] for key in ("probability", "temperature_applied", "threshold", "intended_use")},
    }


def _load_wsinfer(folder: Path) -> Scorer:
    traced = _load_traced(folder / WSINFER.files[0])
    # torchvision's ToTensor, which WSInfer applies: bytes divided by 255.
    return lambda images: _scored(traced, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


def _save_traced(network: nn.Module, example: Tensor, path: Path, facts: Facts) -> None:
    with _quiet_torch(), torch.inference_mode():
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path), _extra_files={"sentinode.json": json.dumps(facts).encode()})


def _load_traced(path: Path) -> nn.Module:
    with _quiet_torch():
        traced: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return traced


@torch.inference_mode()
def _scored(network: nn.Module, images: Tensor) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = network(images).numpy()
    return logits


def _example(geometry: PatchGeometry) -> Tensor:
    """Two patches of noise: a batch of one would be taken for the only size."""
    noise = np.random.default_rng(0).integers(256, size=(2, *geometry.shape), dtype=np.uint8)
    return torch.from_numpy(noise)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """Without the warnings of tracing, since comparing with PyTorch shows what they warn of, and of its future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


ONNX = Format(("model.onnx",), ("onnx", "onnxruntime"), "export", _write_onnx, _load_onnx)
OPENVINO = Format(("model.xml", "model.bin"), ("openvino",), "fast", _write_openvino, _load_openvino)
TORCHSCRIPT = Format(("model.pt",), (), "", _write_torchscript, _load_torchscript)
WSINFER = Format(("torchscript_model.pt", "config.json"), (), "", _write_wsinfer, _load_wsinfer, floats=True)
FORMATS = {"onnx": ONNX, "openvino": OPENVINO, "torchscript": TORCHSCRIPT, "wsinfer": WSINFER}

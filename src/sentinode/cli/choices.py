"""The options that take one of a few words. Help prints the words, and the shell completes them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

NamedSplit = Literal["train", "valid", "test"]
Split = Literal["train", "valid", "test", "all"]
Precision = Literal["auto", "float32", "bfloat16", "int8"]
TableFormat = Literal["csv", "kaggle", "parquet", "jsonl"]
ExportFormat = Literal["onnx", "openvino", "torchscript", "wsinfer"]
Reading = Literal["auto", "dense", "patch"]
PointName = Literal["sensitive", "balanced", "specific"]
OnCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Share the work on a Ray cluster: 'auto' is the one of this computer, ray://HOST:10001 another, 'local' "
        "one that is started for this command. All computers must see the inputs and the output folder at the same "
        "paths.",
    ),
]
SlidePoint = Annotated[
    PointName | None,
    typer.Option(
        "--operating-point",
        help="Operating point for slides, which says what counts as a lesion: many and more false ones, or few. "
        "Without it, the batch keeps its earlier choice. The first choice is the bundle's default.",
    ),
]

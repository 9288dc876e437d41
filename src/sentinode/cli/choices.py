"""The options that take one of a few words. Help prints the words, and the shell completes them."""

from __future__ import annotations

from typing import Literal

NamedSplit = Literal["train", "valid", "test"]
Split = Literal["train", "valid", "test", "all"]
Precision = Literal["auto", "float32", "bfloat16"]
TableFormat = Literal["csv", "kaggle", "parquet", "jsonl"]
Reading = Literal["auto", "dense", "patch"]

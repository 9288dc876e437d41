"""Bundles that nobody should send: each is the bundled model with one thing changed, its checksums written anew."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentinode.model.bundle import ASSIGNMENT, CARD, CHECKSUMS, PACKAGED, WEIGHTS

Change = Callable[[Path], None]
Tables = dict[str, Any]


def odd_bundle(folder: Path, change: Change) -> Path:
    """The bundled model in ``folder``, changed, with checksums that are right unless the change wrote its own."""
    bundle = Path(shutil.copytree(PACKAGED, folder / "odd", ignore=shutil.ignore_patterns("__pycache__")))
    (bundle / CHECKSUMS).unlink()
    change(bundle)
    if not os.path.lexists(bundle / CHECKSUMS):
        write_sums(bundle)
    return bundle


def write_sums(bundle: Path, *further: str) -> None:
    """Checksums of what lies there as regular files, and ``further`` lines."""
    files = [file for file in sorted(bundle.iterdir()) if file.is_file() and file.name != CHECKSUMS]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]
    (bundle / CHECKSUMS).write_text("\n".join([*sums, *further]) + "\n", "utf-8")


def card(**changes: object) -> Change:
    """The card with other values; ``a__b`` is the key b of the table a."""

    def change(bundle: Path) -> None:
        tables = json.loads((bundle / CARD).read_text("utf-8"))
        for name, value in changes.items():
            *path, last = name.split("__")
            table = tables
            for key in path:
                table = table[key]
            table[last] = value
        (bundle / CARD).write_text(json.dumps(tables), "utf-8")

    return change


def without(key: str) -> Change:
    """The card without a key."""

    def change(bundle: Path) -> None:
        tables = json.loads((bundle / CARD).read_text("utf-8"))
        del tables[key]
        (bundle / CARD).write_text(json.dumps(tables), "utf-8")

    return change


def text(old: str, new: str) -> Change:
    """The card's text with something replaced, for what JSON has no word for."""

    def change(bundle: Path) -> None:
        content = json.dumps(json.loads((bundle / CARD).read_text("utf-8")))
        assert old in content
        (bundle / CARD).write_text(content.replace(old, new, 1), "utf-8")

    return change


def instead(name: str, content: bytes) -> Change:
    """Other bytes in the place of a file."""

    def change(bundle: Path) -> None:
        (bundle / name).write_bytes(content)

    return change


def link(name: str, target: str) -> Change:
    """A symbolic link in the place of a file; the checksums name the content that it has now."""

    def change(bundle: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).symlink_to(target)

    return change


def fifo(name: str) -> Change:
    """A pipe in the place of a file: who opens it waits for ever."""

    def change(bundle: Path) -> None:
        write_sums(bundle, *([] if (bundle / name).exists() else [f"{'0' * 64}  {name}"]))
        (bundle / name).unlink(missing_ok=True)
        os.mkfifo(bundle / name)

    return change


def folder(name: str) -> Change:
    """A folder in the place of a file."""

    def change(bundle: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).mkdir()

    return change


def sums(*lines: str) -> Change:
    """Right checksums, and further lines."""
    return lambda bundle: write_sums(bundle, *lines)


def sparse(name: str, size: int) -> Change:
    """A file that takes no room and is read for hours."""

    def change(bundle: Path) -> None:
        write_sums(bundle)
        with (bundle / name).open("r+b") as file:
            file.truncate(size)

    return change


def split(rows: str) -> Change:
    """A split file of these rows."""
    return instead(ASSIGNMENT, gzip.compress(rows.encode("utf-8")))


def bomb(bundle: Path) -> None:
    """A split file of 400 MB in 400 kB."""
    (bundle / ASSIGNMENT).write_bytes(gzip.compress(b"id,split\n") + 100 * gzip.compress(b"a" * 4_000_000))


def truncated_split(bundle: Path) -> None:
    """A split file that ends in the middle."""
    rows = "id,split\n" + "".join(f"patch{i},train\n" for i in range(1000))
    (bundle / ASSIGNMENT).write_bytes(gzip.compress(rows.encode())[:-200])


def weights(number: float) -> Change:
    """Weights among which one tensor holds this number."""

    def change(bundle: Path) -> None:
        data = bytearray((bundle / WEIGHTS).read_bytes())
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        first = next(place for place in header.values() if place.get("dtype") == "F32" and len(place["shape"]) == 4)
        begin, end = (8 + length + offset for offset in first["data_offsets"])
        data[begin:end] = struct.pack("<f", number) * ((end - begin) // 4)
        (bundle / WEIGHTS).write_bytes(data)

    return change


def header(edit: Callable[[Tables], Tables]) -> Change:
    """Weights with another header; the bytes of the tensors stay."""

    def change(bundle: Path) -> None:
        data = (bundle / WEIGHTS).read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        text = json.dumps(edit(json.loads(data[8 : 8 + length]))).encode()
        (bundle / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return change


def a_huge_tensor(tables: Tables) -> Tables:
    """A header that speaks of terabytes that the file does not have."""
    return tables | {"huge": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}


def renamed(tables: Tables) -> Tables:
    """A header in which one tensor has another name."""
    name = next(key for key in tables if key != "__metadata__")
    tables["x." + name] = tables.pop(name)
    return tables


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(bundle: Path) -> None:
        for each in changes:
            each(bundle)

    return change


DEEP = "[" * 100_000 + "]" * 100_000
NESTED: Any = 0
for _ in range(60):
    NESTED = [NESTED]
HALF = {"value": 0.5, "rule": "half", "chosen_on": "valid", "n": 1}
AUC = {"value": 0.9, "low": 0.8, "high": 0.95}

CARDS: dict[str, tuple[Change, str]] = {
    "a patch size of 0": (card(format=2, patch_size=0), "patch_size"),
    "a negative patch size": (card(format=2, patch_size=-96), "patch_size"),
    "a patch size of a million": (card(format=2, patch_size=10**6), "patch_size"),
    "another patch size in format 1": (card(patch_size=95), "format 1"),
    "a patch larger than what the network sees": (card(format=2, patch_size=256), "side"),
    "a patch size that is text": (card(patch_size="96"), "patch_size"),
    "a label region larger than the patch": (card(format=2, label_region=97), "centre"),
    "mpp of 0": (card(format=2, mpp=0), "mpp"),
    "negative mpp": (card(format=2, mpp=-1), "mpp"),
    "mpp that is NaN": (text('"mpp": 0.972', '"mpp": NaN'), "NaN"),
    "an infinite temperature": (text('"temperature": 0.94', '"temperature": 1e999, "x": 0.94'), "too large"),
    "a tiny temperature": (card(temperature=1e-300), "temperature"),
    "a huge temperature": (card(temperature=1e30), "temperature"),
    "a prior of 0": (card(prior=0), "prior"),
    "a prior of 1": (card(prior=1), "prior"),
    "a prior of NaN": (text('"prior": ', '"prior": NaN, "x": '), "NaN"),
    "a threshold of NaN": (text('"value": 0.48', '"value": NaN, "x": 0.48'), "NaN"),
    "a threshold of -1": (card(thresholds__accuracy__value=-1), "thresholds.accuracy.value"),
    "a threshold of 2": (card(thresholds__accuracy__value=2), "thresholds.accuracy.value"),
    "an infinite threshold": (text('"value": 0.48', '"value": Infinity, "x": 0.48'), "infinite"),
    "no thresholds": (card(thresholds={}), "thresholds"),
    "a missing rule": (card(threshold_rule="best"), "threshold_rule"),
    "a threshold under another rule's name": (card(thresholds__accuracy=HALF), "thresholds"),
    "one class name": (card(class_names=["tumour"]), "class_names"),
    "three class names": (card(class_names=["a", "b", "c"]), "class_names"),
    "the same class name twice": (card(class_names=["tumour", "tumour"]), "class_names"),
    "an empty class name": (card(class_names=["", "tumour"]), "class_names"),
    "a class name with a line break": (card(class_names=["normal", "tu\nmour"]), "class_names"),
    "a class name with an escape": (card(class_names=["normal", "\x1b[2Jtumour"]), r"U\+001B"),
    "a class name of a megabyte": (card(class_names=["normal", "t" * 10**6]), "class_names"),
    "a class name with a lone surrogate": (card(class_names=["normal", "tumour\ud800"]), r"U\+D800"),
    "a name with a lone surrogate": (card(name="\udcff"), r"U\+DCFF"),
    "a name of many lines": (card(name="a\n\nRefused: b"), "name"),
    "a name that is a number": (card(name=7), "name"),
    "format 0": (card(format=0), "format 0"),
    "format -1": (card(format=-1), "format -1"),
    "format true": (card(format=True), "format"),
    "format 99": (card(format=99), "format 99"),
    "no format": (without("format"), "format"),
    "a key that no version knew": (card(colour="red"), "colour"),
    "metrics of text": (card(metrics={"valid": {"auc": "0.9"}}), "metrics"),
    "metrics that are a list": (card(metrics=[1]), "metrics"),
    "a metric without an interval": (card(metrics__valid__auc={"value": 0.9}), "metrics"),
    "a metric of text": (card(metrics__valid__auc=AUC | {"low": "x"}), "metrics"),
    "a history of text": (card(history=[{"epoch": "one"}]), "history"),
    "a history of lists": (card(history=[[1]]), "history"),
    "a history of 20,000 epochs": (card(history=[{}] * 20_000), "history"),
    "data of a number": (card(data=3), "data"),
    "counts of text": (card(data__counts={"train": {"normal": "many"}}), "data"),
    "counts of a list": (card(data__counts=[1]), "data"),
    "warnings of a number": (card(data__warnings=5), "data"),
    "a fingerprint of a number": (card(data__fingerprint=5), "data"),
    "versions of lists": (card(versions={"torch": [1]}), "versions"),
    "a recipe of text": (card(recipe="small"), "recipe"),
    "a recipe whose split is a number": (card(recipe={"split": 3}), "recipe"),
    "a recipe that is deep": (card(recipe={"a": NESTED}), "nested"),
    "a card that is very deep": (text('"recipe": ', f'"deep": {DEEP}, "recipe": '), "nested"),
    "an integer of 5,000 digits": (text('"seed": ', f'"seed": {"9" * 5000}, "x": '), "digits|large"),
    "a key that stands twice": (text('"prior": ', '"prior": 0.9, "prior": '), "twice"),
    "a card of 20 MB": (card(licence="x" * 20_000_000), "MB"),
    "a card that is no JSON": (instead(CARD, b"PK\x03\x04"), "cannot be read"),
    "a card that is empty": (instead(CARD, b""), "cannot be read"),
    "a card in Latin-1": (instead(CARD, b'{"name": "\xe9"}'), "cannot be read"),
    "a card that is a list": (instead(CARD, b"[]"), "cannot be read|table"),
    "negative parameters": (card(architecture__parameters=-1), "parameters"),
    "a pooling that there is not": (card(architecture__pooling="sum"), "pooling"),
    "a stride of 7": (card(architecture__stride=7), "stride"),
    "a hidden layer of a billion": (card(architecture__hidden=[10**9]), "hidden"),
    "a dropout of 3": (card(architecture__dropout=3), "dropout"),
    "a side of a million": (card(architecture__side=10**6), "side"),
    "a backbone of the hub": (card(architecture__backbone="hf-hub:timm/resnet18.a1_in1k"), "backbone"),
    "a backbone of a folder": (card(architecture__backbone="local-dir:/etc"), "backbone"),
    "a backbone that is a path": (card(architecture__backbone="../../etc/passwd"), "backbone"),
    "a reading with a temperature of 0": (card(readings__dense__temperature=0), "readings"),
    "a reading that there is not": (card(readings={"sideways": {"temperature": 1, "threshold": 0.5}}), "readings"),
}
"""Cards that are refused when a bundle is opened, and what the sentence must name."""

FILES: dict[str, tuple[Change, str]] = {
    "more parameters than the weights hold": (card(architecture__parameters=10**12), "parameters"),
    "a card that is a pipe": (fifo(CARD), "card.json is no regular file"),
    "a card that is a device": (link(CARD, "/dev/zero"), "card.json"),
    "a card that is a folder": (folder(CARD), "card.json is no regular file"),
    "a card that is a dangling link": (link(CARD, "nowhere"), "card.json"),
    "a card that is a link to itself": (link(CARD, CARD), "card.json"),
    "weights that are a pipe": (fifo(WEIGHTS), "weights.safetensors is no regular file"),
    "sums that are a pipe": (fifo(CHECKSUMS), "SHA256SUMS is no regular file"),
    "sums of an absolute path": (sums(f"{'0' * 64}  /etc/passwd"), "SHA256SUMS"),
    "sums of a climbing path": (sums(f"{'0' * 64}  ../odd/card.json"), "SHA256SUMS"),
    "sums of a device": (sums(f"{'0' * 64}  /dev/zero"), "SHA256SUMS"),
    "sums of a pipe": (fifo("more"), "more is no regular file"),
    "sums that are no digests": (instead(CHECKSUMS, b"hello  card.json\n"), "SHA256SUMS"),
    "sums that are binary": (instead(CHECKSUMS, bytes(range(256))), "SHA256SUMS"),
    "sums that name a file twice": (sums(f"{'0' * 64}  {CARD}"), "SHA256SUMS"),
    "sums of 3,000 files": (sums(*[f"{'0' * 64}  {i}" for i in range(3000)]), "SHA256SUMS"),
    "weights of a terabyte": (sparse(WEIGHTS, 2**40), "GiB"),
    "weights that are no safetensors": (instead(WEIGHTS, b"PK\x03\x04" * 100), "weights.safetensors"),
    "weights that are empty": (instead(WEIGHTS, b""), "weights.safetensors"),
    "weights whose header speaks of terabytes": (header(a_huge_tensor), "weights.safetensors"),
}
"""Files that are refused when a bundle is opened."""

NETWORKS: dict[str, tuple[Change, str]] = {
    "weights of NaN": (weights(float("nan")), "not finite|NaN"),
    "infinite weights": (weights(float("inf")), "not finite|NaN"),
    "huge weights": (weights(3e38), "huge|NaN|finite"),
    "a backbone that there is not": (card(architecture__backbone="resnet_of_mine"), "backbone"),
    "another backbone": (card(architecture__backbone="resnet18"), "do not fit"),
    "a gigantic backbone": (
        card(architecture__backbone="eva_giant_patch14_560", architecture__stride=32, architecture__side=560),
        "do not fit",
    ),
    "a backbone with a tag that there is not": (card(architecture__backbone="resnet18.of_mine"), "network"),
    "a backbone that is no image classifier": (
        card(architecture__backbone="coat_tiny", architecture__stride=32),
        "network",
    ),
    "another stride": (card(architecture__stride=32), "do not fit"),
    "a wide hidden layer": (card(architecture__hidden=[8192]), "do not fit"),
    "a tensor of another name": (header(renamed), "do not fit"),
}
"""Networks that are refused when they are built."""

SPLITS: dict[str, tuple[Change, str]] = {
    "a split file that no checksum names": (
        both(write_sums, split("id,split\na,train\n")),
        "split.csv.gz is not among",
    ),
    "a split file that is no gzip": (instead(ASSIGNMENT, b"id,split\na,train\n"), "split.csv.gz"),
    "a truncated split file": (truncated_split, "split.csv.gz"),
    "a split file that is a bomb": (bomb, "split.csv.gz"),
    "a split file of other columns": (split("name,part\na,train\n"), "split.csv.gz"),
    "a split file that names a patch twice": (split("id,split\na,train\na,test\n"), "split.csv.gz"),
    "a split file of other splits": (split("id,split\na,holdout\n"), "split.csv.gz"),
    "a split file with a row too short": (split("id,split\na\n"), "split.csv.gz"),
    "a split file of noise": (instead(ASSIGNMENT, gzip.compress(bytes(range(256)) * 9)), "split.csv.gz"),
    "an empty split file": (instead(ASSIGNMENT, b""), "split.csv.gz"),
}
"""Split files that are refused when they are read."""

"""Where the time of a dense scan goes: the table of parts in docs/how-to/speed.md.

    python benchmarks/parts.py --data SHARED/data [--weights BUNDLE] [--mosaic large] [--work DIR]

Does each part of a scan by itself, one after the other, over all tiles of a mosaic, and prints the processor seconds.
In a scan they run side by side. The start is measured by start_up.py. Without ``--weights`` it takes the bundled model.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mosaic import MOSAICS, build

import sentinode
from sentinode.model.engines import open_engine
from sentinode.slides.reading.slide import open_slide
from sentinode.slides.scanning.dense import FeatureMap, lay_tiles, layout_for, read_tiles
from sentinode.slides.scanning.quality import tissue_density, window_quality
from sentinode.slides.scanning.scan import lay_grid
from sentinode.slides.scanning.tissue import find_tissue

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds pcam/ and slides/")
    parser.add_argument("--weights", type=Path, help="a bundle whose dense reading was measured")
    parser.add_argument("--mosaic", choices=list(MOSAICS), default="large")
    parser.add_argument("--work", type=Path, default=Path("runs/mosaic"))
    arguments = parser.parse_args()
    spent: Counter[str] = Counter()

    def timed(part: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        done = work()
        spent[part] += time.process_time() - begun  # type: ignore[assignment]
        return done

    bundle = sentinode.load(arguments.weights)
    reading, step = bundle.card.reading("dense"), bundle.card.geometry.stride
    engine = open_engine(bundle, kind="fastest", device="cpu", dense=True)
    with open_slide(build(arguments.mosaic, arguments.data, arguments.work)) as slide:
        tissue = timed("finding the tissue", lambda: find_tissue(slide))
        grid = lay_grid(slide, bundle.card.mpp, step)
        mask = tissue.cells(grid.rows, grid.columns, grid.stride)
        density = tissue_density(tissue.thumbnail, tissue.mask)
        layout = layout_for(engine, step, reading.halo)
        tiles = lay_tiles(mask, layout)
        sources = read_tiles(slide, layout, tiles, mpp=grid.mpp, scale=grid.scale, threads=1)
        engine.features(next(read_tiles(slide, layout, tiles[:1], mpp=grid.mpp, scale=grid.scale, threads=1)).region)
        feature_map, pixels = FeatureMap(layout, engine), 0
        for _ in tiles:
            source = timed("reading and decoding", lambda: next(sources))
            if len(source.corners):
                timed("quality of the windows", lambda source=source: window_quality(
                    source.surroundings, source.corners, layout.lattice.size, grid.mpp, density
                ))  # fmt: skip
            features = timed("the network", lambda source=source: engine.features(source.region))
            timed("pooling the windows", lambda source=source, features=features: (
                feature_map.add(source.tile, features), feature_map.margins(source.tile)
            ))  # fmt: skip
            pixels += source.region.shape[0] * source.region.shape[1]
    print(f"{len(tiles):,} tiles, {pixels / 1e6:.0f} megapixels with halo, {int(mask.sum()):,} windows\n")
    print("| part | processor seconds |\n|---|---|")
    for part, seconds in spent.most_common():
        print(f"| {part} | {seconds:.1f} |")


if __name__ == "__main__":
    main()

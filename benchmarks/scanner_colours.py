"""Estimate the stain of the five hospitals of Camelyon17, as `sentinode stress` holds it.

    python benchmarks/scanner_colours.py --data FOLDER

FOLDER has a picture of tissue of each hospital, named centre_N_patient_NNN_node_N.jpeg, at 0.25 microns per pixel, cut
from the slides of Camelyon17 (CC0). Each is averaged down to 0.972 microns per pixel, the resolution of PatchCamelyon.
Prints the lines of HOSPITALS in src/sentinode/evaluation/scanner_colours.py. One picture is of one slide: it shows how
far hospitals may lie apart, and not the mean of a hospital.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sentinode.evaluation.scanner_colours import estimate_stain
from sentinode.geometry import PCAM

MPP = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of pictures, one of each hospital")
    for path in sorted(parser.parse_args().data.glob("centre_*.jpeg")):
        picture = Image.open(path).convert("RGB")
        assert PCAM.mpp is not None
        side = round(picture.width * MPP / PCAM.mpp)
        stain = estimate_stain(np.asarray(picture.resize((side, side), Image.Resampling.BOX)))
        haematoxylin, eosin = (tuple(row) for row in stain.directions.round(4).tolist())
        strengths = tuple(stain.strengths.round(4).tolist())
        print(f"    Stain(np.array(({haematoxylin}, {eosin})), np.array({strengths})),")


if __name__ == "__main__":
    main()

"""From a slide to a probability map: tissue, grid, windows."""

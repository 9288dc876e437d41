"""From files to pixels and regions: what a slide shows and what was drawn on it."""

"""Teaching a bundle with a review, and finding out whether that helped.

``reviews`` says which slides were reviewed and what was said of them. ``dealing`` holds some of them back. ``lessons``
cuts the patches. ``comparison`` holds the two bundles against each other, ``verdict`` says what came of it, and
``page`` writes it down. ``teaching`` contains :func:`learn`, which goes from one to the next.
"""

from sentinode.learning.teaching import Learned, learn

__all__ = ["Learned", "learn"]

"""From a probability map to lesions, verdicts, and files for other programs and eyes."""

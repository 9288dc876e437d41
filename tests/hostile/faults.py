"""What a case may break in the child before the command runs, by the function's name (``Case.fault``)."""

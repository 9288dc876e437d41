"""The network, the bundle that keeps it, and the engines that run it."""

"""What training does to patches: transforms on batches, and a sheet of examples."""

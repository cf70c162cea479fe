"""Morphology catalogues that other programs can read."""

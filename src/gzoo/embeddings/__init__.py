"""Embeddings: their file, and what is done with them without torch: search, outliers, coordinates of a map."""

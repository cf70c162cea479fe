"""Images: where they come from, and whether they can be shown to a model."""

"""Unlabeled images: where they come from, decoding with limits, and the stage that chooses them."""

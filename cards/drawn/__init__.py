"""Draws rights-free trading cards: designs, frames, art and the camera that sees them."""

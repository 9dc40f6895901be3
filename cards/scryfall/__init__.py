"""Scryfall: its API, which cards are chosen, the list of fetched images, and the command that fetches them."""

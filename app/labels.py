"""How classes are grouped and marked on the page: colours of cards apart from types, others as they come."""

from collections.abc import Sequence

# Dots beside the five colours of cards; by name alone, so that any model with such classes gets them.
SWATCHES = {"white": "#f3e6b3", "blue": "#2f77d0", "black": "#1d1a22", "red": "#d23f2a", "green": "#2c8a4b"}


def groups(classes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Heading and classes of each group; one without a heading unless the classes have all five colours of cards."""
    colours = [name for name in classes if name in SWATCHES]
    if len(colours) < len(SWATCHES) or len(colours) == len(classes):
        return [("", list(classes))]
    return [("Colour", colours), ("Type", [name for name in classes if name not in SWATCHES])]

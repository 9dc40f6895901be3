"""How classes are grouped and marked on the page: names of colors apart from the others."""

from collections.abc import Sequence

from PIL.ImageColor import colormap


def is_color(name: str) -> bool:
    """Whether CSS knows the name as a color, so that the page can show it as a dot."""
    return name in colormap


def groups(classes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Heading and classes of each group; one without a heading unless some, but not all, of the classes are colors."""
    colors = [name for name in classes if is_color(name)]
    if len(colors) < 2 or len(colors) == len(classes):
        return [("", list(classes))]
    return [("Color", colors), ("Other", [name for name in classes if not is_color(name)])]

"""Text from elsewhere (file names, labels, a server's answer) made safe for each place where it is shown or written."""

import html
import re
import unicodedata

# Longest text shown of a name, in characters; longest file name written, in bytes of UTF-8 (file systems take 255).
MAX_SHOWN = 400
MAX_FILE_NAME = 180
# Characters of a cell that every spreadsheet program takes.
MAX_CELL = 32_000
# GitHub's Markdown makes links of these even where they are escaped; a word joiner, which has no width, stops that.
_AUTOLINK = re.compile(r"(?i)(https?|ftp|mailto|xmpp)(?=:)|(www)(?=\.)|(?<=.)(?=@)")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# A spreadsheet program runs a cell that begins like this, and splits a line at whichever separator its user chose.
_FORMULA = re.compile(r"(^|[,;|])([\s\"'\u200c\u200d]*)(?=[=+\-@＝＋－＠])")
# Invisible characters that emoji and some scripts need within words.
_JOINERS = "\u200c\u200d"
# Windows refuses these as names of files, with any extension.
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


def _sign(sign: str) -> str:
    kind = unicodedata.category(sign)
    if kind == "Cs":  # a lone surrogate cannot be encoded
        return "�"
    if kind in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    return "" if kind in ("Cf", "Co", "Cn") and sign not in _JOINERS else sign


def one_line(text: str, limit: int = MAX_SHOWN) -> str:
    """Text on one line and of bounded length, without characters that are invisible or change the reading direction."""
    kept = "".join(_sign(sign) for sign in text[: 4 * limit])
    kept = " ".join(kept.split()).strip(_JOINERS)
    return kept if len(kept) <= limit else f"{kept[: limit - 1]}…"


def markdown(text: str) -> str:
    """Text for Streamlit's Markdown, in which it is only text: no image, link, formula, icon or color."""
    joined = _AUTOLINK.sub(lambda found: f"{found[0]}\u2060", one_line(text))
    return _PUNCTUATION.sub(r"\\\1", joined)


def markup(text: str, limit: int = MAX_SHOWN) -> str:
    """Text for HTML, as content or in an attribute."""
    return html.escape(one_line(text, limit))


def csv_cell(text: str) -> str:
    """Text for a cell of a table: never a formula, whichever separator the table is read with.

    An apostrophe, which spreadsheet programs hide, goes before what begins like one (CWE-1236).
    """
    return _FORMULA.sub(r"\1\2'", one_line(text, MAX_CELL))


def file_name(text: str, fallback: str) -> str:
    """A single name for a file or folder that every common file system takes; `fallback` where nothing is left."""
    name = one_line(text, 1000).translate(dict.fromkeys(map(ord, '/\\:*?"<>|'), "_"))
    name = name.strip(" .")
    if name.split(".")[0].strip().upper() in _RESERVED:
        name = f"_{name}"
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > 10:
        stem, ending = name, ""
    room = MAX_FILE_NAME - len(f"{dot}{ending}".encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore").rstrip(" .")
    return f"{stem}{dot if ending else ''}{ending}" if stem else fallback

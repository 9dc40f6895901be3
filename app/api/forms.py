"""Reads multipart/form-data from a body that is in memory, in one pass of `bytes.find`.

Starlette's parser decodes names with whatever codec the sender names, some of which raise, and refuses what other
servers read: text before the first boundary, lines that end in LF, files without a name.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MAX_BOUNDARY = 200  # RFC 2046 allows 70
MAX_HEAD_BYTES = 16 * 1024  # of one part
MAX_NAME = 255
# Places that begin like a boundary and continue differently; a boundary is chosen so that there are none.
MAX_NEAR_MISSES = 1000

BOUNDARY = re.compile(r';\s*boundary\s*=\s*("[^"\\\r\n]*"|[^\s;"\\]+)', re.IGNORECASE)
PARAMETER = re.compile(rb';\s*([\w*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)', re.DOTALL)


class FormError(Exception):
    """A body that is not a form; the message is a sentence for its sender."""


class TooManyPartsError(FormError):
    """A form with more files than are read."""


@dataclass(frozen=True)
class File:
    """A part that holds a file.

    Attributes:
        name: as its sender calls it, empty if the sender does not.
        data: its bytes.
    """

    name: str
    data: bytes


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type header names.

    Raises:
        FormError: if there is none, or none that can be used.
    """
    found = BOUNDARY.search(content_type)
    if not found:
        raise FormError("Missing boundary in the Content-Type; let the HTTP library set this header.")
    boundary = found[1].strip('"')
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not all(" " <= letter <= "~" for letter in boundary):
        raise FormError(f"The boundary in the Content-Type must be 1 to {MAX_BOUNDARY} ASCII characters.")
    return boundary


def read_files(body: bytes, boundary: str, max_files: int, max_fields: int) -> list[File]:
    """The files in a form, in its order.

    Raises:
        TooManyPartsError: if there are more than `max_files`.
        FormError: if the body is not a form with this boundary, is cut off, or has more than `max_fields` other parts.
    """
    mark = b"--" + boundary.encode()
    at = 0 if body.startswith(mark) else body.find(b"\n" + mark) + 1
    if at == 0 and not body.startswith(mark):
        raise FormError("The boundary that the Content-Type names does not occur.")
    at += len(mark)
    line = b"\r\n" if body[at:].lstrip(b" \t")[:2] == b"\r\n" else b"\n"
    files: list[File] = []
    fields = 0
    while body[at : at + 2] != b"--":
        start = _end_of_line(body, at, line)
        if start is None:
            raise FormError("A boundary is not at the end of its line.")
        data_start, name = _read_head(body, start, line)
        end, at = _find_mark(body, data_start, line + mark, line)
        if name is None:
            fields += 1
            if fields > max_fields:
                raise FormError(f"Too many fields: at most {max_fields} are read beside the images.")
        elif len(files) == max_files:
            raise TooManyPartsError(f"At most {max_files} images are read at once.")
        else:
            files.append(File(name, body[data_start:end]))
    return files


def _end_of_line(body: bytes, at: int, line: bytes) -> int | None:
    """Where the next line begins, if only spaces are left of this one."""
    spaces = at
    while spaces < at + MAX_NAME and body[spaces : spaces + 1] in (b" ", b"\t"):
        spaces += 1
    return spaces + len(line) if body.startswith(line, spaces) else None


def _read_head(body: bytes, start: int, line: bytes) -> tuple[int, str | None]:
    """Where a part's data begin, and the file's name; None for a field."""
    if body.startswith(line, start):
        return start + len(line), None
    end = body.find(line + line, start, start + MAX_HEAD_BYTES)
    if end < 0:
        raise FormError(f"The head of a part is cut off, or larger than {MAX_HEAD_BYTES // 1024} KB.")
    headers = {}
    for text in body[start:end].split(line):
        name, _, value = text.partition(b":")
        headers[name.strip().lower()] = value.strip()
    disposition = headers.get(b"content-disposition", b"")
    parameters = {key.lower(): value for key, value in PARAMETER.findall(disposition)}
    kind = headers.get(b"content-type", b"text/plain").partition(b";")[0].strip().lower()
    if b"filename" not in parameters and b"filename*" not in parameters and kind == b"text/plain":
        return end + 2 * len(line), None
    return end + 2 * len(line), _file_name(parameters)


def _file_name(parameters: dict[bytes, bytes]) -> str:
    """The name of a file, whichever way its sender writes it."""
    raw = parameters.get(b"filename", b"")
    if raw.startswith(b'"'):
        raw = re.sub(rb'\\(["\\])', rb"\1", raw[1:-1])
    encoded = parameters.get(b"filename*", b"").strip(b'"')
    if encoded.lower().startswith(b"utf-8'"):
        raw = unquote_to_bytes(encoded.split(b"'", 2)[-1])
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = raw.decode("latin-1")
    if re.match(r"[a-zA-Z]:\\", name):  # a path of the sender's own machine
        name = name.rpartition("\\")[2]
    return name[:MAX_NAME]


def _find_mark(body: bytes, start: int, mark: bytes, line: bytes) -> tuple[int, int]:
    """Where the data end and where the boundary behind them ends."""
    # The line end before the boundary may be the one that ended the part's head.
    end = max(0, start - len(line))
    for _ in range(MAX_NEAR_MISSES):
        end = body.find(mark, end)
        if end < 0:
            raise FormError("The form was cut off before its end.")
        after = end + len(mark)
        if body[after : after + 2] == b"--" or _end_of_line(body, after, line) is not None:
            return max(end, start), after
        end = after
    raise FormError("The boundary occurs in the files; choose another.")

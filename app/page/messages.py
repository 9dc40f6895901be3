"""How much memory Streamlit keeps for the last message of each page: up to sixty times the bytes that arrive."""

import asyncio
from collections import defaultdict
from functools import cache
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg

from app.limits import MB, REQUESTS_BYTES

# Bytes that a field takes once it is parsed, measured with a message of many widgets, and those of a packed number.
FIELD_BYTES, NUMBER_BYTES = 120, 16
# One page, with thousands of uploads; all together, those included that were closed a short while ago; one client's.
MAX_PAGE_KEPT = 16 * MB
MAX_KEPT = min(64 * MB, REQUESTS_BYTES)
MAX_CLIENT_KEPT = MAX_KEPT * 3 // 4
# Streamlit keeps the state of a closed page for two minutes, in case that it connects again.
KEPT_SECONDS = 130.0

# A list of names of uploads: some thousand, more than a visit can hold.
MAX_NAMES_KEPT = 4 * MB
# What the page sends. Other messages clear caches for everybody, or run git while nobody is answered.
WANTED = {"rerun_script", "stop_script", "file_urls_request", "app_heartbeat", "backend_operation_request"}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Kept:
    """What is kept for each page now, in bytes, by client."""

    def __init__(self) -> None:
        """There are no pages."""
        self._clients: defaultdict[str, dict[object, int]] = defaultdict(dict)

    def take(self, client: str, page: object, message: bytes) -> bool:
        """Count a message in place of the page's last one; False if there is no room for it."""
        pages = self._clients[client]
        own = sum(pages.values()) - pages.get(page, 0)
        others = sum(sum(kept.values()) for kept in self._clients.values()) - own
        most = MAX_NAMES_KEPT if kind_of(message) == "file_urls_request" else MAX_PAGE_KEPT
        room = min(most, min(MAX_CLIENT_KEPT, MAX_KEPT - others) - own)
        size = parsed_size(message, room)
        if size <= room:
            pages[page] = size
        return size <= room

    def close(self, client: str, page: object) -> None:
        """Forget a page once Streamlit has."""
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, client, page)

    def _forget(self, client: str, page: object) -> None:
        self._clients[client].pop(page, None)
        if not self._clients[client]:
            del self._clients[client]


def kind_of(data: bytes) -> str:
    """The name of a message's only field, which says what it asks for; empty if it has several, or is malformed."""
    tag, place = _varint(data, 0, len(data))
    value, place = _varint(data, place, len(data))
    if tag & 7 == BYTES:
        place += value
    field = BackMsg.DESCRIPTOR.fields_by_number.get(tag >> 3)
    return field.name if field and tag & 7 in (BYTES, VARINT) and place == len(data) else ""


def parsed_size(data: bytes, most: int) -> int:
    """Bytes that a message takes once it is parsed, or some number above `most`; as far as it can be read.

    Encoding: https://protobuf.dev/programming-guides/encoding/.
    """
    found = 2 * len(data)
    waiting: list[tuple[int, int, Any]] = [(0, len(data), BackMsg.DESCRIPTOR)]
    while waiting:
        place, end, kind = waiting.pop()
        messages, numbers = _fields(kind)
        while place < end and found <= most:
            found += FIELD_BYTES
            tag, place = _varint(data, place, end)
            wire = tag & 7
            if wire == BYTES:
                size, place = _varint(data, place, end)
                stop = min(end, place + size)
                if tag >> 3 in messages:
                    waiting.append((place, stop, messages[tag >> 3]))
                elif tag >> 3 in numbers:
                    found += NUMBER_BYTES * (stop - place)
                place = stop
            elif wire == VARINT:
                place = _varint(data, place, end)[1]
            else:
                place += {FIXED64: 8, FIXED32: 4}.get(wire, 0)
    return found


@cache
def _fields(kind: Any) -> tuple[dict[int, Any], set[int]]:
    """Of a type of messages: the fields that are messages, with their types, and those that are numbers."""
    messages = {field.number: field.message_type for field in kind.fields if field.message_type is not None}
    texts = {field.number for field in kind.fields if field.cpp_type == field.CPPTYPE_STRING}
    return messages, {field.number for field in kind.fields} - texts - messages.keys()


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A number and the place behind it; what is too long for one is left to the parser to refuse."""
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, place

"""Walks the bytes of an ONNX file and refuses what a classifier does not need, before ONNX Runtime reads them.

Refused are external data, which ONNX Runtime would read from the server's files; operators of other domains than ONNX's
own, and functions; subgraphs (loops and branches), sequences and random numbers; and sizes that depend on what an image
shows: without these, every batch takes the memory and time that the check measured. The walk is linear in the number of
protobuf fields, which is bounded, and copies nothing but names.

Encoding: https://protobuf.dev/programming-guides/encoding/. Field numbers: onnx.proto of ONNX 1.23.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from contract.model import ModelError, printable

MAX_FIELDS = 500_000
MAX_NODES = 20_000
MAX_DIMENSIONS = 16
# Characters of names of operators, domains and properties.
MAX_NAME = 1000

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Operators that loop, hold sequences, read texts or draw random numbers; subgraphs are refused by their attributes too.
REFUSED = {"Loop", "Scan", "If", "SplitToSequence", "ConcatFromSequence", "ImageDecoder", "RegexFullMatch"}
REFUSED |= {"TfIdfVectorizer", "LabelEncoder", "Multinomial", "Bernoulli"}
REFUSED_PREFIXES = ("Sequence", "Optional", "String", "Random")
# Inputs of operators that say how large the output is, or how long the work, by their position.
SIZING = {
    **dict.fromkeys(("ConstantOfShape", "HannWindow", "HammingWindow", "BlackmanWindow"), (0,)),
    **dict.fromkeys(("Reshape", "Expand", "TopK", "Split", "OneHot", "Squeeze", "Unsqueeze", "Upsample"), (1,)),
    **dict.fromkeys(("CenterCropPad", "AffineGrid", "RoiAlign", "MaxRoiPool"), (1,)),
    **dict.fromkeys(("Tile", "Col2Im", "DFT", "MaxUnpool"), (1, 2)),
    **dict.fromkeys(("Pad", "Resize", "STFT"), (1, 2, 3)),
    **dict.fromkeys(("Range", "MelWeightMatrix"), (0, 1, 2, 3, 4)),
    "Slice": (1, 2, 3, 4),
}
# Operators whose output is as long as their input's content says.
SIZED_BY_CONTENT = {"NonZero", "Unique", "Compress", "NonMaxSuppression"}
# Bits of an element, by TensorProto.DataType; strings (8) are missing because they are refused.
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
BITS |= dict.fromkeys(range(17, 21), 8) | {21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}

Field = tuple[int, int, int, int]


@dataclass
class Walk:
    """What was found so far.

    Attributes:
        properties: the file's metadata, key and text.
        nodes: operators.
        fields: protobuf fields that were read.
        content: names of values that depend on what an image shows, and not only on its size.
    """

    data: bytes
    properties: dict[str, str] = field(default_factory=dict)
    nodes: int = 0
    fields: int = 0
    content: set[str] = field(default_factory=set)

    def read(self, start: int, end: int) -> Iterator[Field]:
        """Number, wire type, and value (of a varint) or start and end (of the others) of each field of a message."""
        place = start
        while place < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise ModelError(f"it has more than {MAX_FIELDS} protobuf fields")
            tag, place = self.varint(place, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 2**29:
                raise ModelError("it is damaged: a field has no number")
            if wire == VARINT:
                value, place = self.varint(place, end)
                yield number, wire, value, place
                continue
            if wire == BYTES:
                size, place = self.varint(place, end)
            elif wire in (FIXED64, FIXED32):
                size = 8 if wire == FIXED64 else 4
            else:
                raise ModelError("it is damaged: a field has an unknown wire type")
            if size > end - place:
                raise ModelError("it is damaged: a field is longer than its message")
            yield number, wire, place, place + size
            place += size

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """A number of at most 64 bits and the place behind it."""
        value = shift = 0
        while place < end and shift < 70:
            byte = self.data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (2**64 - 1), place
            shift += 7
        raise ModelError("it is damaged: a number has no end")

    def text(self, start: int, end: int, limit: int = MAX_NAME) -> str:
        """A string field."""
        if end - start > limit:
            raise ModelError(f"it has a name of more than {limit} bytes")
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise ModelError("it is damaged: a name is not UTF-8") from None


def walk(data: bytes) -> Walk:
    """Check a file's structure.

    Raises:
        ModelError: with the rest of a sentence that begins with the file's name, if anything in it is refused.
    """
    found = Walk(data)
    for number, wire, start, end in found.read(0, len(data)):
        if number in (20, 25):
            raise ModelError(f"it has {'training information' if number == 20 else 'functions of its own'}")
        if wire != BYTES:
            continue
        if number == 7:
            _graph(found, start, end)
        elif number == 14:
            _property(found, start, end)
    if not found.nodes:
        raise ModelError("it has no operators")
    return found


def _property(found: Walk, start: int, end: int) -> None:
    key = value = ""
    for number, wire, begin, stop in found.read(start, end):
        if wire == BYTES and number == 1:
            key = found.text(begin, stop)
        elif wire == BYTES and number == 2:
            value = found.text(begin, stop, stop - begin)
    if key in found.properties:
        raise ModelError(f"it has the metadata property {printable(key, 60)} twice")
    found.properties[key] = value


def _graph(found: Walk, start: int, end: int) -> None:
    nodes: list[tuple[int, int]] = []
    for number, wire, begin, stop in found.read(start, end):
        if number == 15:
            raise ModelError("it has sparse tensors")
        if wire != BYTES:
            continue
        if number == 1:
            nodes.append((begin, stop))
        elif number == 5:
            _tensor(found, begin, stop)
        elif number in (11, 12, 13):
            name = _value_info(found, begin, stop)
            if number == 11:
                found.content.add(name)
    for begin, stop in nodes:  # in the order in which they run; inputs may be declared behind them
        _node(found, begin, stop)


def _node(found: Walk, start: int, end: int) -> None:
    found.nodes += 1
    if found.nodes > MAX_NODES:
        raise ModelError(f"it has more than {MAX_NODES} operators")
    kind, inputs, outputs = "", list[str](), list[str]()
    for number, wire, begin, stop in found.read(start, end):
        if wire != BYTES:
            continue
        if number in (1, 2):
            (inputs if number == 1 else outputs).append(found.text(begin, stop))
        elif number == 4:
            kind = found.text(begin, stop)
            if kind in REFUSED or kind.startswith(REFUSED_PREFIXES):
                raise ModelError(f"it uses the operator {printable(kind, 60)}, which a classifier does not need")
        elif number == 7:
            domain = found.text(begin, stop)
            if domain not in ("", "ai.onnx"):
                raise ModelError(f"it uses operators of “{printable(domain, 60)}”; only ONNX's own are run")
        elif number == 5:
            _attribute(found, begin, stop)
    _follow_content(found, kind, inputs, outputs)


def _follow_content(found: Walk, kind: str, inputs: list[str], outputs: list[str]) -> None:
    """Note what an operator makes of an image's content, and refuse it as a shape."""
    seen = {place for place, name in enumerate(inputs) if name in found.content}
    if not seen or kind in ("Shape", "Size"):
        found.content.difference_update(outputs)
        return
    sizing = (1,) if kind.startswith("Reduce") else SIZING.get(kind, ())
    if kind in SIZED_BY_CONTENT or not seen.isdisjoint(sizing):
        raise ModelError(f"the size of what its operator {printable(kind, 60)} makes depends on what an image shows")
    found.content.update(outputs)


def _attribute(found: Walk, start: int, end: int) -> None:
    for number, wire, begin, stop in found.read(start, end):
        if number in (6, 11):
            raise ModelError("it has a graph within its graph, such as a loop, which a classifier does not need")
        if number in (14, 15, 22, 23):
            raise ModelError("it has sequences or sparse tensors")
        if wire == BYTES and number in (5, 10):
            _tensor(found, begin, stop)


def _value_info(found: Walk, start: int, end: int) -> str:
    """Name of a declared input, output or intermediate value: a tensor, never a sequence, map or optional."""
    name = ""
    for number, wire, begin, stop in found.read(start, end):
        if wire == BYTES and number == 1:
            name = found.text(begin, stop)
        elif wire == BYTES and number == 2:
            for kind, *_ in found.read(begin, stop):
                if kind in (4, 5, 7, 8, 9):
                    raise ModelError("it has sequences or other values that are not tensors")
    return name


def _tensor(found: Walk, start: int, end: int) -> None:
    """A constant: its data is in the file, and as large as its shape says."""
    dimensions: list[int] = []
    kind = given = raw = 0
    for number, wire, begin, stop in found.read(start, end):
        if number == 13 or (number == 14 and (wire != VARINT or begin)):
            raise ModelError("it keeps data in other files, which are never read; export it as a single file")
        if number in (3, 6):
            raise ModelError("it has tensors of texts, or in segments")
        if number == 1:
            dimensions += _numbers(found, wire, begin, stop)
        elif number == 2 and wire == VARINT:
            kind = begin
        elif number == 9 and wire == BYTES:
            raw = stop - begin  # of a field given twice the last one counts
        elif number in (4, 5, 7, 10, 11):
            given += stop - begin if wire == BYTES else 8
    if kind not in BITS:
        raise ModelError(f"it has a tensor of the unknown type {kind}")
    if len(dimensions) > MAX_DIMENSIONS:
        raise ModelError(f"it has a tensor of {len(dimensions)} dimensions")
    elements = 1
    for size in dimensions:
        elements *= size
    # Fields of numbers take at least a byte for an element, or for four where two bits are packed.
    fits = (elements * BITS[kind] + 7) // 8 == raw if raw else elements <= 4 * given
    if not fits:
        raise ModelError("it has a tensor whose shape does not fit its data")


def _numbers(found: Walk, wire: int, begin: int, stop: int) -> list[int]:
    """A repeated number, packed or not; negative ones are huge here."""
    if wire == VARINT:
        return [begin]
    numbers: list[int] = []
    while wire == BYTES and begin < stop and len(numbers) <= MAX_DIMENSIONS:
        number, begin = found.varint(begin, stop)
        numbers.append(number)
    return numbers

"""
The footer of a Parquet file: what is in the file, and where.

It is a structure of Thrift in the compact protocol. Read without its definition, it is written again with all
that nothing here understands.
"""

from __future__ import annotations

from typing import Any

MAGIC = b"PAR1"

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(1, 14)
_FIXED = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}


class Struct:
    """
    A structure of Thrift: its fields by number.

    Integers, bytes, lists and structures are what they are; what nothing here asks for is kept as it is.
    """

    def __init__(self) -> None:
        self._fields: dict[int, tuple[int, Any]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def __getitem__(self, number: int) -> Any:
        kind, value = self._fields[number]
        return value[1] if kind in (_LIST, _SET) else value

    def get(self, number: int, default: Any = None) -> Any:
        """Return a field, or the default if there is none."""
        return self[number] if number in self._fields else default

    def put(self, number: int, value: Any) -> None:
        """Change a field that is there."""
        kind, old = self._fields[number]
        self._fields[number] = kind, (old[0], value) if kind in (_LIST, _SET) else value

    def put_number(self, number: int, value: int) -> None:
        """Set a field that is a number of 32 bits, whether it is there or not."""
        self._fields[number] = _I32, value

    def drop(self, *numbers: int) -> None:
        """Leave out fields."""
        for number in numbers:
            self._fields.pop(number, None)

    def copy(self) -> Struct:
        """Return one whose fields can be changed without changing this one's; what is inside is shared."""
        other = Struct()
        other._fields = self._fields.copy()
        return other


def parse(content: bytes) -> Struct:
    """Read a structure."""
    return _Reader(content).struct()


def serialise(struct: Struct) -> bytes:
    """Write a structure."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def footer_of(struct: Struct) -> bytes:
    """Return what stands at the end of a file."""
    content = serialise(struct)
    return content + len(content).to_bytes(4, "little") + MAGIC


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self) -> Struct:
        struct, number = Struct(), 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._signed()
            value = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
            struct._fields[number] = kind, value
        return struct

    def _value(self, kind: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            return self._list()
        if kind == _MAP:
            return self._map()
        # A truth value in a list is a byte.
        return self._bytes(_FIXED.get(kind, 1))

    def _list(self) -> tuple[int, list[Any]]:
        head = self._byte()
        size = head >> 4
        if size == 15:
            size = self._unsigned()
        return head & 15, [self._value(head & 15) for _ in range(size)]

    def _map(self) -> tuple[int, list[tuple[Any, Any]]]:
        size = self._unsigned()
        if not size:
            return 0, []
        kinds = self._byte()
        return kinds, [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(size)]

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        self._at += size
        return self._content[self._at - size : self._at]

    def _unsigned(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift

    def _signed(self) -> int:
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(struct._fields.items()):
        if 0 < number - last < 16:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, number)
        if kind not in (_TRUE, _FALSE):
            _write_value(out, kind, value)
        last = number
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (_I16, _I32, _I64):
        _write_signed(out, value)
    elif kind == _BINARY:
        _write_unsigned(out, len(value))
        out += value
    elif kind == _STRUCT:
        _write_struct(out, value)
    elif kind in (_LIST, _SET):
        _write_list(out, *value)
    elif kind == _MAP:
        _write_map(out, *value)
    else:
        out += value


def _write_list(out: bytearray, kind: int, values: list[Any]) -> None:
    if len(values) < 15:
        out.append(len(values) << 4 | kind)
    else:
        out.append(15 << 4 | kind)
        _write_unsigned(out, len(values))
    for value in values:
        _write_value(out, kind, value)


def _write_map(out: bytearray, kinds: int, values: list[tuple[Any, Any]]) -> None:
    _write_unsigned(out, len(values))
    if values:
        out.append(kinds)
    for key, value in values:
        _write_value(out, kinds >> 4, key)
        _write_value(out, kinds & 15, value)


def _write_signed(out: bytearray, number: int) -> None:
    # The smallest magnitudes get the smallest codes, whatever their sign.
    _write_unsigned(out, number << 1 if number >= 0 else (-number << 1) - 1)


def _write_unsigned(out: bytearray, number: int) -> None:
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)

"""What operators were given, rendered and checked."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T", bound=msgspec.Struct)


def arguments_of(operator: object, kind: type[_T], **instead: Any) -> _T:
    """
    Return the arguments of an operator, of which Jinja may have made text: of None, too.

    An empty text stays one, because an undefined variable makes that: no limit goes by a slip of the pen.

    :param kind: its fields are called like attributes; those that the operator has not keep their defaults
    :param instead: values that count instead of attributes
    :raises ValueError: if one of them is none of its field's; it is named as users know it
    """
    names = [field.name for field in msgspec.structs.fields(kind)]
    given = {name: getattr(operator, name) for name in names if hasattr(operator, name)} | instead
    given = {name: None if value == "None" else value for name, value in given.items()}
    try:
        return msgspec.convert(given, kind, strict=False, from_attributes=True)
    except msgspec.ValidationError as error:
        what, _, name = str(error).partition(" - at `$.")
        # Operators have methods of the plain names.
        raise ValueError(f"{name.rstrip('`').removeprefix('is_')}: {what}") from None

"""Appkey and secretkey: checked, and kept where nothing that prints an object shows them."""

import errno
import hashlib
import os
import re
import sys
from collections.abc import Awaitable, Callable
from os import PathLike
from pathlib import Path
from typing import NoReturn, Self, TypeVar, cast

from ._interrupts import is_an_interrupt, keep_known
from .errors import KiwoomAuthError

_T = TypeVar("_T")

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
KEY_LENGTH = 32
"""Characters that a key of Kiwoom's has at least; neither a piece of a path nor a host without a domain is so long."""
_KEY = re.compile(rf"[\w+=~-]{{{KEY_LENGTH},}}", re.ASCII)
_FILE_LIMIT = 64 * 1024
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def flaw(key: object) -> type[Exception] | None:
    """What kind of error a key is, or None where it is well-formed: visible ASCII, at least one character."""
    if not isinstance(key, str):
        return TypeError
    return None if _VISIBLE_ASCII.fullmatch(key) else ValueError


def complain(error: type[Exception], name: str) -> NoReturn:
    """Raise the error for a malformed key, naming where it came from and never its value."""
    if error is TypeError:
        raise TypeError(f"{name} must be a string")
    raise ValueError(
        f"{name} must be visible ASCII characters, at least one: no white space, no control characters, nothing else"
    )


def masked(appkey: str) -> str:
    """The appkey as logs and ``repr`` show it: enough to tell two apart."""
    return f"{appkey[:4]}…" if len(appkey) >= 12 else "…"  # noqa: PLR2004 - never more than a third


def read_key_variable(variable: str) -> "Masked":
    """The key in an environment variable.

    Raises:
        ValueError: it is missing or malformed; the message names it.
    """
    if variable not in os.environ:
        raise ValueError(f"the environment variable {variable} is not set")
    key = Masked(os.environ[variable])
    error = flaw(key)
    if error:
        del key
        complain(error, f"the environment variable {variable}")
    return key


def read_key_file(path: str | PathLike[str], name: str) -> str:
    """The key in a file as the developers' portal hands it out, without surrounding white space and BOM.

    Args:
        path: the file.
        name: what to call the file's key in errors.

    Raises:
        TypeError: it is no path.
        OSError: the file cannot be read; one that looks like a key, or like something with a key in it, is not named.
        ValueError: it holds no key; the message names the file.
    """
    if not isinstance(cast("object", path), (str, bytes, PathLike)):
        kind = type(path).__name__
        del path
        raise TypeError(f"{name}_path must be a path, not {kind}")
    path, content, number = os.fsdecode(path), MaskedBytes(), 0
    try:
        with Path(path).open("rb") as file:
            content = MaskedBytes(file.read(_FILE_LIMIT + 1))
    except (OSError, ValueError) as reason:
        if _KEY.search(path) is None:
            raise
        number = getattr(reason, "errno", None) or errno.EINVAL
    if number:
        del path
        raise OSError(number, f"the {name} file, not named here since it looks like a key: {os.strerror(number)}")
    encoding = next((code for mark, code in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "ascii")
    key = Masked(content.decode(encoding, "replace").strip())
    error = ValueError if len(content) > _FILE_LIMIT else flaw(key)
    if error:
        del content, key
        complain(error, f"the {name} in {path}")
    return key


class Masked(str):
    """A secret as a string; whoever prints the variables of our frames, as crash reporters do, sees none of it."""

    __slots__ = ()

    def __new__(cls, secret: str) -> Self:
        """Of the characters themselves: secret types have a ``__str__`` that hides them."""
        return super().__new__(cls, str.__str__(secret))

    def __repr__(self) -> str:
        return "'…'"


class Told(Masked):
    """An appkey in the key of a cache: masked where it is printed, and yet told from others."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{masked(self)}#{digest(self).hex()}'"


class Hidden:
    """A secret in a variable of a frame that is left by an exception: those who cut or copy strings do not see it.

    Args:
        secret: the secret.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = Masked(secret)

    def reveal(self) -> Masked:
        """The secret itself."""
        return self._secret

    def __repr__(self) -> str:
        return "Hidden(…)"


class MaskedBytes(bytes):
    """Like Masked, for a body that holds a secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "b'…'"


def without_frames(do: Callable[[], _T]) -> _T:
    """Do something with secrets; what interrupts it loses what it came from, since the frames there hold them.

    Raises:
        BaseException: what ``do`` raises, with the context that it would have had from here.
    """
    context = sys.exception()
    try:
        return do()
    except BaseException as error:
        _cut(error, context)
        raise


def _cut(error: BaseException, context: BaseException | None) -> None:
    try:
        keep_known(error)
    finally:  # whatever interrupts that
        error.__context__ = context
        error.__traceback__ = None


async def awithout_frames(do: Callable[[], Awaitable[_T]]) -> _T:
    """Like ``without_frames``, for what is awaited.

    Raises:
        BaseException: as there.
    """
    context = sys.exception()
    try:
        return await do()
    except BaseException as error:
        _cut(error, context)
        raise


class Secretkey:
    """The secretkey, or the callable that returns it; shows neither when printed.

    Args:
        source: the key itself, or a callable without arguments that returns it (a vault).
    """

    __slots__ = ("_source",)

    def __init__(self, source: str | Callable[[], str]) -> None:
        self._source = Masked(source) if isinstance(source, str) else source

    @property
    def source(self) -> str | Callable[[], str]:
        """What it was made from, for making another."""
        return self._source

    @property
    def identity(self) -> object:
        """Equal for the same key or the same callable; a digest where it is the key."""
        if isinstance(self._source, str):
            return digest(self._source)
        try:
            hash(self._source)
        except TypeError:
            return self
        return self._source

    def reveal(self, host: str) -> Masked:
        """The secretkey itself.

        Args:
            host: the origin it is needed for, to be named in errors.

        Raises:
            KiwoomAuthError: the callable failed or did not return a well-formed key.
        """
        if isinstance(self._source, str):
            return Masked(self._source)
        try:
            key = cast("object", self._source())
        except Exception as exception:
            if is_an_interrupt(exception):
                raise
            message = f"{host}: the secretkey callable raised {type(exception).__name__}"
            raise KiwoomAuthError(message, host=host) from exception
        if isinstance(key, str):
            key = Masked(key)
            if flaw(key) is None:
                return key
        del key
        raise KiwoomAuthError(
            f"{host}: the secretkey callable must return visible ASCII characters, at least one", host=host
        )

    def __repr__(self) -> str:
        return "Secretkey(…)"


def digest(secret: str) -> bytes:
    """A digest that tells secretkeys, or tokens, apart and does not tell them: 16 bytes of BLAKE2b."""
    return hashlib.blake2b(secret.encode(), digest_size=16, person=b"kiwoom_secretkey").digest()

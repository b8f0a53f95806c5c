"""The text of a file: Unicode with or without a byte order mark, or in the encoding that is named; gzip is unpacked.

An encoding that is not Unicode's is never guessed: the same bytes are text in several. The refusal shows how the line
reads in those that fit.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import reprlib
import zlib
from pathlib import Path
from typing import Any

_SPREADSHEET = "save the sheet as 'CSV UTF-8' (.csv)"
_TABLE = (
    "write it as JSON lines (pandas: to_json(file, orient='records', lines=True)), or give its folder as 'hub:FOLDER'"
)
_PACKED = "unpack it; of packed files .gz is read"
NOT_TEXT = {  # by suffix: what it is, what to do
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".xlsb"), ("a workbook of Excel", _SPREADSHEET)),
    **dict.fromkeys((".ods", ".numbers"), ("a spreadsheet", _SPREADSHEET)),
    **dict.fromkeys((".parquet", ".pq"), ("a Parquet file", _TABLE)),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), ("an Arrow file", _TABLE)),
    **dict.fromkeys((".zip", ".7z", ".tar", ".bz2", ".xz", ".zst"), ("a packed file", _PACKED)),
}
_FIRST_BYTES = {
    b"PK\x03\x04": ("a zip archive, as the workbooks of Excel are", f"{_SPREADSHEET}, or unpack it"),
    b"\xd0\xcf\x11\xe0": NOT_TEXT[".xls"],
    b"PAR1": NOT_TEXT[".parquet"],
    b"ARROW1": NOT_TEXT[".arrow"],
    **dict.fromkeys((b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf"), NOT_TEXT[".zip"]),
    b"version https://git-lfs.github.com/": ("a pointer of Git LFS", "fetch the file itself with git lfs pull"),
}
_GZIP = b"\x1f\x8b"
_MARKS = {  # the longer ones first: that of UTF-32 begins as that of UTF-16 does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CANDIDATES = ["cp1252", "cp1250", "cp1251", "cp932", "gb18030", "big5", "cp949", "euc_jp", "mac_roman"]
_SHOWN = 24  # letters around the byte that is shown


def read_text(file: Path, encoding: str | None = None) -> str:
    """The text of a file, without a byte order mark.

    encoding: of the bytes, by a name that Python knows; by default UTF-8, -16 or -32, whichever it is.

    Raises ValueError naming file, line and remedy for a file that cannot be read, is no text, or is in another
    encoding.
    """
    try:
        data = file.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        elif file.suffix.lower() == ".gz":
            raise ValueError(f"{file} is no gzip file; name it after what it holds, such as .jsonl or .csv")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is a damaged gzip file ({error}); pack it again") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}); see that it is there and may be read") from error
    for first, described in _FIRST_BYTES.items():
        if data.startswith(first):
            raise _no_text(file, *described)
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if encoding is None:
        encoding = marked or json.detect_encoding(data)  # finds UTF-16 and -32 without a mark too
    else:
        _check_encoding(file, encoding, marked)
        encoding = marked or encoding
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(file, data, encoding, error) from error


def format_of(file: Path) -> str:
    """How a file's name ends, in lower case and without .gz. Raises ValueError with the remedy if that is no text's."""
    suffix = file.suffix.lower()
    suffix = Path(file.stem).suffix.lower() if suffix == ".gz" else suffix
    if suffix in NOT_TEXT:
        raise _no_text(file, *NOT_TEXT[suffix])
    return suffix


def shown(value: Any) -> str:
    """A value for a message: in one line and not too long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def _no_text(file: Path, what: str, remedy: str) -> ValueError:
    return ValueError(f"{file} is {what}, which is not read; {remedy}")


def _check_encoding(file: Path, encoding: str, marked: str | None) -> None:
    try:
        name = codecs.lookup(encoding).name
        "a".encode(encoding)  # "hex" and others are no encodings of text
    except (LookupError, TypeError, UnicodeError) as error:
        raise ValueError(
            f"encoding={encoding!r} is no encoding of texts that Python knows; give one like 'cp1252' or 'shift_jis'"
        ) from error
    if marked and not name.startswith(marked.removesuffix("-sig")):
        raise ValueError(
            f"{file} begins with the byte order mark of {marked.removesuffix('-sig').upper()}, so it is not in "
            f"encoding={encoding!r}; leave the encoding out"
        )


def _undecodable(file: Path, data: bytes, encoding: str, error: UnicodeDecodeError) -> ValueError:
    before = data[: error.start].replace(b"\r\n", b"\n")
    line = 1 + before.count(b"\n") + before.count(b"\r")
    name = encoding.removesuffix("-sig").upper()
    what = f"{file}, line {line}: byte {data[error.start]:#04x} is not {name} ({error.reason})"
    readings = _readings(data, error.start) if name == "UTF-8" else {}
    if not readings:
        return ValueError(f"{what}; save the file as UTF-8, or give its encoding=")
    fitting = ", ".join(f"encoding={candidate!r} reads {reading!r} there" for reading, candidate in readings.items())
    return ValueError(f"{what}; save the file as UTF-8, or give its encoding: {fitting}")


def _readings(data: bytes, place: int) -> dict[str, str]:
    """What stands around a byte, in up to three encodings that fit the whole file → the encoding."""
    from charset_normalizer import from_bytes

    fitting = {match.encoding for match in from_bytes(data, cp_isolation=_CANDIDATES)}
    if _decodes(data, "cp1252"):  # the usual one; of short texts another may seem likelier
        fitting.add("cp1252")
    readings: dict[str, str] = {}
    for name in (one for one in _CANDIDATES if one in fitting):
        text, at = data.decode(name), len(data[:place].decode(name, "ignore"))
        begin = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at), at - _SHOWN - 1) + 1
        readings.setdefault(re.split(r"[\r\n]", text[begin : at + _SHOWN])[0], name)
    return dict(list(readings.items())[:3])


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True

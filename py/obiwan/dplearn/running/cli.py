"""Command lines: TOML configuration files, logging, one-line errors, defaults in the help."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any, NoReturn

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.running.interruptions import INTERRUPTED, ending, ending_silently

log = logging.getLogger(__name__)


def say(text: str = "") -> None:
    """Write a line of the program's result to standard output (progress goes to stderr)."""
    sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")  # of paths that are not UTF-8
    sys.stdout.flush()


class _Lasting:
    """Text stream that outlives its reader: what nobody reads any more, as after ``| head``, is dropped."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _drop(self) -> None:
        """Send this and all that follows to the null device."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        try:
            self.stream.write(text)
        except BrokenPipeError:
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._drop()


@contextmanager
def _lasting_streams() -> Iterator[None]:
    """While the block lasts, nothing that is written fails because nobody reads it; flushed at the end."""
    out: Any = _Lasting(sys.stdout)
    err: Any = _Lasting(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()


def open_streams() -> None:
    """Open standard streams that are closed (``>&-``): else the next file takes their place and text."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def between(
    least: float, most: float = math.inf, kind: type[int | float] = int, name: str = ""
) -> Callable[[str], Any]:
    """Type of a command-line number with bounds; argparse says by its name that a word is invalid."""

    def number(word: str) -> int | float:
        found = kind(word)
        if not least <= found <= most:
            span = f"at least {least}" if most == math.inf else f"{least} to {most}"
            msg = f"must be {span}, got {found}"
            raise argparse.ArgumentTypeError(msg)
        return found

    number.__name__ = name or kind.__name__
    return number


positive: Callable[[str], Any] = between(1, name="positive")  #: type of a command-line integer of at least 1
jobs: Callable[[str], Any] = between(1, 4096, name="jobs")  #: type of a number of worker processes


def option(text: str, value: Any = MISSING, **keywords: Any) -> Any:
    """A field of a dataclass, with a default value or without, that is an option of the command line.

    Parameters
    ----------
    text : str
        The option's help.
    value : optional
        Default of the field and of the option.
    **keywords
        As for `argparse.ArgumentParser.add_argument`.
    """
    known = {} if value is MISSING else {"default": value}
    return field(default=value, metadata={"help": text, **known, **keywords})


def add_options(group: argparse._ActionsContainer, *kinds: Any, prefix: str = "") -> None:
    """Add an option for each field of the dataclasses that was made with `option`."""
    for own in (own for kind in kinds for own in fields(kind) if "help" in own.metadata):
        group.add_argument(f"--{prefix}{own.name.replace('_', '-')}", **own.metadata)


def chosen(kind: Any, options: argparse.Namespace, prefix: str = "") -> dict[str, Any]:
    """The values that a command line gives the fields of a dataclass."""
    return {own.name: getattr(options, prefix + own.name) for own in fields(kind) if "help" in own.metadata}


def add_config_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--config FILE.toml``, and ``--version``, to a parser that is read with `parse`."""
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help="read options from a TOML file; keys are the long flag names, flags given here win",
    )
    version = f"obiwan.dplearn {__version__}"
    parser.add_argument("--version", action="version", version=version, help="say the version, and end")


def _tokens(action: argparse.Action, flag: str, value: Any) -> list[str]:
    """One TOML entry as the command-line words that would say the same."""
    if isinstance(value, bool) != (action.nargs == 0):
        msg = "it is a switch; say true or false" if action.nargs == 0 else "it is no switch; give it a value"
        raise ValueError(msg)
    if isinstance(value, bool):
        return [flag] if value else []
    values = list(value) if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, dict | list | bool) for one in values):
        msg = "a list holds words or numbers, and no value is a table"
        raise ValueError(msg)
    return [flag, *map(str, values)]


def _config_words(parser: argparse.ArgumentParser, path: Path, given: Collection[str]) -> list[str]:
    """The entries of a TOML file, but those of flags that are given, as command-line words."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        parser.error(f"--config {path}: {error.strerror}")
    except ValueError as error:  # tomllib's own is one, as is that of bytes that are no text
        parser.error(f"--config {path}: not valid TOML: {error}")
    return _entry_words(parser, entries, given, f"--config {path}: ")


def _entry_words(
    parser: argparse.ArgumentParser, entries: Mapping[str, Any], given: Collection[str] = (), where: str = ""
) -> list[str]:
    """Entries by the names of long flags, but those of flags that are given, as command-line words."""
    actions = {word: action for action in parser._actions for word in action.option_strings}
    words: list[str] = []
    for key, value in entries.items():
        flag = "--" + key.replace("_", "-")
        if flag not in actions or flag in ("--config", "--help", "--version"):
            parser.error(f"{where}unknown option {key!r}; see {parser.prog} --help")
        try:
            found = _tokens(actions[flag], flag, value)
        except ValueError as error:
            parser.error(f"{where}{key}: {error}")
        words += [] if flag in given else found
    return words


def parse_keywords(parser: argparse.ArgumentParser, keywords: Mapping[str, Any]) -> argparse.Namespace:
    """Options of a program from keyword arguments, which pass through the checks of its command line.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Raises `ValueError` from now on, where it would end the program.
    keywords : mapping
        Values by the names of long flags, with ``_`` for ``-``; None stands for an option that is not given.

    Raises
    ------
    ValueError
        If there is no such option, or a value is none of its.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--most-epochs", type=positive)
    >>> parse_keywords(parser, {"most_epochs": 3})
    Namespace(most_epochs=3)
    """

    def refuse(message: str) -> NoReturn:
        raise ValueError(message)

    parser.error = refuse  # type: ignore[method-assign]
    given = {name: value for name, value in keywords.items() if value is not None}
    return _parse(parser, _entry_words(parser, given))


def help_of(action: argparse.Action) -> str:
    """Help of an option with its default at the end, unless it says one itself or has none to say."""
    text, value = action.help or "", action.default
    absent = value is None or value is False or value in ([], argparse.SUPPRESS)
    if absent or "(default: " in text or not action.option_strings:
        return text
    shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{text} (default: {shown.replace('%', '%%')})"


class DefaultsFormatter(argparse.HelpFormatter):
    """Help whose options end in ``(default: ...)``, but for switches and options without a default."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return help_of(action)


def _at_home(value: Any) -> Any:
    """A value of an option in which ``~`` stands for no home any more: shells expand it in few places."""
    if isinstance(value, list):
        return [_at_home(one) for one in value]
    if isinstance(value, Path):
        return value.expanduser()
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value  # noqa: PTH111


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line whose ``--config`` file supplies what the flags leave open.

    The file's entries become words in front of the given ones, so that they pass through the same checks.
    ``~`` at the beginning of a path is the home directory, on the command line and in the file.
    A flag that is given takes the place of the file's; given twice, a flag of many values adds up.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        A parser with the option of `add_config_option`.
    argv : sequence of str, optional
        The words after the program's name; `sys.argv` by default.

    Returns
    -------
    argparse.Namespace
        The options; a bad option or file ends the program with status 2, as argparse does.
    """
    open_streams()
    with _lasting_streams():  # --help, too, may be longer than what is read of it
        return _parse(parser, list(sys.argv[1:] if argv is None else argv))


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """As `parse`, whose streams are set up."""
    parser.formatter_class = DefaultsFormatter
    parser.allow_abbrev = False  # an abbreviated --config would be overlooked
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    config = finder.parse_known_args(words)[0].config
    if config is not None:
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        words = _config_words(parser, Path(config).expanduser(), given) + words
    options = parser.parse_args(words)
    try:
        for name, value in vars(options).items():
            setattr(options, name, _at_home(value))
    except RuntimeError as error:
        parser.error(str(error))
    return options


def run(
    program: Callable[[], int],
    name: str,
    *,
    verbose: bool = False,
    speaks: bool = True,
    again: str = "start it again to go on where it stopped",
) -> int:
    """Run a program's body with logging set up and data errors told in one line.

    Parameters
    ----------
    program : callable
        The body; returns the exit status.
    name : str
        What error lines begin with.
    verbose : bool
        Log details, and show the traceback of an error.
    speaks : bool
        Whether this process says that a signal ended it: of many ranks one does.
    again : str
        What to do after an interruption.

    Returns
    -------
    int
        The body's status; 1 for an error in the user's data or files; 130 when interrupted.  SIGTERM
        ends the process with status 143.
    """
    with _lasting_streams(), ending(name, again, speaks=speaks) as interrupted:
        level = logging.DEBUG if verbose else logging.INFO
        logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s", force=True)
        for library in ("fontTools", "matplotlib", "PIL"):  # whose details are no use with --verbose
            logging.getLogger(library).setLevel(logging.WARNING)
        try:
            return program()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or interrupted():
                if speaks:
                    log.error("%s: interrupted; %s", name, again)
                return INTERRUPTED
            if not isinstance(error, DplearnError | OSError | MemoryError):
                raise
            if verbose:
                log.exception("%s failed", name)
            log.error("%s: error: %s", name, " ".join(_text_of(error).split()))
            ending_silently(1)
            return 1


def _text_of(error: DplearnError | OSError | MemoryError) -> str:
    """Text of an error, with what to do where the system says it."""
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        return f"{error.strerror or error}:{where} (check the path, its permissions and the space left)"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); give it more, or start fewer workers"
    return str(error)

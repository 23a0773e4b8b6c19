"""Run the program: every exception becomes one line and one exit code here, and nowhere else."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from choreo_cli.errors import ChoreoError, ExitCode


class Interrupted(BaseException):
    """A signal asked the program to stop; commands may clean up on the way out."""

    def __init__(self, signum: int) -> None:
        self.code = 128 + signum


_asked: list[int] = []  # the signal that asked to stop, once there was one
REMIND_S = 0.2


def _on_signal(signum: int, _frame: FrameType | None) -> None:
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, _at_once)
    _asked.append(signum)
    # C code (the import of an extension, a callback, a finaliser) may drop an exception: then ask again.
    signal.signal(signal.SIGALRM, _remind)
    signal.setitimer(signal.ITIMER_REAL, REMIND_S, REMIND_S)
    raise Interrupted(signum)


def _remind(_signum: int, _frame: FrameType | None) -> None:
    e = sys.exc_info()[1]
    while e is not None:
        if isinstance(e, Interrupted):
            return  # on its way out: someone is cleaning up
        e = e.__context__
    raise Interrupted(_asked[0])


def _at_once(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)


def main() -> NoReturn:
    """Entry point of the console script."""
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(s) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(s, _on_signal)
    _hold_standard_streams()
    code = _guarded(sys.argv[1:])
    _leave(code)


def _hold_standard_streams() -> None:
    """Occupy closed standard descriptors, or the next file opened becomes what libraries print into."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return


def _guarded(argv: list[str]) -> int:
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        return ExitCode.PIPE
    except Interrupted as e:
        return _stopped(argv, e.code)
    except KeyboardInterrupt:
        return ExitCode.INT
    except BaseException as e:
        # What fails after the signal (an import cut short) fails because of it.
        return _stopped(argv, 128 + _asked[0]) if _asked else _explain(argv, e)


def _stopped(argv: list[str], code: int) -> int:
    signal.setitimer(signal.ITIMER_REAL, 0)
    _say(argv, f"stopped by {signal.Signals(code - 128).name}")
    return code


def _run(argv: list[str]) -> int:
    from choreo_cli import app

    return app.run(argv)


def _explain(argv: list[str], e: BaseException) -> int:
    if isinstance(e, SystemExit):
        return e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    if "--debug" in argv:
        import traceback

        traceback.print_exc()
    if isinstance(e, ChoreoError):
        _say(argv, str(e))
        return int(e.code)
    if type(e).__name__ in ("FormatError", "ConfigFileError"):
        _say(argv, str(e))
        return ExitCode.DATA if type(e).__name__ == "FormatError" else ExitCode.CONFIG
    if type(e).__name__ == "Locked":
        _say(argv, f"{e}: wait for it (--wait SECONDS) or use another -o")
        return ExitCode.TEMPFAIL
    if isinstance(e, OSError):
        return _explain_os(argv, e)
    if isinstance(e, MemoryError):
        _say(argv, "out of memory: use fewer --jobs or smaller inputs")
        return ExitCode.IO
    return _crash(argv, e)


def _explain_os(argv: list[str], e: OSError) -> int:
    import errno

    reason = e.strerror or str(e) or type(e).__name__
    text = f"{reason}: {e.filename}" if e.filename else reason
    if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR) and getattr(e, "filename", None):
        _say(argv, text)
        return ExitCode.NOINPUT
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        _say(argv, f"{text}: choose another place or change its permissions")
        return ExitCode.CANTCREAT
    if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        _say(argv, f"{text}: free some space and run it again; nothing half-written is left")
        return ExitCode.IO
    _say(argv, text)
    return ExitCode.IO


def _crash(argv: list[str], e: BaseException) -> int:
    import tempfile
    import traceback

    from choreo_cli import __version__

    frame = traceback.extract_tb(e.__traceback__)[-1] if e.__traceback__ else None
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}" if frame else "?"
    kept = ""
    try:
        fd, path = tempfile.mkstemp(prefix="choreo-crash-", suffix=".txt")
        with os.fdopen(fd, "w") as f:
            f.write(f"choreo {__version__} python {sys.version.split()[0]} {sys.platform}\n")
            f.write(f"command: {_command(argv)}\n\n")
            f.write("".join(traceback.format_exception(e)))
        kept = f": please report it with {path} (no data inside), or see --debug"
    except OSError:
        kept = ": see --debug"
    first = " ".join(str(e).split())[:200]
    _say(argv, f"a bug of ours, {type(e).__name__} at {where}: {first}{kept}")
    return ExitCode.BUG


def _command(argv: list[str]) -> str:
    words = []
    for a in argv[:2]:
        if a.startswith("-") or not a.replace("-", "").isalpha():
            break
        words.append(a)
    from choreo_cli.app import COMMANDS, TWO_WORDS

    if not words or words[0] not in COMMANDS:
        return ""
    return " ".join(words if words[0] in TWO_WORDS else words[:1])


def _say(argv: list[str], text: str) -> None:
    name = " ".join(w for w in ("choreo", _command(argv)) if w)
    one_line = " ".join(text.split())
    try:
        sys.stderr.write(f"{name}: {one_line}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # nobody is listening


def _leave(code: int) -> NoReturn:
    """Exit without a second complaint about a stream that is gone."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = code or ExitCode.PIPE
        _silence()
    except (OSError, ValueError):
        code = code or ExitCode.IO
        _silence()
    sys.exit(int(code))


def _silence() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(null, fd)


if __name__ == "__main__":
    main()

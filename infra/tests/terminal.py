"""Runs a program at a terminal of its own: terminal.py LOG TEXT KEYS [TEXT KEYS]... -- PROGRAM...

Waits until the program prints TEXT, then types KEYS, and so on; ^C is Ctrl-C, and \\n is Enter. LOG gets what the
terminal shows. The exit code is that of the program, 128 and the signal if one ended it, and 124 if a TEXT did not come
within two minutes.
"""
import os
import pty
import select
import signal
import sys
import termios
import time

LIMIT = 120


def read(terminal):
    """Returns what the terminal shows next: nothing if the program has ended, None after a second without any."""
    if not select.select([terminal], [], [], 1)[0]:
        return None
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def type_and_watch(pid, terminal, steps, log):
    """Goes through the steps until the program ends. Returns whether it went through all of them in time."""
    shown, deadline = b"", time.monotonic() + LIMIT
    while (piece := read(terminal)) != b"":
        log.write(piece or b"")
        shown += piece or b""
        while steps and steps[0][0].encode() in shown:
            text, keys = steps.pop(0)
            shown = shown.split(text.encode(), 1)[1]
            os.write(terminal, keys.replace("^C", "\x03").replace("\\n", "\n").encode())
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return False
    return not steps


def main(log, *arguments):
    end = arguments.index("--")
    steps = list(zip(arguments[:end:2], arguments[1:end:2], strict=True))
    pid, terminal = pty.fork()
    if pid == 0:
        # A test that runs in the background ignores Ctrl-C, and would hand that on.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvp(arguments[end + 1], arguments[end + 1:])
    termios.tcsetwinsize(terminal, (24, 200))
    with open(log, "wb", buffering=0) as file:
        complete = type_and_watch(pid, terminal, steps, file)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not complete:
        return 124
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

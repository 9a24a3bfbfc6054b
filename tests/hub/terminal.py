#!/usr/bin/env python3
"""Runs a command on a terminal of its own: terminal.py PROMPT ANSWER COMMAND…

When the command has written PROMPT, ANSWER and a line end are typed. What appeared on the terminal is printed,
and the command's exit status is the result. It ends after 30 seconds whatever happens."""

import os
import pty
import signal
import sys

prompt, answer, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
signal.alarm(30)
shown = b""
answered = False
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    shown += piece
    if not answered and prompt in shown:
        os.write(terminal, answer + b"\n")
        answered = True
sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

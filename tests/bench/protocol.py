# SPDX-License-Identifier: Apache-2.0
"""The peers' side of protocol.h."""
import sys


def serve(run):
    """run(n): the times of n steps, in ms."""
    for line in sys.stdin:
        word = line.split()
        if word[0] == "quit":
            break
        times = run(int(word[1])) if word[0] == "run" else [-1.0]  # "memory": not known
        print(" ".join(f"{t:.4f}" for t in times), flush=True)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times our training step against the peer's, in turn, in one run; prints medians and the ratio.

Both sides are processes that speak peer.py's protocol. Rounds alternate (ours, peer, peer, ours, …) so that drift of
the machine meets both alike.
"""
import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time


class Side:
    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, steps):
        self.process.stdin.write(f"run {steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"interleave.py: `{self.command}` ended with {self.process.wait()}")
        return [float(word) for word in line.split()]

    def quit(self):
        self.process.stdin.write("quit\n")
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--ours", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", help="append the result to this JSON array")
    arguments = parser.parse_args()
    ours, peer = Side(arguments.ours), Side(arguments.peer)
    for side in (ours, peer):
        side.run(arguments.steps)  # warm up
    times = {ours: [], peer: []}
    for i in range(arguments.rounds):
        for side in ((ours, peer) if i % 2 == 0 else (peer, ours)):
            time.sleep(0.25)  # let the other side's threads stop spinning
            times[side] += side.run(arguments.steps)
    for side in (ours, peer):
        side.quit()
    a, b = statistics.median(times[ours]), statistics.median(times[peer])
    result = {"name": arguments.name, "ours": round(a, 3), "peer": round(b, 3), "ratio": round(a / b, 3), "unit": "ms/step"}
    print(f"{arguments.name}: ours {a:.2f} ms/step, PyTorch eager {b:.2f} ms/step, ratio {a / b:.3f} "
          f"(medians of {len(times[ours])} steps each, {arguments.rounds} interleaved rounds)")
    if arguments.json:
        try:
            with open(arguments.json) as file:
                results = json.load(file)
        except (FileNotFoundError, ValueError):
            results = []
        with open(arguments.json, "w") as file:
            json.dump(results + [result], file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A side of interleave.py that measures nothing: fake_side.py NUMBER... [--memory N] [--fail-at RUN] [--hang-at RUN].

Run after run the steps take the numbers in turn; at the run of that number (from 1) it fails or hangs. With --machine a
run is answered with the numbers themselves. `fake_side.py growth` with growth.py's settings: the steps take a time in
proportion to the width's square, depth, batch and context.
"""
import argparse
import itertools
import sys
import time


def growth_ms(arguments):
    values = dict(argument.split("=") for argument in arguments if "=" in argument)
    numbers = {key.split(".")[-1]: int(value) for key, value in values.items()}
    return 1e-6 * numbers["width"]**2 * numbers["layers"] * numbers["batch"] * numbers["context"]


def main():
    if sys.argv[1] == "growth":
        sys.argv[1:] = [str(growth_ms(sys.argv[2:]))]
    parser = argparse.ArgumentParser()
    parser.add_argument("numbers", type=float, nargs="+")
    parser.add_argument("--memory", type=float, default=-1)
    parser.add_argument("--fail-at", type=int)
    parser.add_argument("--hang-at", type=int)
    parser.add_argument("--machine", action="store_true")
    parser.add_argument("--log", help="a line for each run into this file")
    arguments = parser.parse_args()
    numbers = itertools.cycle(arguments.numbers)
    run = 0
    for line in sys.stdin:
        word = line.split()
        if word[0] == "quit":
            break
        if word[0] == "memory":
            print(arguments.memory, flush=True)
            continue
        run += 1
        if arguments.log:
            with open(arguments.log, "a", encoding="utf-8") as file:
                file.write(f"{arguments.numbers[0]:g}\n")
        if run == arguments.fail_at:
            sys.exit(3)
        if run == arguments.hang_at:
            time.sleep(60)
        answer = arguments.numbers if arguments.machine else [next(numbers) for _ in range(int(word[1]))]
        print(*answer, flush=True)


if __name__ == "__main__":
    main()

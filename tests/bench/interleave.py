#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times our training step against its peers', in turn, in one run; prints medians, ratios, and shares of the machine's.

All sides are processes that speak protocol.h. Each round runs them in another order (forwards, then backwards) so that
drift of the machine meets all alike; a peer that fails, or takes too long to start, is said and left out.
"""
import argparse
import json
import os
import select
import shlex
import signal
import statistics
import subprocess
import sys
import time

from work import TARGETS, WORK

MACHINE = ("gemm_f32_gflops", "fma_f32_gflops", "gemm_bf16_gflops", "dot_bf16_gflops", "memory_gb_s")


class Failed(Exception):
    pass


class Side:
    """A process of the protocol; label: what it is called in the output."""

    def __init__(self, label, command):
        self.label, self.command = label, command
        self.times = []
        self.start()

    def start(self):
        self.buffer = b""
        try:
            self.process = subprocess.Popen(shlex.split(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            start_new_session=True)
        except OSError as error:
            raise Failed(f"{self.label}: `{self.command}`: {error.strerror}") from error

    def ask(self, line, limit_s=None):
        """One line's answer as numbers; Failed when the process ends or takes longer than limit_s."""
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the read below says so
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while b"\n" not in self.buffer:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], wait)[0]:
                self.kill()
                raise Failed(f"{self.label}: not ready within {limit_s:.0f} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise Failed(f"{self.label}: `{self.command}` ended with {self.process.wait()}")
            self.buffer += piece
        answer, _, self.buffer = self.buffer.partition(b"\n")
        try:
            return [float(word) for word in answer.split()]
        except ValueError as error:
            self.kill()
            raise Failed(f"{self.label}: answered {answer[:60]!r}") from error

    def run(self, steps, limit_s=None):
        times = self.ask(f"run {steps}", limit_s)
        if len(times) != steps:
            self.kill()
            raise Failed(f"{self.label}: {len(times)} times for {steps} steps")
        return times

    def kill(self):
        """With the processes that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def quit(self):
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, ValueError, subprocess.TimeoutExpired):
            self.kill()


def say(text):
    print(text, flush=True)


def sides_open(arguments):
    """Ours and the peers that start and finish one warm-up; ours failing is the end of it."""
    ours = Side("ours", arguments.ours)
    ours.run(arguments.steps)
    peers = []
    for label_command in arguments.peer:
        label, _, command = label_command.partition("=")
        try:
            start = time.monotonic()
            side = Side(label, command)
            side.run(arguments.steps, arguments.start_limit)
            peers.append(side)
            if time.monotonic() - start > 20:
                say(f"  {label}: ready after {time.monotonic() - start:.0f} s")
        except Failed as failure:
            say(f"  left out: {failure}")
    return ours, peers


def rounds_run(arguments, ours, peers, machine):
    """Fills the sides' times; returns the medians of the machine's figures, None without it."""
    figures = []
    sides = [ours] + peers
    for i in range(arguments.rounds):
        if machine is not None:
            figures.append(machine.ask("run 1"))
        for side in sides if i % 2 == 0 else sides[::-1]:
            if side not in sides:
                continue
            time.sleep(arguments.pause)  # let the other side's threads stop spinning
            try:
                if arguments.restart > 0 and i > 0 and i % arguments.restart == 0:
                    side.quit()
                    side.start()
                    side.run(arguments.steps, arguments.start_limit)
                side.times += side.run(arguments.steps)
            except Failed as failure:
                if side is ours:
                    raise
                say(f"  left out: {failure}")
                sides = [s for s in sides if s is not side]
                peers.remove(side)
    if not figures:
        return None
    return dict(zip(MACHINE, (statistics.median(column) for column in zip(*figures))))


def shares_describe(name, ms, machine):
    """Lines and JSON keys that put a step time beside the machine's peaks."""
    work = WORK.get(name)
    if work is None or machine is None:
        return [], {}
    gflops, gb_s = work.flop / ms * 1e-6, work.bytes / ms * 1e-6
    is_bf16 = name.endswith("bf16")
    peak = machine["gemm_bf16_gflops" if is_bf16 else "gemm_f32_gflops"]
    most = machine["dot_bf16_gflops" if is_bf16 else "fma_f32_gflops"]
    kind, register = ("bf16", "dot products in registers") if is_bf16 else ("f32", "multiply-adds in registers")
    share = {"flop": work.flop, "flop_formula": work.flop_formula, "bytes": work.bytes,
             "bytes_formula": work.bytes_formula, "gflops": round(gflops, 1), "gb_s": round(gb_s, 2),
             "percent_of_memory_bandwidth": round(100 * gb_s / machine["memory_gb_s"], 1), "machine": machine}
    line = f"  {work.flop * 1e-9:.4g} GFLOP = {work.flop_formula}: {gflops:.0f} GFLOP/s"
    for figure, what, key in ((peak, f"our {kind} matrix product's {peak:.0f}", "percent_of_gemm_peak"),
                              (most, f"{most:.0f} ({kind} {register})", "percent_of_register_peak")):
        if figure > 0:
            share[key] = round(100 * gflops / figure, 1)
            line += f", {100 * gflops / figure:.0f} % of {what}"
    return [line, f"  {work.bytes * 1e-9:.3g} GB = {work.bytes_formula}: {gb_s:.1f} GB/s, "
                  f"{100 * gb_s / machine['memory_gb_s']:.0f} % of the memory's {machine['memory_gb_s']:.1f}"], share


def row_make(name, row_name, label, a, b, unit):
    target = TARGETS.get(row_name if row_name in TARGETS else name)
    row = {"name": row_name, "ours": round(a, 3), "peer": round(b, 3), "ratio": round(a / b, 3), "unit": unit,
           "peer_name": label}
    verdict = ""
    if target is not None and (not target.peers or label in target.peers):
        row["target"], row["met"] = target.ratio, a / b <= target.ratio
        verdict = f"   target <= {target.ratio}: {'met' if row['met'] else 'MISSED'}"
    return row, verdict


def report(arguments, ours, peers, machine):
    name, unit = arguments.name, "ms/step"
    a = statistics.median(ours.times)
    say(f"{name}: ours {a:.2f} {unit} (medians of {len(ours.times)} steps each, {arguments.rounds} interleaved rounds)")
    lines, share = shares_describe(name, a, machine)
    for line in lines:
        say(line)
    rows = []
    for i, peer in enumerate(peers):
        b = statistics.median(peer.times)
        is_first = peer.label == arguments.peer[0].partition("=")[0]
        row, verdict = row_make(name, name if is_first else f"{name} vs {peer.label}", peer.label, a, b, unit)
        if i == 0:
            row.update(share)
        rows.append(row)
        say(f"  vs {peer.label:<20} {b:10.2f} {unit}   ratio {a / b:.3f}{verdict}")
    if arguments.memory_of:
        rows += memory_report(arguments, ours, peers)
    return rows


def memory_report(arguments, ours, peers):
    """What ours holds at most within a step beyond what it holds between steps, against the named side's."""
    for peer in peers:
        if peer.label == arguments.memory_of:
            a, b = (side.ask("memory")[0] / 2**20 for side in (ours, peer))
            if a > 0 and b > 0:
                row, verdict = row_make(arguments.name, f"{arguments.name} memory", peer.label, a, b,
                                        "MiB of activations")
                say(f"  activations {a:.1f} MiB vs {peer.label}'s {b:.1f} MiB: {100 * (1 - a / b):.0f} % less, "
                    f"ratio {a / b:.3f}{verdict}")
                return [row]
    return []


def json_append(path, rows):
    try:
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
    except (FileNotFoundError, ValueError):
        results = []
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results + rows, file, indent=2)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--ours", required=True, metavar="COMMAND")
    parser.add_argument("--peer", action="append", required=True, metavar="LABEL=COMMAND")
    parser.add_argument("--machine", metavar="COMMAND", help="bench-machine, asked in every round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--start-limit", type=float, default=180, help="seconds a peer may take for its first steps")
    parser.add_argument("--restart", type=int, default=0, metavar="N",
                        help="starts the sides anew every N rounds: where a process's memory lies changes its speed")
    parser.add_argument("--pause", type=float, default=0.25, help="seconds before each side's turn")
    parser.add_argument("--memory-of", metavar="LABEL", help="compare memory with this peer's too")
    parser.add_argument("--json", help="append the results to this JSON array")
    arguments = parser.parse_args()
    sides = []
    try:
        ours, peers = sides_open(arguments)
        sides = [ours] + peers
        machine = None
        if arguments.machine:
            machine = Side("machine", arguments.machine)
            sides.append(machine)
        figures = rounds_run(arguments, ours, peers, machine)
        rows = report(arguments, ours, peers, figures)
    except Failed as failure:
        sys.exit(f"interleave.py: {arguments.name}: {failure}")
    finally:
        for side in sides:
            side.quit()
    if arguments.json:
        json_append(arguments.json, rows)


if __name__ == "__main__":
    main()

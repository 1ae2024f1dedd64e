#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How our step time grows: a GPT's width, depth, batch and context, one at a time, the others fixed.

Prints a table, writes growth.json and growth.png into --out. A slope is the exponent of a power law fitted to the
points (least squares of the logarithms); beside it stands that of the arithmetic, the FLOP of work.py at the same
points: where time grows less than it, small sizes don't fill the machine; where it grows more, something is lost.
"""
import argparse
import json
import math
import os
import statistics
import sys

from interleave import Failed, Side, json_append, say
from work import gpt

VOCABULARY = 256
HEAD_WIDTH = 64
BASE = {"width": 256, "depth": 4, "batch": 8, "context": 128}
POINTS = {
    "width": (64, 128, 256, 512, 1024),
    "depth": (1, 2, 4, 8, 16),
    "batch": (1, 2, 4, 8, 16, 32),
    "context": (32, 64, 128, 256, 512),
}
UNITS = {"width": "channels", "depth": "blocks", "batch": "sequences", "context": "tokens a sequence"}


def measure(arguments, sizes):
    """Median step time in ms, of at least 5 steps and 1 s after a warm-up."""
    values = {"model.with.width": sizes["width"], "model.with.heads": sizes["width"] // HEAD_WIDTH,
              "model.with.layers": sizes["depth"], "training.batch": sizes["batch"],
              "model.with.context": sizes["context"]}
    settings = " ".join(f"--set {key}={value}" for key, value in values.items())
    side = Side("ours", f"{arguments.ours} growth --threads {arguments.threads} {settings}")
    try:
        side.run(2)
        first = side.run(3)
        steps = max(5, min(200, int(arguments.seconds * 1e3 / statistics.median(first))))
        return statistics.median(side.run(steps))
    finally:
        side.quit()


def slope(points, key):
    """Exponent of the power law through (value, point[key])."""
    x = [math.log(point["value"]) for point in points]
    y = [math.log(point[key]) for point in points]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x)**2 for a in x)


def axis_measure(arguments, axis):
    points = []
    say(f"{axis:<8} {'ms/step':>10} {'GFLOP':>9} {'GFLOP/s':>8} {'tokens/s':>9}   growth of time, of FLOP per doubling")
    for value in POINTS[axis]:
        sizes = dict(BASE, **{axis: value})
        ms = measure(arguments, sizes)
        flop = gpt(sizes["batch"], sizes["context"], sizes["width"], sizes["depth"], VOCABULARY, 0).flop
        point = {"value": value, "ms": round(ms, 4), "seconds": round(ms * 1e-3, 7), "flop": flop,
                 "gflops": round(flop / ms * 1e-6, 2)}
        growth = ""
        if points:
            last = points[-1]
            doublings = math.log2(value / last["value"])
            growth = (f"   x {(ms / last['ms'])**(1 / doublings):.2f}"
                      f"   x {(flop / last['flop'])**(1 / doublings):.2f}")
        points.append(point)
        rate = sizes["batch"] * sizes["context"] / ms * 1e3
        say(f"{value:<8} {ms:10.3f} {flop * 1e-9:9.3f} {point['gflops']:8.1f} {rate:9.0f}{growth}")
    result = {"axis": axis, "unit": UNITS[axis], "fixed": {k: v for k, v in BASE.items() if k != axis},
              "points": points, "slope": round(slope(points, "ms"), 3),
              "slope_of_flop": round(slope(points, "flop"), 3),
              "slope_of_the_last_half": round(slope(points[len(points) // 2:], "ms"), 3),
              "slope_of_flop_of_the_last_half": round(slope(points[len(points) // 2:], "flop"), 3)}
    say(f"  slope of time {result['slope']:.2f}, of the arithmetic {result['slope_of_flop']:.2f}; over the larger half "
        f"{result['slope_of_the_last_half']:.2f}, {result['slope_of_flop_of_the_last_half']:.2f}\n")
    return result


def panel_draw(axes, result):
    x = [point["value"] for point in result["points"]]
    ms = [point["ms"] for point in result["points"]]
    flop = [point["flop"] for point in result["points"]]
    fitted = [v**result["slope"] for v in x]
    level = math.exp(statistics.fmean(math.log(m / f) for m, f in zip(ms, fitted)))
    axes.plot(x, ms, "o", color="tab:blue", markersize=6, label="measured", zorder=3)
    axes.plot(x, [level * f for f in fitted], "-", color="tab:blue", linewidth=1.4,
              label=f"fit of the time, slope {result['slope']:.2f}")
    # the arithmetic at the speed of the fastest point
    best = min(m / f for m, f in zip(ms, flop))
    axes.plot(x, [best * f for f in flop], "--", color="tab:orange", linewidth=1.4,
              label=f"arithmetic at {1e-6 / best:.0f} GFLOP/s, slope {result['slope_of_flop']:.2f}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(x, [str(v) for v in x])
    axes.minorticks_off()
    axes.set_xlabel(f"{result['axis']} ({result['unit']})")
    axes.set_ylabel("time of a training step (ms)")
    axes.grid(True, which="major", color="0.88", linewidth=0.7)
    axes.set_axisbelow(True)
    low, high = min(ms + [best * f for f in flop]), max(ms)
    axes.set_ylim(low / 1.5, high * 4)  # room for the legend
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ticks = [m * 10**e for e in range(-2, 6) for m in (1, 2, 5)]
    axes.set_yticks([t for t in ticks if low / 1.5 <= t <= high * 4])
    fixed = ", ".join(f"{key} {value}" for key, value in result["fixed"].items())
    axes.set_title(f"{result['axis']}   ({fixed})", fontsize=10)
    axes.legend(loc="upper left", fontsize=8, framealpha=1)


def plot(results, threads, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 2, figsize=(11, 8.5))
    for axes, result in zip(grid.flat, results):
        panel_draw(axes, result)
    figure.suptitle(f"How the time of gradd's training step grows: GPT, f32, AdamW, {threads} CPU threads", fontsize=12)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", default="build/release/bin/bench-step", help="bench-step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="of steps a point")
    parser.add_argument("--out", default="build/bench", help="folder for growth.json and growth.png")
    parser.add_argument("--json", help="append a row for each dimension to this JSON array")
    parser.add_argument("--axes", nargs="+", choices=POINTS, default=list(POINTS))
    parser.add_argument("--plot-only", action="store_true", help="draw the growth.json that is there")
    arguments = parser.parse_args()
    data, picture = (os.path.join(arguments.out, f"growth.{ending}") for ending in ("json", "png"))
    if arguments.plot_only:
        with open(data, encoding="utf-8") as file:
            results = json.load(file)["axes"]
    else:
        try:
            results = [axis_measure(arguments, axis) for axis in arguments.axes]
        except Failed as failure:
            sys.exit(f"growth.py: {failure}")
        os.makedirs(arguments.out, exist_ok=True)
        with open(data, "w", encoding="utf-8") as file:
            json.dump({"threads": arguments.threads, "model": "configs/models/gpt.yaml", "axes": results}, file, indent=2)
            file.write("\n")
    if arguments.json:
        # the slope of the time against the arithmetic's
        json_append(arguments.json, [{"name": f"growth {r['axis']}", "ours": r["slope"], "peer": r["slope_of_flop"],
                                      "ratio": round(r["slope"] / r["slope_of_flop"], 3), "unit": "slope",
                                      "points": r["points"]} for r in results])
    try:
        plot(results, arguments.threads, picture)
    except ImportError as error:
        say(f"no picture: {error}")
    else:
        say(f"wrote {data} and {picture}")


if __name__ == "__main__":
    main()

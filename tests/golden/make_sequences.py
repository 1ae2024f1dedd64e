#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes configs/data/letters.csv (texts of other lengths with a class) and digits.csv (numbers and what they read
backwards), the data of two jobs in configs/jobs. Needs nothing."""
import pathlib
import random

DATA = pathlib.Path(__file__).resolve().parents[2] / "configs" / "data"


def letters(n):
    """The class is the letter that occurs most, by at least two."""
    rows = []
    while len(rows) < n:
        weights = [random.random() ** 2 + 0.05 for _ in "abcd"]
        text = "".join(random.choices("abcd", weights, k=random.randint(3, 24)))
        counts = sorted((text.count(c), c) for c in "abcd")
        if counts[-1][0] >= counts[-2][0] + 2:
            rows.append(f"{text},{counts[-1][1]}")
    return rows


def digits(n):
    numbers = set()
    while len(numbers) < n:
        numbers.add("".join(random.choices("0123456789", k=random.randint(1, 7))))
    numbers = sorted(numbers)
    random.shuffle(numbers)
    return [f"{number},{number[::-1]}" for number in numbers]


def main():
    random.seed(7)
    DATA.mkdir(exist_ok=True)
    for name, header, rows in (("letters", "text,most", letters(1200)), ("digits", "number,backwards", digits(4000))):
        (DATA / f"{name}.csv").write_text("\n".join([header] + rows) + "\n")


if __name__ == "__main__":
    main()

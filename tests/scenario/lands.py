#!/usr/bin/env python3
"""Where a copy lands: the rows of lands.tsv, for the test, and as docs/cli.md prints them.

There are a/f, a/h, a/t/g and b/f to be copied, and at the destination a directory d and a
file old. What is refused leaves d and old as they were.
"""

import pathlib

PATH = pathlib.Path(__file__).with_name("lands.tsv")


def rows():
    """(what, the words of the command, the paths that are there in the end; none: refused)"""
    for line in PATH.read_text().splitlines()[1:]:
        what, words, places = line.split("\t")
        yield what, words.split(), [] if places == "refused" else places.split()


def markdown():
    print("| | `SRC... DST` | lands as |\n|---|---|---|")
    for what, words, places in rows():
        shown = ", ".join(f"`{place}`" for place in places) or "refused"
        print(f"| {what} | `{' '.join(words)}` | {shown} |")


if __name__ == "__main__":
    markdown()

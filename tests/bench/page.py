#!/usr/bin/env python3
"""page.py - results/README.md from results/*.tsv: every row of every bench, with the machine and commit it was taken on."""
import glob
import os
import re

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
HEAD = """# Results

Made by `./airlock bench` from the tab-separated files beside it; what each row measures: [../README.md](../README.md).
Each figure is the median of several samples of one run, taken while nobody else used the processors. *Share* is ours
against the limit measured in the same run; *ratio* is ours against the reference.
"""


def cell(text):
    return text.replace("|", "\\|")


def split_share(ours):
    """ "357.7 tok/s, 97 % of the memory floor 368" -> figure, floor, share. """
    m = re.fullmatch(r"(.*), (\d+) % of the ([a-z0-9 ]+?) (\d+)", ours)
    return (m[1], f"{m[4]} tok/s ({m[3]})", f"{m[2]} %") if m else (ours, "-", "-")


def page(path):
    name = os.path.splitext(os.path.basename(path))[0]
    facts, rows = [], []
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines():
            fields = line.split("\t")
            if line.startswith("#"):
                if fields[0] != "# bench":
                    facts.append(": ".join(x.strip("# ") for x in fields))
            elif len(fields) == 7:
                rows.append(fields[1:])
    out = [f"## {name}", ""] + [f"- {cell(fact)}" for fact in facts] + [""]
    out += ["| case | ours | floor | share | reference | ratio | goal | result |", "|---|---|---|---|---|---|---|---|"]
    for case, ours, reference, ratio, goal, result in rows:
        figure, floor, share = split_share(ours)
        cells = [case, figure, floor, share, reference, ratio, goal, f"**{result}**" if result == "short" else result]
        out.append("| " + " | ".join(map(cell, cells)) + " |")
    met = sum(r[5] == "met" for r in rows)
    short = sum(r[5].startswith("short") for r in rows)
    out += ["", f"{met} met, {short} short, {len(rows) - met - short} without a verdict.", ""]
    return out


def main():
    lines = HEAD.splitlines() + [""]
    for path in sorted(glob.glob(os.path.join(RESULTS, "*.tsv"))):
        lines += page(path)
    with open(os.path.join(RESULTS, "README.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines).rstrip() + "\n")


main()

"""Charts of a run as SVG: how far each figure is from its goal, and what a long load did over time.

Pure; text and rectangles only, so that the file is small, the same on every machine, and readable
in a diff.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from bench.figures import Line

WIDTH, ROW, LABEL, NUMBERS, TOP = 900, 22, 300, 220, 48
SPAN = 8.0
"""Bars end at so many times the goal, and at its so-many-th part."""
MET, NOT_MET, INK, FAINT = "#2e7d32", "#c62828", "#222222", "#bbbbbb"
FONT = {"font-family": "sans-serif", "font-size": "12", "fill": INK}
COLOURS = ("#1565c0", "#6a1b9a", "#ef6c00")
PLOT_HEIGHT, MARGIN = 260, 60


def margins(lines: Sequence[Line], title: str) -> str:
    """A bar for each figure with a goal: to the right of the middle it is met, logarithmic."""
    judged = [line for line in lines if line.margin is not None]
    svg = _document(TOP + ROW * len(judged) + 12, title)
    middle, half = LABEL + (WIDTH - LABEL - NUMBERS) / 2, (WIDTH - LABEL - NUMBERS) / 2
    for row, line in enumerate(judged):
        y = TOP + row * ROW
        margin = min(SPAN, max(1 / SPAN, line.margin or 0.0))
        length = half * math.log(margin) / math.log(SPAN)
        left, colour = min(middle, middle + length), MET if line.verdict == "met" else NOT_MET
        _text(svg, LABEL - 10, y + 14, line.figure.label, anchor="end")
        _rectangle(svg, (left, y + 3, max(1.0, abs(length)), ROW - 6), colour)
        subject = line.figure.subject(line.medians.get("kvshim"), line.ratio)
        _text(svg, WIDTH - NUMBERS / 2, y + 14, f"{subject:,.2f}", anchor="end")
        _text(svg, WIDTH - NUMBERS / 2 + 20, y + 14, line.figure.goal_text())
    _line(svg, [(middle, TOP - 4), (middle, TOP + ROW * len(judged))], INK)
    _text(svg, middle, TOP - 10, "goal", anchor="middle")
    return _written(svg)


def series(samples: Sequence[dict[str, float]], title: str) -> str:
    """A line for each size over time, each against its own largest value."""
    svg = _document(PLOT_HEIGHT + 2 * MARGIN, title)
    names = [name for name in samples[0] if name != "seconds"]
    span = max(sample["seconds"] for sample in samples) or 1.0
    width = WIDTH - 2 * MARGIN
    for number, name in enumerate(names):
        top = max(sample[name] for sample in samples) or 1.0
        points = [
            (
                MARGIN + width * sample["seconds"] / span,
                MARGIN + PLOT_HEIGHT * (1 - sample[name] / top),
            )
            for sample in samples
        ]
        _line(svg, points, COLOURS[number % len(COLOURS)])
        label = f"{name.removesuffix('_mib')}, at most {top:,.0f} MiB"
        colour = COLOURS[number % len(COLOURS)]
        _text(svg, MARGIN + 240 * number, MARGIN - 12, label, colour=colour)
    axis = [
        (MARGIN, MARGIN),
        (MARGIN, MARGIN + PLOT_HEIGHT),
        (WIDTH - MARGIN, MARGIN + PLOT_HEIGHT),
    ]
    _line(svg, axis, FAINT)
    _text(svg, WIDTH - MARGIN, MARGIN + PLOT_HEIGHT + 20, f"{span:,.0f} s", anchor="end")
    return _written(svg)


def _document(height: float, title: str) -> ET.Element:
    size = {"width": str(WIDTH), "height": f"{height:g}", "viewBox": f"0 0 {WIDTH} {height:g}"}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size})
    _rectangle(svg, (0, 0, WIDTH, height), "#ffffff")
    _text(svg, 10, 20, title)
    return svg


def _text(
    svg: ET.Element, x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK
) -> None:
    where = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    ET.SubElement(svg, "text", {**FONT, "fill": colour, **where}).text = text


def _rectangle(svg: ET.Element, box: tuple[float, float, float, float], colour: str) -> None:
    names = ("x", "y", "width", "height")
    sides = {name: f"{side:.1f}" for name, side in zip(names, box, strict=True)}
    ET.SubElement(svg, "rect", {**sides, "fill": colour})


def _line(svg: ET.Element, points: Sequence[tuple[float, float]], colour: str) -> None:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    ET.SubElement(svg, "polyline", {"points": path, "fill": "none", "stroke": colour})


def _written(svg: ET.Element) -> str:
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"

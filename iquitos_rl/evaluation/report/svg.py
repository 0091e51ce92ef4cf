"""Small pieces of SVG for inline charts: escaped text, scales, ticks, axes.

A chart is drawn on a view box about as wide as a phone's screen, so that its text is readable there without
scaling, and several stand side by side on a wide one. Colours are never in the drawing: classes name what a
mark means, and the page's style sheet colours it for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["CHARACTER_WIDTH", "Axis", "Drawing", "linear_axis"]

WIDTH = 360.0
CHARACTER_WIDTH = 6.1
"""Average width of a character of the charts' text (11.5 units), to keep labels apart."""
EDGE = 16.0
"""Half the width of a tick's label."""
TOLERANCE = 1e-6
"""Of a tick's distance: a score of 1.0000000001 needs no axis to 1.2."""


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Drawing:
    """An SVG under construction; coordinates in units of the view box, y downwards."""

    def __init__(self, height: float, title: str, description: str, width: float = WIDTH) -> None:
        self.width, self.height = width, height
        self._title, self._description = title, description
        self._parts: list[Markup] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line of a class."""
        self.path(f"M{_number(x1)} {_number(y1)}L{_number(x2)} {_number(y2)}", kind)

    def polyline(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """A line through points."""
        self.path("M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points), kind)

    def rectangles(self, boxes: Iterable[tuple[float, float, float, float]], kind: str) -> None:
        """Rectangles (x, y, width, height) of one class as one path; nothing for none."""
        drawn = "".join(
            f"M{_number(x)} {_number(y)}h{_number(w)}v{_number(h)}h{_number(-w)}z" for x, y, w, h in boxes
        )
        if drawn:
            self.path(drawn, kind)

    def path(self, d: str, kind: str) -> None:
        """A path of a class."""
        self._parts.append(Markup('<path class="{}" d="{}"/>').format(kind, d))

    def marker(self, x: float, y: float, shape: str, kind: str, tip: str = "") -> None:
        """A circle, square or diamond around a point, with a text that appears under the pointer."""
        r = {"circle": 4.5, "square": 4.0, "diamond": 5.5}[shape]
        if shape == "circle":
            d = f"M{_number(x - r)} {_number(y)}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
        elif shape == "square":
            d = f"M{_number(x - r)} {_number(y - r)}h{2 * r}v{2 * r}h{-2 * r}z"
        else:
            d = f"M{_number(x - r)} {_number(y)}l{r} {-r}l{r} {r}l{-r} {r}z"
        title = Markup("<title>{}</title>").format(tip) if tip else ""
        self._parts.append(Markup('<path class="{}" d="{}">{}</path>').format(f"marker {kind}", d, title))

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Text with its baseline at y; anchor ``start``, ``middle`` or ``end``."""
        self._parts.append(
            Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                kind, _number(x), _number(y), anchor, words
            )
        )

    def svg(self) -> Markup:
        """The element, with a title and a description for who does not see it."""
        return Markup('<svg viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}</svg>').format(
            _number(self.width),
            _number(self.height),
            escape(self._title),
            escape(self._description),
            Markup("").join(self._parts),
        )


@dataclass(frozen=True)
class Axis:
    """A linear scale from values to positions.

    Attributes:
        low, high: values at its ends.
        start, end: positions of its ends.
        ticks: values to mark.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]

    def __call__(self, value: float) -> float:
        """The position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def draw_bottom(
        self, drawing: Drawing, y: float, label: Callable[[float], str], top: float | None = None
    ) -> None:
        """Tick labels under y, and grid lines from there up to ``top``."""
        for tick in self.ticks:
            if top is not None:
                drawing.line(self(tick), top, self(tick), y, "grid")
            x = self(tick)
            # Nothing may stick out of the drawing: print cuts it off.
            anchor = "start" if x < EDGE else "end" if x > drawing.width - EDGE else "middle"
            drawing.text(x, y + 14, label(tick), "tick", anchor)

    def draw_left(self, drawing: Drawing, x: float, label: Callable[[float], str], right: float) -> None:
        """Tick labels left of x, and grid lines from there to ``right``."""
        for tick in self.ticks:
            drawing.line(x, self(tick), right, self(tick), "grid")
            drawing.text(x - 5, self(tick) + 4, label(tick), "tick", "end")


def linear_axis(
    low: float, high: float, start: float, end: float, ticks: int = 5, widen: bool = True
) -> Axis:
    """An axis with about ``ticks`` round values; widened to them, unless told not to.

    Where low and high are the same, it is given some room.
    """
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    step = _round_step((high - low) / max(ticks - 1, 1))
    if widen:
        low, high = math.floor(low / step + TOLERANCE) * step, math.ceil(high / step - TOLERANCE) * step
    first = math.ceil(low / step - TOLERANCE)
    last = math.floor(high / step + TOLERANCE)
    return Axis(low, high, start, end, [number * step for number in range(first, last + 1)])


def _round_step(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * nice for nice in (1, 2, 2.5, 5, 10) if size * nice >= step * (1 - TOLERANCE))

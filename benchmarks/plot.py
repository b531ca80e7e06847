"""A bar chart as SVG: one bar for each way, its median with the extremes; light and dark by the reader's setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence
from xml.sax.saxutils import escape

__all__ = ["Bar", "svg"]

_WIDTH, _LABEL, _ROW, _HEAD = 960, 380, 22, 34
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .head { font-weight: 600 } .value { fill: #59636e }
.bar { fill: #8c959f } .ours { fill: #0969da } .span { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .value { fill: #9198a1 } .bar { fill: #656c76 } .ours { fill: #4493f8 } .span { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True)
class Bar:
    """Seconds of one way; bars of the same ``group`` stand under one heading and share a scale."""

    group: str
    label: str
    median: float
    low: float
    high: float

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.label.startswith("stack-backup")


def _row(bar: Bar, top: float, scale: float) -> str:
    middle, end = top + _ROW / 2, _LABEL + bar.median * scale
    low, high = _LABEL + bar.low * scale, _LABEL + bar.high * scale
    return (
        f'<text x="{_LABEL - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect class="{"ours" if bar.ours else "bar"}" x="{_LABEL}" y="{top + 4:.0f}" width="{end - _LABEL:.1f}" height="{_ROW - 8}"/>'
        f'<path class="span" d="M{low:.1f} {middle:.0f}H{high:.1f}M{low:.1f} {middle - 4:.0f}v8M{high:.1f} {middle - 4:.0f}v8"/>'
        f'<text class="value" x="{max(end, high) + 8:.1f}" y="{middle + 4:.0f}">{bar.median:.2f} s</text>\n'
    )


def svg(title: str, bars: Sequence[Bar]) -> str:
    """The chart. What it shows is also in words, for those who hear it read."""
    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.group, []).append(bar)
    body, top = "", 8.0
    for group, members in groups.items():
        scale = (_WIDTH - _LABEL - 90) / max(max(bar.high for bar in members), 1e-9)
        body += f'<text class="head" x="8" y="{top + 20:.0f}">{escape(group)}</text>\n'
        top += _HEAD
        for bar in members:
            body += _row(bar, top, scale)
            top += _ROW
    told = "; ".join(f"{bar.group}, {bar.label}: {bar.median:.2f} s ({bar.low:.2f} to {bar.high:.2f})" for bar in bars)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 12:.0f}" role="img" aria-labelledby="t d">\n'
        f'<title id="t">{escape(title)}</title>\n<desc id="d">{escape(told)}</desc>\n<style>{_STYLE}</style>\n{body}</svg>\n'
    )

"""Draws groups of horizontal bars as an SVG, for what the benchmarks have measured."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, LABEL, LINE = 860, 250, 22
COLOURS = {"kiwoom": "#4f6bd8", "floor": "#a1a1aa"}
OTHER = "#d9b38c"


def draw(title: str, groups: Mapping[str, Mapping[str, tuple[float, float]]], unit: str) -> str:
    """The whole picture.

    Args:
        title: above it.
        groups: by heading, and in it by name: the value and its spread, as a share of it.
        unit: of the values.
    """
    longest = max(value for group in groups.values() for value, _ in group.values())
    scale = (WIDTH - LABEL - 130) / longest
    parts, y = [f'<text x="20" y="28" font-size="16" font-weight="bold">{escape(title)}</text>'], 48
    for heading, group in groups.items():
        parts.append(f'<text x="20" y="{y + 15}" font-weight="bold">{escape(heading)}</text>')
        y += LINE
        for name, (value, spread) in group.items():
            length = value * scale
            colour = COLOURS.get(name, OTHER)
            parts += [
                f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{LINE - 7}" fill="{colour}"/>',
                f'<text x="{LABEL + length + 6:.1f}" y="{y + 14}">{value:.2f} {unit} ± {spread:.0%}</text>',
            ]
            y += LINE
        y += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 8}" font-family="sans-serif"'
    return "\n".join(
        [
            head + f' font-size="13" role="img" aria-label="{escape(title)}">',
            f'<rect width="{WIDTH}" height="{y + 8}" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )

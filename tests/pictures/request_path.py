"""Draws the path of a request for README.rst; ``python tests/pictures/request_path.py`` writes the SVG anew."""

from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).with_name("request_path.svg")
WIDTH, HEIGHT = 860, 560
LINE = 17
COLOURS = {
    "yours": ("#eef2ff", "#4f6bd8"),
    "here": ("#f4f4f5", "#71717a"),
    "kiwoom": ("#fff4e5", "#d9822b"),
    "end": ("#e9f7ef", "#2e8b57"),
}


def box(x, y, width, kind, title, *lines):
    """A box with a title and lines below it; ``x`` and ``y`` are its upper left corner."""
    fill, stroke = COLOURS[kind]
    height = LINE * (1 + len(lines)) + 16
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{stroke}"/>']
    for number, text in enumerate((title, *lines)):
        weight = ' font-weight="bold"' if number == 0 else ""
        baseline = y + 8 + LINE * number + 13
        parts.append(f'<text x="{x + width / 2:g}" y="{baseline}"{weight}>{escape(text)}</text>')
    return "\n".join(parts)


def arrow(points, label="", at=None, anchor="start"):
    """A line through the points, with its head at the last one."""
    path = " ".join(f"{x},{y}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="#3f3f46" marker-end="url(#head)"/>']
    if label:
        x, y = at
        parts.append(f'<text x="{x}" y="{y}" font-style="italic" style="text-anchor:{anchor}">{escape(label)}</text>')
    return "\n".join(parts)


def draw():
    """The whole picture."""
    parts = [
        box(20, 20, 240, "yours", "your call", "requests, httpx or httpx2", "session.post(url, json=…)"),
        box(20, 120, 240, "here", "to whom does it go?", "scheme, host, port"),
        box(20, 205, 240, "here", "is there a valid token?", "a snapshot, read without a lock"),
        box(20, 310, 240, "here", "authorization: Bearer …", "is set on this request only"),
        box(20, 410, 240, "kiwoom", "Kiwoom answers", "also “no” comes with HTTP 200"),
        box(20, 495, 240, "end", "the answer is yours", "as it came"),
        box(560, 20, 280, "end", "goes out as it is, without a token"),
        box(560, 75, 280, "end", "HostMismatch", "nothing was sent"),
        box(560, 180, 280, "here", "the cache of the process", "cachetools, under a mutex"),
        box(560, 255, 280, "here", "the store, if there is one", "sealed file or Redis, under its lock"),
        box(
            560,
            330,
            280,
            "kiwoom",
            "AU10001, one at a time",
            "all others wait for this one",
            "and share what it brings",
        ),
        box(330, 425, 200, "here", "is it the token?", "8005, 8010, 8031,", "8103, a bare 401"),
        box(
            560,
            425,
            280,
            "here",
            "another token",
            "the refused one is dropped if it is",
            "still the present one",
        ),
        arrow([(140, 87), (140, 120)]),
        arrow([(140, 170), (140, 205)], "its own Kiwoom", (148, 192)),
        arrow([(260, 137), (420, 137), (420, 36), (560, 36)], "another host", (428, 30)),
        arrow([(260, 150), (440, 150), (440, 100), (560, 100)], "the other Kiwoom", (552, 94), "end"),
        arrow([(140, 255), (140, 310)], "yes", (148, 287)),
        arrow([(260, 230), (410, 230), (410, 205), (560, 205)], "no, or it is over", (290, 222)),
        arrow([(700, 230), (700, 255)], "nothing there", (708, 247)),
        arrow([(700, 305), (700, 330)], "nothing there", (708, 322)),
        arrow([(560, 355), (500, 355), (500, 330), (260, 330)], "a token", (505, 348)),
        arrow([(140, 360), (140, 410)]),
        arrow([(140, 460), (140, 495)], "all is well", (148, 482)),
        arrow([(260, 440), (330, 440)]),
        arrow([(330, 475), (300, 475), (300, 512), (260, 512)], "no", (306, 505)),
        arrow([(530, 455), (560, 455)], "yes", (545, 447), "middle"),
        arrow([(700, 492), (700, 530), (260, 530)], "sent once more; what comes then is yours", (470, 524), "middle"),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
            '     font-size="13" role="img" aria-label="The path of a request">',
            "<style>text { text-anchor: middle; fill: #18181b }</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"',
            ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#3f3f46"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")

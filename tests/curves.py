"""Resident memory over time, and its picture."""

from dataclasses import dataclass, field

_COLORS = (
    "#1f5fa8", "#b1471d", "#2d7d46", "#7a4a9e", "#8a6d00", "#007a87", "#a03070", "#000000",
)  # fmt: skip


@dataclass
class Curves:
    """Bytes of each name over time: name -> (seconds, bytes)."""

    curves: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def svg(self, width: int = 800, height: int = 320) -> str:
        """The curves as a picture."""
        left, bottom, top = 60, 30, 16
        end = max((at for curve in self.curves.values() for at, _ in curve), default=1.0)
        most = max((held for curve in self.curves.values() for _, held in curve), default=1)
        most = (most // 100_000_000 + 1) * 100_000_000

        def place(at: float, held: float) -> str:
            x = left + (width - left - 10) * at / end
            y = height - bottom - (height - bottom - top) * held / most
            return f"{x:.1f},{y:.1f}"

        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
        ]
        for step in range(5):
            held = most * step / 4
            x, y = place(0, held).split(",")
            parts.append(f'<path d="M{x} {y}H{width - 10}" stroke="#ddd"/>')
            parts.append(
                f'<text x="{left - 6}" y="{y}" text-anchor="end">{held / 1e6:.0f} MB</text>'
            )
        parts.append(f'<text x="{width - 10}" y="{height - 8}" text-anchor="end">'
                     f"{end / 60:.0f} minutes</text>")  # fmt: skip
        column = (width - 160) // max(6, len(self.curves))
        for number, (name, curve) in enumerate(sorted(self.curves.items())):
            color = _COLORS[number % len(_COLORS)]
            points = " ".join(place(at, held) for at, held in curve)
            parts.append(f'<polyline fill="none" stroke="{color}" points="{points}"/>')
            begin = left + 8 + column * number
            parts.append(f'<text x="{begin}" y="{height - 8}" fill="{color}">{name}</text>')
        return "\n".join([*parts, "</svg>\n"])

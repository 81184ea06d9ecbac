"""Lines as SVG that can be read on white and on black."""

from __future__ import annotations

from pathlib import Path

# Neither too light on white nor too dark on black; told apart without colour by their markers.
_COLOURS = ("#2f81c7", "#d9722b", "#3a9a5b", "#b3589a", "#8a8a8a")
_MARKERS = ("o", "s", "^", "D", "v")
_INK = "#808080"


def lines(
    path: Path,
    data: dict[str, list[tuple[float, float]]],
    x_name: str,
    y_name: str,
    *,
    logarithmic: bool = False,
    shaded: tuple[float, float] | None = None,
) -> None:
    """``data``: line → points. ``shaded``: from where to where on the x axis a snapshot was taken."""
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and two drawings of the same points are the same bytes.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "perdure", "font.family": "sans-serif"})
    from matplotlib import pyplot
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for (name, points), colour, marker in zip(data.items(), _COLOURS, _MARKERS, strict=False):
        few = len(points) < 20
        x, y = zip(*points, strict=True)
        axes.plot(
            x, y, label=name, color=colour, marker=marker if few else "", markersize=4, linewidth=1.5 if few else 1
        )
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sorted({x for points in data.values() for x, _ in points}))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.minorticks_off()
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    if shaded is not None:
        axes.axvspan(*shaded, color=_INK, alpha=0.18, linewidth=0, label="a snapshot is taken")
    axes.set_xlabel(x_name, color=_INK)
    axes.set_ylabel(y_name, color=_INK)
    axes.tick_params(colors=_INK)
    axes.grid(color=_INK, alpha=0.25, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    legend = axes.legend(frameon=False, labelcolor=_INK)
    legend.set_in_layout(True)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)

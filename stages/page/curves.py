"""Loss curves as SVG. The colours are the page's own, so that one drawing is light and dark."""

from typing import Any

COLOURS = 8  # that the page has for runs, --run-0 and so on


def drawing(losses: dict[str, list[dict[str, Any]]]) -> str:
    """The curves of a task's runs, training and validation, without a word of the data in them; ""
    where no run has any.

    losses: points of each run, of which the first has the page's first colour.
    """
    points = [
        {"run": place, **point} for place, each in enumerate(losses.values()) for point in each
    ]
    if not points:
        return ""
    import vl_convert

    runs = [*range(len(losses))]
    quiet = {
        "gridColor": "var(--hair)",
        "labelColor": "var(--quiet)",
        "titleColor": "var(--quiet)",
        "domain": False,
        "ticks": False,
        "labelFont": "inherit",
        "titleFont": "inherit",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelPadding": 8,
        "titlePadding": 12,
    }
    colours = [f"var(--run-{place % COLOURS})" for place in runs]
    line = {"field": "run", "type": "nominal", "legend": None}
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 860,
        "height": 260,
        "background": None,
        "config": {"view": {"stroke": None}, "axis": quiet},
        "data": {"values": points},
        "encoding": {
            "x": {
                "field": "step",
                "type": "quantitative",
                "title": "optimizer steps",
                "axis": {"grid": False},
            },
            "y": {
                "field": "loss",
                "type": "quantitative",
                "title": "nats per labelled token, logarithmic above 0.1",
                "scale": {"type": "symlog", "constant": 0.1},
            },
            "color": line | {"scale": {"domain": runs, "range": colours}},
            "strokeDash": {
                "field": "split",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": ["valid", "train"], "range": [[1, 0], [2, 4]]},
            },
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}},
            {
                "transform": [{"filter": "datum.split == 'valid'"}],
                "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
                "encoding": {"shape": line},
            },
        ],
    }
    return str(vl_convert.vegalite_to_svg(specification))

"""How the page looks: colours for light and dark, both with the contrast that WCAG's AA asks for, and one style sheet."""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "STYLE"]

# The ground, and what is written or drawn on it.
LIGHT = {
    "bg": "#ffffff",
    "fg": "#1b1f24",
    "dim": "#525a64",
    "line": "#8a929c",
    "link": "#0a4da8",
    "ok": "#176b2e",
    "warning": "#8a5300",
    "critical": "#b3141f",
}
DARK = {
    "bg": "#0f1318",
    "fg": "#e8edf2",
    "dim": "#a9b3be",
    "line": "#6f7985",
    "link": "#8ec5ff",
    "ok": "#56c46c",
    "warning": "#e0a83a",
    "critical": "#ff8a82",
}


def _colours(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in palette.items())


STYLE = f"""
:root{{color-scheme:light dark;{_colours(LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%;scroll-padding-top:1rem}}
body{{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}}
header,main,footer{{max-width:72rem;margin:0 auto;padding:0 1rem}}
h1{{font-size:1.6rem;margin:1rem 0 .25rem}}
h2{{font-size:1.3rem;margin:2rem 0 .5rem}}
h3{{font-size:1.1rem;margin:0}}
h4{{font-size:1rem;margin:1.5rem 0 .5rem}}
p,dl,ul{{margin:.5rem 0}}
ul{{padding-left:1.2rem}}
a{{color:var(--link)}}
.dim,figcaption,caption{{color:var(--dim)}}
:focus-visible{{outline:3px solid var(--link);outline-offset:2px}}
.skip{{position:absolute;left:-100vw;background:var(--bg);padding:.75rem}}
.skip:focus{{left:0;top:0}}
.v{{display:inline-block;white-space:nowrap;padding:0 .45rem;border:2px solid currentColor;border-radius:.3rem;font-weight:600;font-size:.9rem}}
.ok{{color:var(--ok)}}
.v.ok{{border-color:transparent;padding-left:0}}
.warning,.unknown{{color:var(--warning)}}
.critical,.unreachable{{color:var(--critical)}}
.v.critical,.v.unreachable{{background:var(--critical);color:var(--bg);border-color:var(--critical)}}
.v.unknown{{border-style:dashed}}
.stack{{border-top:1px solid var(--line);padding:1rem 0}}
summary{{cursor:pointer;color:var(--link);padding:.5rem 0;min-height:2.75rem}}
table{{border-collapse:collapse;width:100%;font-size:.92rem}}
caption{{text-align:left;padding:.25rem 0}}
th,td{{min-width:5.5rem;text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line)}}
tbody th{{font-weight:600}}
thead th{{color:var(--dim);white-space:nowrap}}
.n,code{{white-space:nowrap}}
.n{{min-width:0}}
code{{font-family:ui-monospace,monospace;font-size:.9em}}
figure{{margin:.5rem 0;max-width:34rem}}
.charts{{display:flex;flex-wrap:wrap;gap:0 2rem}}
.charts figure{{flex:1 1 20rem}}
svg{{display:block;width:100%;height:auto}}
svg text{{fill:var(--dim);font:11px system-ui,sans-serif}}
.good{{fill:var(--ok)}}
.part{{fill:none;stroke:var(--critical);stroke-width:1.5}}
.void{{fill:var(--line)}}
.dot{{fill:var(--bg)}}
.cross{{fill:none;stroke:var(--bg);stroke-width:1.5}}
.axis{{stroke:var(--line);stroke-width:1}}
.trend{{fill:none;stroke:var(--link);stroke-width:1.75;stroke-linejoin:round}}
.end{{fill:var(--link)}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}}
dt{{color:var(--dim)}}
dd{{margin:0}}
@media screen and (max-width:60rem){{
table,caption,tbody,tr,tbody th{{display:block}}
thead{{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
tr{{border-bottom:1px solid var(--line);padding:.5rem 0}}
th,td{{min-width:0;border:0;padding:.1rem 0}}
td>*{{justify-self:start}}
td{{display:grid;grid-template-columns:7.5rem minmax(0,1fr);gap:.5rem}}
td::before{{content:attr(data-l);content:attr(data-l)/"";color:var(--dim)}}
dl{{grid-template-columns:minmax(0,1fr)}}
dd{{margin:0 0 .4rem}}
}}
@media (forced-colors:active){{.good,.end,.void{{fill:CanvasText}}.dot{{fill:Canvas}}.trend,.part,.axis{{stroke:CanvasText}}.cross{{stroke:Canvas}}}}
@media print{{
:root{{{_colours(LIGHT)}}}
html{{font-size:9pt}}
.skip,summary{{display:none}}
tr,figure,li{{break-inside:avoid}}
h2,h3,h4{{break-after:avoid}}
thead{{display:table-header-group}}
.v{{print-color-adjust:exact}}
svg{{print-color-adjust:exact;max-width:14cm}}
a{{color:inherit;text-decoration:none}}
}}
""".replace("\n", "")

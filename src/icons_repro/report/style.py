"""The page's style sheet; charts take their colours from it."""

CSS = """
:root{--ink:#1d2430;--dim:#667085;--line:#d9dee7;--paper:#fff;--track:#f1f3f7;--run:#2457d6;
--pool:#b9c1cf;--random:#d9730d;--full:#1d2430;--blind:#dde2ea;--b:#0f8a6d;--c:#a1309a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--line:#323a48;--paper:#14181f;
--track:#1d232d;--run:#6f9bff;--pool:#4a5566;--random:#f0a35e;--full:#f5f7fa;--blind:#2c3442;
--b:#4ecfae;--c:#e08ad9}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 "Inter","Segoe UI",system-ui,-apple-system,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:740px;margin:0 auto;padding:56px 32px 96px}
h1{font-size:40px;line-height:1.1;margin:4px 0 20px;letter-spacing:-.02em}
h2{font-size:20px;margin:0 0 4px;letter-spacing:-.01em}
h3{font-size:14px;margin:20px 0 8px;color:var(--dim);font-weight:600}
p{margin:0 0 14px;color:var(--dim);max-width:62ch}
.kicker{font-size:13px;margin:0;color:var(--dim)}
section{margin-top:52px;padding-top:20px;border-top:1px solid var(--line)}
dl{display:flex;flex-wrap:wrap;gap:12px 36px;margin:0 0 16px}
dt{font-size:13px;color:var(--dim)}dd{margin:0;font-size:18px;font-weight:600}
ul{margin:0 0 12px;padding-left:20px;color:var(--dim)}
svg{max-width:100%;height:auto;display:block;font-size:13px}
svg text{fill:var(--ink)}svg .dim,svg .tiny{fill:var(--dim)}svg .tiny{font-size:11px}
svg .value{font-weight:600}
.track{fill:var(--track)}rect.run{fill:var(--run)}rect.pool{fill:var(--pool)}
rect.blind{fill:var(--blind)}line.full{stroke:var(--full);stroke-width:2.5}
circle.random{fill:var(--paper);stroke:var(--random);stroke-width:2.5}
.whisker{stroke:var(--ink);stroke-width:1.2;opacity:.55}
.axis{stroke:var(--dim)}.grid{stroke:var(--line)}
.cell{fill:var(--run)}svg .cell-dark{fill:#fff;font-size:12px}svg .cell-light{font-size:12px}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}
.c0{stroke:var(--run)}.c1{stroke:var(--random)}.c2{stroke:var(--b)}.c3{stroke:var(--c)}
.key.c0{background:var(--run)}.key.c1{background:var(--random)}.key.c2{background:var(--b)}
.key.c3{background:var(--c)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 22px;padding:0;margin:0 0 12px;
font-size:13px}
.key{display:inline-block;width:12px;height:12px;margin-right:7px;vertical-align:-1px}
.key.run{background:var(--run)}.key.pool{background:var(--pool)}.key.blind{background:var(--blind)}
.key.full{width:3px;height:15px;vertical-align:-3px;background:var(--full)}
.key.random{border:2.5px solid var(--random);border-radius:50%}
.gallery{display:grid;grid-template-columns:repeat(6,1fr);gap:18px 14px}
figure{margin:0;font-size:12px;line-height:1.35}
figure img{width:100%;aspect-ratio:1;object-fit:contain;background:var(--track);
image-rendering:pixelated;border-radius:3px;display:block;margin-bottom:6px}
figcaption{overflow-wrap:anywhere}figcaption small{display:block;color:var(--dim)}
table{border-collapse:collapse;width:100%;font-size:13px}svg+table{margin-top:24px}
th{text-align:left;font-weight:600;color:var(--dim)}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}
pre{font:12px/1.45 ui-monospace,"SF Mono",Menlo,Consolas,monospace;white-space:pre-wrap;
background:var(--track);padding:16px;border-radius:4px}
@media(max-width:640px){main{padding:32px 16px 64px}.gallery{grid-template-columns:repeat(3,1fr)}}
@media print{section{break-inside:avoid}}
"""

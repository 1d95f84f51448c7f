"""The page's one style sheet. Colours are variables, of which the dark scheme has others."""

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6675;--line:#dfe4ea;--accent:#2457d6;
--tint:#e9effc;--area:#8db2f5;--held:#3f6fd8;--warn:#b4530a;--p0:#4f83e6;--p1:#e58a2c;--p2:#3fa66a;--p3:#b457c2;
--p4:#d9534f;--p5:#2aa5b5;--p6:#9a8b1f;--p7:#7a6be0}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--ink:#e6eaf0;--soft:#9aa6b5;--line:#2d3643;
--accent:#8db2f5;--tint:#212c40;--area:#3a5f9f;--held:#6f9bf0;--warn:#f0a35c;--p0:#6f9bf0;--p1:#f0a35c;--p2:#62c48c;
--p3:#cf83da;--p4:#ef7f7b;--p5:#57c3d1;--p6:#c9b94a;--p7:#9d91f2}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;overflow-wrap:anywhere;
background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:0 0 4px}
h3{font-size:16px;margin:0;display:flex;flex-wrap:wrap;gap:6px 10px;align-items:baseline}
h4{font-size:13px;margin:20px 0 6px;color:var(--soft);font-weight:600}
p{margin:0 0 10px}
.note{color:var(--soft);font-size:14px;max-width:80ch;overflow-wrap:anywhere}
.warn{color:var(--warn)}
code,.mono{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:14px 0 0;padding:10px 0;border-top:1px solid var(--line)}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px 22px;margin:0 0 18px}
article{border-top:1px solid var(--line);padding:18px 0 6px;margin-top:14px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:16px 0 0}
.fact{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:9px 12px;min-width:0}
section .fact{background:var(--bg)}
.fact b{display:block;font-size:17px;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.fact span{color:var(--soft);font-size:13px}
.tag{font-size:13px;font-weight:500;background:var(--tint);color:var(--accent);border-radius:5px;padding:1px 8px}
.soft{color:var(--soft);font-weight:400;font-size:13px}
.scroll{overflow-x:auto;margin:8px 0 4px;max-width:100%}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;
white-space:nowrap}
th{color:var(--soft);font-weight:600;font-size:13px}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tbody tr:last-child td{border-bottom:0}
td.wrap,td .wrap{white-space:normal}
.wide{display:inline-block;white-space:normal;min-width:40ch;max-width:64ch;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:minmax(110px,max-content) minmax(0,1fr);gap:5px 20px;margin:8px 0 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.flow{list-style:none;margin:14px 0 0;padding:0;max-width:760px}
.flow>li{position:relative;border:1px solid var(--line);border-radius:8px;padding:11px 14px;background:var(--bg)}
.flow>li+li{margin-top:30px}
.flow>li+li::before{content:"";position:absolute;left:26px;top:-31px;height:30px;border-left:2px solid var(--accent)}
.flow>li+li::after{content:"";
position:absolute;left:22px;top:-8px;border:5px solid transparent;
border-top:7px solid var(--accent);border-bottom:0}
.flow ul{list-style:none;margin:6px 0 0;padding:0;font-size:14px}
.flow ul li{display:grid;grid-template-columns:42px minmax(0,1fr);gap:8px;overflow-wrap:anywhere}
.flow ul li>span:first-child{color:var(--soft)}
.cuts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr));gap:18px;margin:14px 0 8px}
figure{margin:0;min-width:0}
figcaption{font-size:14px;margin-top:6px}
svg.grid{max-width:100%;height:auto;display:block}
svg.chart{width:100%;max-width:760px;height:auto;display:block;margin-top:6px}
svg.bars{width:72px;height:8px;margin-right:8px;vertical-align:baseline;background:var(--tint);border-radius:3px}
.bar{fill:var(--held)}
.chip{fill:var(--bg);stroke:var(--line)}
.whole{fill:none;stroke:var(--soft);stroke-width:1;stroke-dasharray:3 2}
.p0{fill:var(--p0)}.p1{fill:var(--p1)}.p2{fill:var(--p2)}.p3{fill:var(--p3)}.p4{fill:var(--p4)}.p5{fill:var(--p5)}
.p6{fill:var(--p6)}.p7{fill:var(--p7)}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg text.axis{font-size:11px;fill:var(--soft)}
svg text.piece{font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:3px}
.mid{text-anchor:middle}.end{text-anchor:end}
.rule{stroke:var(--line)}
.area{fill:var(--area)}
.weights{fill:var(--held)}
.measured{stroke:var(--warn);stroke-dasharray:6 4;stroke-width:1.5}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--soft);margin:4px 0 0}
.key{display:inline-flex;align-items:center;gap:6px}
.key svg{width:12px;height:12px}
details{margin:10px 0 4px}
summary{cursor:pointer;color:var(--accent);font-size:14px}
footer{max-width:1120px;margin:0 auto;padding:0 20px 40px;color:var(--soft);font-size:13px}
@media(max-width:560px){.wide{min-width:24ch}
header,main,footer{padding-left:12px;padding-right:12px}section{padding:16px 14px}
dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:8px}h1{font-size:22px}
.facts{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media print{nav{display:none}section{break-inside:avoid;border:0;padding:0}}
"""

"""How the page looks: one style sheet, in light and dark. Nothing in it is fetched."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2433; --soft: #5b6478; --faint: #8a92a3;
  --line: #e6e4df; --grid: #e9e7e2; --band: #f6f5f1;
  --many: #2f6fde; --few: #e08a1e; --batch: #1b9e77; --join: #c5ccd8; --hill: #9dbdf3; --track: #e8ecf4;
  --good: #1b8a5a; --weak: #b7791f; --bad: #c0392b; --good-bg: #e3f4ec; --weak-bg: #fbf0da; --bad-bg: #fae6e3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12151c; --card: #191d27; --ink: #e7eaf1; --soft: #a5aec1; --faint: #788196;
    --line: #2a303d; --grid: #262c38; --band: #1d222d;
    --many: #6ea2ff; --few: #f2a94b; --batch: #3fc79a; --join: #414a5c; --hill: #34548c; --track: #252c3a;
    --good: #52d69b; --weak: #eab354; --bad: #ff7d6e; --good-bg: #16352a; --weak-bg: #382d16; --bad-bg: #3b1f1d;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 44px 24px 72px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 6px; }
h2 { font-size: 20px; letter-spacing: -0.01em; margin: 0 0 4px; }
p { margin: 0 0 12px; }
.lead { color: var(--soft); max-width: 74ch; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 24px 0 8px; padding: 0; list-style: none; }
.facts li { flex: 1 1 150px; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 18px; color: var(--soft); font-size: 14px; }
.facts b { display: block; font-size: 26px; line-height: 1.2; color: var(--ink); font-variant-numeric: tabular-nums; }
.facts .wrong b { color: var(--bad); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 24px 26px;
  margin-top: 22px; }
section > p { color: var(--soft); font-size: 14.5px; max-width: 86ch; }
.wide { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 760px; height: auto; }
svg text { font-size: 12.5px; fill: var(--ink); }
svg .name { text-anchor: end; font-weight: 550; font-size: 13px; }
svg .failed { fill: var(--bad); }
svg .title { font-weight: 600; font-size: 13.5px; }
svg .tick { text-anchor: middle; fill: var(--faint); font-size: 11px; }
svg .value { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .strong { fill: var(--ink); font-weight: 600; }
svg .remark { fill: var(--faint); font-style: italic; }
svg .grid { stroke: var(--grid); }
svg .band { fill: var(--band); }
svg .track { fill: var(--track); }
svg line.bar { stroke: var(--join); stroke-width: 3; stroke-linecap: round; }
svg rect.bar { fill: var(--many); } svg rect.span { fill: var(--hill); }
svg .join { stroke: var(--many); stroke-width: 3; }
svg .dot { stroke: var(--card); stroke-width: 1.5; }
svg .many { fill: var(--many); } svg .few { fill: var(--few); } svg .batch { fill: var(--batch); }
svg .hill { fill: var(--hill); }
svg .late { stroke: var(--many); stroke-width: 1.5; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 20px; font-size: 13.5px; color: var(--soft); margin: 2px 0 14px; }
.legend span::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 50%;
  margin-right: 7px; background: var(--many); }
.legend .few::before { background: var(--few); } .legend .batch::before { background: var(--batch); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; font-size: 13px; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; color: var(--soft); overflow-wrap: anywhere; }
.error { color: var(--bad); overflow-wrap: anywhere; }
.matrix thead th { padding: 6px 2px; text-align: center; }
.matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.matrix td { text-align: center; padding: 5px 3px; vertical-align: middle; }
.matrix tbody th { font-weight: 400; min-width: 250px; }
.matrix tbody th small { color: var(--faint); font-size: 11.5px; letter-spacing: 0.03em; margin-left: 6px; }
.mark { display: inline-block; min-width: 30px; border-radius: 7px; font-size: 13px; line-height: 22px; }
.native { color: var(--good); background: var(--good-bg); }
.emulated { color: var(--weak); background: var(--weak-bg); }
.refused { color: var(--bad); background: var(--bad-bg); }
.key { display: flex; flex-wrap: wrap; gap: 8px 22px; font-size: 13.5px; color: var(--soft); margin: 4px 0 12px; }
.key .mark { text-align: center; margin-right: 7px; }
dl { margin: 18px 0 0; font-size: 14px; columns: 2 420px; column-gap: 34px; }
dl div { break-inside: avoid; margin-bottom: 10px; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); }
footer { color: var(--faint); font-size: 13px; margin-top: 26px; }
"""

"""The look of the report's page."""

STYLE = """\
:root { color-scheme: light; --ink: #1d1d24; --faint: #6b6b76; --line: #e4e4ea; --paper: #ffffff;
  --tint: #f6f6f8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header, main { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; }
h1 { margin: 0; font-size: 2.3rem; letter-spacing: -0.02em; line-height: 1.15; }
h2 { margin: 3rem 0 0.5rem; font-size: 1.3rem; letter-spacing: -0.01em; }
p { max-width: 46rem; }
.lead { margin: 0.4rem 0 0; color: var(--faint); font-size: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.75rem;
  margin-top: 1.75rem; }
.tiles div { background: var(--tint); border-radius: 0.6rem; padding: 0.9rem 1.1rem; }
.tiles strong { display: block; font-size: 1.8rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span, .key, .notes { color: var(--faint); font-size: 0.9rem; }
.words { margin: 0; padding-left: 1.2rem; }
.words li::first-letter { text-transform: uppercase; }
figure { margin: 1rem 0 0; border: 1px solid var(--line); border-radius: 0.6rem; overflow-x: auto;
  background: var(--paper); }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
video { display: block; width: 100%; max-width: 40rem; margin: 1.75rem auto 0; border-radius: 0.6rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: 0.82rem; }
th, td { padding: 0.5rem 0.7rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
td img { display: block; width: 5.5rem; height: auto; border-radius: 0.3rem; }
td span { color: var(--faint); }
small { color: var(--faint); }
.stack { display: flex; width: 13rem; height: 1rem; border-radius: 0.25rem; overflow: hidden;
  background: var(--tint); }
.stack i { display: block; height: 100%; }
.key span { margin-right: 1.2rem; white-space: nowrap; }
.key i { display: inline-block; width: 0.8rem; height: 0.8rem; margin-right: 0.4rem;
  border-radius: 0.15rem; vertical-align: -0.05rem; }
.scroll { overflow-x: auto; }
.tall { max-height: 34rem; overflow-y: auto; margin-top: 0.75rem; }
.dense th { position: sticky; top: 0; background: var(--paper); }
.dense th, .dense td { padding: 0.2rem 0.6rem; }
.settings { width: auto; }
summary { cursor: pointer; color: var(--faint); }
code { font-size: 0.9em; background: var(--tint); padding: 0.1em 0.3em; border-radius: 0.25em; }
.notes { padding-bottom: 4rem; }
@media print { section { break-inside: avoid; } header, main { max-width: none; } }
"""

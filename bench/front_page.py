"""Publish a quickstart: python bench/front_page.py runs/quickstart data/processed/quickstart

`nbs/results/quickstart.json`, what the front page shows: its measurements as the command saved them, its curve, and its first
samples with the truth beside them. `lightbrain/assets/nano`, the model that ships. `nbs/results/nano`, the record of its run."""
import contextlib, io, json, re, shutil, sys
from pathlib import Path
from lightbrain.cli import show_samples
from lightbrain.model import GPT, shipped_model

run,data = map(Path, sys.argv[1:])
results = Path(__file__).resolve().parents[1]/'nbs'/'results'
points = [json.loads(l) for l in (run/'metrics.jsonl').read_text().splitlines()]
points = [o for o in points if 'note' not in o]
said = io.StringIO()
with contextlib.redirect_stdout(said): show_samples(GPT.from_pretrained(run/'model'), data, 3)
samples = []
for o in said.getvalue().split('--- sample ')[1:]:
    prompt,_,rest = o.partition('\n')[2].partition('\n  model:')
    answer,_,truth = rest.rpartition('\n  truth:')
    samples.append(dict(prompt=prompt, answer=answer.split('.')[0].strip(), truth=truth.strip(' .\n')))
out = json.loads((run/'evaluation.json').read_text())
out |= dict(seconds=max(o['wall_s'] for o in points), samples=samples,
            curve=[[o['step'], round(o['loss'], 3)] for o in points if o.get('loss') is not None],
            held_out=[[o['step'], round(o['val_loss'], 3)] for o in points if o.get('val_loss') is not None])
pairs = r'\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+)\s+\]'
(results/'quickstart.json').write_text(re.sub(pairs, r'[\1, \2]', json.dumps(out, indent=1))+'\n')
shutil.rmtree(shipped_model(), ignore_errors=True)
shutil.copytree(run/'model', shipped_model())
(results/'nano').mkdir(exist_ok=True)
for name in ('config.yaml','metrics.jsonl','evaluation.json'): shutil.copy(run/name, results/'nano')

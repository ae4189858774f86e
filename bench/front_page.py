"""What the front page shows of a quickstart: python bench/front_page.py runs/quickstart data/processed/quickstart > nbs/results/quickstart.json

Its measurements as the command saved them, its curve, and its first samples with the truth beside them."""
import contextlib, io, json, re, sys
from pathlib import Path
from lightbrain.cli import show_samples
from lightbrain.model import GPT

run,data = map(Path, sys.argv[1:])
points = [json.loads(l) for l in (run/'metrics.jsonl').read_text().splitlines()]
points = [o for o in points if 'step' in o]
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
print(re.sub(pairs, r'[\1, \2]', json.dumps(out, indent=1)))

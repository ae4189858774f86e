"""Repeat the first steps of a published run, and say how closely: python bench/repeat.py nbs/results/tiny-cpu data/processed/real --steps 500

The record has the log of the run and its settings (`began.yaml` has those of its first steps, where they were changed on the way); the set is made as its manifest says (`bench/real_text.py` for the real run).
Every logged loss is the mean of some steps; beside each published one stands that of this machine. Nothing is saved."""
import argparse, dataclasses, tempfile
from pathlib import Path
from lightbrain.run.config import TrainConfig
from lightbrain.run.log import read_metrics
from lightbrain.run.trainer import Trainer

def first_config(record):
    "Settings with which a published run began"
    began = Path(record)/'began.yaml'
    return TrainConfig.from_yaml(began if began.exists() else began.with_name('config.yaml'))

def repeat(record, data, steps, **change):
    "(step, published loss, loss here) for each line of the log up to `steps`"
    cfg = dataclasses.replace(first_config(record), **change)
    published = {o['step']: o['loss'] for o in read_metrics(record) if o.get('loss') is not None and o['step']<=steps}
    with tempfile.TemporaryDirectory() as d:
        t,losses = Trainer(cfg, data, d, progress=False),[]
        t.model.train()
        while t.step<max(published):
            losses.append(t.gradients(*t.batch(t.step)).item())
            t.update()
            if t.step in published:
                yield t.step,published[t.step],sum(losses)/len(losses)
                losses = []

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('record', help='folder with config.yaml and metrics.jsonl')
    p.add_argument('data', help='the set that the run read, made anew')
    p.add_argument('--steps', type=int, default=500)
    p.add_argument('--device', default='cpu')
    p.add_argument('--dtype', default='float32')
    args,most = p.parse_args(),0.
    print('step    published   here')
    for step,theirs,ours in repeat(args.record, args.data, args.steps, device=args.device, dtype=args.dtype):
        most = max(most, abs(theirs-ours))
        print(f'{step:5}  {theirs:10.5f} {ours:10.5f}', flush=True)
    print(f'largest difference: {most:.2e} nats')

if __name__=='__main__': main()

"""Judge rates where a run stands: python bench/rates.py runs/tiny data/processed/real nbs/results/tiny-cpu/tried.json

Forks the run at its last checkpoint (in memory; its folder stays as it is). Each arm reads the same next 80 batches, the rate falling
to zero in the last 20, and is measured before the fall and after it: a rate that is too high hides in the noise until it falls. Arms
with fewer rows a batch make more steps of the same text. Arms that OUT has already are not run again."""
import json, math, shutil, sys, tempfile, time
from pathlib import Path
from lightbrain.evaluate import window_losses
from lightbrain.files import atomic_write
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer

HIGH,FALL,TOKENS = 60,20,65_536
ARMS = [dict(batch_size=32, lr=3e-3, muon_lr=0.02, beta2=0.95), dict(batch_size=16, lr=3e-3, muon_lr=0.02, beta2=0.95),
        dict(batch_size=32, lr=1.5e-3, muon_lr=0.01, beta2=0.95), dict(batch_size=32, lr=7.5e-4, muon_lr=0.005, beta2=0.99),
        dict(batch_size=32, lr=6e-4, muon_lr=0.01, beta2=0.95)]

def held_out(t):
    "Loss on the first held-out tokens"
    losses,counts = window_losses(t.model, t.val.tokens, dtype=t.stepper.dtype, max_tokens=TOKENS, end=t.val.manifest['tokenizer']['eot_token'])
    t.model.train()
    return math.fsum(losses)/sum(counts)

def arm(run, data, batch_size, lr, muon_lr, beta2):
    "The held-out loss before the rate falls and after it"
    began,cfg = time.perf_counter(),TrainConfig.from_yaml(run/'config.yaml')
    with tempfile.TemporaryDirectory() as d:
        shutil.copytree(run, d, dirs_exist_ok=True)
        t = Trainer(cfg, data, d, progress=False)
        t.resume()
    t.model.train()
    groups,parts,first = t.stepper.optimizer.param_groups,cfg.batch_size//batch_size,t.step
    for g in groups:
        if not g['muon']: g['betas'] = g['betas'][0],beta2
    for i in range((HIGH+FALL)*parts):
        x,y = t.batch(first+i//parts)
        mine = slice(i%parts*batch_size, (i%parts+1)*batch_size)
        t.gradients(x[mine], y[mine])
        for g in groups: g['lr'] = (muon_lr if g['muon'] else lr)*min(1, (HIGH+FALL-i/parts)/FALL)
        t.stepper.update()
        if i==HIGH*parts-1: before = held_out(t)
    return dict(before=before, after=held_out(t), seconds=time.perf_counter()-began, step=first)

def main(run, data, out):
    found = json.loads(out.read_text()) if out.exists() else dict(date=time.strftime('%Y-%m-%d'), val_tokens=TOKENS, high=HIGH, fall=FALL, arms=[])
    for spec in ARMS:
        if any(spec.items()<=o.items() for o in found['arms']): continue
        found['arms'].append(spec | arm(run, data, **spec))
        print(found['arms'][-1], flush=True)
        atomic_write(out, json.dumps(found, indent=1)+'\n')

if __name__=='__main__': main(*map(Path, sys.argv[1:]))

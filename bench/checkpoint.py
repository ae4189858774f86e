"Time to save and to verify, and the share of a run at one save in five minutes: python bench/checkpoint.py [preset]"
import statistics, sys, tempfile, time
from pathlib import Path
import torch
from lightbrain.config import preset
from lightbrain.model import GPT
from lightbrain.run.checkpoint import (checkpoint_dir, latest_checkpoint, prune_checkpoints, read_manifest, rng_state,
    save_checkpoint, verify_checkpoint)

def clock(f):
    start = time.perf_counter()
    f()
    return time.perf_counter()-start

def save(home, step, model, optimizer):
    "As a run does: write it, then remove what is older than the last two"
    save_checkpoint(checkpoint_dir(home, step), model=model, optimizer=optimizer, step=step, rng=rng_state())
    prune_checkpoints(home)

name = sys.argv[1] if len(sys.argv)>1 else 'tiny'
model = GPT(preset(name))
optimizer = torch.optim.AdamW(model.parameters())
for p in model.parameters(): p.grad = torch.ones_like(p)
optimizer.step()                                            # now it has its two tensors for each weight
with tempfile.TemporaryDirectory() as home:
    saves = [clock(lambda: save(home, step, model, optimizer)) for step in range(1, 8)][3:]    # these remove one each
    path,_ = latest_checkpoint(home)
    verify = statistics.median(clock(lambda: verify_checkpoint(path)) for _ in range(5))
    mb = sum(o['size'] for o in read_manifest(path)['files'].values())/1e6
took = statistics.median(saves)
print(f'{name}: a checkpoint of {mb:.0f} MB')
print(f'save, with removing an old one           {took:.2f} s ({min(saves):.2f} to {max(saves):.2f})')
print(f'verify one                               {verify:.2f} s')
print(f'share of a run at one save in 5 minutes  {took/300:.2%}')

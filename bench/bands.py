"""Train the reference runs of lesson 05 with several seeds and write lightbrain/assets/bands.json

    python bench/bands.py WORK [nano-ci] [nano]

WORK keeps data and runs, so an interrupted call continues. Run it again, with a new WORK, whenever the corpus or the
lesson's settings change."""
import json, sys
from dataclasses import asdict
from pathlib import Path
from lightbrain.core import atomic_write
from lightbrain.prep.prepare import prepare
from lightbrain.run.config import MAY_CHANGE
from lightbrain.run.trainer import TrainConfig, Trainer, read_metrics
from lightbrain.run.log import make_band

# as in lesson 05, "Use it": number of documents, settings
COMMON = dict(preset='nano', dropout=0., lr=3e-3, warmup_steps=40, head_samples=1024, eval_tokens=8192, device='cpu',
    dtype='float32')
RUNS = {'nano-ci':(1500, dict(n_layer=2, n_head=2, n_embd=64, max_steps=100, eval_every=50)),
    'nano':(20_000, dict(max_steps=800, eval_every=200))}
SEEDS = 1,2,3,4                                                         # the lesson itself uses 42
FREE = (MAY_CHANGE | {'seed'}) - {'max_steps'}                          # these do not make a curve another curve

path = Path(__file__).parents[1]/'lightbrain'/'assets'/'bands.json'
bands = json.loads(path.read_text()) if path.exists() else {}
work = Path(sys.argv[1])
for name in sys.argv[2:] or RUNS:
    n,sizes = RUNS[name]
    if not (work/name/'data').exists(): prepare(f'synthetic:{n}', work/name/'data', progress=False)
    rows = []
    for seed in SEEDS:
        cfg = TrainConfig(**COMMON, **sizes, seed=seed, save_every=200)
        t = Trainer(cfg, work/name/'data', work/name/f'seed{seed}', progress=False).fit()
        rows.append(read_metrics(t.out))
        last = [o['val_loss'] for o in rows[-1] if o['val_loss'] is not None][-1]
        print(f'{name}, seed {seed}: validation loss {last:.3f}', flush=True)
    settings = {k:v for k,v in asdict(cfg).items() if k not in FREE} | dict(data=t.train.info['sha256'])
    bands[name] = make_band(rows, **settings)
    atomic_write(path, json.dumps(bands)+'\n')

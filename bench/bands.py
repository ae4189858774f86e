"Train the reference runs of lesson 05 with several seeds and write lightbrain/assets/bands.json: python bench/bands.py [nano-ci] [nano]"
import json, sys, tempfile
from dataclasses import asdict
from pathlib import Path
from lightbrain.core import atomic_write
from lightbrain.data import prepare
from lightbrain.config import MAY_CHANGE
from lightbrain.train import TrainConfig, Trainer, read_metrics
from lightbrain.watch import make_band

# as in lesson 05, "Use it": documents, settings
COMMON = dict(preset='nano', dropout=0., lr=3e-3, warmup_steps=40, head_samples=1024, eval_tokens=8192, device='cpu', dtype='float32')
RUNS = {'nano-ci':(1500, dict(n_layer=2, n_head=2, n_embd=64, max_steps=100, eval_every=50)), 'nano':(20_000, dict(max_steps=800, eval_every=200))}
SEEDS = 1,2,3,4                                                         # the lesson itself uses 42
FREE = (MAY_CHANGE | {'seed'}) - {'max_steps'}                          # these do not make a curve another curve

path = Path(__file__).parents[1]/'lightbrain'/'assets'/'bands.json'
bands = json.loads(path.read_text()) if path.exists() else {}
for name in sys.argv[1:] or RUNS:
    n,sizes = RUNS[name]
    with tempfile.TemporaryDirectory() as tmp:
        prepare(f'synthetic:{n}', Path(tmp)/'data', progress=False)
        rows = []
        for seed in SEEDS:
            cfg = TrainConfig(**COMMON, **sizes, seed=seed, save_every=10**6)
            t = Trainer(cfg, Path(tmp)/'data', Path(tmp)/f'run{seed}', progress=False).fit()
            rows.append(read_metrics(t.out))
            print(f'{name}, seed {seed}: validation loss {t.last_val:.3f}', flush=True)
        settings = {k:v for k,v in asdict(cfg).items() if k not in FREE} | dict(data=t.train.info['sha256'])
        bands[name] = make_band(rows, **settings)
    atomic_write(path, json.dumps(bands)+'\n')

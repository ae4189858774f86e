"""Train the reference runs of lesson run/05 with several seeds and write lightbrain/assets/bands.json

    python bench/bands.py WORK [nano-ci] [nano]
    python bench/bands.py RECORD SET tiny-real

WORK keeps data and runs, so an interrupted call continues. Run it again, with a new WORK, whenever the corpus, the
tokenizer or the lesson's settings change. `tiny-real` is the band of the real run whose record is given (`nbs/results/tiny-cpu`):
its own first steps, and those of two other seeds on the same SET."""
import json, sys
from dataclasses import asdict
from pathlib import Path
from lightbrain.files import atomic_write
from lightbrain.corpus import synthetic_records
from lightbrain.data import load_manifest, record_document, split_documents, write_tapes
from lightbrain.run.config import MAY_CHANGE, TrainConfig
from lightbrain.run.log import make_band, read_metrics
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import BPETokenizer, train_bpe
from repeat import first_config, repeat

# as in lesson run/05, "Use it": number of documents, settings
COMMON = dict(preset='nano', dropout=0., optimizer='muon', lr=3e-3, schedule='wsd', min_lr=0., warmup_steps=40,
    order='documents', answer_weight=5., eval_tokens=8192, save_every=800, device='cpu', dtype='float32')
RUNS = {'nano-ci':(1500, dict(vocab_size=512, n_layer=2, n_head=2, n_embd=64, max_steps=100, eval_every=50)),
    'nano':(20_000, dict(max_steps=800, eval_every=200))}
SEEDS = 1,2,3,4                                                         # the lesson itself uses 42
FREE = (MAY_CHANGE | {'seed'}) - {'max_steps'}                          # these do not make a curve another curve

def write_data(folder, n, vocab_size):
    "The set of the lesson: `n` records in a vocabulary learned from those of the training side"
    docs = [record_document(o, 'synthetic') for o in synthetic_records(n)]
    write_tapes(docs, folder, BPETokenizer(*train_bpe([d.text for d in split_documents(docs)[0]], vocab_size)))

def real(record, data, steps=120, seeds=(43, 44)):
    "The first steps of a published run, and of shorter ones with other seeds"
    rows = [[o for o in read_metrics(record) if o['step']<=steps]]
    for seed in seeds:
        rows.append([dict(step=s, loss=loss) for s,_,loss in repeat(record, data, steps, seed=seed)])
        print(f'seed {seed}: loss {rows[-1][-1]["loss"]:.3f} at step {steps}', flush=True)
    cfg = first_config(record)
    return make_band(rows, **{k:v for k,v in asdict(cfg).items() if k not in FREE} | dict(data=load_manifest(data)['splits']['train']['sha256']))

def main(work, names):
    path = Path(__file__).parents[1]/'lightbrain'/'assets'/'bands.json'
    bands = json.loads(path.read_text()) if path.exists() else {}
    if names[1:]==['tiny-real']:
        bands['tiny-real'] = real(work, Path(names[0]))
        return atomic_write(path, json.dumps(bands)+'\n')
    for name in names:
        n,sizes = RUNS[name]
        data = work/name/'data'
        if not data.exists(): write_data(data, n, TrainConfig(**COMMON, **sizes).model_config().vocab_size)
        rows = []
        for seed in SEEDS:
            cfg = TrainConfig(**COMMON, **sizes, seed=seed)
            t = Trainer(cfg, data, work/name/f'seed{seed}', progress=False).fit()
            rows.append(read_metrics(t.out))
            last = [o['val_loss'] for o in rows[-1] if o['val_loss'] is not None][-1]
            print(f'{name}, seed {seed}: validation loss {last:.3f}', flush=True)
        settings = {k:v for k,v in asdict(cfg).items() if k not in FREE} | dict(data=t.train.info['sha256'])
        bands[name] = make_band(rows, **settings)
        atomic_write(path, json.dumps(bands)+'\n')

if __name__=='__main__': main(Path(sys.argv[1]), sys.argv[2:] or RUNS)

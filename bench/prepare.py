"""Text to tokens: LightBrain beside plain tiktoken and the `datasets.map` recipe, whole processes in alternating runs.

    python bench/prepare.py ../texts/*.jsonl.gz --rounds 3

Each round runs, in a fresh process and from cold imports: (ours) `prepare` with all its cleaning; (ours, no near) the same without
near-duplicate search, whose tapes must equal the peers' byte for byte; (a) one process, tiktoken, one document after the other;
(b) `datasets.map(num_proc=2)` and the writing of a memory-mapped file in 1,024 pieces. Wall seconds, tokens per second, the largest
resident memory of any process, and the median of the paired ratios are printed."""
import argparse, gzip, hashlib, json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

def plain(files, out):
    "Peer (a): read, encode, append"
    import numpy as np
    from lightbrain.data import split_of
    from lightbrain.tokenizer import gpt2_tokenizer
    enc = gpt2_tokenizer()
    with open(out/'train.bin', 'wb') as train, open(out/'validation.bin', 'wb') as val:
        for name in files:
            with (gzip.open if name.endswith('.gz') else open)(name, 'rt', encoding='utf-8') as f:
                for line in f:
                    d = json.loads(line)
                    ids = enc.encode_ordinary(d['text'])
                    ids.append(enc.eot_token)
                    (val if split_of(d['id'])=='validation' else train).write(np.array(ids, dtype=np.uint16).tobytes())

def hub(files, out):
    "Peer (b): tokenize by `datasets.map` in two processes, then copy into a memmap in 1,024 pieces"
    import numpy as np
    from datasets import load_dataset
    from lightbrain.data import split_of
    from lightbrain.tokenizer import gpt2_tokenizer
    enc = gpt2_tokenizer()
    rows = load_dataset('json', data_files=files, split='train', cache_dir=str(out/'cache')).select_columns(['id','text'])
    loaded = time.perf_counter()
    for side in ('train','validation'):
        part = rows.filter(lambda o: split_of(o['id'])==side, num_proc=2)
        def encode(o):
            ids = enc.encode_ordinary(o['text'])
            ids.append(enc.eot_token)
            return {'ids':ids, 'len':len(ids)}
        part = part.map(encode, remove_columns=['id','text'], num_proc=2)
        tape = np.memmap(out/f'{side}.bin', dtype=np.uint16, mode='w+', shape=(int(np.sum(part['len'], dtype=np.uint64)),))
        n,at = min(1024, len(part)),0
        for i in range(n):
            batch = part.shard(num_shards=n, index=i, contiguous=True).with_format('numpy')
            ids = np.concatenate(batch['ids'])
            tape[at:at+len(ids)] = ids
            at += len(ids)
        tape.flush()
    print(f'map and write alone: {time.perf_counter()-loaded:.2f} s')

def ours(files, out, near='drop', workers=None):
    from lightbrain.prep.prepare import prepare
    prepare(files, out/'set', progress=False, near_duplicates=near, workers=workers)

ARMS = {'ours':ours, 'ours, no near':lambda f,o: ours(f, o, 'keep'), '(a) tiktoken':plain, '(b) datasets.map':hub}

def tapes(out):
    "Fingerprints of the two tapes, wherever the arm put them"
    found = {s: next(out.rglob(f'{s}.bin')) for s in ('train','validation')}
    return {s: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for s,p in found.items()}, sum(p.stat().st_size//2 for p in found.values())

def run(arm, files):
    "(seconds, tokens, fingerprints, peak MB of any process) of one arm in a fresh process"
    with tempfile.TemporaryDirectory() as d:
        start = time.perf_counter()
        p = subprocess.Popen([sys.executable, __file__, '--arm', arm, '--out', d, *files], env=os.environ | dict(HF_DATASETS_DISABLE_PROGRESS_BARS='1'))
        _,status,usage = os.wait4(p.pid, 0)
        wall = time.perf_counter()-start
        if status: sys.exit(f'{arm} failed')
        prints,n = tapes(Path(d))
        return wall,n,prints,usage.ru_maxrss/(1024 if sys.platform!='darwin' else 1024**2)

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('files', nargs='+'); a.add_argument('--rounds', type=int, default=3); a.add_argument('--skip', nargs='*', default=[])
    a.add_argument('--arm'); a.add_argument('--out')
    a = a.parse_args()
    if a.arm: return ARMS[a.arm](a.files, Path(a.out))
    arms = [o for o in ARMS if o not in a.skip]
    seen = {o:[] for o in arms}
    for r in range(a.rounds):
        for o in arms:
            seen[o].append(run(o, a.files))
            wall,n,prints,mb = seen[o][-1]
            print(f'round {r}  {o:18} {wall:7.2f} s  {n/wall/1e6:6.2f} M tokens/s  peak {mb:5.0f} MB  {prints}', flush=True)
    for o in arms[1:]:
        if o=='ours, no near': continue
        for us in ('ours','ours, no near'):
            ratios = [t[0]/u[0] for t,u in zip(seen[o], seen[us])]
            print(f'{us:14} is {statistics.median(ratios):5.2f} x {o}   (pairs: {", ".join(f"{q:.2f}" for q in ratios)})')
        print(f'  tapes equal to ours without near-duplicate search: {seen[o][0][2]==seen["ours, no near"][0][2]}')

if __name__=='__main__': main()

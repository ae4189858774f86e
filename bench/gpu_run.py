"""Several real runs side by side on one GPU, by the shipped command, with interruptions; then what came out of each

    python bench/gpu_run.py --data SET --runs bench/gpu_runs.yaml --work RUNS --out RESULTS --seconds 400 --decay-at 300

Each run is `python -m lightbrain.cli train --config ...` with the settings of the YAML file. `kill: [300, 900]` kills a run (SIGKILL
and SIGTERM in turns) when its log has reached these steps; the same command then goes on. `--decay-at`: after so many seconds
every run is stopped and goes on with `--max-steps` at 5/4 of the steps it has made, so that the schedule (wsd: high until the
last fifth) ends within the time, whatever the speed of the card. A run that is not through when the time is up is told to stop,
and is measured as it stands. RESULTS gets metrics, config and scores of each run, and the weights of
one run (`--weights NAME`) in float16, in pieces of at most 15 MiB; join them with `cat NAME.part* > model.safetensors`.
With `--only-weights` nothing is trained: the weights of a run that lies in RUNS already are fetched, pieces FIRST to LAST.
"""
import argparse, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import yaml

PIECE = 15*2**20

def last_step(run):
    "The last step in the log"
    try: lines = (run/'metrics.jsonl').read_text(encoding='utf-8').splitlines()
    except OSError: return -1
    for line in reversed(lines):
        try: return json.loads(line)['step']
        except ValueError: pass
    return -1

class Run:
    "A training process, and what happens to it"
    def __init__(self, name, spec, args):
        self.name,self.out,self.kills,self.events,self.p = name,args.work/name,list(spec.pop('kill', [])),[],None
        config = spec.pop('config', None)
        flags = [o for k,v in spec.items() for o in (f"--{k.replace('_','-')}", str(v))]
        self.command = [sys.executable, '-m', 'lightbrain.cli', 'train', '--data', str(args.data), '--out', str(self.out),
            *(['--config', config] if config else []), *flags]
        self.begun = time.time()
        self.start()
    def decay(self):
        "Stop, and go on with a schedule that ends after another quarter of the steps so far"
        self.p.wait()
        step = last_step(self.out)
        self.events.append(dict(signal='SIGTERM', step=step, second=time.time()-self.begun, max_steps=-(-step*5//4)))
        at = self.command.index('--max-steps')
        self.command[at+1] = str(-(-step*5//4))
        self.start()
    def start(self):
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out.with_suffix('.log'), 'a') as log: self.p = subprocess.Popen(self.command, stdout=log, stderr=log)
    def watch(self):
        "Kill when it is time; True while it goes on"
        if self.kills and last_step(self.out)>=self.kills[0] and self.p.poll() is None:
            how = (signal.SIGKILL,signal.SIGTERM)[len(self.events)%2]
            self.p.send_signal(how); self.p.wait()
            self.events.append(dict(signal=how.name, step=last_step(self.out), second=time.time()-self.begun, asked=self.kills.pop(0)))
            self.start()
        return self.p.poll() is None

def measure(run, args):
    "Loss on every held-out token, by source, and PubMedQA, in float32 on the device that is there"
    import numpy as np, torch
    from lightbrain.run.checkpoint import latest_checkpoint
    from lightbrain.run.config import TrainConfig
    from lightbrain.core import pick_device
    from lightbrain.data import TokenDataset
    from lightbrain.evaluate import bits_per_byte, bytes_per_token, mean_and_se, pubmedqa
    from lightbrain.train import scored_places, scored_windows, window_losses
    from lightbrain.model import GPT
    from lightbrain.prep.sources import load_records
    from lightbrain.tokenizer import gpt2_tokenizer
    from safetensors.torch import load_file
    folder = run.out/'model'
    if not (folder/'model.safetensors').exists():                     # stopped before its end
        path,_ = latest_checkpoint(run.out/'checkpoints')
        model = GPT(TrainConfig.from_yaml(run.out/'config.yaml').model_config())
        model.load_state_dict(load_file(path/'model.safetensors'), strict=False)
        model.save_pretrained(folder)
    model,enc = GPT.from_pretrained(folder).to(pick_device('auto')),gpt2_tokenizer()
    val,T = TokenDataset(args.data, 'validation'),model.config.block_size
    windows = scored_windows(val.tokens, T, end=enc.eot_token)
    sums,counts = window_losses(model, val.tokens, T, 32, end=enc.eot_token)
    loss,se = mean_and_se(sums, counts)
    bpt = bytes_per_token(val.tokens[scored_places(*windows)], enc)
    source = val.sources_at(windows[0])                               # a window counts for the source it begins in
    by = {s: [float(np.array(sums)[source==s].sum()/np.array(counts)[source==s].sum()), int(np.array(counts)[source==s].sum())]
        for s in sorted(set(source))}
    out = dict(loss=loss, se=se, tokens=int(sum(counts)), bytes_per_token=bpt, bits_per_byte=bits_per_byte(loss, bpt), by_source=by,
        done=(run.out/'model').exists(), step=last_step(run.out))
    questions = Path(args.data)/'pubmedqa_dev.jsonl'
    if questions.exists(): out['pubmedqa'] = {k:v for k,v in vars(pubmedqa(model, load_records(questions), enc, truncate='keep-end')).items()
        if k not in ('predictions','calibrated')}
    return out

def quick(run):
    "What the log says"
    rows = [json.loads(o) for o in (run.out/'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    speed = sorted(o['tokens_per_s'] for o in rows if o['tokens_per_s'] is not None)
    return dict(loss=[o['val_loss'] for o in rows if o['val_loss'] is not None][-1], step=rows[-1]['step'],
        tokens_per_s=speed[len(speed)//2])

def pieces(run, args, first=0, last=999):
    "The weights in float16, in pieces"
    from safetensors.torch import load_file, save
    data = save({k: v.half() for k,v in load_file(run/'model'/'model.safetensors').items()}, metadata={'format': 'pt'})
    for i in range(first, min(last+1, -(-len(data)//PIECE))):
        (args.out/f'{run.name}.part{i:02}').write_bytes(data[i*PIECE:(i+1)*PIECE])

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', type=Path)
    p.add_argument('--runs', help='YAML: name -> config, kill, and any setting')
    p.add_argument('--work', type=Path, required=True, help='where the runs lie')
    p.add_argument('--out', type=Path, required=True, help='where results go')
    p.add_argument('--seconds', type=float, default=400)
    p.add_argument('--decay-at', type=float, default=0, help='seconds after which the learning rate goes down; 0 = as the runs say')
    p.add_argument('--weights', help='the run whose weights go to --out')
    p.add_argument('--quick', action='store_true', help='take the last validation loss of each log, and measure no more')
    p.add_argument('--only-weights', nargs=2, type=int, metavar=('FIRST','LAST'))
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only_weights: return pieces(args.work/args.weights, args, *args.only_weights)
    begun = time.time()
    runs = [Run(k, dict(v), args) for k,v in yaml.safe_load(Path(args.runs).read_text()).items()]
    alive,shown,decayed = runs,begun,not args.decay_at
    while alive and time.time()-begun<args.seconds:
        time.sleep(0.2)
        alive = [o for o in runs if o.watch()]
        if not decayed and time.time()-begun>args.decay_at:
            decayed,alive = True,runs
            for o in runs: o.kills = []; o.p.send_signal(signal.SIGTERM)      # a process that has ended is left alone
            for o in runs: o.decay()
        if time.time()-shown>20:
            shown = time.time()
            print(f'{shown-begun:.0f} s: '+', '.join(f'{o.name} {last_step(o.out)}' for o in runs), flush=True)
    for o in alive: o.p.send_signal(signal.SIGTERM)
    for o in alive: o.p.wait()
    results = {}
    for o in runs:
        try: results[o.name] = quick(o) if args.quick else measure(o, args)
        except Exception as e: results[o.name] = dict(failed=f'{type(e).__name__}: {e}'[:500])
        results[o.name] |= dict(events=o.events, exit=o.p.returncode, command=o.command[1:])
        for f in ('metrics.jsonl','config.yaml'):
            if (o.out/f).exists():
                text = (o.out/f).read_text(encoding='utf-8')
                results[o.name][f] = text
        r = results[o.name]
        print(o.name, {k: r.get(k) for k in ('loss','bits_per_byte','step','tokens_per_s','exit','events','failed')}, (r.get('pubmedqa') or {}).get('accuracy'), flush=True)
        if o.p.returncode: print(o.out.with_suffix('.log').read_text()[-600:])
    (args.out/'results.json').write_text(json.dumps(dict(seconds=time.time()-begun, runs=results), indent=1))
    if args.weights: pieces(args.work/args.weights, args)

if __name__=='__main__': main()

"""The engine of time_to_loss.py and recipe.py: recipes train in turns, each on a clock that runs only while it trains

A recipe is a process. All sleep but one, which trains for a slice of seconds; then it is the next one's turn, so a machine
that is slower at one hour than at another is so for all. Validation and saving stop the clock. The learning rate follows the
share of the budget that is used up, so a schedule ends when the time does. Everything is saved after each slice, and a race
that is started again goes on where it stopped.
"""
import json, multiprocessing as mp, os, sys, time
from contextlib import nullcontext
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))

RECIPE = dict(step='fast', dtype='auto', optimizer='adamw', lr=1e-3, muon_lr=0.02, schedule='cosine', min_share=0.1, warmup=0.05, batch=16,
              dropout=0., zero=False, weight_decay=0.1, beta2=0.95, budget=120.)

def build(r, args, seed):
    "Model and step of a recipe; a step has `gradients(x, y)` and `update(lr)`, and the optimizer"
    import torch
    from dataclasses import replace
    from lightbrain.fast.faststep import FusedLoss
    from lightbrain.fast.muon import make_optimizer
    from lightbrain.model import GPT, preset
    from lightbrain.train import Step
    from peers import PlainGPT, PlainStep, plain_groups
    size,dtype = replace(preset(args.preset), dropout=r['dropout']),number_format(r, args)
    torch.manual_seed(seed)
    betas = 0.9,r['beta2']
    if r['step']=='plain':
        model = PlainGPT(size)
        opt = torch.optim.AdamW(plain_groups(model, r['weight_decay']), lr=r['lr'], betas=betas)
        return model,PlainStep(model, opt, dtype)
    model = GPT(size)
    if r['zero']: model.zero_projections()
    opt = make_optimizer(model, r['optimizer'], lr=r['lr'], muon_lr=r['muon_lr'], weight_decay=r['weight_decay'], betas=betas,
                         dtype=dtype)
    return model,Step(model, opt, dtype, loss=FusedLoss(model, dtype), micro_batch=r['batch'])

def number_format(r, args):
    "The format of a recipe's products: its own, or the one that the parent found to be faster here"
    import torch
    return getattr(torch, args.dtype if r['dtype']=='auto' else r['dtype'])

def give_back():
    "Return memory that waits for reuse: the next one in turn needs it"
    import ctypes
    if sys.platform=='linux' and hasattr(libc := ctypes.CDLL(None), 'malloc_trim'): libc.malloc_trim(0)

def racer(name, r, seed, args, pipe):
    "One recipe in its process; ours reuses freed memory, as a `Trainer` does"
    from lightbrain.fast.kernels import kept_heap
    with nullcontext() if r['step']=='plain' else kept_heap(): run(name, r, seed, args, pipe)

def run(name, r, seed, args, pipe):
    "Train for as many seconds as each message says"
    import torch
    from lightbrain.data import TokenDataset
    from lightbrain.train import mean_loss
    from lightbrain.optim import lr_at
    from peers import plain_batch
    torch.set_num_threads(args.threads)
    model,stepper = build(r, args, seed)
    opt,T = stepper.optimizer,model.config.block_size
    dtype = getattr(torch, args.dtype)
    train,val = (TokenDataset(args.data, s) for s in ('train','validation'))
    file = args.out/f'{name}-{seed}.pt'
    clock,step,points = 0.,0,[]
    every = r['budget']/args.evals
    if file.exists():
        s = torch.load(file, weights_only=True)
        model.load_state_dict(s['model']); opt.load_state_dict(s['opt'])
        clock,step,points = s['clock'],s['step'],s['points']
    def batch():
        if r['step']=='plain': return plain_batch(train.path, r['batch'], T, torch.Generator().manual_seed(seed*10**6+step))
        return train.batch(step, r['batch'], T, seed)
    def rate():
        if not clock: return r['lr']*0.01
        return lr_at(int(1e4*clock/r['budget']), r['lr'], r['lr']*r['min_share'], int(1e4*r['warmup']), 10**4, r['schedule'])
    def look():
        loss = mean_loss(model, val.tokens, max_tokens=args.val_tokens, dtype=dtype)    # the same for every recipe
        points.append([clock, step*r['batch']*T, loss])
    stepper.gradients(*batch()); opt.zero_grad(set_to_none=True)     # memory, kernels: fetched before the clock starts
    if not points: look()
    give_back()
    pipe.send('ready')
    while (slice_s := pipe.recv()):
        until = min(r['budget'], clock+slice_s)
        while clock<until:
            torch.manual_seed(seed*10**6+step)
            start = time.perf_counter()
            stepper.gradients(*batch())
            stepper.update(rate())
            clock,step = clock+time.perf_counter()-start,step+1
            if clock>=len(points)*every or clock>=r['budget']: look()
        tmp = file.with_suffix('.tmp')
        torch.save(dict(model=model.state_dict(), opt=opt.state_dict(), clock=clock, step=step, points=points), tmp)
        os.replace(tmp, file)
        give_back()
        pipe.send(dict(clock=clock, step=step, points=points, done=clock>=r['budget']))

def race(recipes, seeds, args):
    "Train every recipe with every seed, in turns; give back results as far as they are, finished or not"
    import torch
    from lightbrain.core import pick_dtype
    from lightbrain.fast.faststep import faster_dtype
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    args.dtype = str(faster_dtype(pick_dtype('cpu'))).removeprefix('torch.')
    print(f'products in {args.dtype}, the faster format here; validation for all alike', flush=True)
    results = args.out/'results.json'
    have = json.loads(results.read_text()) if results.exists() else []
    done = {(h['name'],h['seed']): h for h in have}
    for k,h in done.items():
        if k[0] in recipes and h['recipe']!=recipes[k[0]]:
            sys.exit(f"{results} holds '{k[0]}' with other settings; use another --out")
    end,ctx = time.monotonic()+60*args.minutes,mp.get_context('spawn')
    for seed in seeds:
        pipes = {}
        for name,r in recipes.items():
            if done.get((name,seed), {}).get('done'): continue
            pipes[name],theirs = ctx.Pipe()
            ctx.Process(target=racer, args=(name, r, seed, args, theirs), daemon=True).start()
            pipes[name].recv()                                         # one after the other: building takes both cores
        while pipes and time.monotonic()<end:
            for name in list(pipes):
                pipes[name].send(args.slice)
                h = dict(name=name, seed=seed, recipe=recipes[name]) | pipes[name].recv()
                done[name,seed] = h
                print(f"seed {seed} {name:14} {h['clock']:6.0f} s of {recipes[name]['budget']:.0f}, step {h['step']:5}, "
                      f"validation {h['points'][-1][2]:.3f}", flush=True)
                tmp = results.with_suffix('.tmp'); tmp.write_text(json.dumps(list(done.values()))); os.replace(tmp, results)
                if h['done']: pipes.pop(name).send(0); (args.out/f'{name}-{seed}.pt').unlink(missing_ok=True)
                if time.monotonic()>=end: break
        for p in pipes.values(): p.send(0)
        if time.monotonic()>=end: break
    return [done[n,s] for n in recipes for s in seeds if (n,s) in done]

def options(p):
    "What both programs take"
    p.add_argument('--data', required=True, help='a set made by lightbrain-prepare')
    p.add_argument('--out', type=Path, required=True, help='folder for results.json and what is needed to go on')
    p.add_argument('--preset', default='tiny')
    p.add_argument('--seeds', type=int, nargs='+', default=[1,2,3])
    p.add_argument('--slice', type=float, default=20., help='seconds of training before the next one takes its turn')
    p.add_argument('--minutes', type=float, default=1e9, help='stop after about so long; start again to go on')
    p.add_argument('--evals', type=int, default=25, help='looks at the validation loss in a budget')
    p.add_argument('--val-tokens', type=int, default=16384)
    p.add_argument('--threads', type=int, default=os.cpu_count())
    return p

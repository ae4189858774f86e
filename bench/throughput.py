"""Time one training step of LightBrain and of its peers in turns, and print the ratios

    python bench/throughput.py                          # everything, 7 rounds
    python bench/throughput.py --only plain-bf16,fast-kept --rounds 9
    python bench/throughput.py --out results.json       # goes on where an earlier run stopped

Each contestant is a process of its own, because the allocator's settings belong to the process. All sleep but one, which
makes one step; a round is one step of each. What counts is the median of the ratios within a round. A round in which other
programs took more than a twentieth of the processors is shown and does not count (seen on Linux only). A name that ends in
`-kept` runs in `kept_heap()`, to its end, and gives no memory back: all together want about 40 GB, so choose some with
`--only` where there is less. The arithmetic is that of the preset: dropout 0.1, tied head, AdamW, clip 1.0.
"""
import argparse, json, multiprocessing as mp, os, statistics, sys, time
from contextlib import ExitStack, nullcontext
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))

PEERS = 'plain-fp32 plain-fp32-compile plain-bf16 plain-bf16-compile transformers-fp32 transformers-bf16'.split()
NAMES = [o+kept for kept in ('','-kept') for o in [*PEERS, 'fast-torch', 'fast']]

def rss(key):
    "This process's memory in MB: VmRSS now, or VmHWM at most so far; 0 where the system does not say"
    status = Path('/proc/self/status')
    if not status.exists(): return 0
    return next(int(o.split()[1])/1024 for o in status.read_text().splitlines() if o.startswith(key))

def busy_s():
    "Seconds of processor time that all programs have used so far; 0 where the system does not say"
    stat = Path('/proc/stat')
    if not stat.exists(): return 0.
    t = [int(o) for o in stat.read_text().split('\n')[0].split()[1:9]]
    return (sum(t)-t[3]-t[4])/os.sysconf('SC_CLK_TCK')               # all but idle and waiting for disks

def size_of(args):
    "The preset, with as many rows as the set's tokenizer has tokens"
    from lightbrain.data import TokenDataset
    from lightbrain.model import preset
    return preset(args.preset, vocab_size=TokenDataset(args.data).manifest['tokenizer']['n_vocab'])

def fast_step(name, size, args):
    "LightBrain's step"
    import torch
    from lightbrain.fast.faststep import FusedLoss
    from lightbrain.model import GPT
    from lightbrain.optim import make_adamw
    from lightbrain.train import Step
    model = GPT(size)
    step = Step(model, make_adamw(model, lr=1e-3), loss=FusedLoss(model, use_kernels='torch' not in name))
    def one(x, y):
        loss,_ = step(x, y)
        model.zero_grad(set_to_none=True)                            # as the peers do, before the next batch comes
        return loss
    return one

def plain_step(name, size, args):
    "The plain recipe, or `transformers` in its place"
    import torch
    from peers import PlainGPT, plain_groups
    if name.startswith('transformers'):
        from transformers import GPT2Config, GPT2LMHeadModel
        c = GPT2Config(vocab_size=size.vocab_size, n_layer=size.n_layer, n_head=size.n_head, n_embd=size.n_embd, n_positions=size.block_size)
        model = GPT2LMHeadModel(c).train()
        def loss_of(x, y): return torch.nn.functional.cross_entropy(model(x).logits.float().flatten(0, 1), y.flatten())
    else:
        model = PlainGPT(size)
        loss_of = torch.compile(model) if 'compile' in name else model
    opt = torch.optim.AdamW(plain_groups(model), lr=1e-3, betas=(0.9,0.95))
    def step(x, y):
        with nullcontext() if 'fp32' in name else torch.autocast('cpu', dtype=torch.bfloat16): loss = loss_of(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step(); opt.zero_grad(set_to_none=True)
        return loss.item()
    return step

def contestant(name, args, pipe):
    "One process: build, then a step for each message"
    import torch
    from peers import plain_batch
    from lightbrain.data import TokenDataset
    from lightbrain.fast.kernels import kept_heap
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    stack = ExitStack()
    if name.endswith('-kept') and not stack.enter_context(kept_heap()): pipe.send('no glibc here'); return
    size = size_of(args)
    step = (fast_step if name.startswith('fast') else plain_step)(name, size, args)
    data,n,base = TokenDataset(args.data),0,rss('VmRSS')
    pipe.send('ready')
    while pipe.recv():
        start,mine,all_ = time.perf_counter(),time.process_time(),busy_s()
        if name.startswith('fast'): x,y = data.batch(n, args.batch, size.block_size)
        else: x,y = plain_batch(data.path, args.batch, size.block_size)
        loss,n = step(x, y),n+1
        s = time.perf_counter()-start
        others = max(0., (busy_s()-all_)-(time.process_time()-mine))/s/os.cpu_count()
        pipe.send(dict(s=s, others=others, loss=loss, base=base, peak=rss('VmHWM')))

def table(rounds, peak, flop):
    "Medians, and the ratios within a round"
    quiet = [r for r in rounds if max(o.get('others', 0) for o in r.values())<0.05]
    if len(quiet)<len(rounds): print(f'{len(rounds)-len(quiet)} of {len(rounds)} rounds were disturbed by other programs')
    if not quiet: return print('no round was quiet; try again when this machine has nothing else to do')
    rounds,names = quiet,[n for n in NAMES if all(n in r for r in quiet)]
    med = {n: statistics.median(r[n]['s'] for r in rounds) for n in names}
    print(f'\n{len(rounds)} rounds; seconds a step, share of the ceiling of {peak/1e9:.0f} GFLOP/s, peak memory, of which the step')
    for n in names:
        last = rounds[-1][n]
        print(f"  {n:24} {med[n]:6.3f} s   {flop/med[n]/peak:5.1%}   {last['peak']:6.0f} MB   {last['peak']-last['base']:6.0f} MB")
    ours = [n for n in names if n.startswith('fast')]
    if ours: print(f"\n{'ratios: median (lowest-highest)':32}" + ''.join(f'{n:>22}' for n in ours))
    for n in names:
        if n in ours: continue
        ratios = [sorted(r[n]['s']/r[o]['s'] for r in rounds) for o in ours]
        print(f'  {n:30}' + ''.join(f'{statistics.median(q):9.2f} ({q[0]:4.2f}-{q[-1]:4.2f})' for q in ratios))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='prepared set; invented records if not given')
    p.add_argument('--preset', default='tiny')
    p.add_argument('--batch', type=int, default=32, help='windows a step')
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--only', default=','.join(NAMES), help=f'some of {", ".join(NAMES)}')
    p.add_argument('--out', type=Path, help='JSON file for every round; earlier rounds in it count')
    args = p.parse_args()
    names = args.only.split(',')
    if bad := set(names)-set(NAMES): sys.exit(f"unknown contestants {', '.join(bad)}; choose from {', '.join(NAMES)}")
    import torch
    from lightbrain.fast.budget import flop_per_token, matmul_ceiling
    from lightbrain.prep.prepare import prepare
    import tempfile
    with tempfile.TemporaryDirectory() as tmp:
        if not args.data: args.data = tmp+'/data'; prepare('synthetic:2000', args.data, progress=False)
        torch.set_num_threads(args.threads)
        peak = max(matmul_ceiling(d, 'cpu', 2048, 12) for d in (torch.float32, torch.bfloat16))
        earlier = json.loads(args.out.read_text()) if args.out and args.out.exists() else []
        rounds = list(earlier)
        for r in run(names, args):
            rounds.append(r)
            if args.out: args.out.write_text(json.dumps(rounds, indent=0))
        size = size_of(args)
        table(rounds, peak, sum(flop_per_token(size).values())*args.batch*size.block_size)

def run(names, args):
    "Start the contestants, two steps that do not count, then the rounds, one by one"
    ctx,pipes = mp.get_context('spawn'),{}
    for n in names:
        pipes[n],theirs = ctx.Pipe()
        ctx.Process(target=contestant, args=(n, args, theirs), daemon=True).start()
        if (said := pipes[n].recv())!='ready': sys.exit(f'{n}: {said}')    # one after the other: each measures its road
    def turn():
        out = {}
        for n,o in pipes.items(): o.send(1); out[n] = o.recv()
        return out
    first,_ = turn(),turn()
    print('first step, compiling included: ' + ', '.join(f"{n} {o['s']:.1f} s" for n,o in first.items()), flush=True)
    for i in range(args.rounds):
        r = turn()
        worst = max(o['others'] for o in r.values())
        print(f'round {i+1}: ' + ', '.join(f"{n} {o['s']:.2f}" for n,o in r.items()) + f' (others {worst:.0%})', flush=True)
        yield r
    for o in pipes.values(): o.send(0)

if __name__=='__main__': main()

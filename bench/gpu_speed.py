"""On a GPU: tokens a second, memory and share of the card's ceiling, for LightBrain's step and its peers, in turns

    python bench/gpu_speed.py --out speed.json                            # where there is a CUDA device
    python bench/gpu_speed.py --device cpu --sizes nano:64 --tokens 256 --seconds 20    # the script itself, in small

One process. In each round every contestant makes one step; what counts is the median. Every step is the whole one: a batch that
is on the card already, forward, loss, backward, clip at 1.0, fused AdamW; float16 goes through GradScaler. Dropout is that of
the preset. The ceiling is the best large matrix product of that format, measured in the same process.
"""
import argparse, gc, json, statistics, sys, time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
import torch
from peers import PlainGPT, plain_groups
from lightbrain.fast.budget import flop_per_token
from lightbrain.fast.faststep import FusedLoss
from lightbrain.model import GPT, preset
from lightbrain.optim import make_adamw
from lightbrain.train import Step

FORMATS = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)

def sync(device):
    if device=='cuda': torch.cuda.synchronize()

def ceiling(dtype, device):
    "FLOP per second of the best of a few large products"
    n = 8192 if device=='cuda' else 512
    a,b,best = torch.randn(n, n, device=device).to(dtype),torch.randn(n, n, device=device).to(dtype),9e9
    for _ in range(6):
        sync(device); start = time.perf_counter()
        a@b
        sync(device); best = min(best, time.perf_counter()-start)
    return 2*n**3/best

def contestant(name, size, device, batch):
    "A function that makes one whole step on (x, y), by its name: who-format[-compile]"
    who,kind,*compiled = name.split('-')
    torch.manual_seed(0)
    if who=='ours': return our_step(size, device, batch, FORMATS[kind], bool(compiled))
    return peer_step(who, size, device, FORMATS[kind], bool(compiled))

def our_step(size, device, batch, dtype, compiled):
    "LightBrain's"
    model = GPT(size).to(device)
    step = Step(model, make_adamw(model, lr=1e-3), loss=FusedLoss(model, dtype, compile=compiled), micro_batch=batch)
    def whole(x, y):
        loss,_ = step(x, y)
        model.zero_grad(set_to_none=True)
        return loss
    return whole

def peer_step(who, size, device, dtype, compiled):
    "The plain recipe's, or that of `transformers`"
    if who=='plain':
        model = PlainGPT(size).to(device)
        loss_of = torch.compile(model) if compiled else model
    else:
        from transformers import GPT2Config, GPT2LMHeadModel
        p = size.dropout
        model = GPT2LMHeadModel(GPT2Config(vocab_size=size.vocab_size, n_layer=size.n_layer, n_head=size.n_head, n_embd=size.n_embd,
            n_positions=size.block_size, resid_pdrop=p, embd_pdrop=p, attn_pdrop=p)).to(device).train()
        body = torch.compile(model) if compiled else model
        def loss_of(x, y): return torch.nn.functional.cross_entropy(body(x).logits.float().flatten(0, 1), y.flatten())
    scaler = torch.amp.GradScaler(device, enabled=dtype==torch.float16)
    opt = torch.optim.AdamW(plain_groups(model), lr=1e-3, betas=(0.9,0.95), fused=True)
    def whole(x, y):
        with nullcontext() if dtype==torch.float32 else torch.autocast(device, dtype=dtype): loss = loss_of(x, y)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt); scaler.update(); opt.zero_grad(set_to_none=True)
        return loss.item()
    return whole

def measure(label, names, args, ceilings, until):
    "Rounds of one size until the time is up; a list of rows"
    which,T = label.split(':')
    size = replace(preset(which), block_size=int(T))
    B = args.tokens//size.block_size
    x,y = (torch.randint(size.vocab_size, (B, size.block_size), device=args.device) for _ in range(2))
    steps,rows,first = {},{},{}
    for n in names:
        if time.perf_counter()>until: break
        start = time.perf_counter()
        try:
            steps[n] = contestant(n, size, args.device, B)
            for _ in range(3): steps[n](x, y)
        except Exception as e:                                        # a peer that fails is a result, too
            steps.pop(n, None)
            rows[n] = dict(failed=f'{type(e).__name__}: {e}'[:300])
        first[n] = time.perf_counter()-start
    times,peak = {n: [] for n in steps},{}
    for r in range(args.rounds):
        for n,step in steps.items():
            if args.device=='cuda': torch.cuda.reset_peak_memory_stats(); held = torch.cuda.memory_allocated()
            sync(args.device); start = time.perf_counter()
            step(x, y)
            sync(args.device); times[n].append(time.perf_counter()-start)
            if args.device=='cuda': peak[n] = (torch.cuda.max_memory_allocated()-held)/2**20
        if time.perf_counter()>until and r>=2: break
    for n,t in times.items():
        s,kind = statistics.median(t),n.split('-')[1]
        rows[n] = dict(s=s, low=min(t), high=max(t), rounds=len(t), tokens_per_s=B*size.block_size/s, step_mb=peak.get(n),
            share=sum(flop_per_token(size).values())*B*size.block_size/s/ceilings[kind], first_s=first[n])
    out = [dict(size=label, tokens=B*size.block_size, name=n, **o) for n,o in rows.items()]
    for o in out:
        print(f"{label:10} {o['name']:22}", o.get('failed') or f"{1e3*o['s']:8.1f} ms {o['tokens_per_s']:12,.0f} tokens/s "
            f"{o['share']:6.1%} of the ceiling {o['step_mb'] or 0:8.0f} MB a step   start {o['first_s']:.0f} s", flush=True)
    del steps; gc.collect()
    if args.device=='cuda': torch.cuda.empty_cache()
    return out

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--device', default='cuda')
    p.add_argument('--sizes', nargs='+', default='tiny:128 tiny:512 base:512 base:128'.split(), help='preset:context')
    p.add_argument('--names', nargs='+', default='plain-bf16 plain-fp16 transformers-bf16 transformers-fp16 ours-bf16 ours-fp16 '
        'ours-fp32 plain-fp32'.split())
    p.add_argument('--compiled', nargs='*', default='ours-bf16-compile plain-bf16-compile ours-fp16-compile '
        'plain-fp16-compile'.split(), help='last, while there is time, for the first size')
    p.add_argument('--tokens', type=int, default=32768, help='a step')
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--seconds', type=float, default=120, help='for everything')
    p.add_argument('--out', type=Path)
    args = p.parse_args()
    if args.device=='cuda' and not torch.cuda.is_available():
        return print('skipped: no CUDA device here (--device cpu tries the script)')
    begun = time.perf_counter()
    ceilings = {k: ceiling(v, args.device) for k,v in FORMATS.items()}
    card = torch.cuda.get_device_name() if args.device=='cuda' else 'CPU'
    print(card, torch.__version__, ', '.join(f'{k} {v/1e12:.1f} TFLOP/s' for k,v in ceilings.items()), flush=True)
    rows = []
    for i,label in enumerate(args.sizes):
        rows += measure(label, args.names, args, ceilings, begun+0.6*args.seconds*(i+1)/len(args.sizes))
    rows += measure(args.sizes[0], args.compiled, args, ceilings, begun+args.seconds)
    if args.out:
        args.out.write_text(json.dumps(dict(card=card, torch=torch.__version__, ceilings=ceilings, rows=rows), indent=1))

if __name__=='__main__': main()

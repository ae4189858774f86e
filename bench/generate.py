"""Generate 112 tokens after a prompt of 16, with LightBrain and with transformers, in turns, and print the ratios

    python bench/generate.py                             # batch 1 and batch 100, preset tiny, 2 threads, 7 rounds
    python bench/generate.py --rounds 3 --batch 1        # a quick look
    python bench/generate.py --device cuda --out generate.json

Contestants: `ours` (key-value cache), `uncached` (the plain loop that reads everything anew), `int8` (ours, weights rounded
by `quantize_int8`), `transformers` (its `generate` with its cache). The weights are random and the same for all; greedy
tokens of ours, uncached and transformers must be equal, or there is no result. A round is one text of each, in an order
that changes; what counts is the median of the ratios within a round, and the quietest times are shown beside it. Random
weights say nothing about what int8 costs in loss: lesson 07 and tests/test_sampling.py measure that on trained models.
"""
import argparse, json, os, statistics, tempfile, time, warnings

def contestants(args):
    "Name -> a function that writes (B,T+new); the bytes of our cache for B rows; the size of the vocabulary"
    import torch
    from transformers import GPT2LMHeadModel
    from lightbrain.model import GPT, preset
    from lightbrain.sample import KVCache, generate, next_logits, quantize_int8
    torch.manual_seed(0)
    model = GPT(preset(args.preset, dropout=0.)).eval()
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(f'{d}/model')
        peer = GPT2LMHeadModel.from_pretrained(f'{d}/model').eval().to(args.device)
    model.to(args.device)
    small = quantize_int8(model)
    def uncached(idx):
        for _ in range(args.new): idx = torch.cat([idx, next_logits(model, idx).argmax(-1)[:,None]], 1)
        return idx
    @torch.no_grad()
    def transformers(idx):
        return peer.generate(idx, attention_mask=torch.ones_like(idx), max_new_tokens=args.new, do_sample=False, use_cache=True,
                             eos_token_id=None, pad_token_id=0)
    def ours(idx): return generate(model, idx, args.new, temperature=0)
    def int8(idx): return generate(small, idx, args.new, temperature=0)
    return dict(ours=ours, uncached=uncached, int8=int8, transformers=transformers),lambda n: KVCache(model, n).kv.nbytes,model.config.vocab_size

def seconds(write, idx):
    "Wall time of one text; its last token has arrived when it ends"
    start = time.perf_counter()
    write(idx)[:,-1].tolist()                         # a GPU must be waited for
    return time.perf_counter()-start

def table(names, writers, idx, args):
    "Seconds of each contestant and round"
    import torch
    texts = {o: writers[o](idx) for o in names}                           # warm-up, too
    for o in names:
        if o!='int8' and not torch.equal(texts[o], texts['ours']): raise SystemExit(f'{o} writes other tokens than ours')
    agree = (texts['int8']==texts['ours'])[:,args.prompt:].float().mean().item() if 'int8' in texts else None
    spent = {o: [] for o in names}
    for n in range(args.rounds):
        turn = names[n%len(names):]+names[:n%len(names)]
        for o in turn: spent[o].append(seconds(writers[o], idx))
    return spent,agree

def ratio(spent, a, b):
    "How many times as fast `a` is as `b`: median of the rounds"
    return statistics.median(y/x for x,y in zip(spent[a], spent[b]))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--preset', default='tiny')
    p.add_argument('--batch', type=int, nargs='+', default=[1, 100])
    p.add_argument('--prompt', type=int, default=16)
    p.add_argument('--new', type=int, default=112)
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--device', default='cpu')
    p.add_argument('--out', help='JSON file for all times')
    args = p.parse_args()
    warnings.simplefilter('ignore')
    import torch
    torch.set_num_threads(args.threads)
    writers,cache_bytes,vocab = contestants(args)
    result = dict(args=vars(args), torch=torch.__version__, load=os.getloadavg() if hasattr(os, 'getloadavg') else None, batches={})
    for B in args.batch:
        names = ['ours','uncached','int8','transformers'] if B==1 else ['ours','int8','transformers']
        idx = torch.randint(vocab, (B,args.prompt), generator=torch.Generator().manual_seed(1)).to(args.device)
        spent,agree = table(names, writers, idx, args)
        tokens = B*args.new
        print(f'\nbatch {B}: prompt {args.prompt} + {args.new} new, cache {cache_bytes(B)/1e6:.1f} MB; int8 draws {agree:.0%} of the same tokens')
        for o in names:
            print(f'  {o:13}{tokens/statistics.median(spent[o]):9.0f} tokens/s (best {tokens/min(spent[o]):.0f})   '
                  f'{ratio(spent, o, "transformers"):5.2f} x transformers')
        if B==1: print(f'  ours is {ratio(spent, "ours", "uncached"):.2f} x the uncached loop')
        result['batches'][B] = dict(seconds=spent, cache_bytes=cache_bytes(B), int8_agrees=agree,
            ratios={o: ratio(spent, o, 'transformers') for o in names})
    print(f"\nload average {', '.join(f'{o:.1f}' for o in os.getloadavg())}" if hasattr(os, 'getloadavg') else '')
    if args.out:
        with open(args.out, 'w') as f: json.dump(result, f, indent=1)

if __name__=='__main__': main()

"""Which ingredients of the recipe win at equal wall-clock?

    python bench/recipe.py --data data/processed/notes --out results/recipe --budget 180
    python bench/recipe.py --data ... --out ... --only adamw,muon,muon-linear

Every recipe has the same seconds, the same text and the same seeds, and trains in alternating slices (race.py). An
ingredient is kept only if its mean over the seeds is better than without it by more than the spread of the difference.
"""
import argparse, json, statistics
from race import RECIPE, options, race

MUON = dict(optimizer='muon', lr=3e-3)
LINEAR = MUON | dict(schedule='linear', min_share=0.)
RECIPES = {
    'adamw':            {},                                           # GPT-2's recipe on the fast step
    'adamw-2e-3':       dict(lr=2e-3),
    'adamw-dropout':    dict(dropout=0.1),
    'muon':             MUON,
    'muon-slow-emb':    MUON | dict(lr=1e-3),
    'muon-linear':      LINEAR,
    'muon-wsd':         MUON | dict(schedule='wsd', min_share=0.),
    'muon-linear-zero': LINEAR | dict(zero=True),
    'muon-linear-8':    LINEAR | dict(batch=8),
    'muon-linear-32':   LINEAR | dict(batch=32),
    'muon-linear-0.01': LINEAR | dict(muon_lr=0.01),
    'muon-linear-0.04': LINEAR | dict(muon_lr=0.04)}
WITHOUT = {'adamw-2e-3':'adamw', 'adamw-dropout':'adamw', 'muon':'adamw', 'muon-slow-emb':'muon', 'muon-linear':'muon', 'muon-wsd':'muon',
           **{o:'muon-linear' for o in RECIPES if o.startswith('muon-linear-')}}

def main():
    p = options(argparse.ArgumentParser(description=__doc__.split('\n')[0]))
    p.add_argument('--budget', type=float, default=120., help='seconds for each')
    p.add_argument('--only', default=','.join(RECIPES), help='names, with commas')
    p.add_argument('--extra', type=json.loads, default={}, help='more recipes: JSON, name -> changes to the first')
    args = p.parse_args()
    known = RECIPES | args.extra
    names = [*args.only.split(','), *args.extra]
    if bad := [n for n in names if n not in known]: p.error(f"unknown {', '.join(bad)}; choose from {', '.join(known)}")
    results = race({n: RECIPE | dict(budget=args.budget) | known[n] for n in names}, args.seeds, args)
    last = {(h['name'],h['seed']): h['points'][-1][2] for h in results if h['done']}
    print(f'\n| recipe | seeds | loss after {args.budget:.0f} s | spread | tokens | without it | gain |\n|---|---|---|---|---|---|---|')
    for n in names:
        mine = [last[n,s] for s in args.seeds if (n,s) in last]
        if not mine: continue
        spread = lambda o: statistics.stdev(o) if len(o)>1 else float('nan')
        tokens = statistics.mean(h['points'][-1][1] for h in results if h['name']==n and h['done'])
        gain = [last[WITHOUT[n],s]-last[n,s] for s in args.seeds if n in WITHOUT and (n,s) in last and (WITHOUT[n],s) in last]
        verdict = f'{WITHOUT[n]} | {statistics.mean(gain):+.3f} ± {spread(gain):.3f}' if gain else ' | '
        print(f'| {n} | {len(mine)} | {statistics.mean(mine):.3f} | {spread(mine):.3f} | {tokens:,.0f} | {verdict} |')

if __name__=='__main__': main()

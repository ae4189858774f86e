"""Which ingredients of the recipe win at equal wall-clock?

    python bench/recipe.py --data data/processed/notes --out results/recipe --budget 180
    python bench/recipe.py --data ... --out ... --only adamw,muon,muon-linear

Every recipe has the same seconds, the same text and the same seeds, and trains in alternating slices (race.py). An
ingredient wins if the mean of its differences is more than twice their spread (nbs/results/recipe.ipynb).
"""
import argparse, json
from race import RECIPE, options, race
from tables import recipe_table

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
    done = [h for h in results if h['done']]
    print(f'\nloss after {args.budget:.0f} s, {len({h["seed"] for h in done})} seeds')
    print(recipe_table(done))

if __name__=='__main__': main()

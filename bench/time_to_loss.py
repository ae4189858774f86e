"""How long until LightBrain reaches the loss that the plain recipe has after ten minutes?

    lightbrain-prepare --source notes.jsonl --out data/processed/notes
    python bench/time_to_loss.py --data data/processed/notes --out results/time_to_loss

The plain recipe: GPT-2's arithmetic in the number format that is faster here, AdamW, warm-up and cosine, torch's allocator as
it comes. Ours: the fast step, Muon for hidden matrices, a rate that stays high and falls to zero at the end. Both without
dropout, with the same seeds, on the same text, in alternating slices of one run (race.py). The loss to reach is, for each seed,
the plain recipe's last one.
"""
import argparse, json, statistics
from race import RECIPE, options, race
from tables import plot_races, time_to_loss

def main():
    p = options(argparse.ArgumentParser(description=__doc__.split('\n')[0]))
    p.add_argument('--budget', type=float, default=600., help='seconds for the plain recipe')
    p.add_argument('--share', type=float, default=0.3, help='our budget, as a share of that')
    p.add_argument('--plain', type=json.loads, default={}, help='changes to the plain recipe, as JSON')
    p.add_argument('--ours', type=json.loads, default={}, help='changes to ours, as JSON')
    p.add_argument('--plot', help='PNG file for the curves')
    args = p.parse_args()
    plain = RECIPE | dict(step='plain', budget=args.budget) | args.plain
    ours = RECIPE | dict(optimizer='muon', lr=3e-3, schedule='wsd', min_share=0., budget=args.budget*args.share) | args.ours
    results = race(dict(plain=plain, lightbrain=ours), args.seeds, args)
    ratios = []
    for seed in args.seeds:
        a,b = ([h for h in results if (h['name'],h['seed'])==(n,seed) and h['done']] for n in ('plain','lightbrain'))
        if not a or not b: print(f'seed {seed}: not finished; start again to go on'); continue
        (t,_,goal),curve = a[0]['points'][-1],b[0]['points']
        reached = time_to_loss(curve, goal)
        if reached: ratios.append(reached/t)
        print(f"seed {seed}: plain {goal:.3f} after {t:.0f} s and {a[0]['points'][-1][1]:,} tokens; ours " +
              (f'there after {reached:.0f} s: {reached/t:.2f} of the time' if reached else
               f'did not reach it: {curve[-1][2]:.3f} after {curve[-1][0]:.0f} s'))
    if ratios: print(f'time to loss: {statistics.median(ratios):.2f} of the plain recipe (median of {len(ratios)} seeds, worst {max(ratios):.2f})')
    if args.plot: plot_races(results).savefig(args.plot, dpi=110)

if __name__=='__main__': main()

"""What the benchmarks' measurements mean: pairs of runs, tables, curves. The page nbs/results/recipe.ipynb explains them

A run is a dictionary with 'name', 'seed', 'recipe' and 'points': (seconds, tokens, loss), in order of time.
"""
import json, math, statistics
from pathlib import Path
import yaml
from matplotlib.figure import Figure
from lightbrain.config import preset

def paired_gain(
    before:dict, # Seed -> loss without the ingredient
    after:dict, # Seed -> loss with it
)->tuple: # (mean, spread) of the differences in nats, positive if the ingredient helps, eq. 1
    "Compare seed by seed; `ValueError` with fewer than two seeds in common"
    d = [before[s]-after[s] for s in sorted(before.keys() & after.keys())]
    if len(d)<2:
        raise ValueError(f"{len(d)} seeds in common are too few to see a spread; train at least two, better three")
    return statistics.mean(d),statistics.stdev(d)

def verdict(
    gain:float, # Mean of the differences
    spread:float, # Their standard deviation
)->str: # 'wins', 'loses' or 'no difference seen'
    "Twice the spread, or it does not count"
    return 'wins' if gain>2*spread else 'loses' if gain<-2*spread else 'no difference seen'

# recipe of bench/recipe.py -> the same without its last ingredient
WITHOUT = {'adamw-2e-3':'adamw', 'adamw-dropout':'adamw', 'muon-slow-emb':'adamw', 'muon':'muon-slow-emb',
           'muon-linear':'muon', 'muon-wsd':'muon', 'muon-linear-zero':'muon-linear', 'muon-linear-8':'muon-linear',
           'muon-linear-32':'muon-linear', 'muon-linear-0.01':'muon-linear', 'muon-linear-0.04':'muon-linear'}

def base_of(
    name:str, # A recipe
    raced, # Names of all recipes that ran
)->str|None: # What to compare it with; None if nothing of it ran
    "The nearest simpler recipe that ran"
    while (name := WITHOUT.get(name)) and name not in raced: pass
    return name

def last_losses(
    runs:list, # Runs
)->dict: # Recipe -> {seed: last loss}
    "What each recipe ended with"
    losses = {}
    for o in runs: losses.setdefault(o['name'], {})[o['seed']] = o['points'][-1][2]
    return losses

def recipe_table(
    runs:list, # Runs
)->str: # Markdown
    "One row for each recipe: last loss, spread over seeds, tokens read, and what its last ingredient is worth"
    losses = last_losses(runs)
    rows = ['| recipe | loss | spread | tokens | against | gain | |', '|---|---|---|---|---|---|---|']
    for name,mine in losses.items():
        other,gain = base_of(name, losses),' | | '
        if other and len(losses[other].keys() & mine.keys())>1:
            d = paired_gain(losses[other], mine)
            gain = f'{other} | {d[0]:+.3f} ± {d[1]:.3f} | {verdict(*d)}'
        spread = statistics.stdev(mine.values()) if len(mine)>1 else math.nan
        tokens = statistics.mean(o['points'][-1][1] for o in runs if o['name']==name)
        rows.append(f'| {name} | {statistics.mean(mine.values()):.3f} | {spread:.3f} | {tokens:,.0f} | {gain} |')
    return '\n'.join(rows)

def time_to_loss(
    points:list, # (seconds, tokens, loss), in order of time
    goal:float, # A loss, in nats per token
)->float|None: # Seconds; None if it was never reached
    "When a run was first seen at or below `goal`: the time of the look, nothing in between is guessed"
    return next((s for s,_,loss in points if loss<=goal), None)

def plot_races(
    runs:list, # Runs
)->Figure: # One line for each run, one colour for each name
    "Validation loss against seconds of training"
    fig = Figure(figsize=(5.2,3), layout='constrained', dpi=60)
    ax = fig.add_subplot()
    for i,name in enumerate(dict.fromkeys(o['name'] for o in runs)):
        for k,o in enumerate([o for o in runs if o['name']==name]):
            s,_,loss = zip(*o['points'])
            ax.plot(s, loss, 'o-', ms=2, lw=1, color=f'C{i}', label=name if not k else None)
    ax.set(xlabel='seconds of training', ylabel='validation loss, nats per token')
    ax.legend()
    return fig

def step_table(
    rounds:list, # Of bench/throughput.py: name -> seconds `s`, share `others` took, memory `base` and `peak` in MB
    ours:str, # With whom to compare
)->str: # Markdown
    "Seconds a step, the median, lowest and highest ratio to ours within a round, memory; disturbed rounds do not count"
    quiet = [r for r in rounds if max(o['others'] for o in r.values())<0.05]
    if not quiet:
        raise ValueError(f"none of {len(rounds)} rounds was quiet; measure again when the machine has nothing else to do")
    rows = [f'| step | seconds | times {ours} | lowest to highest | memory, MB |', '|---|---|---|---|---|']
    for n in quiet[0]:
        q = sorted(r[n]['s']/r[ours]['s'] for r in quiet)
        mb = quiet[-1][n]['peak']-quiet[-1][n]['base']
        s = statistics.median(r[n]['s'] for r in quiet)
        rows.append(f'| {n} | {s:.2f} | {statistics.median(q):.2f} | {q[0]:.2f} to {q[-1]:.2f} | {mb:,.0f} |')
    return '\n'.join(rows)

def real_table(
    folder:Path, # nbs/results/gpu
)->str: # Markdown
    "The card, and each run on real text, that on a CPU too: what was trained, what it ended with; counting below"
    found = json.loads((folder/'runs.json').read_text(encoding='utf-8'))
    def slow(p): return (folder.parent/'tiny-cpu'/p).read_text(encoding='utf-8')
    rows = [f"{found['card']}, {found['date']}:", '', '| preset | dropout | million tokens read | nats a token | bits a byte |', '|---|---|---|---|---|']
    for name,o in found['runs'].items():
        config = yaml.safe_load((folder/name/'config.yaml').read_text(encoding='utf-8'))
        last = json.loads((folder/name/'metrics.jsonl').read_text(encoding='utf-8').splitlines()[-1])
        dropout = preset(config['preset']).dropout if config['dropout'] is None else config['dropout']
        rows.append(f"| {config['preset']} | {dropout:g} | {last['tokens']/1e6:.0f} | {o['loss']:.3f} ± {o['se']:.3f} | {o['bits_per_byte']:.3f} |")
    config,text,last = yaml.safe_load(slow('config.yaml')),json.loads(slow('results.json'))['text'],json.loads(slow('metrics.jsonl').splitlines()[-1])
    rows.append(f"| {config['preset']}, on two CPU cores | {config['dropout']:g} | {last['tokens']/1e6:.0f} | {text['loss']:.3f} ± {text['loss_se']:.3f} | {text['bits_per_byte']:.3f} |")
    per_token = next(o['loss']/o['bits_per_byte'] for o in found['runs'].values())
    trigram = found['counting']['trigram']
    return '\n'.join([*rows, f'| counting three tokens | | | {trigram:.3f} | {trigram/per_token:.3f} |'])

def card_table(
    folder:Path, # nbs/results/gpu
    size:str='tiny:512', # Preset and context
    format:str='fp16', # Of the products
)->str: # Markdown
    "The steps in one number format on one card, the fastest first"
    check = json.loads((folder/'check.json').read_text(encoding='utf-8'))
    rows = [f"| step of {size.replace(':', ' at context ')}, {format}, {check['card']} | tokens a second | peak MB | share |", '|---|---|---|---|']
    steps = [o for o in check['rows'] if o['size']==size and o['name'].endswith(format)]
    for o in sorted(steps, key=lambda o: -o['tokens_per_s']):
        rows.append(f"| {o['name'].removesuffix('-'+format)} | {o['tokens_per_s']:,.0f} | {o['step_mb']:,.0f} | {o['share']:.1%} |")
    return '\n'.join(rows)

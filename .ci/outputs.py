"""Do the stored outputs belong to the present source? Each notebook remembers which code its outputs came from.

    python .ci/outputs.py                                  # which notebooks have outputs of other code
    python .ci/outputs.py save nbs/03_attention.ipynb      # run at scale laptop, store the outputs, remember code and seconds
    python .ci/outputs.py stamp nbs/03_attention.ipynb     # the outputs were stored another way just now: remember the code only
    python .ci/outputs.py time nbs/0*.ipynb                # run at scales ci and laptop: a table of seconds and peak memory

What counts is the code down to the last cell that has an output: blank lines, comments and `#|` lines may change."""
import base64, hashlib, io, json, os, re, subprocess, sys, time
from pathlib import Path
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

def read(path): return json.loads(path.read_text(encoding='utf-8'))
def write(path, nb): path.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')

def essence(src): return '\n'.join(l.rstrip() for l in src.splitlines() if l.strip() and not re.match(r'\s*#', l))

def fingerprint(
    nb, # A notebook
)->str|None: # Of the code that its stored outputs depend on; None if there are none
    "What the outputs came from"
    code = [c for c in nb['cells'] if c['cell_type']=='code']
    last = max((i for i,c in enumerate(code) if c['outputs']), default=None)
    if last is None: return None
    text = '\n\n'.join(filter(None, (essence(''.join(c['source'])) for c in code[:last+1])))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

def stale(nb): return (found := fingerprint(nb)) is not None and nb['metadata'].get('lightbrain', {}).get('outputs')!=found

def smaller(
    png, # A picture in base64
)->str: # The same picture in 256 colours, which a plot has not, if that saves a fifth
    "Pictures are stored at twice their size, for sharp screens; so that a lesson still opens at once"
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode=='P': return png
    white = Image.new('RGBA', image.size, 'white')
    out = io.BytesIO()
    Image.alpha_composite(white, image.convert('RGBA')).convert('RGB').quantize(256).save(out, 'png', optimize=True)
    return base64.b64encode(out.getvalue()).decode() if len(out.getvalue())<0.8*len(png)*3/4 else png

def shrink(nb):
    for c in nb['cells']:
        for o in c.get('outputs', []):
            if 'image/png' in o.get('data', {}): o['data']['image/png'] = smaller(''.join(o['data']['image/png']))

def stamp(path, seconds=None):
    nb = read(path)
    shrink(nb)
    nb['metadata'].setdefault('lightbrain', {})
    if found := fingerprint(nb): nb['metadata']['lightbrain']['outputs'] = found
    if seconds is not None: nb['metadata']['lightbrain']['seconds'] = round(seconds)
    if not nb['metadata']['lightbrain']: del nb['metadata']['lightbrain']
    write(path, nb)

def run(
    path, # A notebook
    scale, # 'ci', 'laptop' or 'full'
    *flags, # More for nbdev-test
)->tuple: # (seconds, megabytes of its largest process)
    "Run a notebook as the tests do"
    start,env = time.perf_counter(),os.environ | dict(LIGHTBRAIN_SCALE=scale)
    p = subprocess.Popen(['nbdev-test', str(path), '--cell-timeout', '3000', *flags], cwd=ROOT, env=env,
        stdout=sys.stderr)
    _,status,usage = os.wait4(p.pid, 0)
    if status: sys.exit(f'{path} failed at scale {scale}')
    return time.perf_counter()-start,usage.ru_maxrss/(2**20 if sys.platform=='darwin' else 2**10)

def measure(paths):
    "Seconds and peak memory of each lesson at the two scales that need no GPU"
    print('| lesson | ci, s | ci, MB | laptop, s | laptop, MB |\n|---|---|---|---|---|')
    for p in paths:
        cells = [f'{o:.0f}' for scale in ('ci','laptop') for o in run(p, scale)]
        print('|', ' | '.join([p.stem, *cells]), '|', flush=True)

def save(path):
    "Outputs of `laptop`, never of `ci`; what went to stderr is progress and warnings, and no page needs it"
    scale = os.environ.get('LIGHTBRAIN_SCALE', 'laptop')
    if scale=='ci': sys.exit('outputs are stored at scale laptop or full, never ci')
    seconds,mb = run(path, scale, '--save')
    print(f'{path.stem}: {seconds:.0f} s, at most {mb:.0f} MB', flush=True)
    nb = read(path)
    for c in nb['cells']:
        if 'outputs' in c: c['outputs'] = [o for o in c['outputs'] if o.get('name')!='stderr']
    write(path, nb)
    subprocess.run(['nbdev-clean', '--fname', str(path)], check=True, cwd=ROOT)
    stamp(path, seconds)

if __name__=='__main__':
    word,*paths = sys.argv[1:] or ['check']
    paths = [Path(o).resolve() for o in paths] or sorted((ROOT/'nbs').rglob('*.ipynb'))
    if word=='check':
        bad = [p.relative_to(ROOT/'nbs').as_posix() for p in paths if stale(read(p))]
        sys.exit('\n'.join(f'{o}: its outputs are of other code; python .ci/outputs.py save nbs/{o}' for o in bad) or 0)
    if word not in ('save','stamp','time') or len(sys.argv)<3: sys.exit(__doc__)
    if word=='time': sys.exit(measure(paths))
    for p in paths: (save if word=='save' else stamp)(p)

"""The pictures of the front page, as SVG that reads in light and dark and at the width of a phone.

`.ci/docs.py` writes them into nbs/images/: the map of the course from its notebooks, the curve from nbs/results/quickstart.json.
`python .ci/pictures.py card` draws card.png, which other sites show beside a link; that one is drawn by hand, for its bytes depend on matplotlib."""
import json, math, sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Okabe and Ito's colours, told apart by colour-blind eyes; the text is black or white
LOOK = """
  .paper{fill:#ffffff} .ink{fill:#1a1a1a} .soft{fill:#4d4d4d} .line{stroke:#7a7a7a;fill:none} .road{stroke:#0072b2;fill:none}
  .stop{fill:#0072b2;stroke:#ffffff} .on{fill:#ffffff} .side{fill:#fff4e0;stroke:#b36b00} .held{fill:#d55e00;stroke:#d55e00} .floor{stroke:#00795a;fill:none} .floortext{fill:#00664c}
  @media (prefers-color-scheme: dark){
  .paper{fill:#16181c} .ink{fill:#f2f2f2} .soft{fill:#c4c8ce} .line{stroke:#9aa0a8} .road{stroke:#56b4e9}
  .stop{fill:#56b4e9;stroke:#16181c} .on{fill:#10131a} .side{fill:#2e2615;stroke:#e69f00} .held{fill:#ff9d5c;stroke:#ff9d5c} .floor{stroke:#4fd1a5} .floortext{fill:#6fdcb8}}
  text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}"""

def svg(w, h, alt, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{escape(alt)}">\n'
            f'<title>{escape(alt)}</title>\n<style>{LOOK}\n</style>\n<rect class="paper" width="{w}" height="{h}" rx="10"/>\n'+'\n'.join(body)+'\n</svg>\n')

def text(x, y, s, cls='ink', size=14, more=''): return f'<text x="{x:g}" y="{y:g}" class="{cls}" font-size="{size}"{more}>{escape(s)}</text>'

# What goes on from lesson to lesson, and where the workshops branch off
FLOW = {'00':'the same numbers twice', '00a':'records whose truth is known', '00b':'whole files or none', '01':'text becomes token ids', '02':'a tape, then batches (x, y)',
        '03':'a word reads the words before it', '03a':'the network, described', '04':'GPT-2, whole', '04a':'how weights move', '05':'the loss falls',
        '06':'a number one can defend', '07':'it writes', '07a':'what it knows by heart', '08':'the same in other programs', '09':'all of it from a shell'}
BRANCH = {'02':'prep', '05':'run', '04a':'fast'}

def short(o):
    title = o.name.partition(' · ')[2]
    return title if len(title)<24 else title.split(' of ')[0].removeprefix('A ').capitalize()

def road_map(lessons, rooms):
    "The road from top to bottom, each stop with what it leaves; workshops beside the lesson they extend"
    main = [o for o in lessons if not o.room]
    step,x,top = 50,34,64
    h = top+step*(len(main)-1)+44
    out = [text(18, 30, 'The road', size=17, more=' font-weight="700"'), text(380, 30, 'workshops', 'soft', 13, ' text-anchor="end"'),
           f'<path class="road" stroke-width="6" stroke-linecap="round" d="M{x} {top}V{h-44}"/>']
    for i,o in enumerate(main):
        y,side = top+step*i,BRANCH.get(o.number)
        if side:
            words = rooms[side].split()
            rows = [side, ' '.join(words[:3]), ' '.join(words[3:])] if len(words)>3 else [side, rooms[side]]
            out.append(f'<path class="line" stroke-width="2" stroke-dasharray="4 4" d="M{x+40+9*len(short(o))} {y-9}H248"/>')
            out.append(f'<rect class="side" x="248" y="{y-24}" width="132" height="{12+17*len(rows)}" rx="7" stroke-width="1.5"/>')
            out += [text(258, y-7+17*j, r, 'ink', 14 if not j else 13, ' font-weight="700"'*(not j)) for j,r in enumerate(rows)]
        out += [f'<circle class="stop" cx="{x}" cy="{y}" r="18" stroke-width="2"/>',
                text(x, y+5, o.number, 'on', 13, ' text-anchor="middle" font-weight="700"')]
        under = FLOW.get(o.number)
        out.append(text(x+30, y-4 if under else y+5, short(o), 'ink', 15, ' font-weight="600"'))
        if under: out.append(text(x+30, y+16, under, 'soft', 13))
    named = ', '.join(f"{o.number} {o.name.partition(' · ')[2]}" for o in main)
    alt = f"Map of the course. The road, from top to bottom: {named}. Beside it the workshops: " + \
          ', '.join(f'{b}, {rooms[b].lower()}, from lesson {n}' for n,b in BRANCH.items()) + '.'
    return svg(390, h, alt, out)

def curve(run):
    "Training loss and held-out loss of the quickstart over its steps; the floor and the trigram as lines"
    w,h,l,r,t,b = 390,270,44,14,44,40
    last,lo,hi = run['curve'][-1][0],math.log(0.4),math.log(9)
    X = lambda s: l+(w-l-r)*s/last
    Y = lambda v: t+(h-t-b)*(hi-math.log(v))/(hi-lo)
    out = [text(14, 24, f"Held-out loss {run['loss']:.2f}; the floor is {run['floor']:.2f}", size=15, more=' font-weight="700"')]
    for v in (0.5, 1, 2, 4, 8):
        out += [f'<path class="line" stroke-width=".5" d="M{l} {Y(v):.1f}H{w-r}"/>', text(l-6, Y(v)+4, f'{v:g}', 'soft', 12, ' text-anchor="end"')]
    for s in range(0, last+1, 200): out.append(text(X(s), h-b+17, f'{s}', 'soft', 12, ' text-anchor="middle"'))
    out += [text(w-r, h-7, f"steps ({run['seconds']/60:.0f} minutes on two CPU cores)", 'soft', 12, ' text-anchor="end"'), text(14, t-4, 'nats a token', 'soft', 12)]
    for name,v,cls in (('trigram', run['trigram'], 'line'), ('floor', run['floor'], 'floor')):
        out.append(f'<path class="{cls}" stroke-width="2" stroke-dasharray="6 4" d="M{l} {Y(v):.1f}H{w-r}"/>')
    out += [text(w-r, Y(run['trigram'])-5, f"counting three tokens at a time {run['trigram']:.2f}", 'soft', 12, ' text-anchor="end"'),
            text(l+6, Y(run['floor'])+15, f"floor {run['floor']:.2f}", 'floortext', 13, ' font-weight="700"')]
    out.append('<path class="road" stroke-width="2" d="M'+' L'.join(f'{X(s):.1f} {Y(v):.1f}' for s,v in run['curve'])+'"/>')
    out += [f'<circle class="held" cx="{X(s):.1f}" cy="{Y(v):.1f}" r="5"/>' for s,v in run['held_out']]
    out += [f'<path class="road" stroke-width="2" d="M236 66h22"/>', text(264, 70, 'training', 'soft', 12), f'<circle class="held" cx="247" cy="84" r="5"/>', text(264, 88, 'held-out text', 'soft', 12)]
    alt = (f"Loss over {last} training steps, logarithmic: the held-out loss falls from {run['held_out'][0][1]:.2f} to {run['held_out'][-1][1]:.2f} nats a token, "
           f"below what counting three tokens at a time reaches ({run['trigram']:.2f}) and close to the floor of {run['floor']:.2f}.")
    return svg(w, h, alt, out)

def favicon():
    "Three dots that read the dots before them"
    links = ''.join(f'<path d="M{a} 44A{(b-a)/2} {(b-a)/2} 0 0 1 {b} 44" fill="none" stroke="#fff" stroke-width="4"/>' for a,b in ((14,32),(32,50),(14,50)))
    dots = ''.join(f'<circle cx="{x}" cy="44" r="6" fill="#ffd166"/>' for x in (14, 32, 50))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" rx="14" fill="#0b4f7d"/>{links}{dots}</svg>\n'

def colab():
    "A badge of our own: no other site is asked when a page is opened"
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 20" width="64" height="20" role="img" aria-label="Open in Colab"><title>Open in Colab</title>'
            '<rect width="64" height="20" rx="4" fill="#0b4f7d"/><path d="M8 5l8 5-8 5z" fill="#ffd166"/>'
            '<text x="22" y="14" fill="#fff" font-family="system-ui,Segoe UI,Roboto,DejaVu Sans,sans-serif" font-size="12">Colab</text></svg>\n')

def write(images, lessons, rooms):
    "All but the card, into `images`"
    images.mkdir(exist_ok=True)
    run = json.loads((images.parent/'results'/'quickstart.json').read_text(encoding='utf-8'))
    for name,s in dict(road=road_map(lessons, rooms), curve=curve(run), favicon=favicon(), colab=colab()).items():
        (images/f'{name}.svg').write_text(s, encoding='utf-8')

def card(path):
    "1200 by 630 points, as large sites want it"
    from matplotlib.figure import Figure
    run = json.loads((ROOT/'nbs'/'results'/'quickstart.json').read_text(encoding='utf-8'))
    fig = Figure(figsize=(12, 6.3), dpi=100, facecolor='#0b4f7d')
    fig.text(.06, .78, 'LightBrain', color='white', size=54, weight='bold')
    fig.text(.06, .655, 'Build a small medical language model\nfrom scratch, one notebook at a time', color='white', size=21, va='top', linespacing=1.4)
    fig.text(.06, .1, 'Research and education only, never for clinical use', color='#ffd166', size=16)
    ax = fig.add_axes((.57, .2, .38, .62), facecolor='#0b4f7d')
    ax.semilogy(*zip(*run['curve']), color='#9ad0f5', lw=2.5)
    ax.semilogy(*zip(*run['held_out']), 'o', color='#ffd166', ms=10)
    ax.axhline(run['floor'], color='#7fe0bd', ls='--', lw=2.5)
    ax.text(10, run['floor']*1.04, 'the floor', color='#7fe0bd', size=16, va='bottom')
    ax.set(yticks=[.5, 1, 2, 4, 8], yticklabels=['0.5', '1', '2', '4', '8'], ylim=(.38, 9.5), xlabel='steps')
    ax.set_title('loss, nats a token', color='white', size=16, loc='left')
    ax.minorticks_off()
    ax.tick_params(colors='white', labelsize=14)
    ax.xaxis.label.set(color='white', size=14)
    for side,s in ax.spines.items(): s.set(color='white', visible=side in ('left','bottom'))
    fig.savefig(path, metadata={'Software': None})

if __name__=='__main__':
    if sys.argv[1:]!=['card']: sys.exit(__doc__)
    card(ROOT/'nbs'/'images'/'card.png')

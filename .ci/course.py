"""What the notebooks say about each other, written once and computed: order, minutes, links, previous and next.

`.ci/docs.py` calls `update`, which writes into the notebooks

- links where a lesson is named (`lesson 03` becomes `[lesson 03](03_attention.ipynb)`), and where a word of the glossary comes first,
- the minutes to read, in the box at the top,
- which lessons use what this one builds, in the last column of its recap,
- the last line, with the lessons before and after,

and into the index its tables of lessons. What is there already is found and replaced: a second run changes nothing."""
import ast, json, math, os, re

ROOMS = {'':'The road', 'prep':'Your own text', 'run':'A run that nothing can break', 'fast':'Sooner',
         'results':'What was measured', 'exercises':'Checkers (spoilers)'}
WORKSHOPS = 'prep','run','fast'
NUMBER = r'(?:(?:prep|run|fast)/)?\d\d[a-z]*'
REPO,SITE = 'https://github.com/lightbrain-dev/lightbrain','https://lightbrain-dev.github.io/lightbrain/'
COLAB = REPO.replace('https://github.com', 'https://colab.research.google.com/github')+'/blob/main/nbs/'

class Page:
    "A notebook under `nbs/`"
    def __init__(self, nbs, path):
        self.file,self.path = path,path.relative_to(nbs).as_posix()
        self.text = path.read_text(encoding='utf-8')
        self.nb = json.loads(self.text)
        self.room = self.path.rpartition('/')[0]
        m = re.match(NUMBER, self.path)
        self.number = m[0] if m else None                                # run/03_log.ipynb -> run/03
        title,_,rest = self.cells('markdown')[0].partition('\n')
        self.title = title.removeprefix('# ').strip()                    # 03 · Attention: how a word reads ...
        self.name = self.title.split(':')[0]                             # 03 · Attention
        self.about = rest.strip().removeprefix('> ').split('\n')[0]
        stem = re.sub(r'^\d\d[a-z]*_', '', path.stem)
        module = re.sub(r'^((?:prep|run|fast)_)?\d\d[a-z]*_', r'\1', path.stem)        # the checkers run_02_checkpoint are of run/02
        self.module = '.'.join(['lightbrain', *filter(None, [self.room.replace('/', '.')]), module])
        self.site = '/'.join(filter(None, [self.room, f'{stem}.html']))  # nbdev leaves the number out

    def cells(self, kind=None): return [''.join(c['source']) for c in self.nb['cells'] if kind in (None, c['cell_type'])]
    def link(self, to): return os.path.relpath(to.path, self.room or '.').replace(os.sep, '/')
    def words(self): return self.name.replace(' · ', ' ')                # 03 Attention
    def write(self):
        new = json.dumps(self.nb, sort_keys=True, indent=1, ensure_ascii=False)+'\n'
        if new!=self.text: self.file.write_text(new, encoding='utf-8')
        return new!=self.text

def pages(nbs): return [Page(nbs, p) for p in sorted(nbs.rglob('*.ipynb')) if not re.search(r'(^|/)[._]', p.relative_to(nbs).as_posix())]

def lessons(
    nbs, # Folder of the notebooks
)->list: # The road, then each workshop
    "All lessons in the order in which they are read"
    found = [p for p in pages(nbs) if p.number and p.room in ('',*WORKSHOPS)]
    return sorted(found, key=lambda p: (['',*WORKSHOPS].index(p.room), p.path))

# How long it takes

def is_solution(src): return '#@title Solution' in src or re.search(r'^#\| *code-summary: *"?Solution', src, re.M)
def hidden(src): return bool(re.match(r'#\|\s*(hide|export|default_exp|echo: *false)\b', src)) or is_solution(src)

def read_minutes(page):
    "180 words of prose or 12 visible lines of code a minute, in steps of five"
    prose = re.sub(r'<[^>]+>|\]\([^)]*\)', ' ', '\n'.join(page.cells('markdown')))
    code = [l for o in page.cells('code') if not hidden(o) for l in o.splitlines() if l.strip() and not l.startswith('#|')]
    return max(5, 5*round((len(re.findall(r'\w+', prose))/180 + len(code)/12)/5))

def exercise_minutes(nbs, page):
    "What the checkers of a lesson allow for its exercises, added up"
    path = nbs/'exercises'/page.path.replace('/', '_')
    if not path.exists(): return 0
    calls = [o for c in Page(nbs, path).cells('code') if c.startswith('#| export')
             for o in ast.walk(ast.parse(re.sub(r'^\s*%.*', '', c, flags=re.M)))
             if isinstance(o, ast.Call) and getattr(o.func, 'id', '')=='Exercise']
    return sum(next((k.value.value for k in o.keywords if k.arg=='minutes'), 10) for o in calls)

def wait_seconds(page): return page.nb['metadata'].get('lightbrain', {}).get('seconds')

def minutes(nbs, page):
    "`40 + 30, waits 2`: to read, for the exercises, for the machine"
    out = f'{read_minutes(page)}'
    if more := exercise_minutes(nbs, page): out += f' + {more}'
    if (s := wait_seconds(page)) and s>=45: out += f', waits {math.ceil(s/60)}'
    return out

# Links

KEPT = r'```.*?```|`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)|<a .*?</a>|<[^>]+>|\$\$.*?\$\$|\$[^$\n]+\$|^#.*?$'
UNIT = rf'{NUMBER}\b(?:(?: to |–){NUMBER}\b)?'
ASIDE = r'(?: \([^()]*\))?'                    # lessons 00 (`check`) and 01
NAMED = rf'\b[Ll]essons? {UNIT}(?:{ASIDE}(?:, | and |, and | or ){UNIT})*|(?<![\w/.`])(?:prep|run|fast)/\d\d[a-z]*\b(?!_)'

def linked(
    text, # Markdown
    page, # Where it stands
    by_number, # '03' -> its page
)->str: # The same with links
    "A link wherever a lesson is named, but in headings, code, formulas and links"
    def link(words, number):
        to = by_number.get(number)
        return words if to is None or to.path==page.path else f'[{words}]({page.link(to)})'
    def one(m):
        if m[1] is None: return m[0]
        found = re.findall(UNIT, re.sub(r'\([^()]*\)', '', m[1]))
        if len(found)==1: return link(m[1], re.match(NUMBER, found[0])[0])
        return re.sub(rf'\([^()]*\)|{UNIT}', lambda u: u[0] if u[0][0]=='(' else link(u[0], re.match(NUMBER, u[0])[0]), m[1])
    return re.sub(rf'{KEPT}|({NAMED})', one, text, flags=re.S|re.M)

GLOSSED = {'tape':'tapes?', 'shard':'shards?', 'window':'windows?', 'context':'context', 'perplexity':'perplexity'}

def glossed(
    cells, # Markdown of a lesson, cell by cell
    glossary, # The address of the glossary from there
)->list: # The same, each term of the glossary linked where it is first used
    "Links to the glossary; headings, code, formulas, links and the box at the top stay as they are"
    out = list(cells)
    for term,words in GLOSSED.items():
        if any(f'{glossary}#{term})' in o for o in out): continue
        for i,text in enumerate(out):
            if i<2 or '*You need*' in text: continue
            done = False
            def one(m):
                nonlocal done
                if m[1] is None or done: return m[0]
                done = True
                return f'[{m[1]}]({glossary}#{term})'
            text = re.sub(rf'{KEPT}|^\|.*?$|(?<![\w-])({words})(?![\w-])', one, text, flags=re.S|re.M)
            if done:
                out[i] = text
                break
    return out

# What a lesson leaves behind, and who uses it

def imported(page):
    "What a notebook's code takes from our modules, as {module: names}; a star takes every word of the code"
    code,out = '\n'.join(page.cells('code')),{}
    for module,names in re.findall(r'from (lightbrain\.[\w.]+) import ([^\n(]+|\([^)]*\))', code):
        names = set(re.findall(r'\w+|\*', names))
        out.setdefault(module, set()).update(re.findall(r'\w+', code) if '*' in names else names)
    return out

def used_in(page, names, others, taken):
    "Links to the lessons that import one of `names`; a method counts with its class"
    names = {n.split('.')[0] for n in names}
    users = [o for o in others if o.path!=page.path and names & taken[o.path].get(page.module, set())]
    shown = [f'[{o.number}]({page.link(o)})' for o in users[:4]]
    return ', '.join(shown + ['…'][:len(users)-len(shown)]) or '–'

def recap(text, page, others, taken):
    "The recap's table with its last column filled"
    out,inside = [],False
    for line in text.split('\n'):
        row = line.strip().strip('|').split('|') if line.lstrip().startswith('|') else []
        if row and re.fullmatch(r'used (next )?in', row[-1].strip()): inside,row = True,[*row[:-1], ' used in ']
        elif inside and row and not set(row[-1]) <= set('-: '):
            row = [*row[:-1], f" {used_in(page, re.findall(r'`([A-Za-z_][.A-Za-z0-9_]*)', row[0]), others, taken)} "]
        elif not row: inside = False
        out.append('|'+'|'.join(row)+'|' if row and inside else line)
    return '\n'.join(out)

# The way on

def last_line(page, order):
    "Before, after, glossary; in Colab a link from notebook to notebook leads nowhere, so the next one stands there twice"
    room = [o for o in order if o.room==page.room]
    i = room.index(page)
    back = f'← [{room[i-1].words()}]({page.link(room[i-1])})' if i else f"← [All lessons]({'../'*bool(page.room)}index.ipynb)"
    mid = f"[Glossary]({'../'*bool(page.room)}glossary.ipynb)"
    if i+1==len(room): return f"{back} · {mid} · [All lessons]({'../'*bool(page.room)}index.ipynb) →"
    to = room[i+1]
    return f'{back} · {mid} · next: [{to.words()}]({page.link(to)}) → ([in Colab]({COLAB}{to.path}))'

def badge(page): return f'<a href="{COLAB}{page.path}"><img src="images/colab.svg" alt="Open {page.number} in Colab" width="64" height="20"></a>'

def table(nbs, old, rooms):
    "The lessons of a room as a table; the sentence in the middle is the index's own, and a new lesson's `>` line until it has one"
    said = dict(re.findall(rf'^\| \[({NUMBER}) [^|]*\| ([^|]*?) \|', old, re.M))
    rows = ['| lesson | after it you can | minutes |', '|---|---|---|']
    for o in rooms: rows.append(f"| [{o.words()}]({o.path}) {badge(o)} | {said.get(o.number, o.about)} | {minutes(nbs, o)} |")
    return '\n'.join(rows)

def cell(id, text): return dict(cell_type='markdown', id=id, metadata={}, source=text.splitlines(keepends=True))

def update(
    nbs, # Folder of the notebooks
)->list: # The notebooks that were changed
    "Bring everything that follows from something else up to date"
    order = lessons(nbs)
    by_number,taken,changed = {o.number: o for o in order},{o.path: imported(o) for o in order},[]
    for p in order:
        spent = f'*You read*: some {read_minutes(p)} minutes' + (f', and {m} for the exercises' if (m := exercise_minutes(nbs, p)) else '')
        cells = [c for c in p.nb['cells'] if c['id']!='next0000']
        for c in cells:
            if c['cell_type']!='markdown': continue
            text = ''.join(c['source'])
            if '## Recap' in text: text = recap(text, p, order, taken)
            if '*You wait*' in text: text = re.sub(r'(\*You read\*:[^*]*)?(?=\*You wait\*)', f'{spent}. ', text, count=1)
            c['source'] = linked(text, p, by_number).splitlines(keepends=True)
        prose = [c for c in cells if c['cell_type']=='markdown']
        for c,text in zip(prose, glossed([''.join(c['source']) for c in prose], f"{'../'*bool(p.room)}glossary.ipynb")): c['source'] = text.splitlines(keepends=True)
        p.nb['cells'] = [*cells, cell('next0000', last_line(p, order))]
        if p.write(): changed.append(p.path)
    for p in pages(nbs):
        if p.number: continue
        for c in p.nb['cells']:
            if c['cell_type']!='markdown': continue
            text = ''.join(c['source'])
            room = {'road0000':'', 'prep0000':'prep', 'run00000':'run', 'fast0000':'fast'}.get(c['id'])
            text = linked(text, p, by_number) if room is None else table(nbs, text, [o for o in order if o.room==room])
            c['source'] = text.splitlines(keepends=True)
        if p.write(): changed.append(p.path)
    return changed

def sidebar(
    nbs, # Folder of the notebooks
)->dict: # For Quarto: the road, the workshops, the results, each lesson with its number
    "The way through the site"
    found = {p.path: p for p in pages(nbs)}
    def entries(room): return [dict(href=p.path, text=p.name) for p in found.values() if p.room==room and (p.number or room)]
    rooms = [dict(section=ROOMS[r], contents=entries(r)) for r in ROOMS if entries(r)]
    words = dict(href='glossary.ipynb', text='Glossary')
    last = next(i for i,o in enumerate(rooms) if o['section']==ROOMS['results'])
    return dict(website=dict(sidebar=dict(contents=[dict(href='index.ipynb', text='Start here'), *rooms[:last], words, *rooms[last:]])))

# For assistants

def learner_rules(agents):
    "The part of AGENTS.md for an assistant of a learner"
    return re.search(r'^(## If you help a learner\n.*?)(?=^## |\Z)', agents, re.S|re.M)[1].strip()

def outline(page):
    "A lesson in a few lines: what it needs and builds, its headings, its exercises by their tasks"
    prose = '\n'.join(page.cells('markdown'))
    box = re.search(r'\*You need\*: *(.*?)\. *\*You build\*: *(.*?)\. *\*You', prose, re.S)
    heads = re.findall(r'^##+ (.+)$', prose, re.M)
    tasks = re.findall(r'^\*\*\d+\. (.+?)\*\*', prose.partition('## Exercises')[2], re.M)
    plain = lambda t: re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', ' '.join(t.split()))
    out = [f'- [{page.title}]({SITE}{page.site}): {page.about}']
    if box: out += [f'  - You need: {plain(box[1])}. You build: {plain(box[2])}.']
    if heads: out += [f"  - Sections: {'; '.join(map(plain, heads))}."]
    if tasks: out += [f"  - Exercises, for the learner to solve: {' '.join(map(plain, tasks))}"]
    return '\n'.join(out)

def llms(
    nbs, # Folder of the notebooks
    agents, # Text of AGENTS.md
)->str: # llms.txt
    "The course for a language model: how to help, then each lesson's outline, and no solution"
    order = lessons(nbs)
    index = Page(nbs, nbs/'index.ipynb')
    about = f'> {index.about}. Each lesson is a notebook, a module of the package `lightbrain`, its tests and a page of the site.'
    parts = ['# LightBrain', about, learner_rules(agents)]
    for room in ('',*WORKSHOPS): parts += [f'## {ROOMS[room]}', '\n'.join(outline(o) for o in order if o.room==room)]
    return '\n\n'.join(parts)+'\n'

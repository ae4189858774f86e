"""The law of the house: the road imports no workshop, no private name leaves its module, and there is no circle

The package is read as syntax trees. An import counts wherever it stands: one inside a function hides a circle from
Python, not from a reader. A module named in a string, such as 'lightbrain.prep.shards:encode', is imported, too.
What no reader can see (a name put together, `exec`) a wall sees, while the road is walked behind it."""
import ast, json, os, re, subprocess, sys
import pytest, yaml
from conftest import ROOT

WORKSHOPS = 'prep','run','fast'
DOORS = 'lightbrain','lightbrain.cli'          # the top level and the shell stand on everything, and nobody stands on them
BY_NAME = 'import_module','__import__','find_spec'
READ_BY_US = {('lightbrain.core', 'import_module(name)'),           # doctor: torch's neighbours, EXTRAS
              ('lightbrain.core', 'import_module(module)'),         # exercises: those of lightbrain.exercises
              ('lightbrain.export', 'import_module(name)'),         # what [export] installs
              ('lightbrain.prep.workers', 'import_module(module)')} # a workshop: what it was given as 'module:name'

def sources(folder):
    "Module name -> its code; nbdev's index names everything and imports nothing"
    paths = [p for p in sorted(folder.rglob('*.py')) if p.name!='_modidx.py']
    return {'.'.join(p.relative_to(folder.parent).with_suffix('').parts).removesuffix('.__init__'):
            p.read_text(encoding='utf-8') for p in paths}

def private(name): return name.startswith('_') and not name.endswith('__')

def room(module):
    "A workshop, the road, or the checkers, which stand on both; the empty package that holds them is part of the road"
    if module.startswith('lightbrain.exercises.'): return 'exercises'
    return o if (o := f'{module}.'.split('.')[1]) in WORKSHOPS else 'road'

def dotted(o):
    "The names of `a.b.c`; nothing if it begins with anything but a name"
    if isinstance(o, ast.Name): return [o.id]
    return [*head, o.attr] if isinstance(o, ast.Attribute) and (head := dotted(o.value)) else []

class Module:
    "What a module `uses` (pairs of a module and a name in it, or None), which names it has, which attributes it reads"
    def __init__(self, name, house):
        self.name,self.house,self.uses,self.local = name,house,set(),{}
        self.package = name if any(o.startswith(f'{name}.') for o in house) else name.rpartition('.')[0]
        nodes = [*ast.walk(ast.parse(house[name]))]
        for o in nodes: self.read(o)
        for o in nodes:
            path = dotted(o)
            if path and path[0] in self.local: self.use([*self.local[path[0]].split('.'), *path[1:]])
        stored = [o for o in nodes if isinstance(getattr(o, 'ctx', None), ast.Store)]
        self.attributes = {o.attr for o in nodes if isinstance(o, ast.Attribute)}
        self.names = {o.name for o in nodes if isinstance(o, (ast.FunctionDef, ast.ClassDef))}
        self.names |= {getattr(o, 'id', getattr(o, 'attr', None)) for o in stored}

    def use(self, path):
        "Note `path`: as many words as make a module, then a name in it"
        n = next((n for n in range(len(path), 0, -1) if '.'.join(path[:n]) in self.house), 0)
        if n: self.uses.add(('.'.join(path[:n]), path[n] if len(path)>n else None))

    def absolute(self, module, level):
        "`..x` as Python understands it in this module, in words"
        above = self.package.split('.')
        return above[:len(above)-level+1]*bool(level) + (module.split('.') if module else [])

    def read(self, o):
        "Note what a node imports"
        if isinstance(o, ast.ImportFrom):
            for a in o.names:
                if a.name in BY_NAME and a.asname: self.uses.add((None, ast.unparse(o)))
                path = [*self.absolute(o.module, o.level), a.name]
                self.use(path)
                if '.'.join(path) in self.house: self.local[a.asname or a.name] = '.'.join(path)
        elif isinstance(o, ast.Import):
            for a in o.names:
                self.use(a.name.split('.'))
                self.local[a.asname or a.name.split('.')[0]] = a.name if a.asname else a.name.split('.')[0]
        elif isinstance(o, ast.Call) and (dotted(o.func) or [None])[-1] in BY_NAME:
            word = getattr((o.args or [k.value for k in o.keywords if k.arg=='name'] or [o])[0], 'value', None)
            if not isinstance(word, str): self.uses |= {(None, said) for said in [ast.unparse(o)] if (self.name, said) not in READ_BY_US}
            elif word.startswith('.'): self.use(self.absolute(word.lstrip('.'), len(word)-len(word.lstrip('.'))))
        elif isinstance(o, ast.Constant) and re.fullmatch(r'lightbrain(\.\w+)+(:[\w.]+)?', str(o.value)):
            path = re.split('[.:]', o.value)
            if '.'.join(path[:2]) in self.house: self.use(path)          # 'lightbrain.json' is a file

def circle(edges):
    "The first circle of `edges` (name -> names) as a list; empty if there is none"
    done = set()
    def walk(o, path):
        if o in path: return [*path[path.index(o):], o]
        found = next(filter(None, (walk(p, [*path, o]) for p in sorted(edges.get(o, ())) if p not in done)), [])
        done.add(o)
        return found
    return next(filter(None, (walk(o, []) for o in sorted(edges) if o not in done)), [])

def faults(house):
    "A sentence for each breach of the law in a package, given as module name -> code"
    modules,out = {n: Module(n, house) for n in house},set()
    for n,m in modules.items():
        for to,name in m.uses:
            if n in DOORS: continue
            if to is None: out.add(f'{n} imports what nobody can read here: {name}')
            elif room(n)=='road'!=room(to): out.add(f'{n}, on the road, imports the workshop {to}')
            elif room(n)!='exercises'==room(to): out.add(f'{n} imports the checkers {to}')
            elif to=='lightbrain.cli' or to=='lightbrain' and name not in (None,'__version__'):
                out.add(f'{n} comes in by the door, {to}')
        taken = {(to,name) for to,name in m.uses if name and private(name) and to!=n}
        foreign = {o for o in m.attributes if private(o)} - m.names - {name for _,name in taken}
        taken |= {(to,o) for o in foreign for to in house if o in modules[to].names}       # a method, say
        out |= {f'{n} uses the private name {name} of {to}' for to,name in taken}
    edges = {n: {to for to,_ in m.uses}-{n, None, 'lightbrain'} for n,m in modules.items() if n not in DOORS}
    rooms = {r: {room(to) for n in edges if room(n)==r for to in edges[n]}-{r} for r in ('road','exercises',*WORKSHOPS)}
    out |= {'a circle: ' + ' -> '.join(o) for o in (circle(edges), circle(rooms)) if o}
    return sorted(out)

def test_the_law(): assert faults(sources(ROOT/'lightbrain'))==[]

SOUND = {
    'lightbrain': "__version__ = '1'\ndef __getattr__(name): return import_module(f'.{name}', __name__)",
    'lightbrain.cli': 'from .run.log import write',
    'lightbrain.core': 'def seed(): return _seed\ndef _real(): pass\nclass Box:\n    def _open(self): self._lid = 0',
    'lightbrain.data': "from . import __version__\nfrom .core import seed\nNAME = 'lightbrain.json'",
    'lightbrain.prep': '', 'lightbrain.run': '', 'lightbrain.fast': '', 'lightbrain.exercises': '',
    'lightbrain.exercises.data': 'from ..data import seed\nfrom ..run.log import write\ncheck = seed',
    'lightbrain.prep.shards': 'import os\nfrom ..core import Box\ndef encode(): return os._exit',
    'lightbrain.prep.sources': "from ..data import NAME\nWORKER = 'lightbrain.prep.shards:encode'",
    'lightbrain.run.log': 'from .. import core\nfrom ..core import seed\ndef write(): return core.seed()',
}
PLANTED = {                                    # (module, a line more) -> the sentence that must come
    ('data', 'from .prep.sources import WORKER'): 'lightbrain.data, on the road, imports the workshop lightbrain.prep.sources',
    ('data', 'from .prep import sources'): 'on the road, imports the workshop lightbrain.prep.sources',
    ('data', 'from . import prep'): 'on the road, imports the workshop lightbrain.prep',
    ('data', 'import lightbrain.prep.sources as s'): 'on the road, imports the workshop lightbrain.prep.sources',
    ('data', 'import lightbrain\ndef f(): return lightbrain.prep.sources'): 'on the road, imports the workshop',
    ('data', 'def f():\n    if 0:\n        from lightbrain.prep.sources import WORKER'): 'on the road, imports the workshop',
    ('data', "f = 'lightbrain.prep.sources:WORKER'"): 'on the road, imports the workshop lightbrain.prep.sources',
    ('data', "f = import_module('.prep.sources', __package__)"): 'on the road, imports the workshop lightbrain.prep.sources',
    ('data', "f = 'lightbrain.prep.sources:WORKER.upper'"): 'on the road, imports the workshop lightbrain.prep.sources',
    ('data', "f = import_module(name='.prep.sources', package=__package__)"): 'imports the workshop lightbrain.prep.sources',
    **{('data', f): 'lightbrain.data imports what nobody can read here' for f in (
        "f = import_module(f'lightbrain.{x}')", "f = import_module(x, __package__)", "f = import_module('{}'.format(x))",
        "f = __import__('lightbrain.'+x)", "f = importlib.util.find_spec(x)", "from importlib import import_module as im")},
    ('data', 'from .exercises.data import check'): 'lightbrain.data, on the road, imports the workshop lightbrain.exercises.data',
    ('run.log', 'from ..exercises import data'): 'lightbrain.run.log imports the checkers lightbrain.exercises.data',
    ('prep.sources', 'from ..core import _real'): 'lightbrain.prep.sources uses the private name _real of lightbrain.core',
    ('prep.sources', 'from .. import core as c\nc._real()'): 'uses the private name _real of lightbrain.core',
    ('prep.sources', 'import lightbrain.core\nlightbrain.core._real()'): 'uses the private name _real of lightbrain.core',
    ('prep.sources', "f = 'lightbrain.core:_real'"): 'uses the private name _real of lightbrain.core',
    ('prep.sources', 'def f(box): return box._open()'): 'uses the private name _open of lightbrain.core',
    ('prep.sources', 'def f(box): return box._lid'): 'uses the private name _lid of lightbrain.core',
    ('cli', 'from .core import _real'): 'lightbrain.cli uses the private name _real of lightbrain.core',
    ('core', 'from .data import NAME'): 'a circle: lightbrain.core -> lightbrain.data -> lightbrain.core',
    ('core', 'def f(): from .data import NAME'): 'a circle: lightbrain.core -> lightbrain.data -> lightbrain.core',
    ('prep.shards', 'from .sources import WORKER'): 'a circle: lightbrain.prep.shards -> lightbrain.prep.sources',
    ('run.log', 'from .. import seed'): 'lightbrain.run.log comes in by the door, lightbrain',
    ('run.log', 'from ..cli import train'): 'lightbrain.run.log comes in by the door, lightbrain.cli',
}
def test_a_sound_house(): assert faults(SOUND)==[]

@pytest.mark.parametrize('where,line', PLANTED)
def test_a_planted_fault(where, line):
    name = f'lightbrain.{where}'
    found = faults(SOUND|{name: f'{SOUND[name]}\n{line}'})
    assert any(PLANTED[where,line] in o for o in found), found

def test_a_circle_of_workshops():
    "No two modules import each other, but two workshops do"
    more = {'lightbrain.prep.sources': 'from ..run import log', 'lightbrain.run.other': 'from ..prep import shards'}
    assert faults(SOUND|more)==['a circle: run -> prep -> run']

WALL = """
import sys
class Wall:
    "Refuses the workshops, and writes down who asked for one: a refusal may be caught, a line in a file stays"
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0]=='lightbrain' and {workshops} & set(name.split('.')[1:2]):
            open({book!r}, 'a').write(name+' ')
            raise ImportError('behind the wall there is no '+name)
sys.meta_path.insert(0, Wall())
"""
def behind_the_wall(code, folder):
    "Which workshops are asked for while `code` runs, in its process or in one that it starts; and how it went"
    book = folder/'asked_for'
    book.touch()
    (folder/'sitecustomize.py').write_text(WALL.format(workshops=set(WORKSHOPS), book=str(book)))
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]), OMP_NUM_THREADS='1')
    p = subprocess.run([sys.executable, '-c', code, str(folder/'walk'), '200', '2'], cwd=folder, env=env, capture_output=True, text=True)
    return book.read_text().split(),p

def test_the_road_needs_no_workshop(tmp_path):
    "Every module of the road loads, and `bench/road.py` walks from records to a text, where there are no workshops"
    road = [o for o in sources(ROOT/'lightbrain') if room(o)=='road' and o not in DOORS]
    code = f'import importlib, runpy\nfor o in {road}: importlib.import_module(o)\nrunpy.run_path({str(ROOT/"bench"/"road.py")!r})'
    found,p = behind_the_wall(f'{code}\nfrom lightbrain.core import doctor\nprint(doctor())', tmp_path)
    assert (found, p.returncode)==([], 0), p.stderr
    assert 'perplexity' in p.stdout and 'number format' in p.stdout

@pytest.mark.parametrize('line', [
    "importlib.import_module('.'.join(['lightbrain', 'pr'+'ep', 'sources']))", "exec('from lightbrain.' + 'prep import sources')",
    "getattr(lightbrain, 'prepare')", "subprocess.run([sys.executable, '-c', 'import lightbrain.run.log'])"])
def test_the_wall_stands(line, tmp_path):
    "A fault that no reader finds is written down, though it is caught"
    found,_ = behind_the_wall(f'import importlib, subprocess, sys, lightbrain\ntry: {line}\nexcept ImportError: pass', tmp_path)
    assert found and found[0].split('.')[1] in WORKSHOPS


# Lessons: where they lie, which others they name, and what one must know before

IN_A_ROOM = r'((?:prep|run|fast)_)?\d\d[a-z]*'                                # exercises/run_02_checkpoint: of nbs/run/02_checkpoint
NUMBERED = {k: p for p in sorted((ROOT/'nbs').rglob('*.ipynb')) if re.match(rf'(\w+/)?{IN_A_ROOM}_', k := p.relative_to(ROOT/'nbs').as_posix())}
CHECKERS = {k: p for k,p in NUMBERED.items() if k.startswith('exercises/')}
LESSONS = {k: p for k,p in NUMBERED.items() if k not in CHECKERS}
LESSON = r'(?<![\w/.,])(?:(?:prep|run|fast)/)?\d\d[a-z]*\b(?![.,]?\d| ?%)'

def cells(path, kind=None):
    return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if kind in (None, c['cell_type'])]

def number(path): return re.match(rf'(\w+/)?{IN_A_ROOM}', path)[0]            # run/02_checkpoint.ipynb -> run/02
def module(path): return 'lightbrain.' + re.sub(rf'(^|/){IN_A_ROOM}_', r'\1\2', path).removesuffix('.ipynb').replace('/', '.')

NUMBERS = {number(o): o for o in LESSONS}

def told(line):
    "The lessons that a line of text names; `00 to 02`, or `run/01 to run/04`, are all in between"
    def beside(o): return o.rpartition('/')[0]
    for m in re.finditer(rf'({LESSON}) to ({LESSON})', line):
        line += ' ' + ' '.join(o for o in NUMBERS if beside(o)==beside(m[1]) and m[1]<=o<=m[2])
    return set(re.findall(LESSON, line))

def needed(path):
    "The lessons that the line *You need* at the top names"
    return told(re.search(r'\*You need\*:(.*?)\*You', '\n'.join(cells(LESSONS[path], 'markdown')), re.S)[1])

def known(numbers, needs):
    "Those lessons, and whatever is needed for them"
    more = set().union(*(needs.get(o, set()) for o in numbers))-numbers
    return known(numbers|more, needs) if more else numbers

def wrong_needs(here, needs, imported):
    "What is wrong with the lessons that `here` names, when its module imports from the lessons `imported`"
    beside = {o for o in NUMBERS if o.rpartition('/')[0]==here.rpartition('/')[0]}
    workshops = {o for o in needs[here] if '/' in o} if '/' not in here else set()
    return [f'{here} {why} {sorted(bad)}' for why,bad in {
        'names lessons that are not there:': needs[here]-set(NUMBERS),
        'stands on the road and names workshops:': workshops,
        'names lessons that come after it:': {o for o in needs[here]&beside if o>=here},
        'imports from lessons that nobody told the reader to know:': imported-known(needs[here], needs)}.items() if bad]

def test_numbers(): assert len(NUMBERS)==len(LESSONS), 'two lessons have one number'

def test_names_of_modules():
    assert [module(o) for o in ('03a_config.ipynb','run/02_checkpoint.ipynb','exercises/03a_config.ipynb','exercises/run_02_checkpoint.ipynb')]==[
        'lightbrain.config','lightbrain.run.checkpoint','lightbrain.exercises.config','lightbrain.exercises.run_checkpoint']
    assert not [o for o in CHECKERS if o.removeprefix('exercises/').replace('_', '/', number(o).count('_')) not in LESSONS], 'checkers of no lesson'

@pytest.mark.parametrize('path', NUMBERED)
def test_module_of_a_lesson(path):
    "`default_exp` and the title fit the folder and the name, and the module says that it comes from there"
    assert cells(NUMBERED[path], 'markdown')[0].startswith(f'# {number(path)} · ')
    exp, = [m[1] for o in cells(NUMBERED[path], 'code') if (m := re.match(r'#\|\s*default_exp\s+(\S+)', o))]
    assert f'lightbrain.{exp}'==module(path)
    code = (ROOT/f"{module(path).replace('.', '/')}.py").read_text(encoding='utf-8')
    assert f'/nbs/{path}.\n' in code.replace('../nbs', '/nbs')

@pytest.mark.parametrize('path', LESSONS)
def test_you_need(path):
    "A lesson names lessons that come before it and that hold, with what they need, all that its module imports"
    lesson_of,house = {module(o): number(o) for o in LESSONS},sources(ROOT/'lightbrain')
    imported = {lesson_of[to] for to,_ in Module(module(path), house).uses if to in lesson_of}-{number(path)}
    needs = {number(o): needed(o) for o in LESSONS}
    assert wrong_needs(number(path), needs, imported if module(path) not in DOORS else set())==[]
    assert not circle(needs)

def test_wrong_needs():
    needs = {'00': set(), '01': {'00'}, '02': {'01'}, 'run/02': {'02'}, 'run/03': {'run/02'}}
    assert not wrong_needs('02', needs, {'00','01'}) and not wrong_needs('run/03', needs, {'00','run/02'})
    planted = [('02', '99', '00', 'not there'), ('02', 'run/02', '00', 'workshops'), ('02', '03', '00', 'after'),
               ('run/02', 'run/03', '00', 'after'), ('02', '00', '01', 'nobody told')]
    for here,named,imported,why in planted:
        assert why in str(wrong_needs(here, needs|{here: {named}}, {imported})), why

def test_told():
    assert told('lessons 00 (seeds), 00a and run/02; 29,995,392 tokens, 2020, 05_train')=={'00','00a','run/02'}
    assert {'00','01','02'}<=told('lessons 00 to 02') and not {'03','run/01'}&told('lessons 00 to 02')
    assert told('run/01 to run/03')=={'run/01','run/02','run/03'}

@pytest.mark.parametrize('path', [o for o in LESSONS if '/' not in o and module(o) not in DOORS])
def test_the_road_is_walked_alone(path):
    "Not even an example on the road uses a workshop"
    found = re.findall(r'(?:from|import)\s+(lightbrain\.(?:prep|run|fast)\b[\w.]*)', '\n'.join(cells(LESSONS[path], 'code')))
    assert not found, f'{path} imports from {found}'

PAGES = sorted((ROOT/'nbs').rglob('*.ipynb'))
TEXTS = PAGES + [o for g in ('configs/*.yaml','bench/*.py','tests/*.py','*.md') for o in sorted(ROOT.glob(g))]

@pytest.mark.parametrize('path', TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_lessons_named_exist(path):
    text = '\n'.join(cells(path)) if path.suffix=='.ipynb' else path.read_text(encoding='utf-8')
    chains = re.findall(rf'[Ll]essons?:? \[?({LESSON}(?:(?:, | and | to | or ){LESSON})*)', text)
    named = set().union(*map(told, chains))
    assert named<=set(NUMBERS), f'no such lesson: {named-set(NUMBERS)}'

@pytest.mark.parametrize('path', PAGES, ids=lambda p: p.relative_to(ROOT/'nbs').as_posix())
def test_links_between_lessons(path):
    "A link leads to a notebook that is there, and `[fast/03 ...](...)` to the one of that number"
    for words,link in re.findall(r'\[([^\]]*)\]\(([^)\s#]+\.ipynb)[^)]*\)', '\n'.join(cells(path, 'markdown'))):
        if link.startswith('http'): continue
        to = (path.parent/link).resolve()
        assert to.exists(), link
        if m := re.match(LESSON, words): assert NUMBERS.get(m[0])==to.relative_to(ROOT/'nbs').as_posix(), f'[{words}]({link})'

IN_ORDER = sorted(LESSONS, key=lambda o: (['',*WORKSHOPS].index(o.rpartition('/')[0]), o))

def test_the_index_shows_every_lesson():
    links = re.findall(rf'\| \[({LESSON}) [^\]]*\]\(([^)]+\.ipynb)\)', '\n'.join(cells(ROOT/'nbs'/'index.ipynb', 'markdown')))
    assert [o for _,o in links]==IN_ORDER
    assert all(NUMBERS[n]==o for n,o in links)

def test_the_sidebar_shows_every_page():
    "The road, the workshops, the results, the checkers, each lesson with its number; `.ci/docs.py` writes it"
    first,*more = yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    entries = [e for s in more for e in s.get('contents', [s])]
    last = ['glossary.ipynb'] + [p.relative_to(ROOT/'nbs').as_posix() for room in ('results','exercises') for p in PAGES if p.parent.name==room]
    assert first['href']=='index.ipynb' and [e['href'] for e in entries]==[*IN_ORDER, *last]
    assert all(e['text'].startswith(number(e['href'])+' ') for e in entries if e['href'] in LESSONS)

@pytest.mark.parametrize('path', PAGES, ids=lambda p: p.relative_to(ROOT/'nbs').as_posix())
def test_code_fits_the_page(path):
    "Nothing is cut off at the right, and no cell hides a second function under the first"
    for o in cells(path, 'code'):
        assert not [l for l in o.splitlines() if len(l)>100 and not l.startswith('#|')], o
        if not re.match(r'#\|\s*exports\b', o): continue
        names = [n.name for n in ast.parse(o).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        assert sum(not private(n) for n in names)<2, names

"The course as a whole: what is computed from the notebooks, the front page, what assistants are told, whose code the outputs came from"
import html, json, re, shutil, subprocess, sys
from xml.etree import ElementTree
import pytest, yaml
from conftest import ROOT
sys.path.insert(0, str(ROOT/'.ci'))
import course, mathml, outputs, pictures

NBS = ROOT/'nbs'
LESSONS = course.lessons(NBS)
BY_NUMBER = {p.number: p for p in LESSONS}
ALL = course.pages(NBS)
def by_path(p): return p.path

# Computed, and up to date

def test_what_is_computed_is_up_to_date(tmp_path):
    "`python .ci/docs.py` was run after the last change"
    copy = tmp_path/'nbs'
    shutil.copytree(NBS, copy, ignore=shutil.ignore_patterns('.*', 'gpu'))
    assert course.update(copy)==[]
    pictures.write(copy/'images', course.lessons(copy), course.ROOMS)
    for name in ('road','curve','favicon','colab'): assert (copy/'images'/f'{name}.svg').read_text()==(NBS/'images'/f'{name}.svg').read_text(), name
    assert course.llms(copy, (ROOT/'AGENTS.md').read_text(encoding='utf-8'))==(NBS/'llms.txt').read_text(encoding='utf-8')
    assert course.sidebar(copy)==yaml.safe_load((NBS/'sidebar.yml').read_text(encoding='utf-8'))

def in_lesson(text, number='02'): return course.linked(text, BY_NUMBER[number], BY_NUMBER)

def test_a_lesson_that_is_named_is_a_link():
    assert in_lesson('see lesson 03.')=='see [lesson 03](03_attention.ipynb).'
    assert in_lesson('lessons 00, 01 and 03')=='lessons [00](00_core.ipynb), [01](01_tokenizer.ipynb) and [03](03_attention.ipynb)'
    assert in_lesson('lessons 00 (`check`) and 01')=='lessons [00](00_core.ipynb) (`check`) and [01](01_tokenizer.ipynb)'
    assert in_lesson('run/03 sees it', 'prep/04')=='[run/03](../run/03_log.ipynb) sees it'
    assert in_lesson('lesson run/03')=='[lesson run/03](run/03_log.ipynb)'

@pytest.mark.parametrize('text', ['lesson 02 itself', f'lesson {70+7}', '`lesson 03`', '## After lesson 03', '$lesson 03$', 'see [lesson 03](x)',
    '```\nlesson 03\n```', 'nbs/run/03_log.ipynb', '`run/03_log`', '03 of 05', '<a href="lesson 03">'])
def test_and_nothing_else_is(text): assert in_lesson(text)==text

@pytest.mark.parametrize('page', ALL, ids=by_path)
def test_linking_twice_changes_nothing(page):
    for text in page.cells('markdown'):
        once = course.linked(text, page, BY_NUMBER)
        assert course.linked(once, page, BY_NUMBER)==once

def test_the_way_on():
    "From the first lesson of each room to the last, and every lesson once"
    for room in ('',*course.WORKSHOPS):
        way = [p for p in LESSONS if p.room==room]
        lines = [course.last_line(p, LESSONS) for p in way]
        for p,line,to in zip(way, lines, way[1:]): assert f'next: [{to.words()}]({p.link(to)})' in line and course.COLAB+to.path in line
        assert all('glossary.ipynb' in l for l in lines) and 'index.ipynb' in lines[0] and 'next:' not in lines[-1]

def test_used_in():
    "Who imports what a lesson builds, by name or with a star; who does not is not named"
    taken = {p.path: course.imported(p) for p in LESSONS}
    said = course.used_in(BY_NUMBER['03'], ['CausalSelfAttention'], LESSONS, taken)
    assert '[04](04_model.ipynb)' in said and '[00]' not in said
    assert course.used_in(BY_NUMBER['03'], ['nobody_has_this'], LESSONS, taken)=='–'

def test_minutes_follow_from_what_is_there(tmp_path):
    page = BY_NUMBER['03']
    more = course.Page(NBS, page.file)
    more.nb['cells'] = [*more.nb['cells'], dict(cell_type='markdown', id='x', metadata={}, source=['word '*1800])]
    assert course.read_minutes(more)==course.read_minutes(page)+10

# The front page

def test_the_first_screen():
    "A text with the model's answer and the truth, the map, the curve, a button, two commands, in this order and before any table"
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    places = [readme.find(o) for o in ("never for clinical use", "The model's answer:", 'images/road.svg', 'images/curve.svg', 'in Colab"', 'lightbrain-quickstart', '\n|')]
    assert -1 not in places and places==sorted(places), places
    assert 'import ' not in readme[:places[-1]], 'plumbing is hidden'

@pytest.mark.parametrize('name', ['road','curve','favicon','colab'])
def test_pictures(name):
    "Well-formed, with a title, for light and dark, no wider than a phone, no letters below 12 points"
    text = (NBS/'images'/f'{name}.svg').read_text(encoding='utf-8')
    tree = ElementTree.fromstring(text)
    assert 'http' not in text.replace('http://www.w3.org/2000/svg', '')
    assert float(tree.get('viewBox').split()[2])<=390
    assert all(float(o.get('font-size'))>=12 for o in tree.iter('{http://www.w3.org/2000/svg}text'))
    if name in ('road','curve'):
        assert 'prefers-color-scheme: dark' in text and len(tree.find('{http://www.w3.org/2000/svg}title').text)>40

def test_the_map_shows_the_road():
    text = (NBS/'images'/'road.svg').read_text(encoding='utf-8')
    assert re.findall(r'class="on"[^>]*>([^<]+)<', text)==[p.number for p in LESSONS if not p.room]
    assert all(f'>{w}<' in text for w in course.WORKSHOPS)
    assert set(pictures.FLOW)|set(pictures.BRANCH)<=set(BY_NUMBER)

def test_site_settings():
    "What the settings name is there, and no page asks another server"
    site = yaml.safe_load((ROOT/'_quarto.yml').read_text())
    look = site['format']['html']
    named = [*site['filters'], look['css'], *(f for o in look['theme'].values() for f in o if '.' in f), site['website']['favicon'], site['website']['image']]
    assert not [f for f in named if not (NBS/f).exists()]
    assert look['html-math-method']=='mathml' and look['code-overflow']=='wrap' and set(look['theme'])=={'light','dark'}
    assert site['website']['page-navigation'] is True
    assert '$web-font-path: false;' in (NBS/'styles'/'site.scss').read_text() and 'url(' not in (NBS/'styles'/'site.css').read_text()

# The glossary

def test_glossary():
    "The words that mean several things elsewhere, in alphabetical order; a link to a word leads to one"
    words = re.findall(r'^### (.+)$', '\n'.join(course.Page(NBS, NBS/'glossary.ipynb').cells('markdown')), re.M)
    assert set('block chunk shard tape window context side'.split())<=set(words) and words==sorted(words)
    assert set(course.GLOSSED)<=set(words)
    for p in ALL:
        for to in re.findall(r'glossary\.ipynb#([\w-]+)\)', '\n'.join(p.cells('markdown'))): assert to.replace('-', ' ') in words, (p.path, to)

def test_glossary_links():
    first = ['# x', 'y', '*You need*: a tape.', '## The tape\n`tape` and a tape and a tape', 'a tape']
    assert course.glossed(first, 'g')==[*first[:3], '## The tape\n`tape` and a [tape](g#tape) and a tape', 'a tape']

# Assistants

AGENTS = (ROOT/'AGENTS.md').read_text(encoding='utf-8')
LLMS = (NBS/'llms.txt').read_text(encoding='utf-8')

def test_agents():
    "Both parts are there; each is said once"
    assert '## If you change this repository' in AGENTS and '## If you help a learner' in AGENTS
    for o in ('CONTRIBUTING.md', 'nbdev-export', '.ci/outputs.py', '.ci/docs.py', 'Never hand out a solution', 'smallest input', 'not medical advice'): assert o in AGENTS, o
    assert 'AGENTS.md' in (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8')
    for f in re.findall(r'`((?:\.ci|nbs|tests)/[\w./]+\.\w+)`', AGENTS): assert (ROOT/f).exists(), f

def solutions():
    "Lines of code that only a solution, a checker or its wrong answers have"
    public = '\n'.join('\n'.join(o for o in p.cells() if not course.is_solution(o)) for p in LESSONS)
    secret = [o for p in LESSONS for o in p.cells('code') if course.is_solution(o)]
    secret += [o for p in ALL if p.room=='exercises' for o in p.cells('code')]
    return {l.strip() for o in secret for l in o.splitlines() if len(l.strip())>24 and not l.strip().startswith('#') and l.strip() not in public}

def test_llms_has_the_lessons_and_no_solution():
    assert course.learner_rules(AGENTS) in LLMS
    for p in LESSONS: assert f'[{p.title}]({course.SITE}{p.site})' in LLMS
    secret = solutions()
    assert len(secret)>20 and not [l for l in secret if l in LLMS]
    assert not re.search(r'\]\(exercises|exercises/\w*\d', LLMS)

# Solutions are folded in three places

SOLUTIONS = [(p, c) for p in ALL for c in p.nb['cells'] if c['cell_type']=='code' and '#@title Solution' in ''.join(c['source'])]

@pytest.mark.parametrize('page,c', SOLUTIONS, ids=lambda o: getattr(o, 'path', None) or o.get('id'))
def test_a_solution_is_folded(page, c):
    "On the site, in Colab and in Jupyter"
    src = ''.join(c['source'])
    assert re.search(r'^#\| code-fold: true$', src, re.M) and re.search(r'^#\| code-summary: "Solution"$', src, re.M)
    assert c['metadata'].get('cellView')=='form' and c['metadata'].get('jupyter', {}).get('source_hidden') is True

def test_nbconvert_shows_no_solution(tmp_path):
    "As HTML with .ci/folded.py; the stub above it is shown"
    page = SOLUTIONS[0][0]
    folded = [''.join(c['source']) for p,c in SOLUTIONS if p is page]
    subprocess.run([sys.executable, '-m', 'nbconvert', '--config', '.ci/folded.py', '--to', 'html', '--output-dir', tmp_path, page.file], cwd=ROOT, check=True, capture_output=True)
    shown = html.unescape(re.sub(r'<[^>]+>', '', (tmp_path/f'{page.file.stem}.html').read_text(encoding='utf-8')))
    assert 'raise NotImplementedError' in shown
    assert not [n for o in folded for n in re.findall(r'^(?:def|class) (\w+)', o, re.M) if n in shown]

# Outputs

@pytest.mark.parametrize('page', ALL, ids=by_path)
def test_outputs_belong_to_the_source(page):
    assert not outputs.stale(page.nb), f'its outputs are of other code: python .ci/outputs.py save nbs/{page.path}'

def test_what_makes_outputs_stale():
    def nb(*code, shown=1): return dict(metadata={}, cells=[dict(cell_type='code', source=[o], outputs=['x']*(i<shown)) for i,o in enumerate(code)])
    a = nb('x = 1\nx', 'y = 2')
    a['metadata'] = dict(lightbrain=dict(outputs=outputs.fingerprint(a)))
    assert not outputs.stale(a)
    for code in (('x = 1  \n\n# why\nx', 'y = 2'), ('#| fig-alt: other\nx = 1\nx', 'y = 3')): assert not outputs.stale(nb(*code)|dict(metadata=a['metadata'])), code
    for code in (('x = 2\nx', 'y = 2'), ('x = 1\n x', 'y = 2')): assert outputs.stale(nb(*code)|dict(metadata=a['metadata'])), code
    assert outputs.stale(nb('x = 1\nx', 'y = 2', shown=2)|dict(metadata=a['metadata']))
    assert outputs.stale(nb('x')) and not outputs.stale(nb('x', shown=0))

# Formulas

@pytest.mark.parametrize('page', ALL, ids=by_path)
def test_formulas(page):
    "The preview can draw each of them, as well-formed XML"
    text = re.sub(r'```.*?```|`[^`\n]*`', '', '\n\n'.join(page.cells('markdown')), flags=re.S)
    for display,inline in re.findall(r'\$\$(.+?)\$\$|(?<![\$\\\w])\$([^\$\n]+?)\$(?!\d)', text, re.S):
        ElementTree.fromstring(mathml.mathml(display or inline, bool(display)))

def test_mathml():
    assert mathml.mathml(r'\frac37')=='<math><mfrac><mn>3</mn><mn>7</mn></mfrac></math>'
    assert mathml.mathml('x_i^2')=='<math><msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup></math>'
    assert mathml.mathml(r'\mathcal L')=='<math><mi>ℒ</mi></math>'
    assert mathml.mathml(r'a \qquad b', True).count('<math')==2 and mathml.mathml(r'\left(a \qquad b\right)', True).count('<math')==1
    assert mathml.mathml(r'e=m \tag{1.2}', True).endswith('</math><span class="eqno">(1.2)</span></span>')
    for wrong in (r'\nonsense', r'\frac{1}', 'a}', r'\begin{cases}a\end{array}'):
        with pytest.raises((ValueError, AssertionError)): mathml.mathml(wrong)

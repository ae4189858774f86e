"""Every right and every wrong program of every exercise, by name

The checkers lie in `nbs/exercises/`, so that no answer stands beside its question. A right program is accepted, however
it looks; a wrong one is rejected, and most are told which mistake they make."""
import json, re
import pytest
from conftest import ROOT
from lightbrain.core import LEVELS, exercises

ROOM = r'^(?:(prep|run|fast)_)?\d\d[a-z]*_'         # exercises/run_02_checkpoint.ipynb are the checkers of nbs/run/02_checkpoint.ipynb
def module(stem): return re.sub(ROOM, lambda m: f'{m[1]}_' if m[1] else '', stem)
BOOKS = {module(p.stem): p for p in sorted((ROOT/'nbs'/'exercises').glob('*.ipynb'))}
ALL = {f'{m}.{ex.name}': ex for m in BOOKS for ex in exercises(f'lightbrain.exercises.{m}')}
RIGHT = {(n, o): f for n,ex in ALL.items() for o,f in [*ex.right.items(), ('the reference', ex.ref)] if f}
WRONG = {(n, o): f for n,ex in ALL.items() for o,f in ex.wrong.items()}

def name(o): return ': '.join(o)

@pytest.mark.parametrize('ex', ALL.values(), ids=ALL)
def test_an_exercise_is_complete(ex):
    cases = ex.cases() if callable(ex.cases) else ex.cases
    assert ex.judge or len(cases)>1, 'one case is easily right by accident'
    assert len(ex.right)>2 and len(ex.wrong)>4
    assert ex.level in LEVELS and ex.minutes>0

@pytest.mark.parametrize('o', RIGHT, ids=name)
def test_right(o):
    v = ALL[o[0]].verdict(RIGHT[o])
    assert v, v

@pytest.mark.parametrize('o', WRONG, ids=name)
def test_wrong(o): assert not ALL[o[0]].verdict(WRONG[o])

@pytest.mark.parametrize('ex', ALL.values(), ids=ALL)
def test_mistakes_have_names(ex):
    "Not all can be told apart: dice that anybody may roll give other numbers at each start"
    assert sum(o in ex.verdict(f).why for o,f in ex.wrong.items())>2

@pytest.mark.parametrize('ex', ALL.values(), ids=ALL)
def test_never_a_traceback(ex):
    "Whatever a learner writes, the checker answers with a sentence"
    def unwritten(*args): raise NotImplementedError
    assert ex.verdict(unwritten).why.startswith('nothing written so far')
    for f in (lambda *a: None, lambda *a: 1/0, lambda: 1, lambda *a: object(), lambda *a: 'yes', lambda *a: [[1],[2,3]]):
        assert not ex.verdict(f)

def test_names_are_unique(): assert len({ex.name for ex in ALL.values()})==len(ALL), 'progress() tells them apart by name'

def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']

LESSONS = {m: ROOT/'nbs'/(re.match(ROOM, p.stem)[1] or '')/re.sub('^(prep|run|fast)_', '', p.name) for m,p in BOOKS.items()}

def test_checkers_have_a_lesson(): assert all(p.exists() for p in LESSONS.values())

@pytest.mark.parametrize('m', LESSONS)
def test_no_answer_beside_its_question(m):
    "A stub is followed by its folded solution, which has a name of its own and is folded on the site, in Colab and in Jupyter"
    code,solved = [c for c in cells(LESSONS[m]) if c['cell_type']=='code'],0
    for c in code:
        src = ''.join(c['source'])
        if '_solution(' not in src: continue
        solved += 1
        assert src.startswith('#| code-fold: true\n#| code-summary: "Solution"\n#@title Solution\n')
        assert c['metadata']=={'cellView':'form', 'jupyter':{'source_hidden':True}}
        assert not re.search(r'^def (?!\w+_solution\()', src, re.M) or re.search(r'^def \w+_solution\(', src, re.M)
    stubs = [''.join(c['source']) for c in code if re.search(r'raise NotImplementedError$', ''.join(c['source']), re.M)
             and re.search(r'^check_\w+\(', ''.join(c['source']), re.M)]
    assert solved==len(stubs)==len(exercises(f'lightbrain.exercises.{m}'))
    assert all(len(o.strip().splitlines())<=4 for o in stubs), 'a stub is three lines'

"Every lesson of the road, and of each workshop the one that stands on its others, alone: a fresh kernel, an empty folder, only the built package, no network; with LIGHTBRAIN_LONG=1, all lessons"
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
import pytest
from conftest import LONG, ROOT

LESSONS = sorted(p.relative_to(ROOT/'nbs').with_suffix('').as_posix() for p in (ROOT/'nbs').rglob('[0-9i]*.ipynb')
                 if p.parent.name!='exercises')         # the lessons import those from the wheel

ON_OTHERS = 'prep/06_prepare','run/05_trainer','fast/03_faststep'

def marks(stem): return () if '/' not in stem or stem in ON_OTHERS else LONG

@pytest.fixture(scope='module')
def results(env, tmp_path_factory):
    "All notebooks, two at a time; each test below waits for its own"
    def execute(stem):
        here = tmp_path_factory.mktemp(stem.replace('/', '-'))
        args = ['-m', 'nbconvert', '--to', 'notebook', '--execute', '--ExecutePreprocessor.timeout=300', '--output-dir', here, ROOT/'nbs'/f'{stem}.ipynb']
        return subprocess.run([sys.executable, *map(str, args)], cwd=here, env=env, capture_output=True, text=True)
    with ThreadPoolExecutor(2) as pool: yield {o: pool.submit(execute, o) for o in LESSONS if os.environ.get('LIGHTBRAIN_LONG') or not marks(o)}

@pytest.mark.parametrize('stem', [pytest.param(o, marks=marks(o)) for o in LESSONS])
def test_lesson(results, stem):
    p = results[stem].result()
    assert p.returncode==0, p.stderr[-3000:]

def test_environment_is_what_it_claims(env, site, tmp_path):
    "The lessons above really import the built package and really have no network"
    code = "import lightbrain, urllib.request as u; print(lightbrain.__file__); u.urlopen('http://192.0.2.1', timeout=5)"
    p = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert p.stdout.startswith(str(site))
    assert 'tests have no network' in p.stderr

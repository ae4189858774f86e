"Every notebook, alone: a fresh kernel, an empty folder, only the built package, no network"
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
import pytest
from conftest import ROOT

LESSONS = sorted(p.relative_to(ROOT/'nbs').with_suffix('').as_posix() for p in (ROOT/'nbs').rglob('[0-9i]*.ipynb')
                 if p.parent.name!='exercises')         # the lessons import those from the wheel

@pytest.fixture(scope='module')
def results(env, tmp_path_factory):
    "All notebooks, two at a time; each test below waits for its own"
    def execute(stem):
        here = tmp_path_factory.mktemp(stem.replace('/', '-'))
        args = ['-m', 'nbconvert', '--to', 'notebook', '--execute', '--ExecutePreprocessor.timeout=300', '--output-dir', here, ROOT/'nbs'/f'{stem}.ipynb']
        return subprocess.run([sys.executable, *map(str, args)], cwd=here, env=env, capture_output=True, text=True)
    with ThreadPoolExecutor(2) as pool: yield {o: pool.submit(execute, o) for o in LESSONS}

@pytest.mark.parametrize('stem', LESSONS)
def test_lesson(results, stem):
    p = results[stem].result()
    assert p.returncode==0, p.stderr[-3000:]

def test_environment_is_what_it_claims(env, site, tmp_path):
    "The lessons above really import the built package and really have no network"
    code = "import lightbrain, urllib.request as u; print(lightbrain.__file__); u.urlopen('http://192.0.2.1', timeout=5)"
    p = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert p.stdout.startswith(str(site))
    assert 'tests have no network' in p.stderr

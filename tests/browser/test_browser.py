"""The site and a lesson as people see them: Chromium opens every page, and JupyterLab runs a notebook with a slider

Needs Chromium, Node and playwright-core (CONTRIBUTING.md says how to get them), and is skipped where one of them is missing.
`SCREENSHOTS=folder` keeps pictures of every page, `DOCS=_docs` takes a site that is built already."""
import functools, http.server, json, os, shutil, socket, subprocess, sys, threading, time, urllib.request
from pathlib import Path
import pytest
from conftest import ROOT
sys.path.insert(0, str(ROOT/'.ci'))
import course

HERE = Path(__file__).parent

def missing():
    "What a browser test lacks here; '' if nothing"
    if not shutil.which('node'): return 'no node'
    if not CHROMIUM: return 'no Chromium'
    p = subprocess.run(['node', '-e', "require('module').createRequire(process.argv[1])('playwright-core')", FROM], capture_output=True)
    return '' if p.returncode==0 else 'no playwright-core: npm install --prefix tests/browser'

CHROMIUM = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, ('chromium','chromium-browser','google-chrome'))), None)
FROM = os.environ.get('PLAYWRIGHT_FROM', str(HERE)+'/')
WHY = missing()
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)

def node(script, *args, timeout=900):
    env = os.environ | dict(CHROMIUM=CHROMIUM, PLAYWRIGHT_FROM=FROM)
    p = subprocess.run(['node', str(HERE/script), *map(str, args)], env=env, capture_output=True, text=True, timeout=timeout)
    assert p.returncode==0, p.stderr[-3000:]
    return json.loads(p.stdout)

@pytest.fixture(scope='session')
def docs(tmp_path_factory):
    "The site, built from a copy of the sources, or the one that `DOCS` names"
    if 'DOCS' in os.environ: return Path(os.environ['DOCS']).resolve()
    work = tmp_path_factory.mktemp('docs')/'src'
    names = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\n')
    for name in filter(None, names):
        if (ROOT/name).is_file():
            (work/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/name, work/name)
    p = subprocess.run([sys.executable, '.ci/docs.py'], cwd=work, env=os.environ|dict(PYTHONPATH=str(work)), capture_output=True, text=True)
    assert p.returncode==0, p.stdout[-3000:]+p.stderr[-3000:]
    return work/'_docs'

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture(scope='session')
def seen(docs, tmp_path_factory):
    "What Chromium found on all pages"
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=docs))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pages = sorted((p.relative_to(docs).as_posix() for p in docs.rglob('*.html')), key=lambda p: (p!='index.html', p))
    listed = tmp_path_factory.mktemp('pages')/'pages.json'
    listed.write_text(json.dumps(pages))
    yield node('site.mjs', f'http://127.0.0.1:{server.server_port}/', listed)|dict(pages=pages)
    server.shutdown()

def test_no_page_has_a_fault(seen):
    "Console, missing pictures and alt texts, sideways scrolling, TeX in sight, cut code, other servers, broken links"
    assert not seen['faults'], '\n'.join(seen['faults'][:40])
    assert seen['checked']>300 and len(seen['pages'])>30

def test_formulas_are_drawn_without_another_server(seen): assert seen['math']>300

def test_search_finds_perplexity(seen): assert any('evaluate.html' in o for o in seen['search'])

def test_light_and_dark(seen): assert seen['light']!=seen['dark']

def test_previous_and_next_lead_along_the_road(seen):
    road = [p.site for p in course.lessons(ROOT/'nbs')]
    for a,b in zip(road, road[1:]): assert seen['next'][a]==b and seen['previous'][b]==a
    assert seen['next']['index.html']==road[0]
    assert not [o for way in ('next','previous') for ab in seen[way].items() for o in ab if o.startswith('exercises/')], 'spoilers'

def test_a_slider_moves_the_picture(tmp_path):
    "JupyterLab runs the lesson on attention from top to bottom"
    shutil.copy(ROOT/'nbs'/'03_attention.ipynb', tmp_path)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    words = [sys.executable, '-m', 'jupyter', 'lab', '--no-browser', f'--port={port}', '--ServerApp.ip=127.0.0.1', '--ServerApp.port_retries=0',
             '--IdentityProvider.token=', '--ServerApp.password=', '--allow-root', '--LabApp.news_url=None', f'--ServerApp.root_dir={tmp_path}']
    env = os.environ|dict(LIGHTBRAIN_SCALE='ci', PYTHONPATH=str(ROOT), JUPYTER_CONFIG_DIR=str(tmp_path/'cfg'), JUPYTER_DATA_DIR=str(tmp_path/'data'))
    env.pop('IN_TEST', None)
    with open(tmp_path/'log', 'w') as log: lab = subprocess.Popen(words, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        for _ in range(240):
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api', timeout=5).read()
            except OSError: time.sleep(.5)
            else: break
        found = node('lab.mjs', f'http://127.0.0.1:{port}/lab/tree/03_attention.ipynb')
    finally:
        lab.terminate()
        lab.wait(30)
    assert found['errors']==0 and found['moved'] and found['changed'], found
    assert found['pictures']==1, 'with a live kernel only the picture that moves'
    assert not [t for t in found['texts'] if t['cut']], found['texts']

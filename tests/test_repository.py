"What must agree across files: links, requirements, configs, the two _quarto.yml"
import inspect, json, re, shlex, subprocess, sys, tomllib
from configparser import ConfigParser
from importlib import import_module
from operator import attrgetter
import pytest, yaml
from conftest import ROOT
from lightbrain.core import DISCLAIMER
from lightbrain.run.trainer import TrainConfig

project = tomllib.loads((ROOT/'pyproject.toml').read_text())['project']
ini = ConfigParser(delimiters='=')
ini.read(ROOT/'settings.ini')
NOTEBOOKS = sorted((ROOT/'nbs').rglob('*.ipynb'))

def source(path): return '\n'.join(''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'])

@pytest.mark.parametrize('path', [p for p in NOTEBOOKS if p.stem[0].isdigit()], ids=lambda p: p.stem)
def test_links_come_from_pyproject(path):
    repo,src = project['urls']['Repository'],source(path)
    badge = f"https://colab.research.google.com/github/{repo.removeprefix('https://github.com/')}/blob/main/nbs/{path.relative_to(ROOT/'nbs').as_posix()}"
    assert f'<a href="{badge}">' in src and 'alt="Open in Colab"' in src
    assert f'%pip install -q "lightbrain[lessons] @ git+{repo}"' in src
    assert 'from nbdev' not in src, "nbdev is a contributor's tool, not on the reader's machine"

@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_clean(path):
    for c in json.loads(path.read_text(encoding='utf-8'))['cells']:
        outputs,src = c.get('outputs', []),''.join(c['source'])
        assert not any(o['output_type']=='error' for o in outputs)
        if any('image/png' in o.get('data', {}) for o in outputs): assert 'fig-alt' in src, f'no alt text: {src[:80]}'
        assert not any('widget-view' in k for o in outputs for k in o.get('data', {})), 'a dead widget'

def test_scripts_exist():
    for line in ini['DEFAULT']['console_scripts'].strip().splitlines():
        module,name = line.split(' = ')[1].split(':')                # such as prepare.shell
        assert callable(attrgetter(name)(import_module(module)))

@pytest.mark.parametrize('path', sorted((ROOT/'configs').glob('*.yaml')), ids=lambda p: p.stem)
def test_configs(path):
    cfg = TrainConfig.from_yaml(path)
    assert cfg.preset==path.stem
    assert path.read_text().startswith('#')

def test_quickstart_is_the_nano_config():
    from lightbrain.cli import QUICKSTART
    assert TrainConfig.from_dict(QUICKSTART)==TrainConfig.from_yaml(ROOT/'configs'/'nano.yaml')

def test_imports_have_cells_of_their_own():
    "The docs build runs every cell that imports something, so such a cell must not need the others"
    import ast
    for p in NOTEBOOKS:
        for c in json.loads(p.read_text(encoding='utf-8'))['cells']:
            src = ''.join(c['source'])
            if c['cell_type']!='code' or re.search(r'^(#\|\s*exports?|\s*%)', src, re.M): continue        # % is a magic
            body = ast.parse(src).body
            if any(isinstance(o, (ast.Import, ast.ImportFrom)) for n in body for o in ast.walk(n)):
                assert all(isinstance(o, (ast.Import, ast.ImportFrom, ast.Try)) for o in body), f'{p.name}: {src[:80]}'

def test_quarto_has_one_source():
    assert '../_quarto.yml' in yaml.safe_load((ROOT/'nbs'/'_quarto.yml').read_text())['metadata-files']
    assert yaml.safe_load((ROOT/'_quarto.yml').read_text())['project']['type']=='website'

README = (ROOT/'README.md').read_text(encoding='utf-8')

def test_readme():
    assert len(re.findall('^pip install .* pytest$', README, re.M))==1        # .ci/run takes the command from here
    assert 'never for clinical use' in README and 'never' in DISCLAIMER
    assert '29,995,392' in README

def test_readme_starts_from_nothing():
    "Clone, virtual environment, PyTorch's CPU build and its size, then the two commands; the quickstart needs no [dev]"
    steps = ('git clone', '\ncd lightbrain\n', 'python3 -m venv', r'.venv\Scripts\activate', 'GB to download', '/whl/cpu',
        '\npip install -e ".[lessons]" && lightbrain-quickstart\n', '&& pytest\n', '## What came out of it')
    places = [README.find(o, README.find('## Set up')) for o in steps]
    assert -1 not in places and places==sorted(places), dict(zip(steps, places))

COMMANDS = {m[1]: m[2] for m in re.finditer(r'^lightbrain-(\w+)((?:"[^"]*"|[^"\n])*)$', README, re.M)}

def test_readme_has_commands(): assert set('doctor prepare train evaluate generate plot'.split())<=set(COMMANDS)

@pytest.mark.parametrize('name', COMMANDS)
def test_readme_commands(name):
    "Each command of the README has the options it is shown with, and its files are there"
    f,words = getattr(import_module('lightbrain.cli'), name),shlex.split(COMMANDS[name], comments=True)
    for flag,value in zip(words, [*words[1:], None]):
        if not flag.startswith('--'): continue
        assert flag[2:].replace('-', '_') in inspect.signature(f).parameters, flag
        if flag=='--config': assert (ROOT/value).exists(), value
        if flag=='--input': assert re.fullmatch(r'Abstract: .*\nQuestion: .*\?\nAnswer:', value), 'as in lightbrain.corpus'

def versions(text): return {n: tuple(map(int, v.split('.'))) for n,v in re.findall(r'^([\w-]+)==([\d.]+)$', text, re.M)}

def test_requirements_have_lower_bounds():
    "Those that .ci/run tries, and none above what Colab has: there, nothing but lightbrain itself must be installed"
    p = subprocess.run([sys.executable, ROOT/'.ci'/'lowest.py'], capture_output=True, text=True)
    assert p.returncode==0, p.stderr
    low,colab = versions(p.stdout),versions((ROOT/'.ci'/'colab.txt').read_text())
    assert set(colab)-set(low)=={'ipython','ipykernel'}                      # these two come with ipywidgets
    assert not {n: (low[n], colab[n]) for n in low.keys()&colab if low[n]>colab[n]}

def test_nothing_private_is_committed():
    files = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [f for f in files if f.startswith(('data/','runs/','_docs/','_proc/'))]
    shipped = 'lightbrain/assets/nano/model.safetensors'                   # of the invented world
    assert not [f for f in files if re.search(r'\.(safetensors|bin|parquet|pt)$', f) and f!=shipped]

"What the tests share: the built wheel, an environment without a network, and one small trained run"
import os, shutil, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent/'shared'/'data'       # real data, on the maintainers' machines only; never in the repository

LONG = pytest.mark.skipif(not os.environ.get('LIGHTBRAIN_LONG'), reason='takes minutes; LIGHTBRAIN_LONG=1 runs it')

NO_NETWORK = '''
"Lessons must not need a network: connecting to anything but this machine fails"
import socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family!=getattr(socket, 'AF_UNIX', None) and address[0] not in ('127.0.0.1', '::1', 'localhost'):
        raise OSError(f'tests have no network, but something connects to {address}')
    return _connect(self, address)
socket.socket.connect = connect
'''

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "A folder with the package as built from the sources, and nothing else of the repository"
    work = tmp_path_factory.mktemp('wheel')
    names = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\n')
    for name in filter(None, names):
        if (ROOT/name).is_file():
            (work/'src'/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/name, work/'src'/name)
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', work/'dist', work/'src'], check=True, capture_output=True)
    wheel, = (work/'dist').glob('*.whl')
    subprocess.run([*pip, 'install', '--no-deps', '--no-index', '--target', work/'site', wheel], check=True, capture_output=True)
    (work/'site'/'sitecustomize.py').write_text(NO_NETWORK)
    return work/'site'

@pytest.fixture(scope='session')
def env(site, tmp_path_factory):
    "Environment variables: the built package first, no network, no cached vocabulary, CI sizes"
    return os.environ | dict(PYTHONPATH=str(site), HF_HUB_OFFLINE='1', TIKTOKEN_CACHE_DIR=str(tmp_path_factory.mktemp('no_cache')),
        LIGHTBRAIN_SCALE='ci', OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONIOENCODING='utf-8')

@pytest.fixture(scope='session')
def script(site):
    "The console script of a shell command, as a list to run"
    return lambda name: [sys.executable, str(site/'bin'/f'lightbrain-{name}')]

@pytest.fixture(scope='session')
def command(env, script):
    "Run a shell command of the built package: `command('prepare', '--source', 'synthetic', cwd=...)`"
    def run(name, *args, cwd): return subprocess.run([*script(name), *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, encoding='utf-8')
    return run

OWN = '--train-tokenizer','1000'           # for `prepare`; SMALL is a model of that vocabulary
SMALL = ('--preset nano --vocab-size 1000 --n-layer 2 --n-head 2 --n-embd 64 --batch-size 4 --lr 3e-3 --warmup-steps 5 '
         '--eval-tokens 1024 --device cpu --dtype float32').split()

@pytest.fixture(scope='session')
def run(command, tmp_path_factory):
    "A folder with `data/` (prepared) and `run/` (40 steps of a small model)"
    here = tmp_path_factory.mktemp('small')
    for args in (('prepare', '--source', 'synthetic:400', '--out', 'data', *OWN),
                 ('train', '--data', 'data', '--out', 'run', '--max-steps', 40, '--save-every', 10, '--eval-every', 20, *SMALL)):
        p = command(*args, cwd=here)
        assert p.returncode==0, p.stderr
    return here

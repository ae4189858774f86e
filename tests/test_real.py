"The published run on real text: its record holds no text of the set, and where the shards are at hand its first steps come out again"
import json, subprocess, sys
import pytest
from conftest import LONG, ROOT, SHARED
from lightbrain.files import file_sha256

RECORD = ROOT/'nbs'/'results'/'tiny-cpu'
DEV = SHARED/'dev'
on_the_shards = pytest.mark.skipif(not DEV.exists(), reason="the shards are on the maintainers' machines only")
sys.path.insert(0, str(ROOT/'bench'))

def python(*words): subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True, capture_output=True)

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "The set, made anew as `bench/real_text.py` says"
    here = tmp_path_factory.mktemp('real')
    python('bench/real_text.py', *sorted(DEV.glob('biomed_text.dev-*.jsonl.gz')), '--out', here/'texts.jsonl.gz')
    python('-m', 'lightbrain.cli', 'prepare', '--source', here/'texts.jsonl.gz', '--group-column', 'group', '--validation', '0.05',
        '--out', here/'set', '--evaluation', DEV/'pubmedqa_dev.jsonl', '--test-records', 'exclude')
    return here/'set'

def test_the_record_is_small_and_holds_no_weights():
    files = [o for o in RECORD.rglob('*') if o.is_file()]
    assert sum(o.stat().st_size for o in files)<2*2**20
    assert {o.name for o in files}>={'config.yaml','began.yaml','metrics.jsonl','manifest.json','results.json','README.md','datasheet.md'}
    assert not [o for o in files if o.suffix not in ('.yaml','.json','.jsonl','.md','.png','.svg')]

@LONG
@on_the_shards
def test_the_set_is_the_recorded_one(data):
    sides = json.loads((RECORD/'manifest.json').read_text(encoding='utf-8'))['splits']
    for side,o in sides.items(): assert file_sha256(data/f'{side}.bin')==o['sha256'], side

@LONG
@on_the_shards
def test_its_first_steps_can_be_repeated(data):
    "`bench/repeat.py`: the mean loss of the first ten steps within a thousandth of a nat; with another seed it is not"
    from repeat import repeat
    (step,published,here), = repeat(RECORD, data, 10)
    assert step==10 and abs(here-published)<1e-3
    (_,_,other), = repeat(RECORD, data, 10, seed=43)
    assert abs(other-published)>1e-3

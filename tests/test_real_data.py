"Checks on real biomedical text; they skip where it is not at hand"
import gzip, json, re
import pytest
from conftest import SHARED, SMALL
from lightbrain.corpus import ENDINGS, MIDDLES, ONSETS, STEMS
from lightbrain.sources import load_documents

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason='the real data lies beside the repository on the maintainers\' machines only')

def test_invented_names_are_invented():
    words = set()
    for p in (SHARED/'dev').glob('*.jsonl.gz'):
        with gzip.open(p, 'rt', encoding='utf-8') as f:
            for line in f: words |= set(re.findall('[a-z]+', json.loads(line)['text'].lower()))
    assert len(words)>100_000 and {'metformin','aspirin'}<=words        # the list can recognise a real drug
    assert not words & {a+b+c for a in ONSETS for b in MIDDLES for c in ENDINGS}
    assert not words & {a+b for a in STEMS for b in ('ic','al','oid')}

@pytest.mark.parametrize('name,n', {'dev/pubmedqa_dev_ori.json':500, 'dev/pubmedqa_dev.jsonl':500, 'dev/biomed_text.dev-02.jsonl.gz':None,
    'fixtures/pubmedqa/ori_pqal.sample.json':40, 'fixtures/pubmedqa/ori_pqaa.shape.json':None, 'fixtures/pubmedqa/pqa_labeled.sample.jsonl':40,
    'fixtures/biomed_text.sample.jsonl':104, 'fixtures/plain_text':14}.items())
def test_sources(name, n):
    docs = load_documents(SHARED/name)
    kept = list(docs)
    assert kept and (n is None or len(kept)==n) and not docs.dropped
    assert len({d.id for d in kept})==len(kept)

def test_both_dialects_of_pubmedqa_agree():
    a,b = (sorted((d.id,d.text) for d in load_documents(SHARED/'dev'/o)) for o in ('pubmedqa_dev_ori.json','pubmedqa_dev.jsonl'))
    assert a==b

def test_chain_on_real_text(command, tmp_path):
    p = command('prepare', '--source', SHARED/'dev'/'pubmedqa_dev_ori.json', '--out', 'data', cwd=tmp_path)
    assert p.returncode==0 and 'kept 500, dropped 0' in p.stdout, p.stderr
    p = command('train', '--data', 'data', '--out', 'run', '--max-steps', 30, '--eval-every', 15, *SMALL, cwd=tmp_path)
    assert p.returncode==0, p.stderr
    vals = [json.loads(o)['val_loss'] for o in (tmp_path/'run'/'metrics.jsonl').read_text().splitlines()]
    vals = [o for o in vals if o]
    assert vals==sorted(vals, reverse=True)

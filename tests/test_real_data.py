"Checks on real biomedical text; they skip where it is not at hand"
import csv, gzip, json, re
import xml.etree.ElementTree as ET
from collections import Counter
import pytest
from conftest import OWN, SHARED, SMALL
from lightbrain.corpus import FIELDS, STEMS
from lightbrain.prep.markup import read_pubmed, verify_md5
from lightbrain.prep.sources import load_documents

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason='the real data lies beside the repository on the maintainers\' machines only')

def test_invented_names_are_invented():
    words = set()
    for p in (SHARED/'dev').glob('*.jsonl.gz'):
        with gzip.open(p, 'rt', encoding='utf-8') as f:
            for line in f: words |= set(re.findall('[a-z]+', json.loads(line)['text'].lower()))
    assert len(words)>100_000 and {'metformin','aspirin'}<=words        # the list can recognise a real drug
    assert not words & {*FIELDS['drug']}
    assert not words & {a+b for a in STEMS for b in ('ic','al','oid')}

# file or folder -> documents kept, what is dropped, how many know their PubMed id; the counts are those of data/SOURCES.md
FIXTURES = {
    'dev/pubmedqa_dev_ori.json': (500, {}, 500), 'dev/pubmedqa_dev.jsonl': (500, {}, 500), 'dev/pubmedqa_dev.parquet': (500, {}, 500),
    'fixtures/pubmedqa/ori_pqal.sample.json': (40, {}, 40), 'fixtures/pubmedqa/ori_pqaa.shape.json': (5, {}, 5),
    'fixtures/pubmedqa/pqa_labeled.sample.jsonl': (40, {}, 40), 'fixtures/pubmedqa/pqa_labeled': (40, {}, 40),
    'fixtures/pubmed_xml/pubmed21n9001_excerpt.xml.gz': (29, {'no abstract':79}, 29),
    'fixtures/pubmed_xml/pubmed_reconstructed_n0001.xml.gz': (600, {}, 600), 'fixtures/pubmed_xml': (629, {'no abstract':79}, 629),
    'fixtures/pmc_jats': (4, {}, 4), 'fixtures/medquad_xml': (9, {'no answer':3}, 0), 'fixtures/plain_text': (14, {}, 0),
    'fixtures/biomed_text.sample.jsonl': (104, {}, 16), 'fixtures/biomed_text.sample.parquet': (104, {}, 16), 'fixtures/biomed_text.sample.csv': (40, {}, 6),
    'fixtures/noteevents/noteevents_shaped_acibench.csv': (74, {'ISERROR = 1':3}, 0), 'fixtures/noteevents/NOTEEVENTS.header.csv': (0, {}, 0)}

@pytest.mark.parametrize('name', FIXTURES)
def test_sources(name):
    n,dropped,known = FIXTURES[name]
    docs = load_documents(SHARED/name)
    kept = list(docs)
    assert (len(kept), docs.dropped, sum('pmid' in d.meta for d in kept))==(n, dropped, known)
    assert len({d.id for d in kept})==n

def test_every_fixture_is_in_the_list():
    "No file of the fixtures is forgotten: each is listed, lies in a listed folder, or is no text"
    for p in (SHARED/'fixtures').rglob('*'):
        if p.is_file() and p.suffix not in ('.md5','.tsv'): assert any((SHARED/o)==p or (SHARED/o) in p.parents for o in FIXTURES), p

def test_dev_shards():
    docs = load_documents(str(SHARED/'dev'/'biomed_text.dev-*.jsonl.gz'))
    ids = Counter(d.id for d in docs)
    assert docs.kept==12_017 and not docs.dropped and max(ids.values())==1

def test_folder_of_everything():
    docs = load_documents(SHARED/'fixtures')
    kept = list(docs)
    assert docs.kept==104+104+40+14+4+9+74+629+40+40+40+5 and docs.dropped=={'no abstract':79, 'no answer':3, 'ISERROR = 1':3}
    assert any('2 .md5, 1 .tsv' in o for o in docs.notices) and any('PhysioNet' in o for o in docs.notices)

DELETED = [30830050, 30830053, 30830055, 30844994, 30865158, 30883395, 31335609, 31343573, 31567397, 31567401, 31567500, 31567648, 31567795, 31574077, 31577541,
    31577652, 31584888, 31591956, 31688073, 31688074, 31772046, 32255075, 32410779]

def test_deletion_in_the_real_file_reaches_older_files(tmp_path):
    "The excerpt deletes 23 citations, none of them its own; an older file that holds some of them loses those, a newer one does not"
    excerpt = SHARED/'fixtures'/'pubmed_xml'/'pubmed21n9001_excerpt.xml.gz'
    assert [o['delete'] for o in read_pubmed(excerpt) if 'delete' in o]==[DELETED]
    other = ''.join(f'<PubmedArticle><MedlineCitation><PMID>{o}</PMID><Article><Abstract><AbstractText>Text.</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>'
        for o in (DELETED[0], DELETED[-1], 77))
    for name,lost in (('pubmed21n0001.xml', 2), ('pubmed22n0001.xml', 0)):
        (tmp_path/name).write_text(f'<PubmedArticleSet>{other}</PubmedArticleSet>')
        docs = load_documents([excerpt, tmp_path/name])
        assert len(list(docs))==29+3-lost and docs.dropped=={'no abstract':79} | ({'deleted by PubMed':lost} if lost else {})

def test_checksum_of_the_real_file(tmp_path):
    for p in (SHARED/'fixtures'/'pubmed_xml').iterdir(): (tmp_path/p.name).write_bytes(p.read_bytes())
    p = tmp_path/'pubmed21n9001_excerpt.xml.gz'
    assert verify_md5(p)
    data = bytearray(p.read_bytes())
    data[-6] ^= 1                                        # in the checksum of gzip itself
    p.write_bytes(data)
    with pytest.raises(ValueError, match='its MD5 is'): list(load_documents(tmp_path))

def test_articles_hold_what_was_marked_up():
    docs = {d.id:d for d in load_documents(SHARED/'fixtures'/'pmc_jats')}
    assert {(d.license, d.source) for d in docs.values()}=={('CC-BY-2.0','PMC')}
    for d in docs.values():
        root = ET.parse(SHARED/'fixtures'/'pmc_jats'/f"{d.id.removeprefix('pmc:')}.nxml").getroot()
        assert d.meta['pmid']==int(root.findtext(".//article-meta/article-id[@pub-id-type='pmid']"))
        words = lambda e: Counter(re.findall(r'\w+', ' '.join(e.itertext()))) | Counter(re.findall(r'\w+', ''.join(e.itertext())))    # 'CD4<sup>+</sup>' is one word
        body = words(root.find('body'))+words(root.find('.//article-meta/abstract'))
        ours = Counter(re.findall(r'\w+', d.text.partition('\n')[2]))
        assert not ours-body and ours.total()>0.6*body.total()        # nothing made up; tables, captions and citations are left out

def test_sections_of_real_abstracts():
    path = SHARED/'fixtures'/'pubmed_xml'/'pubmed_reconstructed_n0001.xml.gz'
    docs = {d.meta['pmid']:d for d in load_documents(path)}
    with gzip.open(path) as f: root = ET.parse(f).getroot()
    for a in root.iter('PubmedArticle'):
        text = docs[int(a.findtext('MedlineCitation/PMID'))].text
        for e in a.iter('AbstractText'):
            said = ' '.join(''.join(e.itertext()).split())
            assert said in text and (not e.get('Label') or f"{e.get('Label').strip(' :')}: {said}" in text)

def test_notes_stay_with_their_patient():
    docs = list(load_documents(SHARED/'fixtures'/'noteevents'/'noteevents_shaped_acibench.csv'))
    with open(SHARED/'fixtures'/'noteevents'/'noteevents_shaped_acibench.csv', newline='', encoding='utf-8') as f: rows = list(csv.DictReader(f))
    assert len(rows)==77 and sum(o['ISERROR']=='1' for o in rows)==3
    assert {d.id:(d.group, d.text) for d in docs}=={f"note:{o['ROW_ID']}":(o['SUBJECT_ID'], o['TEXT']) for o in rows if o['ISERROR']!='1'}

def test_both_dialects_of_pubmedqa_agree():
    a,b,c = (sorted((d.id,d.text) for d in load_documents(SHARED/'dev'/o)) for o in ('pubmedqa_dev_ori.json','pubmedqa_dev.jsonl','pubmedqa_dev.parquet'))
    assert a==b==c

def test_chain_on_real_text(command, tmp_path):
    p = command('prepare', '--source', SHARED/'dev'/'pubmedqa_dev_ori.json', '--out', 'data', *OWN, cwd=tmp_path)
    assert p.returncode==0 and 'kept 500, dropped 0' in p.stdout, p.stderr
    p = command('train', '--data', 'data', '--out', 'run', '--max-steps', 30, '--eval-every', 15, *SMALL, cwd=tmp_path)
    assert p.returncode==0, p.stderr
    vals = [json.loads(o)['val_loss'] for o in (tmp_path/'run'/'metrics.jsonl').read_text().splitlines()]
    vals = [o for o in vals if o]
    assert vals==sorted(vals, reverse=True)

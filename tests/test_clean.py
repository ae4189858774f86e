"Cleaning beyond what a notebook cell can do: any input, fixed results, flat memory, other processes, real data"
import gzip, hashlib, json, pickle, random, re, subprocess, sys, tracemalloc, unicodedata
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from conftest import SHARED
from lightbrain.prep import clean
from lightbrain.prep.clean import (NgramIndex, find_duplicates, ngram_hashes, normalize, pubmedqa_test_pmids, signatures,
    similarity, text_hashes, word_hashes)
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.prep.prepare import prepare
from lightbrain.prep.sources import Document, row_document, load_documents

surrogates_too = st.text(alphabet=st.characters(exclude_categories=()))
real = pytest.mark.skipif(not SHARED.exists(), reason='the real development data is on the maintainers\' machines only')

@pytest.fixture(scope='module')
def texts(): return [render_record(r) for r in synthetic_records(2000)]

@given(surrogates_too)
def test_normalize_any_string(text):
    once = normalize(text)
    assert normalize(once)==once and unicodedata.is_normalized('NFC', once)
    assert not re.search('[\x00-\x08\x0b-\x1f]', once)
    once.encode()

def slow_hash(word):
    h = sum(int.from_bytes(word[i:i+8], 'little')*0x9E3779B97F4A7C15**(i//8+1) for i in range(0, len(word), 8))%2**64
    h = (h^h>>32)*0xBF58476D1CE4E5B9%2**64
    return h^h>>29

def slow_words(data):
    data = re.sub(rb'\xc2[^\xaa\xb5\xba]|\xc3[\x97\xb7]|\xe2[\x80-\x9f].|\xe3\x80.', b' ', data, flags=re.S)
    return re.findall(rb'[a-z0-9\x80-\xff]+', data.lower())

@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(), st.text(alphabet='aB9é–β ,\u00a0µ×≥ø、', max_size=90).map(lambda t: t*3)), max_size=6))
def test_words_of_any_text(docs):
    hashes,offsets = word_hashes(docs)
    slow = [[slow_hash(w) for w in slow_words(d.encode())] for d in docs]
    assert np.diff(offsets).tolist()==list(map(len, slow))
    assert hashes.tolist()==[h for d in slow for h in d]

@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes(docs):
    "Bytes that are no UTF-8 at all neither crash nor reach into the next document"
    hashes,offsets = word_hashes(docs)
    alone = [word_hashes([d])[0].tolist() for d in docs]
    assert [hashes[a:b].tolist() for a,b in zip(offsets[:-1], offsets[1:])]==alone
    assert signatures(hashes, offsets).shape==(len(docs), 128)

def test_one_endless_word():
    "A megabyte without a blank, as in a base64 attachment"
    word = 'Qm9keQ'*200_000
    hashes,offsets = word_hashes(['note', word, 'note'])
    assert offsets.tolist()==[0, 1, 2, 3] and hashes[0]==hashes[2]!=hashes[1]
    assert hashes[1]!=word_hashes([word[:-1]+'R'])[0][0]

def test_results_are_fixed(texts):
    "The same numbers on every platform and in every version: a prepared set must not depend on the machine"
    wh = word_hashes(['Zoravexil reduced pain.', 'β-blocker'])
    assert wh[0].tolist()==[slow_hash(w.encode()) for w in ('zoravexil', 'reduced', 'pain', 'β', 'blocker')]
    sigs = signatures(*word_hashes(texts[:100]))
    assert hashlib.sha256(sigs.astype('<u2').tobytes()).hexdigest()[:16]=='7129ff025bceebf9'
    assert text_hashes(['Fever.'])[0,0]==int.from_bytes(hashlib.sha256(b'Fever.').digest()[:8], 'little')

def by_two_loops(ids, texts, sigs, threshold, bands):
    "What `find_duplicates` promises, as slowly as it can be said"
    n,code,band = len(ids),[0]*len(ids),sigs.reshape(len(ids), bands, -1)
    for i in range(n):
        if ids[i] in ids[i+1:].tolist(): code[i] = 1
    for i in range(n):
        if not code[i] and any(not code[k] and (texts[k]==texts[i]).all() for k in range(i)): code[i] = 2
    live = [i for i in range(n) if not code[i] and sigs[i].any()]
    for i in live:
        near = (k for k in live if k<i and (band[i]==band[k]).all(1).any())
        if any(similarity(sigs[i], sigs[k])>=threshold for k in near): code[i] = 3
    return code

@pytest.mark.parametrize('seed', range(20))
def test_find_duplicates_is_two_loops(seed):
    rng = np.random.default_rng(seed)
    n,bands,threshold = 120,int(rng.choice([8, 16, 32])),float(rng.choice([0.5, 0.8, 1]))
    ids,texts = rng.integers(0, 200, n).astype(np.uint64),rng.integers(0, 12, (n, 2)).astype(np.uint64)
    parents = rng.integers(0, 65536, (40, 128)).astype(np.uint16)
    sigs = parents[rng.integers(0, 40, n)]
    changed = rng.random((n, 128))<rng.choice([0, 0.01, 0.1, 0.3], n)[:,None]
    sigs[changed] = rng.integers(0, 65536, changed.sum())
    sigs[rng.random(n)<0.1] = 0                                  # too short to compare
    got,want = find_duplicates(ids, texts, sigs, threshold, bands),by_two_loops(ids, texts, sigs, threshold, bands)
    assert got.tolist()==want
    if threshold<1: assert {0, 1, 2, 3}<=set(want), 'this seed tests too little'
    assert find_duplicates(ids, texts).tolist()==[c if c<3 else 0 for c in want]

def test_a_crowd_of_copies(texts):
    "A thousand copies share every bucket: still only the first is kept, and in little time"
    rng = random.Random(0)
    base = ' '.join(texts[:8]).split()
    crowd = [' '.join('x' if rng.random()<0.003 else w for w in base) for _ in range(1000)]
    code = find_duplicates(np.arange(1000, dtype=np.uint64), text_hashes(crowd), signatures(*word_hashes(crowd)))
    assert code[0]==0 and (code>0).sum()>=990

def test_nothing_at_all():
    none = word_hashes([])
    assert len(none[0])==0 and none[1].tolist()==[0]
    assert signatures(*none).shape==(0, 128) and text_hashes([]).shape==(0, 2)
    assert find_duplicates(np.zeros(0, np.uint64), text_hashes([]), signatures(*none)).tolist()==[]
    one = word_hashes([''])
    assert ngram_hashes(*one, 13)[1].tolist()==[0, 0]
    assert NgramIndex(['pain '*13]).hits(*one)[0].tolist()==[]
    with pytest.raises(ValueError, match='could ever be found'): NgramIndex(['too short'])

def test_bad_calls():
    ids,texts = np.zeros(2, np.uint64),np.zeros((2, 2), np.uint64)
    for kwargs,why in ((dict(threshold=0), 'threshold=0'), (dict(threshold=1.5), 'at most 1'), (dict(bands=7), 'does not divide'),
                       (dict(sigs=np.zeros((3, 128), np.uint16)), '3 sigs')):
        with pytest.raises(ValueError, match=why): find_duplicates(ids, texts, **kwargs)

def test_memory_stays_flat(tmp_path):
    "Signatures stay on disk: the peak is far below the 256 bytes a document that loading them would take"
    n,rng = 200_000,np.random.default_rng(0)
    np.save(tmp_path/'sigs.npy', rng.integers(0, 65536, (n, 128)).astype(np.uint16))
    ids,texts = rng.integers(0, 2**63, n).astype(np.uint64),rng.integers(0, 2**63, (n, 2)).astype(np.uint64)
    def peak(f):
        tracemalloc.start()
        f()
        try: return tracemalloc.get_traced_memory()[1]/n
        finally: tracemalloc.stop()
    sigs = np.load(tmp_path/'sigs.npy', mmap_mode='r')
    assert peak(lambda: find_duplicates(ids, texts, sigs))<128
    assert peak(lambda: find_duplicates(ids, texts, np.array(sigs)))>256, 'the meter does not see a loaded file'

def test_no_torch():
    "Workers that clean must start fast and stay small"
    code = "import sys, lightbrain.prep.clean; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()=='False'

def test_index_travels(texts):
    "An index pickled here finds the same in another process"
    records = synthetic_records(50)
    index = NgramIndex(records)
    block = ['x '+texts[3].upper(), texts[1000]]
    code = ("import pickle, sys\nfrom lightbrain.prep.clean import word_hashes\nindex,block = pickle.load(sys.stdin.buffer)\n"
            "print(index.report(index.hits(*word_hashes(block))[1])['contaminated'])")
    p = subprocess.run([sys.executable, '-c', code], input=pickle.dumps((index, block)), capture_output=True, check=True)
    assert p.stdout.decode().strip()==str([str(records[3]['pubid'])])
    assert len(pickle.dumps(index))<40*len(index.grams)+10_000

@pytest.mark.parametrize('damage', [lambda b: b[:-9], lambda b: b.replace(b'1', b'2', 1), lambda b: b''], ids=['cut', 'changed', 'empty'])
def test_damaged_list(damage, tmp_path, monkeypatch):
    good = (clean.files('lightbrain')/'assets'/'pubmedqa_test_pmids.txt').read_bytes()
    (tmp_path/'assets').mkdir()
    path = tmp_path/'assets'/'pubmedqa_test_pmids.txt'
    monkeypatch.setattr(clean, 'files', lambda _: tmp_path)
    fresh = pubmedqa_test_pmids.__wrapped__
    path.write_bytes(good.replace(b'\n', b'\r\n'))
    assert len(fresh())==500                      # a checkout with Windows line ends is no damage
    path.write_bytes(damage(good))
    with pytest.raises(ValueError, match='damaged'): fresh()
    path.unlink()
    with pytest.raises(ValueError, match='damaged'): fresh()

EXPORT = '1. J Invented Med. {n}.\n\nFever fell.\n\nDOI: 10.1000/x.{n}\nPMCID: PMC2000000\nPMID: {pmid} [Indexed for MEDLINE]'
SHAPES = dict(
    pile=lambda p: dict(meta=dict(pmid=p)), metadata=lambda p: dict(metadata=dict(source='PubMed', pmid=str(p))),
    deep=lambda p: dict(a=[dict(b=dict(ids=[dict(PMID={'#text':str(p)})]))]), medrag=lambda p: dict(id=f'pubmed26n0001:{p}'),
    doc_id=lambda p: dict(doc_id=p), article_id=lambda p: dict(article_id=f'pubmed26n0001:{p}'), beir=lambda p: dict(_id=str(p)),
    both=lambda p: dict(pubid=1, pmid=p), both_too=lambda p: dict(pmid=1, pubid=p), repr=lambda p: dict(meta=str(dict(pmid=p))),
    several=lambda p: dict(pmid=f'1; {p}'), esummary=lambda p: dict(articleids=[dict(idtype='pubmed', value=str(p))]),
    export=lambda p: dict(text=EXPORT.format(n=p%9973, pmid=p)), ends=lambda p: dict(text=f'Fever fell in ward {p%9973}. PMID: {p}'),
    interest=lambda p: dict(text=EXPORT.format(n=p%9973, pmid=p)+'\n\nConflict of interest statement: None declared.'))
INNOCENT = dict(
    year=lambda p: dict(year=p), count=lambda p: dict(meta=dict(count=p, pmid_count=p)), patient=lambda p: dict(patient_id=p),
    note=lambda p: dict(id=f'{p}-DS-21'), cites=lambda p: dict(references=[dict(pmid=p)], pmid=p+4*10**7),
    prose=lambda p: dict(text=f'In ward {p%9973} PMID: {p} was cited, and fever fell.'), pmc=lambda p: dict(id=f'PMC{p}'))

def kept_of(rows, folder):
    "How many of the rows get on a tape when official test records are excluded, and how many are reported"
    folder.mkdir()
    rows = [dict(text=f'Fever fell by {i} degrees in ward {i*7919}.') | o for i,o in enumerate(rows)]
    (folder/'x.jsonl').write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
    m = prepare(folder/'x.jsonl', folder/'out', test_records='exclude', near_duplicates='keep', workers=1)
    return m['kept'],m['leak']['official_test_records']

@pytest.mark.parametrize('shape', SHAPES)
def test_all_500_numbers_are_found(shape, tmp_path):
    "In every shape that the world gives them; the neighbours' numbers in the same shape are nobody's exam"
    official = sorted(pubmedqa_test_pmids())
    twins = [p+1 for p in official if p+1 not in pubmedqa_test_pmids()]
    assert kept_of(map(SHAPES[shape], official+twins), tmp_path/'a')==(len(twins), 500)

@pytest.mark.parametrize('shape', INNOCENT)
def test_an_official_number_that_is_no_pmid(shape, tmp_path):
    assert kept_of(map(INNOCENT[shape], sorted(pubmedqa_test_pmids())), tmp_path/'a')==(500, 0)

OWN = dict(                                            # how else a document says its number: p, and text where it is said there
    ncbi=lambda p: dict(source=f'https://www.ncbi.nlm.nih.gov/pubmed/{p}'), europe=lambda p: dict(source=f'http://europepmc.org/article/MED/{p}'),
    baseline=lambda p: dict(source=f'pubmed26n0001:{p}'), source=lambda p: dict(source=f'pubmed:{p}'), file=lambda p: dict(source=f'{p}.txt'),
    deeper=lambda p: dict(meta=dict(source=f'pubmed26n0001:{p}')), website=lambda p: dict(website=f'https://www.ncbi.nlm.nih.gov/pubmed/{p}?dopt=Abstract'),
    mongo=lambda p: dict(pmid={'$numberLong':str(p)}), comma=lambda p: dict(pmid=f'{p:,}'), e=lambda p: dict(pmid=f'{p:.7e}'), str=lambda p: dict(pmid_str=str(p)),
    docno=lambda p: dict(docno=str(p)), DocNo=lambda p: dict(DocNo=str(p)), cell=lambda p: dict(meta=f'source: PubMed; pmid: {p}; year: 2007'),
    pair=lambda p: dict(extra=f'pmid={p};year=2007'), bytes=lambda p: dict(pmid=str(p).encode()), json=lambda p: dict(meta=json.dumps(dict(pmid=p)).encode()),
    text_json=lambda p: dict(text=json.dumps([dict(pmid=p, abstract='Fever fell.')])), nlm=lambda p: dict(text=f'Fever fell. PubMed PMID: {p}; PubMed Central PMCID: PMC12.'),
    url=lambda p: dict(text=f'Fever fell. https://www.ncbi.nlm.nih.gov/pubmed/{p}'), nbsp=lambda p: dict(text=f'Fever fell.\nPMID:\xa0{p}\xa0[Indexed for MEDLINE]\n\nSimilar'),
    low=lambda p: dict(text=f'pmid: {p}\nFever fell.'), words=lambda p: dict(text=f'PubMed ID: {p}\nFever fell.'),
    comment=lambda p: dict(text=f'Fever fell.\n\nComment in\n    J Inv. PMID: 1\n\nPMID: {p} [Indexed for MEDLINE]'), deep=lambda p: dict(doc=dict(article=dict(id=p))))

NOT_OWN = dict(                                        # where the same digits are something else, or somebody else's
    {k: (lambda p, k=k: {k:p}) for k in ('pid pat_id participant_id case_id admission_id member_id cgid provider_id row_id note_id client_id order_id sample_id '
        'study_id trial_id gene_id cid taxid chunk_id image_id question_id token_ids mesh_ids fluid covid valid paid lipid steroid profile grid pmcid pmc_id pmcId').split()},
    ) | {k: (lambda p, k=k: {k:dict(id=p, age=3)}) for k in 'patient patients subject author user'.split()
    } | {k: (lambda p, k=k: {k:[dict(pmid=p)]}) for k in ('refs citations cites outCitations ref-list paper_references comments_corrections comment_on see_also '
        'neighbors literature').split()
    } | {k: (lambda p, k=k: {k:[p]}) for k in 'ref_pmids linked_pmids cited_pmids input_ids'.split()
    } | {k: (lambda p, k=k: dict(id=k.format(p))) for k in ('pmc:{}', 'PMC {}', 'PMC-{}', 'PMCID:{}', 'PMCID: PMC{}', '10.1016/{}', 'doi:10.1016/S0140(08){}-2',
        'note:{}', 'synthetic:{}', 'medquad:x/{}')
    } | {k: (lambda p, k=k: dict(url=k.format(p))) for k in ('https://www.ncbi.nlm.nih.gov/pmc/articles/{}/', 'https://doi.org/10.1000/{}')
    } | {k: (lambda p, k=k: dict(ids=[dict(idtype=k, value=str(p))])) for k in ('pmc', 'pmcid', 'doi')
    } | {k: (lambda p, k=k: dict(text=k.format(p))) for k in ('Fever.\nReferences\n1. A. PMID: 12.\n2. B. PMID: {}.', 'Fever.\n\nReferences:\nPMID: 12\nPMID: {}\n',
        'Comment on: Smith. Ann. 2007. PMID: {}', 'Fever.\nComment in\nPMID: {}\nMore text.', 'Fever fell, as others found (PMID: {}).')}

def number_of(o): return clean.pmid_of(row_document(dict(text='Fever fell.', id='a') | o, 'x.jsonl', 1))

@pytest.mark.parametrize('shape', OWN)
def test_a_number_of_its_own(shape):
    "For each of the 500; a neighbour's number is at most read as what it is"
    official = pubmedqa_test_pmids()
    assert {number_of(OWN[shape](p))==p for p in official}=={True}
    assert {number_of(OWN[shape](p+1)) in (None, p+1) for p in official if p+1 not in official}=={True}

@pytest.mark.parametrize('shape', NOT_OWN)
def test_a_number_of_something_else(shape):
    assert {number_of(NOT_OWN[shape](p))==p for p in pubmedqa_test_pmids()}=={False}

@pytest.mark.parametrize('id', [None, ''])
def test_the_line_of_a_table_is_no_pubmed_number(id):
    "A file of thirty million rows without ids; a file whose name is the number is the paper itself"
    for p in pubmedqa_test_pmids():
        rows = [row_document(dict(text='Fever fell.', id=id), name, p) for name in ('x.jsonl', 'pmid.csv', 'pubmed', f'{p}.csv')]
        assert [clean.pmid_of(d) for d in rows]==[None, None, None, p]

ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9) | st.sampled_from(['PMID: 7', '{"pmid": 7}', '{"a']),
    lambda o: st.lists(o, max_size=3) | st.tuples(o, o) | st.dictionaries(st.text(max_size=5) | st.sampled_from(['pmid','id','refs','text']), o, max_size=3), max_leaves=9)

@settings(max_examples=500, deadline=None)
@given(ANY, st.dictionaries(st.text(max_size=5), ANY), surrogates_too)
def test_numbers_of_any_document(id, meta, text):
    numbers = clean.pubmed_numbers(Document(id, text, text, meta=meta))
    assert all(type(n) is int and 0<n<10**8 for n in numbers) and len(set(numbers))==len(numbers)

def test_a_question_record_shows_both_numbers(tmp_path):
    p = min(pubmedqa_test_pmids())
    record = lambda **o: dict(question=f'Does it help {o}?', context=dict(contexts=[f'Forty adults {o}.']), **o)
    rows = [record(pubid=1, pmid=p), record(pubid=2, meta=dict(pmid=p)), record(pmid=p), record(pubid=p+1)]
    (tmp_path/'x.jsonl').write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
    assert [clean.pmid_of(d) for d in load_documents(tmp_path/'x.jsonl')]==[p, p, p, p+1]

@real
def test_the_official_list():
    shared = {int(o) for o in (SHARED/'pubmedqa_test_pmids.txt').read_text().split()}
    assert pubmedqa_test_pmids()==shared
    folds = json.loads((SHARED/'dev'/'pqal_cv_folds.json').read_text())
    dev = {int(p) for fold in folds['dev_folds'].values() for p in fold}
    assert len(dev)==500 and dev.isdisjoint(shared)          # the other half of the 1,000, which may be trained on

def dev_texts(n):
    with gzip.open(SHARED/'dev'/'biomed_text.dev-02.jsonl.gz', 'rt', encoding='utf-8') as f:
        return [normalize(json.loads(line)['text']) for _,line in zip(range(n), f)]

@real
def test_real_abstracts_are_recognised():
    "A copied evaluation abstract with other capitals, line breaks and no PMID is caught; shuffled, it is not"
    records = [json.loads(line) for line in (SHARED/'dev'/'pubmedqa_dev.jsonl').read_text(encoding='utf-8').split('\n') if line]
    index,rng = NgramIndex(records),random.Random(0)
    copied = ['A note. '+'\n'.join(re.sub('[.,;:()]', ' ', ' '.join(r['context']['contexts'])).upper().split()) for r in records[:100]]
    mixed = [' '.join(rng.sample(t.split(), len(t.split()))) for t in copied]
    innocent = dev_texts(1200)
    for block,guilty in ((copied, True), (mixed, False), (innocent, False)):
        docs,grams = index.hits(*word_hashes([normalize(t) for t in block]))
        assert len(set(docs.tolist()))==(len(block) if guilty else 0)
        assert len(index.report(grams)['contaminated'])==(100 if guilty else 0)

@real
def test_real_near_copies():
    "Light edits of real documents are found, the documents themselves are not accused"
    rng = random.Random(0)
    docs = [t for t in dev_texts(1200) if len(t.split())>=100][:400]
    light,heavy = ([' '.join(f'w{rng.randrange(10**6)}' if rng.random()<rate else w for w in t.split()) for t in docs] for rate in (0.005, 0.2))
    def found(copies):
        block = docs+copies
        code = find_duplicates(np.arange(len(block), dtype=np.uint64), text_hashes(block), signatures(*word_hashes(block)))
        assert (code[:len(docs)]!=0).mean()<0.01
        return (code[len(docs):]!=0).mean()
    assert found(light)>0.97 and found(heavy)<0.02

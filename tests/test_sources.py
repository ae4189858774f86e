"Ten thousand broken files: each gives documents whose books balance, or one sentence with file, place and rule"
import csv, gzip, io, json, random, re
import xml.etree.ElementTree as ET
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from lightbrain.prep import markup, sources
from lightbrain.prep.sources import Document, load_documents

HEAD = 'ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT'
RECORDS = [dict(pubid=i+1, question=f'Does zoravexil {i} help?', final_decision='yes', long_answer='It did.',
                context=dict(contexts=['Forty adults.', 'Fever fell β.'], labels=['A','B'], meshes=['Adult'], reasoning_required_pred=['y','e','s'])) for i in range(4)]
AUTHORS = {str(o['pubid']):dict(QUESTION=o['question'], CONTEXTS=o['context']['contexts'], LABELS=['A','B'], MESHES=[], YEAR=None, final_decision='no',
                                LONG_ANSWER='None.') for o in RECORDS}
PUBMED = '<?xml version="1.0"?>\n<!DOCTYPE PubmedArticleSet SYSTEM "x.dtd">\n<PubmedArticleSet>'+'\n'.join(
    f'<PubmedArticle><MedlineCitation><PMID Version="1">{i%4+1}</PMID><Article><ArticleTitle>T<sup>2</sup></ArticleTitle>'
    f'{f"<Abstract><AbstractText Label=X>Fever <i>fell</i> by {i}.</AbstractText></Abstract>".replace("=X", chr(61)+chr(34)+"X"+chr(34)) if i!=2 else ""}'
    '</Article></MedlineCitation></PubmedArticle>' for i in range(6))+'<DeleteCitation><PMID>4</PMID></DeleteCitation></PubmedArticleSet>'
JATS = ('<article xmlns:x="http://www.w3.org/1999/xlink"><front><article-meta><article-id pub-id-type="pmid">7</article-id><article-id pub-id-type="pmc">9</article-id>'
    '<title-group><article-title>Fever</article-title></title-group><permissions><license x:href="http://creativecommons.org/licenses/by/4.0/"/></permissions>'
    '<abstract><p>Rare &amp; <i>odd</i>.</p></abstract></article-meta></front><body><sec><title>A</title><p>One<xref ref-type="bibr">1</xref>.</p><table-wrap><p>no</p>'
    '</table-wrap></sec></body></article>')
MEDQUAD = ('<Document id="1" source="X"><Focus>Fever</Focus><QAPairs><QAPair><Question>What?</Question><Answer>Heat\n - more</Answer></QAPair><QAPair><Question>Who?</Question>'
    '<Answer/></QAPair></QAPairs></Document>')

def table(rows):
    f = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), f)
    return f.getvalue()

def lines(rows): return '\n'.join(json.dumps(o) for o in rows).encode()

TEXTS = [{'id':f'n{i}', 'text':['Stable.', '', 'Pain, "none".\nWell.', None][i%4], 'pmid':i or None, 'score':i/7} for i in range(6)]
CSV = 'id,text,pmid\n'+''.join(f'{i},"Pain, ""none"".\nWell {i}.",{i or ""}\n' for i in range(5))
NOTES = HEAD+'\n'+''.join(f'{i},{900+i//2},,,,,Nursing,Report,,{"1" if i==2 else ""},"Slept ""well"".\n\nNo pain."\n' for i in range(5))
SEEDS = {                                              # name -> a good file of each kind
    'text.jsonl':lines(TEXTS), 'text.jsonl.gz':gzip.compress(lines(TEXTS)), 'hf.jsonl':lines(RECORDS), 'authors.json':json.dumps(AUTHORS).encode(),
    'rows.csv':CSV.encode(), 'rows.csv.gz':gzip.compress(CSV.encode()), 'rows.tsv':b'id\ttext\n1\tStable.\n2\tWell.\n', 'NOTEEVENTS.csv':NOTES.encode(),
    'text.parquet':table(TEXTS), 'hf.parquet':table(RECORDS), 'pubmed.xml':PUBMED.encode(), 'pubmed.xml.gz':gzip.compress(PUBMED.encode()),
    'article.nxml':JATS.encode(), 'topic.xml':MEDQUAD.encode(), 'letter.txt':'Dear β-colleague,\n\nstable.'.encode()}
NASTY = [b'"', b'\\ud800', b'NaN', b'1e999', b'-', b'9'*5000, b'\0', b'\\u0000', b'['*3000, b'['*3000+b']'*3000, b'{"a":'*2000, b'null', b'true', b'{}', b'[]', b'<', b'&',
    b'&#xD800;', b'&#0;', b'&zoravexil;', b'<i>'*3000, b'<![CDATA[', b'<!--', b'\xff', b'\xed\xa0\x80', b'\n', b'\r', b',', b'\t', b'"text": "twice", ', b'"id": 1, "id": 2, ',
    b'<PMID>x</PMID>', b'</p>', b'<?xml version="1.0" encoding="utf-16"?>', b'\xef\xbb\xbf', b'\xff\xfe', b'-1', b'0', b'\xd9\xa3']
TOKEN = re.compile(rb'"[^"\n]*"|\d+|null|>[^<]+<')      # a value in JSON, in a table, or between two tags

def damaged(data, r):
    "A copy of `data` with one to three kinds of damage"
    for _ in range(r.choice([1,1,1,2,3])):
        i,kind = r.randrange(len(data)+1),r.randrange(8)
        if kind==0: data = data[:i]
        elif kind==1: data = data[:i]+bytes([data[i]^1<<r.randrange(8)])+data[i+1:] if i<len(data) else data
        elif kind==2: data = data[:i]+r.choice(NASTY)+data[i:]
        elif kind==3: data = data[:i]+data[r.randrange(len(data)+1):]
        elif kind==4: data = data[:i]+r.randbytes(r.randint(1, 40))+data[i:]
        elif kind==5: data = r.randbytes(r.randint(0, 300)) if r.random()<0.2 else data[i:]
        else:                                          # another kind of value where a value was: wrong types
            spots = list(TOKEN.finditer(data))
            if spots:
                m = r.choice(spots)
                data = data[:m.start()]+r.choice(NASTY)+data[m.end():]
    return data

def damaged_gz(name, data, r):
    "Damage inside the compression in half of the cases, so that both layers are met"
    if not name.endswith('.gz') or r.random()<0.5: return damaged(data, r)
    return gzip.compress(damaged(gzip.decompress(data), r), 1)

def there(path):
    "How many documents a readable file holds, counted without LightBrain"
    data = path.read_bytes()
    if path.suffix=='.gz': data = gzip.decompress(data)
    name = path.name.removesuffix('.gz')
    if name.endswith('.jsonl'): return sum(bool(o.strip()) for o in io.TextIOWrapper(io.BytesIO(data), encoding='utf-8-sig'))
    if name.endswith('.json'): return len(json.loads(data.decode('utf-8-sig'), object_pairs_hook=list))
    if name.endswith(('.csv','.tsv')):
        csv.field_size_limit(2**26)
        text = data.decode('utf-8-sig')
        tabs = {o.count('\t') for o in re.split('\r\n|\r|\n', text) if o}
        if name.endswith('.tsv') and len(tabs)==1: text = text.replace('"', '')        # each line has a row's tabs: quotes are characters
        rows = csv.reader(io.StringIO(text, newline=''), delimiter='\t' if name.endswith('.tsv') else ',')
        return sum(map(bool, rows))-1
    if name.endswith('.parquet'): return pq.ParquetFile(path).metadata.num_rows
    if name.endswith('.txt'): return 1
    root = ET.fromstring(data)
    return len(list(root.iter('PubmedArticle')))+len(list(root.iter('PubmedBookArticle'))) if root.tag=='PubmedArticleSet' else 1

PLACE = re.compile(r"line \d|row \d|record \d|article \d|entry |first tag|footer|is empty|no column|no text, but|gzip file|parquet file|UTF-8 text|two columns|<QAPair>|shape of NOTEEVENTS|XML")

def fate(path):
    "'read' or 'refused'; anything else is an AssertionError"
    try:
        docs = load_documents(path)
        kept = list(docs)
    except ValueError as e:
        assert path.name in str(e) and PLACE.search(str(e)) and '\n' not in str(e)[:60], str(e)[:300]
        return 'refused'
    except BaseException as e: raise AssertionError(f'{type(e).__name__} is no ValueError: {str(e)[:200]}') from e
    for d in kept:
        assert isinstance(d, Document) and d.text.strip() and type(d.meta.get('pmid', 1)) is int
        for o in (d.id, d.text, d.group, d.source, d.license, json.dumps(d.meta, ensure_ascii=False, default=str)): o.encode()
    assert docs.kept==len(kept) and docs.kept+sum(docs.dropped.values())==there(path)
    return 'read'

N = 600            # of each of fifteen good files: with the 1,000 of hypothesis below, 10,000

@pytest.mark.parametrize('name', SEEDS)
def test_damaged_files(name, tmp_path):
    r,path,fates = random.Random(f'7/{name}'),tmp_path/name,{'read':0, 'refused':0}
    path.write_bytes(SEEDS[name])
    assert fate(path)=='read'
    for i in range(N):
        data = damaged_gz(name, SEEDS[name], r)
        path.write_bytes(data)
        try: fates[fate(path)] += 1
        except AssertionError as e: raise AssertionError(f'case {i}: {data[:600]!r}') from e
    assert min(fates.values())>1, fates                   # both happen, so neither answer is the only one

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8), lambda o: st.lists(o, max_size=3) |
    st.dictionaries(st.sampled_from(['contexts','labels','text','reasoning_required_pred']), o, max_size=3), max_leaves=6)
ROW = st.dictionaries(st.sampled_from(['id','text','question','context','long_answer','final_decision','pubid','pmid','source','license','group','record']), JSON, max_size=8)

@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(ROW | st.builds(lambda o: RECORDS[0] | o, ROW), min_size=1, max_size=3))
def test_any_values_in_any_field(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp()/'any.jsonl'
    path.write_text('\n'.join(map(json.dumps, rows)))
    fate(path)

@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(['1','2','x','\ud800']), st.dictionaries(st.sampled_from([*AUTHORS['1'], 'pubid','context']), JSON, max_size=8) | JSON, min_size=1))
def test_any_values_in_the_authors_json(tmp_path_factory, entries):
    path = tmp_path_factory.getbasetemp()/'any.json'
    path.write_text(json.dumps({k: AUTHORS['1'] | o if isinstance(o, dict) else o for k,o in entries.items()}))
    fate(path)

# Negative controls: what the tests above say must fail when a reader is careless

def careless_lines(path, label, columns):
    for line in path.read_text(errors='replace').splitlines():
        try: yield Document('x', json.loads(line)['text'], label)
        except Exception: pass

def crashing_lines(path, label, columns):
    for line in path.read_text(errors='replace').splitlines(): yield Document('x', json.loads(line)['text'], label)

@pytest.mark.parametrize('reader,line,why', [(careless_lines, '{"note": "lost"}', 'assert'), (crashing_lines, '{"note": "lost"}', 'KeyError'),
    (crashing_lines, '{"text": 5}', 'AttributeError'), (crashing_lines, r'{"text": "\ud800"}', 'surrogates not allowed')])
def test_a_careless_reader_is_found_out(monkeypatch, tmp_path, reader, line, why):
    path = tmp_path/'x.jsonl'
    path.write_text('{"text": "kept"}\n'+line)
    fate(path)
    monkeypatch.setitem(sources.READERS, 'jsonl', sources.READERS['jsonl']._replace(read=reader))
    with pytest.raises((AssertionError, UnicodeEncodeError), match=why): fate(path)

def test_twice_the_same_key_is_not_lost(tmp_path):
    path = tmp_path/'x.json'
    entry = json.dumps(AUTHORS['1'])
    path.write_text(f'{{"1": {entry}, "1": {entry}}}')
    assert fate(path)=='refused'

# PubMed: many files, several processes

def cite(pmid, text): return (f'<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>T</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract></Article>'
    '</MedlineCitation></PubmedArticle>')

@pytest.fixture
def pubmed(tmp_path):
    r = random.Random(5)
    for i in range(12):
        body = ''.join(cite(r.randint(1, 60), f'text {i}.{j}') for j in range(20))+'<DeleteCitation>'+''.join(f'<PMID>{o}</PMID>' for o in r.sample(range(1, 61), 3))+'</DeleteCitation>'
        (tmp_path/f'pubmed26n{i+1:04}.xml.gz').write_bytes(gzip.compress(f'<PubmedArticleSet>{body}</PubmedArticleSet>'.encode()))
    return tmp_path

def test_pubmed_is_the_same_with_any_number_of_processes(pubmed):
    a = load_documents(pubmed)
    kept = list(a)
    assert kept and a.kept+sum(a.dropped.values())==240 and len({d.id for d in kept})==len(kept)
    for workers in (2, 4):
        b = load_documents(pubmed, workers=workers)
        assert list(b)==kept and b.dropped==a.dropped

def test_pubmed_order_matters(pubmed, monkeypatch):
    "Negative control: reading the oldest file first gives other documents"
    kept = list(load_documents(pubmed))
    monkeypatch.setattr(markup, 'newest_first', lambda paths: sorted(paths))
    assert list(load_documents(pubmed))!=kept

def test_error_in_a_process_names_the_file(pubmed):
    bad = pubmed/'pubmed26n0006.xml.gz'
    bad.write_bytes(bad.read_bytes()[:-30])
    with pytest.raises(ValueError, match='pubmed26n0006.xml.gz'): list(load_documents(pubmed, workers=2))

def test_importing_sources_is_light():
    import subprocess, sys
    code = "import sys, lightbrain.prep.sources; print([o for o in ('torch','datasets','pyarrow','pandas','matplotlib') if o in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()=='[]'

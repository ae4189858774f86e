"One side of the split for a patient and a paper, and nothing said or shown that is not so: a line for each case, with the right value"
import errno, io, json, os, random, re, subprocess, sys, time, unicodedata, warnings
from collections import defaultdict
from pathlib import Path
from unittest import mock
import pytest
from hypothesis import given, settings, strategies as st
from lightbrain.files import fsync, printable
from lightbrain.corpus import render_record, synthetic_record
from lightbrain.data import Document, TokenDataset, split_documents
from lightbrain.prep.clean import NgramIndex, normalize, paper_names, pubmedqa_test_pmids
from lightbrain.prep.cluster import Job, finish, run_rank
from lightbrain.prep.prepare import prepare
from lightbrain.prep.shards import encode_texts
from lightbrain.tokenizer import encode_document, gpt2_tokenizer

def lines(path, rows): path.write_text('\n'.join(json.dumps(o) if isinstance(o, dict) else o for o in rows), encoding='utf-8'); return path

def listing(out): return [o.split('\t') for o in (out/'documents.tsv').read_text(encoding='utf-8').splitlines()[1:]]

def side_of(out): return {o[3]:o[0] for o in listing(out)}

def made(source, out, **how): return prepare(source, out, progress=False, workers=1, **dict(near_duplicates='keep') | how)

def article(i, pmid=None, doi=None):
    ids = ''.join(f'<article-id pub-id-type="{k}">{v}</article-id>' for k,v in dict(pmid=pmid, pmc=8000000+i, doi=doi).items() if v)
    return (f'<article><front><article-meta>{ids}<title-group><article-title>Trial {i}</article-title></title-group>'
            f'<abstract><p>Full paper {i}: zoravexil helped {i*3} of {i*7} adults.</p></abstract></article-meta></front></article>')

def question(i): return dict(QUESTION=f'Does zoravexil help ward {i}?', CONTEXTS=[f'Ward {i} enrolled {i+40} adults.'], LABELS=['METHODS'], MESHES=[], YEAR='2020', final_decision='yes', LONG_ANSWER=f'It helped {i*3}.')

# ---------------------------------------------------------------- one paper, one side

SECOND = dict(                                       # how a second source names the paper that the first one calls pmid:N
    jats=lambda i,p: ('xml', article(i, p)), doi=lambda i,p: ('xml', article(i, doi=f'10.9999/Z.{i}')),
    field=lambda i,p: dict(id=f'w{i}', pmid=str(p)), nested=lambda i,p: dict(id=f'w{i}', meta=dict(ids=dict(PMID=p))),
    pmc=lambda i,p: dict(id=f'w{i}', pmcid=f'PMC{8000000+i}'), url=lambda i,p: dict(id=f'w{i}', url=f'https://doi.org/10.9999/z.{i}'),
    bare=lambda i,p: dict(id=str(p)), signed=lambda i,p: dict(id=f'w{i}', text=f'Export {i} of ward {i*7}.\n\nDOI: 10.9999/Z.{i}'),
    esummary=lambda i,p: dict(id=f'w{i}', articleids=[dict(idtype='doi', value=f'10.9999/z.{i}')]))

@pytest.mark.parametrize('shape', SECOND)
def test_a_paper_in_two_sources(shape, tmp_path):
    "Question and paper share a number, a DOI or a PMC number: 150 pairs, none divided; by ids about a fifth would be"
    n,first = 150,71000000
    rows,papers = [],tmp_path/'papers'
    papers.mkdir()
    for i in range(n):
        o = SECOND[shape](i, first+i)
        if isinstance(o, tuple): (papers/f'a{i}.xml').write_text(o[1])
        else: rows.append(dict(text=f'Web text {i} about ward {i*13}.') | o)
    if rows: lines(papers/'web.jsonl', rows)
    pubmed = [dict(id=f'pmid:{first+i}', text=f'Abstract {i} of {i*11}.', doi=f'10.9999/z.{i}', pmcid=8000000+i) for i in range(n)]
    (tmp_path/'pqa.json').write_text(json.dumps({str(first+i): question(i) for i in range(n)}))
    m = made([tmp_path/'pqa.json', lines(tmp_path/'pubmed.jsonl', pubmed), papers], tmp_path/'out')
    sides = [o[0] for o in listing(tmp_path/'out')]
    assert m['kept']==3*n and [o['documents'] for o in m['units']]==[0, 3*n, 0]
    assert m['units'][1]['units']==n and m['units'][1]['largest']==3
    parts = defaultdict(list)
    for o in listing(tmp_path/'out'): parts[re.sub(r'\D', '', o[3])[-3:]].append(o[0])
    if shape in ('jats','doi','bare'): assert all(len(set(o))==1 for o in parts.values())
    assert 0<sides.count('validation')<n*3//3

def test_two_transitive_steps_and_a_patient(tmp_path):
    "Number, then DOI, then patient: one unit, from any order of the sources"
    rows = [dict(id='q', pmid=7), dict(id='full', pmid=7, doi='10.1/A'), dict(id='pre', doi='https://dx.doi.org/10.1/a'),
            dict(id='case', doi='10.1/A', who='p3'), dict(id='note', who='p3'), dict(id='alone')]
    rows = [dict(text=f'Text of {o["id"]} in ward {i}.', who=f'own {i}') | o for i,o in enumerate(rows)]
    more = [dict(id=f'x{i}', text=f'Other {i}.', who=f'x{i}') for i in range(60)]
    seen = set()
    for order in (1, -1):
        out = tmp_path/f'o{order}'
        m = made(lines(tmp_path/'a.jsonl', (rows+more)[::order]), out, group_column='who')
        s = side_of(out)
        assert len({s[o] for o in ('q','full','pre','case','note')})==1
        assert max(o['largest'] for o in m['units'])==5
        seen.add(tuple(sorted(s.items())))
    assert len(seen)==1

NUMBER = st.integers(70000000, 70000030)
KEYS = st.fixed_dictionaries({}, optional=dict(pmid=NUMBER, doi=st.integers(0, 30), pmcid=st.integers(0, 30), who=st.integers(0, 30), pmids=st.lists(NUMBER, max_size=2)))

def components(rows):
    "Plainly: sets that grow together"
    names = [{f'{k}{x}' for k,v in o.items() for x in (v if isinstance(v, list) else [v])} for o in rows]
    names = [{n.replace('pmids', 'pmid') for n in o} or {f'row{i}'} for i,o in enumerate(names)]
    groups = []
    for i,o in enumerate(names):
        mine = [g for g in groups if g[0]&o]
        groups = [g for g in groups if not g[0]&o]+[(o.union(*(g[0] for g in mine)), [i, *(j for g in mine for j in g[1])])]
    return [sorted(g[1]) for g in groups]

@settings(max_examples=12, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=60), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_mixture_of_sources(tmp_path_factory, keys, r, n_files):
    "Any documents with any shared names, in any order, in any number of files, alone or on three ranks: no group on both sides, one answer"
    here = tmp_path_factory.mktemp('mix')
    rows = [dict(id=f'd{i}', text=f'Text number {i}, {i*i} words.') | {k:v for k,v in o.items() if k!='who'} |
            dict(who=f'patient {o["who"]}' if 'who' in o else f'none {i}') | ({'doi':f'10.5555/{o["doi"]}'} if 'doi' in o else {}) for i,o in enumerate(keys)]
    rows += [dict(id=f'free{i}', text=f'Free text {i}.', who=f'free {i}') for i in range(80)]
    answers = []
    for k in range(2):
        order = rows[:]
        r.shuffle(order)
        src = here/f'src{k}'
        src.mkdir()
        for j in range(n_files): lines(src/f'f{j}.jsonl', order[j::n_files] or [dict(id=f'e{j}', text=f'Empty {j}.', who=f'e{j}')])
        m = made(src, here/f'out{k}', validation=0.5, group_column='who')
        answers.append({i:s for i,s in side_of(here/f'out{k}').items() if i[0]!='e'})
        assert m['kept']+sum(m['dropped'].values())==m['seen']
    assert answers[0]==answers[1]
    for c in components(keys): assert len({answers[0][f'd{i}'] for i in c})==1
    job = Job(here/'src0', here/'work', near_duplicates='keep', columns=dict(group_column='who'), block_chars=500)
    for rank in range(3): run_rank(job, rank, 3)
    finish(job, here/'ranks', validation=0.5)
    assert (here/'ranks'/'documents.tsv').read_bytes()==(here/'out0'/'documents.tsv').read_bytes()
    assert (here/'ranks'/'datasheet.md').read_bytes()==(here/'out0'/'datasheet.md').read_bytes()

def test_larger_units_do_not_lean_to_one_side(tmp_path):
    "Papers of four documents and single ones are held out equally often"
    rows = [dict(id=f'{k}:{i}', text=f'Part {k} of paper {i}.', pmid=70000000+i, doi=f'10.7/{k}.{i}') for i in range(1500) for k in range(4)]
    made(lines(tmp_path/'a.jsonl', rows), tmp_path/'out')
    held = [o for o in listing(tmp_path/'out') if o[0]=='validation']
    assert abs(len(held)/6000-0.1)<5*(0.1*0.9/1500)**0.5

def test_a_unit_stays_where_it_was(tmp_path):
    "A second source about the same papers moves nothing that was prepared before"
    old = [dict(id=f'pmid:{70000000+i}', text=f'Abstract {i}.') for i in range(300)]
    new = [dict(id=f'w{i}', text=f'Full text {i}.', pmid=70000000+i) for i in range(300)]
    made(lines(tmp_path/'a.jsonl', old), tmp_path/'one')
    made(lines(tmp_path/'b.jsonl', new+old), tmp_path/'two')
    one,two = side_of(tmp_path/'one'),side_of(tmp_path/'two')
    assert one=={k:v for k,v in two.items() if k in one}

@pytest.mark.parametrize('pmid', ['-1', 0, '', None, 'none', 'nan'])
def test_no_number_ties_nothing(pmid, tmp_path):
    m = made(lines(tmp_path/'a.jsonl', [dict(id=f'd{i}', text=f'Text {i}.', pmid=pmid, doi='', pmcid=None) for i in range(60)]), tmp_path/'out')
    assert m['units'][2]['units']==60 and m['leak']['not_checked']==60

def test_all_one_paper_is_refused_with_the_reason(tmp_path):
    rows = [dict(id=f'd{i}', text=f'Part {i} of the paper.', pmid=70000001) for i in range(40)]
    with pytest.raises(ValueError) as e: made(lines(tmp_path/'a.jsonl', rows), tmp_path/'out')
    assert '40 of its documents share a patient, a group or a paper' in ' '.join(e.value.__notes__) and not (tmp_path/'out').exists()

def test_the_datasheet_counts_groups(tmp_path):
    rows = [dict(id=f'd{i}', text=f'Text {i}.', who=f'p{i//3}') for i in range(90)]
    made(lines(tmp_path/'a.jsonl', rows), tmp_path/'out', group_column='who')
    assert '| patient or other group | 30 | 90 | 0 | 0 | 30 | 0 | 0 | 3 |' in (tmp_path/'out'/'datasheet.md').read_text()

def test_the_road_keeps_papers_together():
    docs = [Document(f'{k}:{i}', 'Text.', k, meta=dict(pmid=i+1)) for i in range(200) for k in 'ab']
    a,b = split_documents(docs)
    assert a and b and not {d.meta['pmid'] for d in a} & {d.meta['pmid'] for d in b}

# ---------------------------------------------------------------- what was checked, and what was not

@pytest.mark.parametrize('row', [lambda i: dict(question=f'Does it help {i}?', context=dict(contexts=[f'Ward {i} had {i+40} adults.']), long_answer=f'It did in {i}.', final_decision='yes'),
    lambda i: dict(text=f'Abstract: Ward {i} had {i+40} adults.\nQuestion: Does it help {i}?\nAnswer: yes.'), lambda i: dict(id=f'row {i}', text=f'Ward {i} was quiet.')])
def test_what_has_no_number_was_not_checked(row, tmp_path):
    m = made(lines(tmp_path/'a.jsonl', map(row, range(120))), tmp_path/'out')
    sheet,asked = (tmp_path/'out'/'datasheet.md').read_text(),120 if 'uestion' in str(row(0)) else 0
    assert (m['leak']['not_checked'], m['leak']['questions_not_checked'])==(120, asked)
    said = [o for o in m['notices'] if '120 of 120 documents ask a question' in o and 'could not be checked' in o]
    assert '120 give none and were not checked' in sheet and len(said)==(asked>0)

def test_what_has_a_number_was_checked(tmp_path):
    m = made(lines(tmp_path/'a.jsonl', [dict(id=f'd{i}', pmid=70000000+i, text=f'Ward {i}.') for i in range(60)]), tmp_path/'out')
    assert m['leak']['not_checked']==0 and m['notices']==[]

SHAPES = dict(
    abstract=lambda r: ' '.join(r['context']['contexts']), both=lambda r: f"{r['question']}\n{' '.join(r['context']['contexts'])}",
    prompt=lambda r: render_record(r, answer=False), inside=lambda r: 'A chapter on brolvic fever begins here. '*9+render_record(r)+' And so it ends, as chapters do.'*9,
    shouted=lambda r: ' '.join(r['context']['contexts']).upper().replace('.', ' --'))

def no_interval(first):
    "Invented records without a printed interval: its thirteen words come again in other records"
    return (o for o in map(synthetic_record, range(first, first+500)) if 'CI' not in str(o))

@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('known', ['source','evaluation'])
def test_copies_of_known_test_records(shape, known, tmp_path):
    "40 records that are known by number from the source, or given as evaluation: every copy of these shapes goes, the innocent stay"
    exam = [r | dict(pubid=p) for r,p in zip(no_interval(0), sorted(pubmedqa_test_pmids())[:40])]
    web = [dict(id=f'web:{i}', text=SHAPES[shape](r)) for i,r in enumerate(exam)]
    others = [dict(id=f'ok:{i}', text=render_record(synthetic_record(1000+i))) for i in range(80)]
    lines(tmp_path/'a.jsonl', web+others+(exam if known=='source' else []))
    how = dict(evaluation=lines(tmp_path/'exam.jsonl', exam)) if known=='evaluation' else {}
    m = made(tmp_path/'a.jsonl', tmp_path/'out', test_records='exclude', **how)
    left = side_of(tmp_path/'out')
    assert [v for k,v in left.items() if k.startswith('web') and v=='train']==[]
    assert all(v in ('train','validation') for k,v in left.items() if k.startswith('ok'))
    if known=='source': assert (m['leak']['official_test_records'], m['leak']['test_copies'])==(40, 40)

def test_half_an_abstract_is_not_claimed(tmp_path):
    "The limit, as the datasheet states it"
    exam = [synthetic_record(i) | dict(pubid=p) for i,p in enumerate(sorted(pubmedqa_test_pmids())[:20])]
    part = [dict(id=f'web:{i}', text=' '.join(' '.join(r['context']['contexts']).split()[:14])) for i,r in enumerate(exam)]
    m = made(lines(tmp_path/'a.jsonl', part+exam+[dict(id=f'ok:{i}', text=f'Ward {i}.') for i in range(60)]), tmp_path/'out', test_records='exclude')
    assert m['leak']['test_copies']==0 and 'Not looked for: half an abstract' in (tmp_path/'out'/'datasheet.md').read_text()

def test_a_paper_of_the_exam_under_another_name(tmp_path):
    "The full text has no number, but the DOI of a test record: it is not trained on"
    p = min(pubmedqa_test_pmids())
    rows = [dict(id='a', pmid=p, doi='10.1/t', text='An abstract.'), dict(id='b', doi='10.1/T', text='The full text.'), dict(id='c', doi='10.1/u', text='Another.')]
    m = made(lines(tmp_path/'a.jsonl', rows+[dict(id=f'ok:{i}', text=f'Ward {i}.') for i in range(60)]), tmp_path/'out', test_records='exclude')
    assert side_of(tmp_path/'out')['b']=='dropped: official PubMedQA test record' and m['leak']['test_copies']==1 and side_of(tmp_path/'out')['c']!=side_of(tmp_path/'out')['b']

SECRET = 'the ward of the quiet hill kept a small book in which nobody ever wrote the names of those who left at night'

@pytest.mark.parametrize('form', ['mixed','texts','long','document'])
def test_plain_texts_among_the_evaluation(form, tmp_path):
    "A plain line beside question records, a list of texts, a text longer than a file name: guarded, too"
    exam = lines(tmp_path/'exam.jsonl', [synthetic_record(3), dict(text=SECRET)])
    evaluation = dict(mixed=exam, texts=[SECRET], long=[SECRET*9], document=[Document('x', SECRET, 'y')])[form]
    rows = [dict(id=f'd{i}', text=f'Ward {i} was quiet.') for i in range(60)]+[dict(id=f's{i}', text=f'{i}: {SECRET.upper() if form!="long" else SECRET*9}') for i in range(8)]
    with pytest.raises(ValueError, match='a copy of 1 of the evaluation records'): made(lines(tmp_path/'a.jsonl', rows), tmp_path/'out', evaluation=evaluation)

def test_evaluation_lines_that_are_lost_are_named(tmp_path):
    exam = lines(tmp_path/'exam.jsonl', [dict(text=SECRET), dict(body='What is this?')])
    m = made(lines(tmp_path/'a.jsonl', [dict(id=f'd{i}', text=f'Ward {i} was quiet.') for i in range(60)]), tmp_path/'out', evaluation=exam)
    assert any('not compared: 1 entries' in o and "no 'text' field" in o for o in m['notices'])

def test_content_decides_not_the_date(tmp_path):
    "A file that was changed with size and time kept is encoded anew"
    src = lines(tmp_path/'a.jsonl', [dict(id=f'd{i}', text=f'Ward {i} was quiet.') for i in range(60)])
    job = Job(src, tmp_path/'work')
    def tapes():
        run_rank(job)
        return finish(job, tmp_path/'out')['splits']
    s,before = src.stat(),tapes()
    assert tapes()==before
    src.write_bytes(src.read_bytes().replace(b'quiet', b'noisy'))
    os.utime(src, ns=(s.st_atime_ns, s.st_mtime_ns))
    assert (src.stat().st_size, src.stat().st_mtime_ns)==(s.st_size, s.st_mtime_ns)
    assert tapes()['train']['sha256']!=before['train']['sha256']

# ---------------------------------------------------------------- <|endoftext|>

STORY = [f'Story {i}: the patient came with fever and left after {i} days.' for i in range(200)]
CORPORA = dict(txt=lambda p: (p/'c.txt').write_text('<|endoftext|>'.join(STORY)), jsonl=lambda p: lines(p/'c.jsonl', [dict(text=f'<|startoftext|>{o}<|endoftext|>') for o in STORY]),
    tail=lambda p: lines(p/'c.jsonl', [dict(id=f'a{i}', text='<|endoftext|>\n'.join(STORY[i:i+50])+'<|endoftext|>') for i in range(0, 200, 50)]))

@pytest.mark.parametrize('form', CORPORA)
def test_a_separator_in_the_text(form, tmp_path):
    "Named; ordinary text without the flag; with it 200 documents, and no mark is left in a text"
    CORPORA[form](tmp_path)
    src,tok = next(tmp_path.glob('c.*')),gpt2_tokenizer()
    if form=='txt':
        with pytest.raises(ValueError) as e: made(src, tmp_path/'no')
        assert '199 x in 1 document' in ' '.join(e.value.__notes__) and '--split-at-endoftext' in ' '.join(e.value.__notes__)
    else:
        m = made(src, tmp_path/'no', validation=0.3)
        assert any('200 x in' in o and '--split-at-endoftext' in o for o in m['notices'])
        assert '&lt;\\|endoftext\\|>' in (tmp_path/'no'/'datasheet.md').read_text()
    m = made(src, tmp_path/'out', split_at_endoftext=True)
    texts = [t for s in ('train','validation') for t in tok.decode(TokenDataset(tmp_path/'out', s).tokens.tolist()).split('<|endoftext|>')[:-1]]
    assert sorted(texts)==sorted(STORY) and m['kept']==200 and 'startoftext' not in ''.join(texts)
    job = Job(src, tmp_path/'work', near_duplicates='keep', split_at_endoftext=True)
    run_rank(job)
    assert finish(job, tmp_path/'ranks')['splits']==m['splits']

def test_pieces_of_a_patient_stay_together(tmp_path):
    rows = [dict(id=f'd{i}', who=f'p{i}', text='<|endoftext|>'.join(f'Note {i} {j}.' for j in range(4))) for i in range(60)]
    m = made(lines(tmp_path/'a.jsonl', rows), tmp_path/'out', group_column='who', split_at_endoftext=True)
    sides = defaultdict(set)
    for k,v in side_of(tmp_path/'out').items(): sides[k.partition('#')[0]].add(v)
    assert m['kept']==240 and {len(o) for o in sides.values()}=={1} and m['units'][0]['units']==60

# ---------------------------------------------------------------- rows and signs

@pytest.mark.parametrize('blank', [' ', '\n', '\xa0', '\u3000', ' \n\t', '\r\n', '\u2028 '])
@pytest.mark.parametrize('tail', ['fever', ' fever', "'s", '9', '', '.', '\u4e2d'])
def test_a_long_run_of_white_space(blank, tail):
    "The same ids as tiktoken, where it still manages; at a million characters, where it does not, the text comes back"
    enc = gpt2_tokenizer()
    for n in (29_999, 30_000, 45_000):
        s = f'no{(blank*n)[:n]}{tail}'
        want = enc.encode_ordinary(s)
        assert encode_document(enc, s)==want==encode_texts(enc, [s.encode()])[0].tolist()
    if tail!='fever' and blank!=' ': return                   # the long ones take their time
    s = f'no{(blank*10**6)[:10**6]}{tail} and {(blank*10**6)[:10**6]}end'
    ids = encode_texts(enc, [s.encode()])[0].tolist()
    assert enc.decode(ids)==s and ids==encode_document(enc, s)

@settings(max_examples=200, deadline=None)
@given(st.text('\u0323\u0301\u0344\u0308\u0f71\u0f72\u0f73\u0e39\u05b0ae\u034f\u0345\u00e9\u1e69\u00c5 ', max_size=200))
def test_marks_in_any_order(text): assert normalize(text)==unicodedata.normalize("NFC", text)

def test_80_000_marks_without_order():
    "No text goes to Python's own normalization with a long run of marks out of order, where it is quadratic; the result is NFC's"
    r = random.Random(0)
    s = 'a'+''.join(r.choices('\u0323\u0301', k=4000))
    assert normalize(s)==unicodedata.normalize('NFC', s)
    s,real,long = 'a'+''.join(r.choices('\u0323\u0301\u0344', k=80_000)),unicodedata.normalize,[]
    def seen(form, text):
        if len(text)>99: long.append(text)
        return real(form, text)
    with mock.patch.object(unicodedata, 'normalize', seen): out = normalize(s)
    assert len(long)==1 and [unicodedata.combining(c) for c in long[0]]==sorted(map(unicodedata.combining, long[0]))
    assert unicodedata.is_normalized('NFC', out) and real('NFC', long[0])==out

# ---------------------------------------------------------------- anywhere

EVIL = 'a\x1b[31mred\x07\x9b2J\u202e|<script>alert(1)</script>\r\nx'

def test_names_reach_nobody_raw(tmp_path):
    "Escapes, newline, <script> and | in names and licences: shown in datasheet.md, as text"
    rows = [dict(id=f'd{i}', text=f'Ward {i}.<|endoftext|>', source=EVIL, license=EVIL) for i in range(60)]
    src = tmp_path/('evil\x1b[2Jna|me<b>.jsonl' if os.name!='nt' else 'plain.jsonl')
    made(lines(src, rows), tmp_path/'out')
    sheet = (tmp_path/'out'/'datasheet.md').read_text(encoding='utf-8')
    assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]', sheet) and '<script' not in sheet and '<b>' not in sheet
    table = [o for o in sheet.splitlines() if 'alert' in o and o.startswith('|')]
    assert len(table)==1 and len(re.findall(r'(?<!\\)\|', table[0]))==4 and r'\\x1b' in table[0]

@pytest.mark.parametrize('encoding', ['ascii:strict', 'latin-1', 'cp1252:strict'])
def test_a_terminal_that_is_not_utf_8(encoding, env, tmp_path):
    "A character is lost, never a run; and no control character is sent"
    rows = [dict(id=f'd{i}', text=f'Fièvre {i} 39 °C β.<|endoftext|>', source='wärd\x1b[31m\u4e2d') for i in range(60)]
    src = lines(tmp_path/'été\x1b[2J\u4e2d.jsonl', rows)
    code = 'import sys; from lightbrain.cli import prepare; sys.exit(prepare.shell())'
    p = subprocess.run([sys.executable, '-c', code, '--source', str(src), '--out', str(tmp_path/'out')], env=env | dict(PYTHONIOENCODING=encoding), capture_output=True)
    assert p.returncode==0, p.stderr
    assert b'kept 60' in p.stdout and b'\x1b' not in p.stdout+p.stderr and b'Traceback' not in p.stderr

def test_an_error_shows_no_control_character(env, tmp_path):
    (tmp_path/'a.csv').write_text('id,t\x1b[31mext\n1,Stable.\n')
    code = 'import sys; from lightbrain.cli import prepare; sys.exit(prepare.shell())'
    p = subprocess.run([sys.executable, '-c', code, '--source', str(tmp_path/'a.csv'), '--out', str(tmp_path/'out')], env=env, capture_output=True)
    assert p.returncode==1 and b'\x1b' not in p.stderr and rb't\x1b[31mext' in p.stderr

REFUSES = """import os, stat, errno, sys
real = os.fsync
def fsync(fd):
    if stat.S_ISDIR(os.fstat(fd).st_mode): raise OSError(errno.{}, 'refused')
    return real(fd)
os.fsync = fsync
from lightbrain.cli import prepare
sys.exit(prepare.shell())
"""

@pytest.mark.parametrize('error,survives', [('EINVAL', True), ('EOPNOTSUPP', True), ('EIO', False)])
def test_a_share_that_refuses_fsync(error, survives, env, tmp_path):
    "Said once, and survived; a broken disk is no refusal"
    p = subprocess.run([sys.executable, '-c', REFUSES.format(error), '--source', 'synthetic:200', '--out', str(tmp_path/'out')], env=env, capture_output=True, text=True)
    assert (p.returncode==0)==survives==(tmp_path/'out'/'manifest.json').exists() and 'Traceback' not in p.stderr
    if survives: assert p.stderr.count('does not confirm what it stores')==1 and 'note:' in p.stderr

@given(st.text())
def test_printable(text):
    assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]', printable(text)) and printable(printable(text))==printable(text)

def test_hints_quote_paths_with_blanks(tmp_path):
    from lightbrain.data import load_manifest
    with pytest.raises(ValueError, match=r"--out '.*no set here'"): load_manifest(tmp_path/'no set here')

# ---------------------------------------------------------------- case 32, the data side

def test_a_tape_says_what_is_whose(tmp_path):
    "Two sources: documents.tsv accounts for every token of the validation tape, by source"
    a = lines(tmp_path/'easy.jsonl', [dict(id=f'e{i}', text=f'Case {i}: rest.') for i in range(200)])
    b = lines(tmp_path/'hard.jsonl', [dict(id=f'h{i}', text=f'Case {i}: zoravexil {i*i}.') for i in range(200)])
    made([a, b], tmp_path/'out')
    tape,at,seen = TokenDataset(tmp_path/'out', 'validation').tokens,0,defaultdict(int)
    for side,start,n,_,source,_ in listing(tmp_path/'out'):
        if side!='validation': continue
        assert int(start)==at
        at += int(n)
        seen[source] += int(n)
    assert at==len(tape) and set(seen)=={'easy.jsonl','hard.jsonl'}

def test_generate_from_nothing(command, run):
    "--input \"\" starts a document, and says so; the mark as a prompt is ordinary text, and that is said too"
    for text,said in (('', 'starts a document of its own'), ('<|endoftext|>', 'is ordinary text')):
        p = command('generate', '--model', 'run/model', '--input', text, '--max-new-tokens', 5, cwd=run)
        assert p.returncode==0 and said in p.stderr, p.stderr

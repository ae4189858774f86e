"Data as medicine really brings it: every file is read or named, ids that are ids, patients on one side, rows with anything in them"
import csv, gzip, json, os, subprocess, sys
from datetime import date, datetime, time as clock, timedelta
from decimal import Decimal
from pathlib import Path
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from lightbrain.corpus import pubmedqa_record, render_record
from lightbrain.prep.clean import pmid_of
from lightbrain.prep.cluster import Job, finish, run_rank
from lightbrain.prep.prepare import prepare
from lightbrain.prep.shards import REASONS
from lightbrain.prep.sources import Document, load_documents, load_records, name_of

def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path

def lines(path, rows): return write(path, '\n'.join(map(json.dumps, rows)))

def table(path, rows):
    with open(path, 'w', newline='', encoding='utf-8') as f:
        w = csv.DictWriter(f, list(rows[0]), delimiter='\t' if path.suffix=='.tsv' else ',')
        w.writeheader()
        w.writerows(rows)
    return path

def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path

def note(i): return f'Note {i}: the patient slept {i} hours and ate {3*i} grams.'

def read(source, **how):
    "(documents, the stream with its books)"
    docs = load_documents(source, **how)
    return list(docs),docs

# Every file is read, or named: source -> (documents, what the notice says)

def build(root):
    for i in range(3): lines(root/'data'/f'{i}.jsonl', [dict(id=f'{i}{j}', text=note(10*i+j)) for j in range(4)])
    lines(root/'disk'/'2024'/'b.jsonl', [dict(id=f'b{j}', text=note(100+j)) for j in range(5)])

LINKS = {
    'a linked folder': ({'data/2024': 'disk/2024'}, 17, ''),
    'a linked folder in a linked folder': ({'data/all': 'disk', 'disk/2024/more': 'more'}, 18, ''),
    'a circle': ({'data/up': 'data'}, 12, "1 link(s) to a folder that is read anyway"),
    'a link to the folder above': ({'data/up': '.'}, 12, "or that this one lies in"),
    'a dangling link': ({'data/c.jsonl': '/nonexistent/annex/object'}, 12, '1 link(s) to nothing'),
    'a linked file': ({'data/x.jsonl': 'disk/2024/b.jsonl'}, 17, ''),
    'a second name of a file': ({'data/latest.jsonl': 'data/2.jsonl'}, 12, '1 link(s) to a file that is read'),
    'a link that links to itself': ({'data/self.jsonl': 'data/self.jsonl'}, 12, '1 link(s) to nothing')}

@pytest.mark.parametrize('case', LINKS)
def test_links(case, tmp_path):
    build(tmp_path)
    lines(tmp_path/'more'/'m.jsonl', [dict(id='m', text=note(999))])
    made,n,said = LINKS[case]
    for new,old in made.items(): (tmp_path/new).symlink_to(old if old.startswith('/') else tmp_path/old)
    kept,docs = read(tmp_path/'data')
    assert len(kept)==n and len({d.id for d in kept})==n and said in ''.join(docs.notices) and bool(docs.notices)==bool(said)

STRAY = {                                                    # a file beside twelve notes -> its reason
    '.cache/b.jsonl': ('{"text": "hidden"}', '1 hidden'), '.DS_Store': ('x', '1 hidden'),
    'metadata.json': ('{"name": "x", "version": 1}', '1 .json without records of PubMedQA'),
    'list.json': ('[1, 2]', '1 .json without'), 'half.json': ('{"a', '1 .json without'),
    'scan.pdf': ('%PDF', '1 .pdf'), 'notes.docx.gz': ('x', '1 .docx.gz'), 'Makefile': ('all:', '1 without an ending'),
    'config.xml': ('<config/>', '1 .xml of another dialect'), 'codes.csv': ('code,name\n1,Fever\n', "1 .csv without 'text'"),
    'README.txt': ('About these notes', '1 .txt about the others'),
    'discharge_detail.csv': ('note_id,subject_id,field_name,field_value,field_ordinal\n9-DS-1,9,author,___,1\n', "1 .csv without 'text'")}

@pytest.mark.parametrize('name', STRAY)
def test_stray_files(name, tmp_path):
    build(tmp_path)
    text,said = STRAY[name]
    write(tmp_path/'data'/name, text)
    kept,docs = read(tmp_path/'data')
    assert len(kept)==12 and said in docs.notices[0] and docs.notices[0].startswith("1 file(s) in 'data' are not read")

@pytest.mark.parametrize('name', ['Attribution_of_risk.jsonl', 'license_plates.csv', 'README_first.jsonl', 'Changelog of a ward.txt'])
def test_names_that_only_begin_like_a_readme(name, tmp_path):
    path = tmp_path/name
    if path.suffix=='.csv': table(path, [dict(text=note(1))])
    else: write(path, json.dumps(dict(text=note(1))))
    write(tmp_path/'z.txt', 'One more.')
    assert len(read(tmp_path)[0])==2

def test_folders_and_files_that_may_not_be_read(tmp_path, monkeypatch):
    build(tmp_path)
    (tmp_path/'data'/'locked').mkdir()
    scandir,access = os.scandir,os.access
    def refuse(p):
        if Path(p).name=='locked': raise PermissionError(13, 'Permission denied', str(p))
        return scandir(p)
    monkeypatch.setattr(os, 'scandir', refuse)
    monkeypatch.setattr(os, 'access', lambda p, mode: not str(p).endswith('2.jsonl') and access(p, mode))
    kept,docs = read(tmp_path/'data')
    assert len(kept)==8 and '1 folder(s) that cannot be opened (PermissionError)' in docs.notices[0] and '1 that may not be read' in docs.notices[0]

def test_a_pattern_that_matches_folders(tmp_path):
    for ward in 'abc': lines(tmp_path/'w'/ward/'deep'/'n.jsonl', [dict(id=f'{ward}{i}', text=note(i)) for i in range(3)])
    (tmp_path/'w'/'d').symlink_to('nowhere')
    kept,docs = read(f'{tmp_path}/w/*')
    assert len(kept)==9 and '1 link(s) to nothing' in docs.notices[0]
    assert len(read(f'{tmp_path}/w/**')[0])==len(read(f'{tmp_path}/w/**/*')[0])==9          # once each, by file or by folder

@pytest.mark.parametrize('rows', [1, 2500])
def test_save_to_disk(rows, tmp_path):
    from datasets import Dataset, DatasetDict
    o = Dataset.from_dict(dict(id=list(range(rows)), text=list(map(note, range(rows)))))
    o.save_to_disk(tmp_path/'saved')
    kept,docs = read(tmp_path/'saved')
    assert [d.text for d in kept]==list(map(note, range(rows))) and '2 .json' in docs.notices[0]
    arrow, = (tmp_path/'saved').glob('*.arrow')
    assert [d.text for d in read(arrow)[0]]==list(map(note, range(rows)))
    DatasetDict(train=o, test=o.map(lambda r: dict(id=r['id']+rows))).save_to_disk(tmp_path/'both')
    assert len(read(tmp_path/'both')[0])==2*rows
    data = arrow.read_bytes()
    for cut in (0, 6, len(data)//2, len(data)-8):
        with pytest.raises(ValueError, match='complete|finished'): read(write(tmp_path/'cut.arrow', data[:cut]))

EMPTY = ['', ' ', ',', 'notes.jsonl,', ',notes.jsonl', 'notes.jsonl,,notes.jsonl', [''], ['notes.jsonl', '']]

@pytest.mark.parametrize('source', EMPTY)
def test_an_empty_source_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path/'notes.jsonl', [dict(text=note(i)) for i in range(9)])
    with pytest.raises(ValueError, match='names nothing'): load_documents(source)
    with pytest.raises(ValueError, match='names nothing'): prepare(source, tmp_path/'out', progress=False)

def test_no_source_at_all():
    for o in (None, 7, b'notes', {'text': 'Fever.'}):
        with pytest.raises(ValueError, match='no source'): load_documents(o)
    with pytest.raises(ValueError, match='no document with text|names nothing'): prepare([], 'out', progress=False)

@pytest.mark.skipif(sys.platform!='linux', reason='names of files are bytes on Linux only')
@pytest.mark.parametrize('name', [b'caf\xe9.jsonl', b'\xff\xfe.jsonl', b'a\x1b[31m\n.jsonl'])
def test_names_that_are_not_utf8(name, tmp_path):
    folder = os.fsencode(tmp_path/'notes')
    os.mkdir(folder)
    for n in (name, b'\xfd'+name):
        with open(os.path.join(folder, n), 'wb') as f: f.write(b'\n'.join(json.dumps(dict(text=f'{n} {note(i)}')).encode() for i in range(60)))
    path = os.fsdecode(os.path.join(folder, name))
    for source,n in ((path, 60), (os.fsdecode(folder), 120)):
        m = prepare(source, tmp_path/'out', progress=False, near_duplicates='keep')
        assert m['kept']==n and json.loads((tmp_path/'out'/'manifest.json').read_text())['source'].isprintable()
    ids = (tmp_path/'out'/'documents.tsv').read_text(encoding='utf-8').splitlines()[1:]
    assert len({o.split('\t')[3] for o in ids})==120 and all(o.replace('\t', ' ').isprintable() for o in ids)

BOMBS = {'a.txt': b'', 'a.jsonl': b'{"text": "', 'a.csv': b'id,text\n1,', 'b.csv': b'id,text\n1,"', 'a.tsv': b'id\ttext\n1\t', 'header.csv': b'', 'commas.csv': b'id,text\n'}

@pytest.mark.skipif(sys.platform!='linux', reason='limits memory as Linux does')
@pytest.mark.parametrize('name', BOMBS)
def test_one_line_of_a_gigabyte(name, tmp_path):
    "One sentence, in bounded memory"
    path = tmp_path/f'{name}.gz'
    path.write_bytes(gzip.compress(BOMBS[name])+gzip.compress((b'a,' if name=='commas.csv' else b'pa')*2**19, 1)*2**10)
    code = ("import sys, resource; from lightbrain.prep.sources import load_documents\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
            "try: list(load_documents(sys.argv[1])); print('read')\n"
            "except ValueError as e: print('ValueError', e)")
    p = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'))
    assert p.returncode==0 and p.stdout.startswith('ValueError') and 'characters' in p.stdout and path.name in p.stdout, p.stdout+p.stderr[-500:]

def test_control_characters_in_a_header(tmp_path):
    for head in ('id,te\x1b[31mxt', 'id,a\x1b]0;x\x07,a\x1b]0;x\x07', 'te\x00xt,b'):
        with pytest.raises(ValueError) as e: read(write(tmp_path/'x.csv', f'{head}\n1,a\n'))
        assert str(e.value).isprintable()
        with pytest.raises(ValueError) as e: read(lines(tmp_path/'x.jsonl', [{k: 'a b' for k in set(head.split(','))}]))
        assert str(e.value).isprintable()

# Ids that are ids

@pytest.mark.parametrize('nothing', [float('nan'), None, '', ' ', 'NaN', 'null', 'None', '<NA>'])
def test_nothing_is_no_id(nothing, tmp_path):
    rows = [dict(id=nothing if i%2 else i, text=note(i), group='g') for i in range(60)]
    as_text = [o | dict(id='' if o['id'] is None else str(o['id'])) for o in rows]
    for path in (lines(tmp_path/'a.jsonl', rows), table(tmp_path/'a.csv', as_text)):
        kept,_ = read(path)
        assert len({d.id for d in kept})==60 and {d.id for d in kept if not d.id.startswith(path.name)}=={str(i) for i in range(0, 60, 2)}
        assert prepare(path, tmp_path/'out', validation=0.3, progress=False, near_duplicates='keep')['kept']==60

def test_floats_in_an_id_column(tmp_path):
    rows = [dict(id=float('nan') if i%2 else float(i), text=note(i)) for i in range(60)]
    assert [d.id for d in read(parquet(tmp_path/'a.parquet', rows))[0]][:3]==['0', 'a.parquet:line2', '2']

REPEATS = {'four notes a patient': lambda i: i//4, 'a ward': lambda i: 'ABC'[i%3], 'one pair far apart': lambda i: 7 if i in (5, 1999) else 10_000+i,
           'only the last': lambda i: 1 if i==1999 else i}

@pytest.mark.parametrize('case', REPEATS)
@pytest.mark.parametrize('kind', [table, lines, parquet])
def test_an_id_that_repeats_is_refused(case, kind, tmp_path):
    rows = [dict(id=REPEATS[case](i), number=f'n{i}', text=note(i)) for i in range(2000)]
    path = kind(tmp_path/f'ward.{dict(table="csv", lines="jsonl", parquet="parquet")[kind.__name__]}', rows)
    with pytest.raises(ValueError, match=r"so it is no id.* such as number, with id_column.*use group_column='id' \(--group-column id\)"): read(path)
    kept,_ = read(path, id_column='number')
    assert len({d.id for d in kept})==2000
    kept,_ = read(path, group_column='id')
    assert len({d.id for d in kept})==2000 and [d.group for d in kept]==[str(o['id']) for o in rows]

def test_ids_that_may_repeat(tmp_path):
    "A whole row twice is a copy, an empty text is nobody's; PubMed's numbers have versions; another file has its own ids"
    same = [dict(id=1, text=note(1)), dict(id=1, text=note(1)), dict(id=1, text=' '), dict(id='pmid:7', text=note(2)), dict(id='pmid:7', text=note(3))]
    a,b = (lines(tmp_path/name, same+[dict(id='a', text=name)]) for name in ('a.jsonl','b.jsonl'))
    assert len(read([a, b])[0])==10

# Patients on one side

MIMIC = 'note_id subject_id hadm_id note_type note_seq charttime storetime text'.split()

def mimic(path, patients=30, each=4, kind='DS'):
    rows = [dict(zip(MIMIC, (f'{90_000_000+s}-{kind}-{k+1}', 90_000_000+s, 80_000_000+4*s+k, kind, k+1, '2150-01-01 00:00:00', '', f' \nName:  ___\n\nPatient {s} of ___, {kind}: {note(10*s+k)}')))
            for s in range(patients) for k in range(each)]
    return rows,(parquet if path.suffix=='.parquet' else table)(path, rows)

@pytest.mark.parametrize('name', ['discharge.csv', 'radiology.csv', 'mine.parquet'])
@pytest.mark.parametrize('prefix', ['', 'noteevents:'])
def test_mimic_iv_note(name, prefix, tmp_path):
    rows,path = mimic(tmp_path/name)
    kept,docs = read(f'{prefix}{path}')
    assert [(d.id, d.group, d.text) for d in kept]==[(o['note_id'], str(o['subject_id']), o['text']) for o in rows]
    assert all('Name:  ___' in d.text for d in kept) and {d.source for d in kept}=={'MIMIC-IV-Note'} and 'PhysioNet' in docs.notices[-1]
    assert not any(pmid_of(d) for d in kept)
    by_stay,_ = read(path, group_column='hadm_id')
    assert [d.group for d in by_stay]==[str(o['hadm_id']) for o in rows]
    with pytest.raises(ValueError, match='no value in the group column'): read(path, group_column='ward')

def test_mimic_iv_note_prepared(tmp_path):
    rows,path = mimic(tmp_path/'notes'/'discharge.csv') if (tmp_path/'notes').mkdir() is None else None
    mimic(tmp_path/'notes'/'radiology.csv', kind='RR')
    write(tmp_path/'notes'/'discharge_detail.csv', 'note_id,subject_id,field_name,field_value,field_ordinal\n9-DS-1,9,author,___,1\n')
    m = prepare(tmp_path/'notes', tmp_path/'out', validation=0.3, progress=False, near_duplicates='keep')
    sides = {}
    for o in (tmp_path/'out'/'documents.tsv').read_text().splitlines()[1:]: sides.setdefault(o.split('\t')[3].split('-')[0], set()).add(o.split('\t')[0])
    assert m['kept']==240 and len(sides)==30 and all(len(o)==1 for o in sides.values()) and any('PhysioNet' in o for o in m['notices'])
    assert any("1 .csv without 'text'" in o for o in m['notices'])

@pytest.mark.parametrize('column', ['subject_id', 'patient_id', 'PatientID', 'SUBJECT_ID', 'person_id', 'hadm_id'])
@pytest.mark.parametrize('kind', [table, lines, parquet])
def test_a_patient_column_is_a_group(column, kind, tmp_path):
    rows = [{'id':i, column:100+i//4, 'text':note(i)} for i in range(40)]
    kept,docs = read(kind(tmp_path/f'a.{dict(table="csv", lines="jsonl", parquet="parquet")[kind.__name__]}', rows))
    assert [d.group for d in kept]==[str(100+i//4) for i in range(40)] and sum(f"'{column}'" in o for o in docs.notices)==1
    plain = [{'id':i, 'patients':100+i//4, 'text':note(i)} for i in range(40)]                 # negative control
    kept,docs = read(lines(tmp_path/'b.jsonl', plain))
    assert not any(d.group for d in kept) and not docs.notices

def test_patients_in_other_shapes(tmp_path):
    rows = [dict(text=note(1), meta=dict(subject_id=5)), dict(text=note(2), subject_id=5.0, hadm_id=9), dict(text=note(3), subject_id=float('nan'))]
    kept,docs = read(lines(tmp_path/'a.jsonl', rows))
    assert [d.group for d in kept[:2]]==['5','5'] and kept[2].group.startswith('text:') and any("1 row(s) without a 'subject_id'" in o for o in docs.notices)

@pytest.mark.parametrize('a,b', [(101, 101.0), ('101', '101.0'), (101, ' 101'), (Decimal('101'), np.int64(101)), (np.float64(101), '101')])
def test_101_and_101_point_0(a, b):
    assert name_of(a)==name_of(b)=='101'
    assert len({d.group for d in load_documents([dict(text=note(i), who=o) for i,o in enumerate((a, b))], group_column='who')})==1

@pytest.mark.parametrize('layout', ['files/p10/p1000003{i}/s5{k}.txt', 'p1000003{i}/s5{k}/x.txt', 'ward/patient_{i}/{k}.txt', 'sub-0{i}/ses-{k}/note.txt', 'Subject {i}/{k}.xml'])
def test_folders_of_patients(layout, tmp_path):
    medquad = '<Document id="{i}.{k}" source="X"><QAPairs><QAPair><Question>Q?</Question><Answer>A {i} {k}.</Answer></QAPair></QAPairs></Document>'
    for i in range(5):
        for k in range(3): write(tmp_path/layout.format(i=i, k=k), (medquad if layout.endswith('xml') else 'Patient {i}, note {k}.').format(i=i, k=k))
    kept,docs = read(tmp_path)
    assert len(kept)==15 and len({d.group for d in kept})==5 and all(d.group for d in kept) and sum('folder of one patient' in o for o in docs.notices)==1
    named = sorted(tmp_path.rglob('s5*.txt'))
    if 'p10/' in layout: assert {d.group for d in read(named)[0]}=={f'1000003{i}' for i in range(5)}     # one by one, too, and as a table would say it

def test_folders_that_are_no_patients(tmp_path):
    for o in ('p1/a.txt', 'part2/b.txt', 'notes-2024/c.txt', 'patients/d.txt', 'page10/e.txt'): write(tmp_path/o, o)
    kept,docs = read(tmp_path)
    assert len(kept)==5 and not any(d.group for d in kept) and not docs.notices

def test_group_by_folder(tmp_path):
    for i in range(4):
        for k in range(3): write(tmp_path/'all'/f'ward{i}'/f'{k}.txt', f'Ward {i}, note {k}.')
    lines(tmp_path/'all'/'ward0'/'more.jsonl', [dict(id=9, text=note(9), subject_id=1)])
    kept,_ = read(tmp_path/'all', group_by='folder')
    assert {d.id.split('/')[0]: d.group for d in kept if '/' in d.id}=={f'ward{i}': f'all/ward{i}' for i in range(4)} and len({d.group for d in kept})==4
    assert not any(d.group for d in read(tmp_path/'all')[0] if d.id!='9')                                   # negative control
    for bad,why in ((dict(group_by='file'), "can be 'folder'"), (dict(group_by='folder', group_column='id'), 'one of them')):
        with pytest.raises(ValueError, match=why): load_documents(tmp_path/'all', **bad)
    for source in ('synthetic:5', [dict(text='Fever.')]):
        with pytest.raises(ValueError, match='in no folder'): load_documents(source, group_by='folder')

JATS = '<article><front><article-meta><article-id pub-id-type="pmid">{i}</article-id><title-group><article-title>T{i}</article-title></title-group></article-meta></front><body><p>P {i}.</p></body></article>'
CITE = '<PubmedArticle><MedlineCitation><PMID>{i}</PMID><Article><ArticleTitle>T{i}</ArticleTitle><Abstract><AbstractText>A {i}.</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>'
RECORD = dict(question='Does it help?', context=dict(contexts=['Forty adults.']), long_answer='It did.', final_decision='yes')
AUTHORS = dict(QUESTION='Does it help?', CONTEXTS=['Forty adults.'], LONG_ANSWER='It did.', final_decision='yes', YEAR='2010')

def test_group_column_for_every_reader(tmp_path):
    t,ds = tmp_path,[(write(tmp_path/'a.nxml', JATS.format(i=7)), 'title', 'T7'), (write(tmp_path/'p.xml', f'<PubmedArticleSet>{CITE.format(i=8)}</PubmedArticleSet>'), 'title', 'T8'),
        (write(tmp_path/'m.xml', '<Document id="1" source="X"><Focus>Fever</Focus><QAPairs><QAPair><Question>Q</Question><Answer>A</Answer></QAPair></QAPairs></Document>'), 'focus', 'Fever'),
        (write(tmp_path/'ori.json', json.dumps({'9': AUTHORS})), 'YEAR', '2010'), (lines(tmp_path/'r.jsonl', [RECORD | dict(pubid=3, ward=4)]), 'ward', '4'),
        (parquet(tmp_path/'t.parquet', [dict(text=note(1), ward=5)]), 'ward', '5'), (table(tmp_path/'t.csv', [dict(text=note(1), ward=6)]), 'ward', '6')]
    for path,column,group in ds:
        assert [d.group for d in read(path, group_column=column)[0]]==[group], path
        with pytest.raises(ValueError, match="'nowhere'"): read(path, group_column='nowhere')
    kept,docs = read([ds[0][0], ds[1][0], ds[-1][0]], group_column='ward')            # a table beside articles: the others keep their own
    assert [d.group for d in kept]==['','','6'] and "2 file(s), such as 'a.nxml', have no 'ward'" in docs.notices[0]

def test_notices_of_readers_on_many_machines(tmp_path):
    rows = [dict(id=i, subject_id=i//2, text=note(i)) for i in range(80)]
    for k in range(2): lines(tmp_path/'in'/f'{k}.jsonl', [o | dict(id=f'{k}.{o["id"]}', text=f'{k} {o["text"]}') for o in rows])
    write(tmp_path/'in'/'stray.tsv', 'id\ttext\n1\t"Stable" was her word.\n')
    m = prepare(tmp_path/'in', tmp_path/'a', progress=False, near_duplicates='keep')
    job = Job(tmp_path/'in', tmp_path/'work', near_duplicates='keep')
    for rank in range(2): run_rank(job, rank, 2)
    assert finish(job, tmp_path/'b')==m and len(m['notices'])==2

@pytest.mark.parametrize('prefix,kept', [('', 80), ('ward:', 80), ('2024/', 80), ('pmid:', 40), ('pmc:PMC', 40), ('doi:10.1/', 40)])
def test_only_papers_have_versions(prefix, kept, tmp_path):
    "Two files count their rows alike and name one source: nothing is replaced, unless the ids are names of papers"
    for k in range(2): lines(tmp_path/f'{k}.jsonl', [dict(id=f'{prefix}{i+71000000}', source='ward', text=f'{k} {note(i)}') for i in range(40)])
    m = prepare([tmp_path/f'{k}.jsonl' for k in range(2)], tmp_path/'out', progress=False, near_duplicates='keep')
    assert sum(o['documents'] for o in m['splits'].values())==kept and m['dropped']==({} if kept==80 else {REASONS[1]: 40})

# Rows with anything in them

def quoted(n, at, sep, say='I feel well today', close=3):
    "A table of n rows, one text of which begins with a quote that another one ends with"
    body = [(str(i), f'Note {i} the patient is well.') for i in range(1, n+1)]
    body[at-1] = body[at-1][0],f'"{say}'
    if close: body[at-1+close] = body[at-1+close][0],'She said so too"'
    return body,'\n'.join(map(sep.join, [('id','text'), *body]))+'\n'

QUOTES = {f'{kind}, row {at}, closed after {close}': (kind, at, close) for kind in ('tsv','csv') for at,close in ((5, 4), (1, 1), (30, 9), (12, 20))}
QUOTES |= {f'tsv, row {at}, never closed': ('tsv', at, 0) for at in (1, 20, 40)}

@pytest.mark.parametrize('case', QUOTES)
def test_a_stray_quote_swallows_no_row(case, tmp_path):
    kind,at,close = QUOTES[case]
    body,text = quoted(40, at, '\t' if kind=='tsv' else ',', close=close)
    kept,docs = read(write(tmp_path/f'a.{kind}', text))
    assert [(d.id, d.text) for d in kept]==body and f'first in line {at+1}' in docs.notices[0]
    assert read(write(tmp_path/f'b.{kind}', text.replace('"', '')))[1].notices==[]                  # negative control

def test_quotes_that_say_what_they_mean(tmp_path):
    rows = [dict(id=i, text=o) for i,o in enumerate(['Two\nlines', 'A "word".', 'tab\there, comma', 'Takes\n\n\nnothing, now', '"', '""', 'end"', 'a\r\nb'])]
    for kind in ('csv','tsv'):
        kept,docs = read(table(tmp_path/f'a.{kind}', rows))
        assert [d.text for d in kept]==[o['text'] for o in rows] and not docs.notices
    kept,docs = read(write(tmp_path/'w.tsv', 'id\ttext\n1\t"Stable" was her word.\n2\tShe is 5\'6" tall.\n'))
    assert [d.text for d in kept]==['"Stable" was her word.', 'She is 5\'6" tall.']
    for cut in ('id,text\n1,"never closed', 'id\ttext\n1\t"never closed'):
        with pytest.raises(ValueError, match='left open'): read(write(tmp_path/('c.tsv' if '\t' in cut else 'c.csv'), cut))
    kept,docs = read(write(tmp_path/'l.csv', 'id,text\n5,"Takes\n1, aspirin\n2, zoravexil\ndaily"\n'))
    assert len(kept)==1 and 'first in line 2' in docs.notices[0]                                   # in doubt: whole, and said

ODD = [datetime(2024, 1, 1, 12), date(2024, 1, 1), clock(12, 30), timedelta(days=1), b'\0\1', b'text', Decimal('1.5'), float('nan'), float('inf'), [b'a', b'\xff'], {'when': date(2024, 1, 1)}, None]

@pytest.mark.parametrize('odd', ODD, ids=lambda o: f'{type(o).__name__} {str(o)[:12]}')
def test_records_with_anything_in_them(odd, tmp_path):
    rows = [RECORD | dict(pubid=72_000_000+i, question=f'Does it help {i}?', extra=odd) for i in range(60)]
    m = prepare(parquet(tmp_path/'pqa.parquet', rows), tmp_path/'a', progress=False, near_duplicates='keep')
    asked = [json.loads(o, parse_constant=pytest.fail) for o in (tmp_path/'a'/'questions.jsonl').read_text().splitlines()]
    assert m['kept']==60 and asked and all('extra' in o for o in asked)
    m = prepare(rows, tmp_path/'b', progress=False, near_duplicates='keep')
    assert m['kept']==60
    plain = [dict(id=i, text=note(i), extra=odd) for i in range(60)]
    assert prepare(parquet(tmp_path/'plain.parquet', plain), tmp_path/'c', progress=False, near_duplicates='keep')['kept']==60

def test_columns_of_parquet(tmp_path):
    texts = list(map(note, range(3000)))
    cols = dict(string=pa.array(texts), large=pa.array(texts, pa.large_string()), dictionary=pa.array(texts).dictionary_encode(), view=pa.array(texts, pa.string_view()))
    for k,c in cols.items():
        pq.write_table(pa.table({'id':range(3000), 'text':c}), tmp_path/f'{k}.parquet', row_group_size=700)
        assert [d.text for d in read(tmp_path/f'{k}.parquet')[0]]==texts
    pq.write_table(pa.table({'id':range(9), 'text':pa.array(np.arange(9.))}), tmp_path/'float.parquet')
    with pytest.raises(ValueError, match="no text, but a number, in column 'text' in any of its 9 rows"): read(tmp_path/'float.parquet')
    pq.write_table(pa.table({'text':pa.array([], pa.string())}), tmp_path/'zero.parquet')
    assert read(tmp_path/'zero.parquet')[0]==[]

def test_rows_of_python(tmp_path):
    import pandas as pd
    from datasets import Dataset, DatasetDict
    texts = list(map(note, range(60)))
    rows = [dict(id=f'n{i}', text=o, subject_id=i//2, when=datetime(2024, 1, 1)) for i,o in enumerate(texts)]
    df,hf = pd.DataFrame(rows),Dataset.from_list(rows)
    every = dict(texts=texts, tuple=tuple(texts), generator=(o for o in texts), series=pd.Series(texts), array=np.array(texts), rows=rows, row_generator=iter(rows), df=df, hf=hf,
        stream=hf.to_iterable_dataset(), splits=DatasetDict(train=hf), arrow=pa.Table.from_pylist(rows), documents=[Document(f'n{i}', o, 'me') for i,o in enumerate(texts)])
    for name,o in every.items():
        m = prepare(o, tmp_path/'out', validation=0.3, progress=False, near_duplicates='keep')
        assert m['kept']==60 and m['seen']==60, name
        docs = (tmp_path/'out'/'documents.tsv').read_text().splitlines()[1:]
        assert ({d.split('\t')[3] for d in docs}=={f'n{i}' for i in range(60)})==(name not in ('texts','tuple','generator','series','array')), name
    assert [d.group for d in load_documents(df)]==[str(i//2) for i in range(60)]
    docs = load_documents(hf)
    assert len(list(docs))==len(list(docs))==60                                               # again and again
    once = load_documents(iter(rows))
    list(once)
    with pytest.raises(ValueError, match='once only'): list(once)
    gaps = load_documents(pd.DataFrame(dict(id=[1, None, 3], text=['A.', None, 'C.'])))
    assert [d.id for d in gaps]==['1','3'] and gaps.dropped=={"no 'text' field":1}
    with pytest.raises(ValueError, match="no column 'text'; it has id, when"): load_documents(df[['id','when']])
    with pytest.raises(ValueError, match='no id'): list(load_documents([dict(id=1, text=o) for o in texts]))
    assert len(load_records([RECORD | dict(pubid=1), AUTHORS]))==2

def test_lists_of_names_stay_lists_of_names(tmp_path):
    a = lines(tmp_path/'my notes.jsonl', [dict(text=note(1))])
    assert len(list(load_documents([str(a), 'synthetic:2'])))==3
    for o in (['missing.jsonl'], [str(tmp_path/'no such.jsonl'), 'synthetic:2'], ['nothing-here'], ['my notes.txt', 'Fever fell.']):
        with pytest.raises(ValueError, match='no file or folder'): load_documents(o)

# Questions

@pytest.mark.parametrize('fold', [str.upper, str.title, lambda s: s+' ', lambda s: f'\t{s}\n', lambda s: f'{s}.'])
def test_answers_fold_case_and_blanks(fold, tmp_path):
    said = ['yes','no','maybe']*10
    rows = [RECORD | dict(pubid=73_000_000+i, question=f'Does it help {i}?', final_decision=fold(o)) for i,o in enumerate(said)]
    assert [o['final_decision'] for o in load_records(lines(tmp_path/'a.jsonl', rows))]==said
    authors = {str(73_000_000+i): AUTHORS | dict(final_decision=fold(o)) for i,o in enumerate(said)}
    assert [o['final_decision'] for o in load_records(write(tmp_path/'a.json', json.dumps(authors)))]==said
    assert pubmedqa_record(RECORD | dict(pubid=1, final_decision='Unclear'))['final_decision']=='Unclear'      # what is none of the three stays

@pytest.mark.parametrize('asked', ['2020-01-01', 5, {'a': 1}, ['Is it?'], [['Is it?']], [['Is it?', None]], [['a', 'b', 'c']], ['ab']])
def test_a_foreign_asked_is_refused(asked, tmp_path):
    for f in (render_record, pubmedqa_record):
        with pytest.raises(ValueError, match="its 'asked' must be a list of pairs"): f(RECORD | dict(pubid=1, asked=asked))
    with pytest.raises(ValueError, match="a.jsonl, line 1: .*'asked' must be"): read(lines(tmp_path/'a.jsonl', [RECORD | dict(pubid=1, asked=asked)]))
    assert render_record(RECORD | dict(asked=[['Is it?', 'no']])).endswith('Question: Is it?\nAnswer: no.')

def test_records_in_json_lines(tmp_path):
    kept,_ = read(lines(tmp_path/'source.jsonl', [AUTHORS | dict(QUESTION=f'Does it help {i}?') for i in range(20)]))
    assert len(kept)==20 and all(d.meta['record']['final_decision']=='yes' for d in kept) and kept[3].text==render_record(RECORD | dict(question='Does it help 3?'))
    assert read(lines(tmp_path/'n.jsonl', [AUTHORS | dict(pmid='123')]))[0][0].id=='pmid:123'

FOREIGN = {'bigbio': (dict(id='0', question='Does it help?', context='Trial 0 had 40 adults in ward 0.', answer=['yes']), 'context'),
    'medmcqa': (dict(id='0', question='Which drug is given?', opa='x', opb='y', cop=1, exp=None), 'question'), 'omop': (dict(note_id=1, note_text='She slept well.'), 'note_text')}

@pytest.mark.parametrize('name', FOREIGN)
def test_foreign_questions_are_refused_with_their_fields(name, tmp_path):
    row,column = FOREIGN[name]
    rows = [row]*40
    with pytest.raises(ValueError, match=f"no column 'text' in any of its 40 rows.*it has {', '.join(row)}.*--text-column {column}"): read(lines(tmp_path/'a.jsonl', rows))
    lines(tmp_path/'f'/'a.jsonl', rows)
    lines(tmp_path/'f'/'b.jsonl', [dict(text=note(1))])
    kept,docs = read(tmp_path/'f')                                                            # beside others: counted and named
    assert len(kept)==1 and docs.dropped=={"no 'text' field":40} and f'--text-column {column}' in docs.notices[0]

"Every collected case of data as medicine really brings it, in ../shared/cases: the input that is there, and what is right, one line a case"
import csv, os, re, shutil, subprocess, sys
from pathlib import Path
import pytest
import torch
from conftest import SHARED
from lightbrain import cli
from lightbrain.data import TokenDataset
from lightbrain.evaluate import pubmedqa
from lightbrain.model import GPT, GPTConfig
from lightbrain.prep.clean import normalize
from lightbrain.prep.prepare import prepare
from lightbrain.prep.sources import load_documents, load_records
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import gpt2_tokenizer

CASES = SHARED.parent/'cases'
pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the collected cases lie beside the repository, on the maintainers' machines only")
SMALL = dict(n_layer=1, n_head=2, n_embd=32, block_size=32, dropout=0.)

# What is asked of a case; each works in a copy of its folder

def texts(source, **how): return [normalize(o.text) for o in load_documents(source, **how)]

def facts(source, *fields):
    "Of each document: id, licence, and fields of its meta"
    return [(o.id, o.license, *map(o.meta.get, fields)) for o in load_documents(source)]

def books(source, **how):
    "(documents kept, sum of those dropped, what the notices say)"
    docs = load_documents(source, **how)
    n = sum(1 for _ in docs)
    return n,docs.dropped.total(),' '.join(docs.notices)

def made(source, **how):
    "The manifest of a prepared set; what was said instead, if it was refused"
    try: return prepare(source, 'out', progress=False, workers=1, **how)
    except ValueError as e: return ' '.join([str(e), *getattr(e, '__notes__', ())])

def kept(source, **how): return sum(o['documents'] for o in made(source, **how)['splits'].values())

def says(said, *words):
    "Those of the words that are missing"
    said = ' '.join(said['notices']) if isinstance(said, dict) else said
    return [o for o in words if o not in said]

def listing():
    "(side, id) of all documents of the set"
    rows = [o.split('\t') for o in Path('out/documents.tsv').read_text().splitlines()[1:]]
    return [(o[0], o[3]) for o in rows]

def on_both_sides(source, unit_of, **how):
    "Units that have a document on each side; None if one side is empty"
    made(source, **how)
    train,held = ({unit_of(id) for side,id in listing() if side==name} for name in ('train','validation'))
    return train & held if train and held else None

def sheet(source):
    made(source)
    return Path('out/datasheet.md').read_text()

def settings(name):
    try: o = TrainConfig.from_yaml(f'{name}.yaml')
    except ValueError as e: return str(e)
    return o.preset,o.lr

def scored(name):
    "(questions that are scored, left out) by some model"
    torch.manual_seed(0)
    r = pubmedqa(GPT(GPTConfig(**SMALL)), load_records(f'{name}.jsonl'), gpt2_tokenizer(), truncate='keep-end')
    return r.n,r.skipped

def mixed():
    Path('mixed').mkdir()
    Path('mixed/a.jsonl').write_text('{"text":"Fever."}')
    Path('mixed/metadata.json').write_text('{"name":"x", "version":1}')
    n,_,said = books('mixed')
    return n,said

def of_both_sources():
    "How far the loss on the validation tape is from that of each source, weighted by its tokens; the hard one's share"
    for o in ('easy','hard'): Path(f'{o}.jsonl').write_text('\n'.join(Path(f'{o}.jsonl').read_text().splitlines()[:200]))
    made(['easy.jsonl','hard.jsonl'], near_duplicates='keep')
    cfg = TrainConfig.from_dict(SMALL | dict(preset='nano', vocab_size=50257, batch_size=4, lr=3e-3, max_steps=20, warmup_steps=3, eval_tokens=2000,
                                             eval_every=20, device='cpu', dtype='float32'))
    run = Trainer(cfg, 'out', 'run', progress=False).fit()
    r = cli.evaluation(run.model, 'out', 2000)
    easy,hard = (r['by_source'][f'{o}.jsonl'] for o in ('easy','hard'))
    both = (easy['loss']*easy['tokens']+hard['loss']*hard['tokens'])/r['tokens']
    return [abs(r['loss']-both)<1e-6, abs(run.val_loss-r['loss'])<1e-6, hard['loss']>easy['loss']+0.5, min(easy['tokens'], hard['tokens'])>0.2*r['tokens']]

def on_a_share(monkeypatch):
    "A set made where `fsync` of a folder is refused, as the case's own hook refuses it: is all there?"
    monkeypatch.setattr(os, 'fsync', os.fsync)                  # put back at the end
    exec(Path('hook/sitecustomize.py').read_text(), {})
    with pytest.warns(UserWarning) as said: n = kept('synthetic:300')
    return n,len(TokenDataset('out').tokens)>0,len([o for o in said if 'fsync' in str(o.message)])

def printed(script):
    "What a case's own script prints; the module has moved"
    code = Path(script).read_text().replace('lightbrain.sources', 'lightbrain.prep.sources')
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    return {o.rpartition(' ')[0].split()[0]: o.endswith('True') for o in said.splitlines() if not o.startswith('zero')}

def patients():
    "A function from a note's id, or its line, to its patient: read by another hand"
    found,line = {},1
    with open('discharge.csv', newline='') as f:
        rows = csv.reader(f)
        for o in rows:
            found |= {o[0]: o[1], f'discharge.csv:line{line}': o[1]}
            line = rows.line_num+1
    return found.__getitem__

def paper(id): return int(re.search('[0-9]+', id)[0])%1000          # pmid:71000007 and pmc:PMC8000007
MARK = 'holds <|endoftext|> as text','--split-at-endoftext'
BLOCKS = ('Effects of zoravexil on brolvic fever\nAbbreviations\nZRV zoravexil\nBF brolvic fever\nBox\nKey points\nFirst point.\none\ntwo\nProtocol\n'
          'Step 1: shake. Step 2: wait ten minutes.\nA quoted patient.\nA line of verse\nAddress: Ward 3 Second floor Building B.')
CITED = ('Citations\nAs shown by Smith et al. (2010), fever falls. Jones and Brown (2012) found no effect (see Lee, 2013; Kim, 2014). Numbers agree.\n'
         'The mean age was 54 years (p < 0.05), n = 40.')
PAGE = 'Pain on the left side Allergies: none known\nLine one Line two of a slide\nfield one field two record two\nC1 quote: patient s; NEL next\n'

TABLE = [   # case, what is asked, how, the right answer
    ('01', 'title', lambda: texts('article.xml'), ['Zoravexil lowers brolvic fever in adults\nFever fell.\nIntroduction\nBrolvic fever is invented.']),
    ('01', 'ids', lambda: facts('article.xml', 'pmid', 'doi', 'title'), [('pmc:PMC7000001', 'unknown', 70000001, None, 'Zoravexil lowers brolvic fever in adults')]),
    ('01', 'translation', lambda: texts('translated.xml'), ['Zoravexil e febre brolvica\nA febre caiu.\nTexto em portugues.']),
    ('01', 'its ids', lambda: facts('translated.xml', 'pmid', 'doi', 'title'), [('pmc:PMC7000002', 'unknown', None, None, 'Zoravexil e febre brolvica')]),
    ('02', 'pubmed', lambda: texts('pubmed.xml'), ['Dose of 10^6 cells\nMETHODS: Patients got 10^6 CFU; eGFR below 60 mL/min/1.73 m^2; P = 2 x 10^-8; slope 10^-3; H2O.']),
    ('02', 'jats', lambda: texts('jats.xml'), ['Load\nViral load was 10^5 copies per mL and P < 10^-4. A dose of 5 × 10^9 particles, as before.']),
    ('03', 'blocks', lambda: texts('article.xml'), [BLOCKS]),
    ('03', 'preformatted', lambda: texts('ocr.xml'), ['An old scanned paper\nA hundred lines of recognised text stand here.']),
    ('04', 'citations', lambda: texts('article.xml'), [CITED]),
    ('06', 'patients', lambda: on_both_sides('discharge.csv', patients()), set()),
    ('06', 'agreement', lambda: says(made('discharge.csv'), 'data use agreement', 'All notes of a patient stay on one side'), []),
    ('06', 'note_id', lambda: facts('discharge.csv')[0], ('90000000-DS-1', 'PhysioNet agreement')),
    ('06', 'by name', lambda: books('noteevents:discharge.csv')[:2], (120, 0)),
    ('07', 'folder', lambda: books('data'), (240, 0, "2 file(s) in 'data' are not read: 1 hidden, 1 link(s) to nothing")),
    ('07', 'link', lambda: books('data/2024'), (200, 0, '')),
    ('08', 'form feed', lambda: texts('page.txt'), [PAGE]),
    ('09', 'json', lambda: kept('notes.jsonl'), 60),
    ('09', 'parquet', lambda: kept('notes.parquet'), 60),
    ('12', 'named', lambda: says(made('corpus.jsonl'), *MARK, '300 x in 300 documents'), []),
    ('12', 'named where refused', lambda: says(made('corpus.txt'), *MARK, '299 x in 1 document'), []),
    ('12', 'split', lambda: kept('corpus.txt', split_at_endoftext=True), 300),
    ('12', 'text', lambda: (made('corpus.jsonl'), '<|endoftext|><|endoftext|>' in (o := TokenDataset('out')).tokenizer.decode(o.tokens[:200]))[1], True),
    ('14', 'refused.tsv', lambda: texts('refused.tsv'), ['"Stable" was her word.']),
    ('14', 'silent.tsv', lambda: (books('silent.tsv')[:2], says(books('silent.tsv')[2], 'first in line 6')), ((40, 0), [])),
    ('14', 'silent.csv', lambda: (books('silent.csv')[:2], says(books('silent.csv')[2], 'first in line 6')), ((29, 0), [])),
    ('15', 'papers', lambda: on_both_sides(['pqa.json','pmc'], paper), set()),
    ('18', 'folder', lambda: books('saved'), (50, 0, "2 file(s) in 'saved' are not read: 2 .json without records of PubMedQA")),
    ('18', 'arrow', lambda: books('saved/data-00000-of-00001.arrow'), (50, 0, '')),
    ('18', 'stray JSON', mixed, (1, "1 file(s) in 'mixed' are not read: 1 .json without records of PubMedQA")),
    ('19', 'rows', lambda: kept('plain.parquet'), 60),
    ('19', 'records', lambda: kept('pqa.parquet'), 60),
    ('20', 'twice', lambda: says(settings('twice'), 'twice.yaml', "'lr' stands there twice"), []),
    ('20', 'byte order mark', lambda: settings('bom'), ('nano', 0.003)),
    ('20', 'comma', lambda: says(settings('comma'), 'comma.yaml', "lr='0,003' must be a number, such as 0.1"), []),
    ('20', 'typo', lambda: says(settings('typo'), 'typo.yaml', "unknown config key 'learning_rate'"), []),
    ('20', 'negative', lambda: says(settings('neg'), 'neg.yaml', "batch_size='2.5' must be a whole number, such as 4"), []),
    ('20', 'on', lambda: says(settings('on'), 'on.yaml', "seed='on' must be a whole number, such as 4"), []),
    ('24', 'source', lambda: len(load_records('source.jsonl')), 80),
    ('24', 'bigbio', lambda: says(made('bigbio.jsonl'), 'no column \'text\' in any of its 80 rows', '--text-column context'), []),
    ('24', 'medmcqa', lambda: says(made('medmcqa.jsonl'), 'no column \'text\' in any of its 40 rows', '--text-column question'), []),
    ('24', 'medqa', lambda: says(made('medqa.jsonl'), 'no column \'text\' in any of its 40 rows', '--text-column question'), []),
    ('28', 'YES', lambda: scored('upper'), (30, 0)),
    ('28', 'Yes', lambda: scored('title'), (30, 0)),
    ('28', 'yes_', lambda: scored('space'), (30, 0)),
    ('28', 'yes.', lambda: scored('dot'), (30, 0)),
    ('30', 'refused', lambda: says(made('ward.csv'), "ward.csv, line 3: has the 'id' of line 2, but another text", '--id-column', '--group-column id'), []),
    ('30', 'grouped', lambda: kept('ward.csv', group_column='id'), 200),
    ('32', 'loss', of_both_sources, [True]*4),
    ('37', 'empty', lambda: says(made(''), 'names nothing; is a variable unset'), []),
    ('37', 'comma', lambda: says(made('private.jsonl,'), 'names nothing; is a variable unset'), []),
    ('39', 'fsync', on_a_share, (300, True, 1)),
    ('43', 'records', lambda: says(made('export.jsonl'), '120 of 120 documents ask a question', 'could not be checked'), []),
    ('43', 'as text', lambda: says(made('plain.jsonl'), '120 of 120 documents ask a question', 'could not be checked'), []),
    ('43', 'datasheet', lambda: says(sheet('export.jsonl'), '0 give a number and were checked by it; 120 give none and were not checked by it'), []),
    ('44', 'columns', lambda: printed('t.py'), dict(string=True, large_string=True, dictionary=True, binary=False, list=False, struct=False, string_view=True, float=False))]

def copy(case, to):
    "A folder of its own for a case, with what its script makes"
    found, = CASES.glob(f'{case}-*')
    for o in filter(Path.is_file, found.rglob('*')):
        place = to/o.relative_to(found)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(o, place)                           # not its mode: the cases may not be written to
    for name,program in (('make.py', sys.executable), ('make.sh', 'bash')):
        if (to/name).exists(): subprocess.run([program, name], cwd=to, check=True, capture_output=True)

@pytest.mark.parametrize('case,about,ask,right', TABLE, ids=[f'{o[0]} {o[1]}' for o in TABLE])
def test_case(case, about, ask, right, tmp_path, monkeypatch):
    copy(case, tmp_path)
    monkeypatch.chdir(tmp_path)
    got = ask(monkeypatch) if ask is on_a_share else ask()
    assert got==right

def test_every_case_is_in_the_table():
    assert {o.name[:2] for o in CASES.iterdir() if o.is_dir()}=={o[0] for o in TABLE}

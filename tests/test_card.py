"""The model card: its numbers are those of the records, words from outside stay words, what is yours stays, and no text goes out without the line

Numbers are compared with the JSON that a program wrote, never with what somebody typed."""
import ast, contextlib, inspect, io, json, os, re, shutil, subprocess, sys, warnings
from importlib import import_module
from pathlib import Path
import pytest, yaml
from conftest import ROOT
from lightbrain import cli, export
from lightbrain.core import DISCLAIMER
from lightbrain.corpus import synthetic_records
from lightbrain.data import Document, load_manifest, record_document, write_tapes
from lightbrain.evaluate import card_facts, model_card
from lightbrain.model import GPT, GPTConfig, verify_model
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import BPETokenizer, to_tiktoken, train_bpe

TINY = dict(preset='nano', n_layer=1, n_head=1, n_embd=16, block_size=256, batch_size=2, warmup_steps=1, eval_tokens=512, log_every=1,
            eval_every=2, save_every=100, device='cpu', dtype='float32')

def fit(data, out, **more):
    return Trainer(TrainConfig.from_dict(TINY | dict(vocab_size=load_manifest(data)['tokenizer']['n_vocab'], max_steps=4) | more), data, out, progress=False).fit()

def own_tokenizer(texts): return to_tiktoken(BPETokenizer(*train_bpe(texts, 300)))

@pytest.fixture(scope='module')
def small(tmp_path_factory):
    "A folder with `data/` (invented records) and `run/`, in this process"
    here = tmp_path_factory.mktemp('card')
    documents = [record_document(o) for o in synthetic_records(80)]
    write_tapes(documents, here/'data', own_tokenizer([o.text for o in documents]), 0.3, source='invented')
    fit(here/'data', here/'run')
    return here

@pytest.fixture
def place(small, tmp_path):
    shutil.copytree(small, tmp_path/'here')
    return tmp_path/'here'

def readme(folder): return (Path(folder)/'README.md').read_text(encoding='utf-8')

def rows(card):
    "Cells of the tables: the first -> the others"
    cells = [[o.strip() for o in re.split(r'(?<!\\)\|', line)[1:-1]] for line in card.splitlines() if line.startswith('|')]
    return {o[0]: o[1:] for o in cells}

def evaluate(place, data='data', **how):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        r = cli.evaluate(model=str(place/'run'), data=str(place/data), device='cpu', **how)
    return r,err.getvalue()

def test_the_numbers_are_those_of_the_records(place):
    r,said = evaluate(place, out=str(place/'scores.json'))
    assert said=='' and json.loads((place/'scores.json').read_text())==json.loads(json.dumps(r))
    card,m = rows(readme(place/'run'/'model')),load_manifest(place/'data')
    log = [json.loads(o) for o in (place/'run'/'metrics.jsonl').read_text().splitlines()]
    last = lambda k: [o for o in log if o.get(k) is not None][-1]
    assert card['steps']==[str(last('loss')['step'])] and card['tokens seen, with repetitions']==[f"{last('loss')['tokens']:,}"]
    for k,name in dict(loss='training', val_loss='validation').items():
        assert card[f'last {name} loss, nats a token']==[f"{last(k)[k]:.3f} at step {last(k)['step']}"]
    assert float(card['hours of training'][0])==pytest.approx(last('wall_s')['wall_s']/3600, rel=.05)
    for k,o in m['splits'].items(): assert card[k]==[f"{o['documents']:,}", f"{o['tokens']:,}", o['sha256']]
    for o in m['origin']: assert card[o['source']]==[o['license'], f"{o['documents']:,}"]
    for k in ('trigram','bigram','unigram'): assert card[k][0]==f'{r[k]:.3f}'
    assert card['bag of words']==[f"{r['bag_of_words']:.1%}", '', f"{r['bag_of_words_f1']:.1%}"]
    low,high = r['accuracy_95']
    text,asked = ([o for o in readme(place/'run'/'model').splitlines() if o.startswith('| this model |')])
    assert f"{r['loss']:.3f} | {r['loss']-1.96*r['loss_se']:.3f} to {r['loss']+1.96*r['loss_se']:.3f}" in text
    assert f"{r['accuracy']:.1%} | {low:.1%} to {high:.1%} | {r['macro_f1']:.1%}" in asked
    facts = card_facts(place/'run'/'model')
    assert facts['data']==m and [*facts['scores'].values()]==[json.loads(json.dumps(r))] and verify_model(place/'run'/'model')
    assert GPT.from_pretrained(place/'run'/'model').num_params()==int(re.search(r'([\d,]+) parameters', readme(place/'run'/'model'))[1].replace(',', ''))

def test_a_card_says_what_nobody_recorded(tmp_path):
    model = GPT(GPTConfig(vocab_size=50, block_size=8, n_layer=1, n_head=1, n_embd=4))
    model.save_pretrained(tmp_path/'m')
    assert 'is not recorded in this card' in readme(tmp_path/'m')
    card = model_card(tmp_path/'m')
    found = rows(card)
    assert len([k for k,o in found.items() if o==['not recorded']])==13 and 'The training text is not recorded.' in card
    assert yaml.safe_load(card.split('---\n')[1])['license']=='unknown' and not (tmp_path/'m'/'datasheet.md').exists()

EVIL = ['\n---\nlicense: evil\n---\n# Cured', '</td></table><script>alert(1)</script>', '![x](//evil.example/x.png)', '[click](javascript:alert(1))',
        '| a | b |\n|---|---|', '`` ` ``', '<!-- ', '\u202eevil\x1b[31m', 'PubMed', 'www.evil.example', '&lt;b&gt;', '\\', 'x'*5000, '\ud800', '*_~$']

@pytest.mark.parametrize('name', EVIL, ids=lambda o: ascii(o)[:20])
def test_a_hostile_name_stays_a_name(small, tmp_path, name):
    "As source, licence and name of the set: the front matter is ours, no table has another shape, nothing is markup"
    shutil.copytree(small/'run'/'model', tmp_path/'m')
    sane = model_card(tmp_path/'m')
    documents = [Document(f'd{i}', f'{i}: stable, no complaints.', name, name) for i in range(40)]
    m = write_tapes(documents, tmp_path/'data', own_tokenizer(['stable, no complaints.']*9), 0.3, source=name)
    card = model_card(tmp_path/'m', data=m, training=dict(device=name), scores={name: dict(loss=1., by_source={name: dict(loss=2.)})})
    _,head,body = card.split('---\n', 2)
    assert yaml.safe_load(head)==yaml.safe_load(sane.split('---\n')[1]) | {'license': 'other'} and 'pubmed' not in head.lower()
    heads = lambda o: [x for x in o.splitlines() if x.startswith('#') and not x.startswith('### ')]
    assert heads(card)==heads(sane) and card.count('\n### ')==1
    assert 'pubmed' not in ''.join(heads(card)).lower()
    for text in (body, (tmp_path/'m'/'datasheet.md').read_text(encoding='utf-8')):
        assert not re.search(r'(?<!\\)(?:<[/!\w]|\[[^\]\\]*\]\((?!loss\.svg)|!\[(?!The loss))|[\u202e\x1b]', text)
        assert DISCLAIMER in text
        table = None
        for line in text.splitlines():
            if not line.startswith('|'): table = None
            else:
                n = len(re.findall(r'(?<!\\)(?:\\\\)*\|', line))
                assert n==(table or n), line
                table = n
    assert verify_model(tmp_path/'m') and len(card)<20_000

def test_your_card_stays(place):
    mine = readme(place/'run'/'model').replace('# A LightBrain model', '# Ours')
    (place/'run'/'model'/'README.md').write_text(mine, encoding='utf-8')
    r,said = evaluate(place)
    assert readme(place/'run'/'model')==mine and verify_model(place/'run'/'model')
    assert 'not as it was written: README.md' in said and 'was edited and stays' in said and said.count('note: ')==2 and 'Traceback' not in said
    assert [*card_facts(place/'run'/'model')['scores'].values()]==[json.loads(json.dumps(r))]
    fit(place/'data', place/'run')                                # and when training is over
    assert readme(place/'run'/'model')==mine
    (place/'run'/'model'/'README.md').unlink()
    evaluate(place)
    assert f"{r['loss']:.3f}" in readme(place/'run'/'model')      # have it made anew

def test_scores_belong_to_weights(place):
    r,_ = evaluate(place)
    questions,_ = evaluate(place, 'data/questions.jsonl')
    model = place/'run'/'model'
    assert len(card_facts(model)['scores'])==2
    fit(place/'data', place/'run')                                # complete already: the same bits
    assert len(card_facts(model)['scores'])==2 and f"{r['loss']:.3f}" in readme(model)
    fit(place/'data', place/'run', max_steps=6)
    assert card_facts(model)['scores']=={} and 'Not recorded.' in readme(model)
    assert card_facts(model)['training']['steps']==6

def test_damage_is_not_sealed_in(place):
    "A flipped bit stays found after a card was asked for"
    weights = place/'run'/'model'/'model.safetensors'
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    before = {o.name: o.read_bytes() for o in weights.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(ValueError, match='is not as it was written'): model_card(weights.parent, scores={'x': dict(loss=1.)})
    assert {o.name: o.read_bytes() for o in weights.parent.iterdir()}==before

def test_a_killed_card_leaves_the_old_folder(place, monkeypatch):
    import lightbrain.model as model
    folder = place/'run'/'model'
    before = {o.name: o.read_bytes() for o in folder.iterdir()}
    def stop(*a): raise KeyboardInterrupt
    monkeypatch.setattr(model, 'seal', stop)                      # the last thing that is written
    with pytest.raises(KeyboardInterrupt): model_card(folder, scores={'x': dict(loss=1.)})
    assert {o.name: o.read_bytes() for o in folder.iterdir()}==before and verify_model(folder)
    assert [o.name for o in folder.parent.iterdir() if o.name.startswith('.model')]==[]

@contextlib.contextmanager
def read_only(folder):
    "For an ordinary user by its mode, for root by a mount"
    if hasattr(os, 'geteuid') and os.geteuid()!=0:
        for o in (folder, folder.parent): o.chmod(0o555)
        try: yield
        finally:
            for o in (folder.parent, folder): o.chmod(0o755)
        return
    for how in (['--bind', folder, folder], ['-o', 'remount,ro,bind', folder]):
        if subprocess.run(['mount', *how], capture_output=True).returncode: pytest.skip('mounting is not allowed here')
    try: yield
    finally: subprocess.run(['umount', folder], check=True)

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs mount')
def test_a_folder_that_is_read_only(place):
    "The measurement is not lost, and a sentence says where it is not"
    before = readme(place/'run'/'model')
    with read_only(place/'run'/'model'): r,said = evaluate(place)
    assert r['loss']>0 and said.count('\n')==1 and 'the scores are not in the card' in said and 'Traceback' not in said
    assert readme(place/'run'/'model')==before and verify_model(place/'run'/'model')
    assert evaluate(place)[1]=='' and readme(place/'run'/'model')!=before      # negative control

def test_a_model_from_elsewhere(place):
    (place/'run'/'model'/'lightbrain.json').unlink()
    _,said = evaluate(place)
    assert 'not ours to write' in said and not card_facts(place/'run'/'model')['scores']

@pytest.mark.parametrize('change', [dict(scores={'x': 'y'}), dict(scores={'x': {'loss': 'y'}}), dict(training={'steps': []}), dict(curve={'loss': 3}),
    dict(data={'source': 1}), dict(scores=[1]), dict(curve={'loss': [[0]]})], ids=str)
def test_facts_that_somebody_made_up(place, change):
    "A folder from elsewhere may hold anything, sealed as it should be: a sentence, no traceback"
    from lightbrain.files import file_sha256, seal
    folder = place/'run'/'model'
    (folder/'card.json').write_text(seal(card_facts(folder) | change), encoding='utf-8')
    seals = json.loads((folder/'lightbrain.json').read_text())
    seals['files']['card.json'] = file_sha256(folder/'card.json')
    (folder/'lightbrain.json').write_text(seal(seals), encoding='utf-8')
    r,said = evaluate(place)
    assert r['loss']>0 and 'Traceback' not in said and verify_model(folder)

# No text goes out without the line

def surfaces():
    "(module, function) that uses `lightbrain.sample`, be it through others; and the source of each function"
    uses,code = {},{}
    for path in sorted((ROOT/'lightbrain').rglob('*.py')):
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        if 'exercises' in module: continue
        tree = ast.parse(path.read_text(encoding='utf-8'))
        names = {o.name: (module, o.name) for o in tree.body if isinstance(o, ast.FunctionDef)}
        for o in ast.walk(tree):
            if not isinstance(o, ast.ImportFrom): continue
            home = o.module if not o.level else '.'.join([*module.split('.')[:-o.level], *filter(None, [o.module])])
            names |= {a.asname or a.name: (home, a.name) for a in o.names}
        for o in tree.body:
            if not isinstance(o, ast.FunctionDef): continue
            local = {a.asname or a.name: (i.module, a.name) for i in ast.walk(o) if isinstance(i, ast.ImportFrom) for a in i.names}
            code[module,o.name] = ast.unparse(o)
            uses[module,o.name] = {(names | local)[n.id] for n in ast.walk(o) if isinstance(n, ast.Name) and n.id in names | local}
    found = {o for o,used in uses.items() if any(m=='lightbrain.sample' for m,_ in used) or o[0]=='lightbrain.sample'}
    while more := {o for o,used in uses.items() if used & found}-found: found |= more
    return found,code

COMMANDS = {o.__name__: o for o in vars(cli).values() if hasattr(o, 'shell')}
SPEAKING = {                           # a command that generates text -> how to make it do so
    'generate': dict(model='run', max_new_tokens=2, device='cpu'),
    'quickstart': dict(source='synthetic:60', max_steps=2, device='cpu')}
PRINTING = {'show_samples': lambda place: cli.show_samples(cli.load_model(place/'run', 'cpu'), place/'data', 1)}

def test_the_walk_finds_what_speaks():
    "Commands, and functions that print: those listed here, and no other; a new one must be added, and is run below"
    found,code = surfaces()
    assert {n for m,n in found if m=='lightbrain.cli' and n in COMMANDS}=={*SPEAKING}
    assert {n for m,n in found if 'print(' in code[m,n] and not n.startswith('_')}-{'main'}-{*SPEAKING}=={*PRINTING}
    assert {('lightbrain.sample','generate'), ('lightbrain.sample','stream'), ('lightbrain.cli','_continued')}<=found
    assert ('lightbrain.cli','evaluate') not in found             # negative control

@pytest.mark.parametrize('name', SPEAKING)
def test_a_command_that_speaks_says_so(place, name, monkeypatch):
    monkeypatch.chdir(place)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()): COMMANDS[name](**SPEAKING[name])
    assert out.getvalue().strip().splitlines()[-1]==DISCLAIMER
    if name=='quickstart':
        card = readme(place/'runs'/'quickstart-synthetic-60'/'model')
        assert DISCLAIMER in card and f"{json.loads((place/'runs'/'quickstart-synthetic-60'/'evaluation.json').read_text())['loss']:.3f}" in card

@pytest.mark.parametrize('name', PRINTING)
def test_a_function_that_speaks_says_so(place, name):
    with contextlib.redirect_stdout(io.StringIO()) as out: PRINTING[name](place)
    assert DISCLAIMER in out.getvalue()

def test_pages_of_what_speaks():
    "A function that gives a text back cannot print; its page says what the text is not for"
    modules = {m for m,n in surfaces()[0] if not n.startswith('_')}
    assert 'lightbrain.sample' in modules
    for m in modules:
        page = ROOT/'nbs'/re.search(r'File to edit: (?:\.\./)+nbs/(\S+)\.$', Path(import_module(m).__file__).read_text(encoding='utf-8'), re.M)[1]
        text = ''.join(''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type']=='markdown')
        assert re.search(r'(?i)(never|not) for clinical use', text), page

EXPORTS = [n for n in export.__all__ if n.startswith('to_')]

def words_of(path):
    "Everything in a file or a folder, weights aside"
    files = [path] if path.is_file() else sorted(path.rglob('*'))
    return {o.name: o.read_bytes() for o in files if o.is_file()}

@pytest.mark.parametrize('name', EXPORTS)
def test_every_export_says_so(small, tmp_path, name):
    model = GPT.from_pretrained(small/'run'/'model')
    try: out = getattr(export, name)(model, tmp_path/'out')
    except ValueError as e:
        if 'is not installed' not in str(e): raise
        pytest.skip(str(e))
    said = [k for k,o in words_of(Path(out)).items() if DISCLAIMER.encode() in o]
    assert said and (Path(out).is_file() or 'README.md' in said)

@pytest.mark.parametrize('to', cli.FORMATS)
def test_every_exported_file_says_so(place, to, monkeypatch):
    "From a shell; and `hf` takes the whole card along"
    monkeypatch.chdir(place)
    r,_ = evaluate(place)
    with contextlib.redirect_stdout(io.StringIO()):
        try: out = cli.export(model='run', to=to)
        except ValueError as e:
            if 'is not installed' not in str(e): raise
            pytest.skip(str(e))
    found = words_of(Path(out))
    assert any(DISCLAIMER.encode() in o for o in found.values())
    for k,o in found.items():
        if k.endswith('.md'): assert DISCLAIMER.encode() in o, k
    if to=='hf': assert readme(out)==readme(place/'run'/'model') and verify_model(out)

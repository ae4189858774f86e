"Folders from a stranger: whatever stands in a model, a set or a checkpoint, each command says one line or works"
import contextlib, io, json, os, pickle, random, shutil, signal, struct, time
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file, save_file
import lightbrain.cli as cli
from lightbrain.corpus import synthetic_records
from lightbrain.data import TokenDataset, load_manifest, record_document, write_tapes
from lightbrain.evaluate import card_facts, model_card
from lightbrain.files import file_sha256, read_sealed, seal
from lightbrain.model import GPT, GPTConfig
from lightbrain.run.checkpoint import FILES, read_manifest, read_part
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import BPETokenizer, END_OF_TEXT, gpt2_files, load_tokenizer, tokenizer_files, train_bpe

torch.set_num_threads(1)
nan,inf = float('nan'),float('inf')
WTE,ATTN,MLP = 'transformer.wte.weight','transformer.h.0.attn.c_attn.weight','transformer.h.1.mlp.c_fc.weight'
LINKS = os.name!='nt'

@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A set of its own tokens, and a model of them; both made once"
    here = tmp_path_factory.mktemp('stranger')
    docs = [record_document(o, 'synthetic', 'CC0-1.0') for o in synthetic_records(120, level=1)]
    tok = BPETokenizer(*train_bpe([o.text for o in docs], 300))
    write_tapes(docs, here/'set', tok)
    GPT(GPTConfig(vocab_size=300, block_size=32, n_layer=2, n_head=2, n_embd=16)).save_pretrained(
        here/'model', load_tokenizer(here/'set'))
    return here

COMMANDS = dict(generate=['--input', 'Ab', '--max-new-tokens', '2', '--device', 'cpu'],
    evaluate=['--data', 'set', '--max-tokens', '100', '--truncate', 'keep-end', '--device', 'cpu'], export=['--to', 'hf', '--out', 'exported'])

def shell(name, *words):
    "What a command says: '' if it works, else its one line; any other exception is a traceback"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try: return getattr(cli, name).shell([*map(str, words)]) or ''
        except SystemExit as e: said = str(e)
    assert said.startswith(f'lightbrain-{name}: ') and '\n' not in said and len(said)<1500, said
    return said

def attack(home, monkeypatch, change, sealed=False):
    "What the three commands say of a copy of the model that `change` has been at"
    monkeypatch.chdir(home)
    said = {}
    for name,words in COMMANDS.items():
        for o in ('bad','exported'): shutil.rmtree(o, ignore_errors=True)
        shutil.copytree('model', 'bad')
        if not sealed: Path('bad/lightbrain.json').unlink()
        change(Path('bad'))
        begun = time.monotonic()
        try: said[name] = shell(name, '--model', 'bad', *words)
        except Exception as e: said[name] = f'TRACEBACK {type(e).__name__}: {e}'
        if time.monotonic()-begun>20: said[name] += ' TOO SLOW'
    return said

def refused(home, monkeypatch, attacks, sealed=False):
    "Each of them by each command, in a line of its own"
    bad = []
    for what,change in attacks.items():
        said = attack(home, monkeypatch, change, sealed)
        bad += [f'{what}, {name}: {o[:300]!r}' for name,o in said.items()
                if not o or 'TRACEBACK' in o or 'TOO SLOW' in o]
    assert not bad, '\n'.join(bad)

# config.json

def text(s): return lambda m: (m/'config.json').write_bytes(s if isinstance(s, bytes) else s.encode())

def sizes(**k):
    def f(m):
        c = json.loads((m/'config.json').read_text())
        (m/'config.json').write_text(json.dumps({o: v for o,v in (c|k).items() if v is not KeyError}))
    return f

def replaced(name, how):
    def f(m):
        (m/name).unlink(missing_ok=True)
        if how=='folder': (m/name).mkdir()
        elif how=='loop': (m/name).symlink_to(name)
        elif how=='dangling': (m/name).symlink_to('nowhere')
        elif how=='pipe': os.mkfifo(m/name)
        elif how=='hole':
            with open(m/name, 'wb') as o: o.truncate(2**36)
    return f

def twice(key): return lambda m: (m/'config.json').write_text((m/'config.json').read_text().replace('{', f'{{"{key}": 3,', 1))

NAMES = 'vocab_size','n_positions','n_layer','n_head','n_embd'
CONFIG = {o: text(o) for o in ('7', 'null', '"gpt2"', 'true', '[]', '{}', '', 'NaN', json.dumps(NAMES), '"'+' '.join(NAMES)+'"')} | dict(
    deep=text('['*100_000), deep_objects=text('{"a":'*100_000), zeros=text(bytes(100)), utf16=text('{}'.encode('utf-16')),
    bytes=text(b'\xff\xfe\0{'), bom=lambda m: text(b'\xef\xbb\xbf'+(m/'config.json').read_bytes())(m),
    more=lambda m: text((m/'config.json').read_bytes()+b'}')(m), digits=text('{"n_embd": '+'9'*5000+'}'),
    layers=sizes(n_layer=20_000), more_layers=sizes(n_layer=10**12), wide=sizes(n_embd=10**30), wide_2=sizes(n_embd=2**62),
    wide_3=sizes(n_embd=2**20), tall=sizes(vocab_size=2**63), tall_2=sizes(vocab_size=2**24), long=sizes(n_positions=10**12),
    prime=sizes(n_embd=999999999989), heads=sizes(n_head=10**12), digits_2=text('{"n_positions": 32, "vocab_size": 300, "n_layer": 2, '
    '"n_head": 2, "n_embd": '+'9'*4000+'}'), inner=sizes(n_inner=65), inner_list=sizes(n_inner=[64]), inner_nan=sizes(n_inner=nan),
    act=sizes(activation_function='relu'), act_object=sizes(activation_function={}), act_list=sizes(activation_function=['gelu_new']),
    eps=sizes(layer_norm_epsilon=nan), eps_text=sizes(layer_norm_epsilon='1e-5'), tie=sizes(tie_word_embeddings=None),
    drop=sizes(resid_pdrop=1.5), drop_nan=sizes(resid_pdrop=nan), drop_null=sizes(resid_pdrop=None), drop_list=sizes(resid_pdrop=[]),
    type=sizes(model_type='llama'), type_list=sizes(model_type=[1]), folder=replaced('config.json', 'folder'))
if LINKS: CONFIG |= {o: replaced('config.json', o) for o in ('loop','dangling','pipe','hole')}
ODD = dict(absent=KeyError, null=None, minus=-1, zero=0, nan=nan, inf=inf, text='x', list=[2], object={}, true=True, false=False,
    half=2.5, empty='', surrogate='\ud800', nested=[[[[1]]]], digits='9'*3000)
CONFIG |= {f'{k} twice': twice(k) for k in NAMES} | {f'{k} {what}': sizes(**{k: v}) for k in NAMES for what,v in ODD.items()}

@pytest.mark.parametrize('part', range(4))
def test_config(home, monkeypatch, part): refused(home, monkeypatch, dict([*CONFIG.items()][part::4]))

# model.safetensors

def weights(b): return lambda m: (m/'model.safetensors').write_bytes(b)

def raw(change):
    "Change the header of the file, or what comes after it"
    def f(m):
        file = m/'model.safetensors'
        b = file.read_bytes()
        n, = struct.unpack('<Q', b[:8])
        h,data = json.loads(b[8:8+n]),b[8+n:]
        data = change(h) or data
        h = json.dumps(h).encode()
        file.write_bytes(struct.pack('<Q', len(h))+h+data)
    return f

def tensors(**changes):
    "Name (with . as __) -> function of the tensor, or of None where it is not there; None removes it"
    def f(m):
        t = load_file(m/'model.safetensors')
        for k,change in changes.items():
            for name in [o for o in t if k=='every' or o==k.replace('__', '.')] or [k.replace('__', '.')]:
                new = change(t.pop(name, None))
                if new is not None: t[name] = new.contiguous().clone()
        save_file(t, m/'model.safetensors')
    return f

def one(name, change): return tensors(**{name: change})
def first(v):
    def f(w):
        w.view(-1)[0] = v
        return w
    return f
def hole(at_name):
    "A tensor of 64 GB that is nothing but a hole"
    def f(m):
        def longer(h):
            end = max(o['data_offsets'][1] for name,o in h.items() if name!='__metadata__')
            h[at_name] = dict(dtype='F32', shape=[2**34], data_offsets=[end, end+2**36])
        raw(longer)(m)
        file = m/'model.safetensors'
        with open(file, 'r+b') as o: o.truncate(file.stat().st_size+2**36)
    return f
def overlapping(h):
    a,b = [o for o in h if o.endswith('ln_1.weight')]
    h[a]['data_offsets'] = h[b]['data_offsets']
def at(**k): return raw(lambda h: h[WTE].update(k))

class Payload:
    def __reduce__(self): return os.mkdir, ('executed',)

WEIGHTS = {f'{len(b)} bytes, {b[:9]}': weights(b) for b in (b'', b'1234567', bytes(8), bytes(50_000), struct.pack('<Q', 10**6)+b'{}',
        struct.pack('<Q', 2**63)+b'{}', b'\xff'*8+b'{}', struct.pack('<Q', 2)+b'[]', struct.pack('<Q', 2)+b'{}', struct.pack('<Q', 4)+b'null',
        struct.pack('<Q', 50)+b'\xff'*50, struct.pack('<Q', 10**5)+b'['*10**5, b'<!DOCTYPE html>'*100, pickle.dumps(Payload()))} | dict(
    cut=lambda m: weights((m/'model.safetensors').read_bytes()[:-1])(m), half=lambda m: weights((m/'model.safetensors').read_bytes()[:20_000])(m),
    more=lambda m: weights((m/'model.safetensors').read_bytes()+b'x')(m), torch=lambda m: torch.save(Payload(), m/'model.safetensors'),
    overlap=raw(overlapping), before=at(data_offsets=[-1, 5]), turned_round=at(data_offsets=[9, 5]), beyond=at(data_offsets=[0, 2**40]),
    kind=at(dtype='F99'), no_kind=raw(lambda h: h[WTE].pop('dtype') and None), minus=at(shape=[-300, -16]), huge=at(shape=[2**40, 2**40]),
    part=at(shape=[300., 16]), no_shape=at(shape=None), meta=raw(lambda h: h.update(__metadata__={'a': 1})), rest=raw(lambda h: b'1234'),
    three=one(ATTN, lambda w: w[None]), three_2=one(ATTN, lambda w: w[...,None]), four=one(MLP, lambda w: w[None,None]), none=one(ATTN, torch.sum),
    flat=one(ATTN, torch.flatten), turned=one(ATTN, lambda w: w.t()), two=one(ATTN.replace('weight', 'bias'), lambda w: w[None]),
    empty=one(ATTN, lambda w: w[:0]), five=one(WTE, lambda w: w[None,None,None]),
    int8=one('every', lambda w: w.to(torch.int8)), bool=one('every', torch.Tensor.bool), complex=one('every', lambda w: w.to(torch.complex64)),
    int64=one('every', torch.Tensor.long), uint8=one(ATTN, lambda w: w.to(torch.uint8)), complex_1=one(ATTN, lambda w: w.to(torch.complex64)),
    bool_1=one('transformer.ln_f.weight', torch.Tensor.bool), float8=one(MLP, lambda w: w.to(torch.float8_e4m3fn)),
    too_large=one(ATTN, lambda w: w.double()*1e300), nan=one(ATTN, first(nan)), inf=one(MLP, first(inf)), minus_inf=one(WTE, first(-inf)),
    nan_bias=one('transformer.ln_f.bias', first(nan)), missing=one(ATTN, lambda w: None), extra=one('foo', lambda w: torch.zeros(3)),
    layer=one('transformer.h.7.ln_1.weight', lambda w: torch.zeros(16)), head=one('lm_head.weight', lambda w: torch.ones(300, 16)),
    head_shape=one('lm_head.weight', lambda w: torch.zeros(3)), head_int=one('lm_head.weight', lambda w: torch.zeros(300, 16).long()),
    head_bias=one('lm_head.bias', lambda w: torch.zeros(300)), both=one('wte.weight', lambda w: torch.zeros(300, 16)),
    red=one('\x1b[31m\nred', lambda w: torch.zeros(1)), nameless=one('', lambda w: torch.zeros(1)), long=one('x'*10**5, lambda w: torch.zeros(1)),
    folder=replaced('model.safetensors', 'folder'))
if LINKS: WEIGHTS |= {o: replaced('model.safetensors', o) for o in ('loop','pipe','hole')} | dict(hole_extra=hole('extra'), hole_head=hole('lm_head.weight'))

@pytest.mark.parametrize('part', range(3))
def test_weights(home, monkeypatch, part):
    refused(home, monkeypatch, dict([*WEIGHTS.items()][part::3]))
    assert not (home/'executed').exists()

SOUND = dict(float16=one('every', torch.Tensor.half), bfloat16=one('every', torch.Tensor.bfloat16), float64=one('every', torch.Tensor.double),
    mixed=one(ATTN, torch.Tensor.half), head=lambda m: one('lm_head.weight', lambda w: load_file(m/'model.safetensors')[WTE])(m),
    mask=one('transformer.h.0.attn.bias', lambda w: torch.ones(1, 1, 32, 32).bool()), inner=sizes(n_inner=64), as_text=sizes(n_layer='2'),
    bare=lambda m: save_file({k.removeprefix('transformer.'): v for k,v in load_file(m/'model.safetensors').items()}, m/'model.safetensors'))
def test_what_is_sound_is_read(home, monkeypatch):
    "Negative control: other programs' files, and ours, in all the ways that mean something"
    for what,change in SOUND.items(): assert not any(attack(home, monkeypatch, change).values()), what
    assert not any(attack(home, monkeypatch, lambda m: None, sealed=True).values())

# the tokenizer

def vocab(change):
    def f(m):
        v = json.loads((m/'vocab.json').read_text())
        (m/'vocab.json').write_text(json.dumps(change(v) or v))
    return f
def merges(change): return lambda m: (m/'merges.txt').write_bytes(b'\n'.join(change((m/'merges.txt').read_bytes().split(b'\n'))))
def plain(name, b): return lambda m: (m/name).write_bytes(b)
def another(files): return lambda m: [(m/k).write_bytes(v) for k,v in files().items()]

TOKENIZER = {f'vocab.json is {b[:9]}': plain('vocab.json', b) for b in (b'7', b'null', b'[]', b'{}', b'', b'['*10**5, b'\xff\xfe', b'"x"')} | {
    f'tokenizer.json is {b[:30]}': plain('tokenizer.json', b) for b in (b'7', b'null', b'[1]', b'', b'['*10**5, b'"x"', b'\xff\xfe\xfd',
        b'{"pre_tokenizer": 7}', b'{"pre_tokenizer": [1]}', b'{"normalizer": {"type": "NFC"}}')} | {
    f"the id of 'a' is {v!r}": vocab(lambda d, v=v: d.update(a=v)) for v in (None, 1.5, -1, True, 2**70, 98, 5000, nan, '5', [5], {})} | dict(
    less=vocab(lambda v: v.pop(END_OF_TEXT) and None), byte=vocab(lambda v: v.pop('a') and None), more=vocab(lambda v: v.update({'<|x|>': 300})),
    many=vocab(lambda v: v.update({f'<|{i}|>': 300+i for i in range(500)})), surrogate=vocab(lambda v: v.update({'\ud800': 300})),
    empty_token=vocab(lambda v: v.update({'': 300})), renamed=vocab(lambda v: {k.replace(END_OF_TEXT, '<|end|>'): i for k,i in v.items()}),
    long=vocab(lambda v: v.update({'a'*10**5: 300})), twice=lambda m: plain('vocab.json', b'{"a": 64, '+(m/'vocab.json').read_bytes()[1:])(m),
    bom=lambda m: plain('vocab.json', b'\xef\xbb\xbf'+(m/'vocab.json').read_bytes())(m),
    no_merges=plain('merges.txt', b''), odd=plain('merges.txt', b'\xff'), order=merges(lambda l: [l[0], *l[1:-1][::-1], l[-1]]),
    again=merges(lambda l: [*l[:-1], l[2], l[-1]]), three=merges(lambda l: [*l[:-1], b'a b c', b'']), euro=merges(lambda l: [*l[:-1], '€ b'.encode(), b'']),
    crlf=merges(lambda l: [o+b'\r' for o in l]), blank=merges(lambda l: [*l[:-1], b' ', b'']), one_word=plain('merges.txt', b'#version: 0.2\na'),
    gone=lambda m: (m/'vocab.json').unlink(), gone_2=lambda m: (m/'merges.txt').unlink(), folder=replaced('vocab.json', 'folder'),
    folder_2=replaced('merges.txt', 'folder'), folder_3=replaced('tokenizer.json', 'folder'), gpt2=another(gpt2_files))
if LINKS: TOKENIZER |= {f'{name} {how}': replaced(name, how) for how in ('loop','pipe','hole') for name in ('vocab.json','merges.txt','tokenizer.json')}

def test_tokenizer(home, monkeypatch): refused(home, monkeypatch, TOKENIZER)

def test_merges_that_lost_lines(home, monkeypatch):
    "However the list was cut: an unsealed folder gives the ids it was made with, or none"
    lines = (home/'model'/'merges.txt').read_bytes().split(b'\n')
    n,g = len(lines)-1,random.Random(8)
    lost = [range(k, n) for k in range(1, n)]+[[k] for k in range(1, n)]+[g.sample(range(1, n), g.randrange(1, n)) for _ in range(50)]
    shutil.copytree(home/'model', home/'less')
    for gone in lost:
        (home/'less'/'merges.txt').write_bytes(b'\n'.join(o for i,o in enumerate(lines) if i not in gone))
        with pytest.raises(ValueError, match='merges.txt is cut short|no merge makes|do not follow|holds no tokenizer'): load_tokenizer(home/'less')
    for k in (1, 2, n//2, n-1): refused(home, monkeypatch, {f'{k} lines': merges(lambda l, k=k: [*l[:k], b''])})
    shutil.rmtree(home/'less')

def test_a_tokenizer_that_its_own_tokenizer_json_knows_better(home, monkeypatch):
    "Two tables that fit each other and not the model: found where a third file holds them, too"
    def turned(m):
        v,lines = json.loads((m/'vocab.json').read_bytes()),(m/'merges.txt').read_text().split('\n')[1:-1]
        rules = dict(pre_tokenizer=dict(type='ByteLevel'), model=dict(vocab=v, merges=[o.split(' ') for o in lines]))
        (m/'tokenizer.json').write_text(json.dumps(rules))
        return v
    assert not any(attack(home, monkeypatch, lambda m: turned(m) and None).values())               # negative control
    def swap(m):
        v = turned(m)
        (m/'vocab.json').write_text(json.dumps(v | dict(a=v['b'], b=v['a'])))
    refused(home, monkeypatch, dict(swap=swap))

def test_a_foreign_tokenizer_of_the_right_size(home, monkeypatch):
    "Unsealed, only the set can know: its text would be nonsense; sealed, all three do"
    other = tokenizer_files(BPETokenizer(*train_bpe('zebra crossings and other animals of the quality zoo '*99, 290)))
    assert 'mean nothing to the other' in attack(home, monkeypatch, another(lambda: other))['evaluate']
    refused(home, monkeypatch, {'foreign': another(lambda: other)}, sealed=True)

# the seals

def test_one_bit_is_found_by_all_three(home, monkeypatch):
    def flip(name, i):
        def f(m):
            b = bytearray((m/name).read_bytes())
            b[i%len(b)] ^= 1<<i%8
            (m/name).write_bytes(b)
        return f
    names = [o.name for o in (home/'model').iterdir() if o.name!='README.md']
    assert len(names)>=6
    refused(home, monkeypatch, {f'{name} {i}': flip(name, i) for name in names for i in (-7, 1000)}, sealed=True)

FOR_PEOPLE = 'README.md','datasheet.md','card.json','loss.svg'
def flipped(b): return b[:-7]+bytes([b[-7]^128])+b[-6:]                     # no UTF-8 any more
WORDS = dict(flipped=lambda o: o.write_bytes(flipped(o.read_bytes())), edited=lambda o: o.write_bytes(o.read_bytes()+b'Mine.'),
    empty=lambda o: o.write_bytes(b''), gone=Path.unlink, folder=lambda o: replaced(o.name, 'folder')(o.parent))
if LINKS: WORDS |= {how: lambda o, how=how: replaced(o.name, how)(o.parent) for how in ('loop','dangling','pipe','hole')}

@pytest.fixture(scope='module')
def described(home):
    "The model with all the words that a run lays beside it"
    shutil.copytree(home/'model', home/'described')
    model_card(home/'described', load_manifest(home/'set'), dict(steps=3), dict(loss=[(1, 5.), (3, 4.)]), dict(x=dict(loss=4.)))
    assert {*FOR_PEOPLE}<={o.name for o in (home/'described').iterdir()}
    return home/'described'

@pytest.mark.parametrize('how', WORDS)
def test_words_do_not_stop_the_weights(home, described, monkeypatch, how):
    "Whoever edits a card goes on working, and hears which file is not as it was written"
    monkeypatch.chdir(home)
    for name in FOR_PEOPLE:
        for command,words in COMMANDS.items():
            for o in ('bad','exported'): shutil.rmtree(o, ignore_errors=True)
            shutil.copytree(described, 'bad')
            WORDS[how](Path('bad')/name)
            notes = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(notes):
                getattr(cli, command).shell(['--model', 'bad', *map(str, words)])
            assert f'not as it was written: {name} in ' in notes.getvalue() and 'Traceback' not in notes.getvalue(), (name, command)

def test_edited_prose_stays(home, described):
    "When the model is described or saved again; a card.json that was changed is not built upon"
    folder = home/'prose'
    shutil.copytree(described, folder)
    for name in ('README.md','datasheet.md'): (folder/name).write_text('Mine.')
    with pytest.warns(UserWarning, match='stays as it is'): model_card(folder, scores=dict(y=dict(loss=3.)))
    model = GPT.from_pretrained(folder)                                     # known to be edited: no note
    assert [*card_facts(folder)['scores']]==['x','y']
    model.save_pretrained(folder)
    assert [(folder/o).read_text() for o in ('README.md','datasheet.md')]==['Mine.','Mine.']
    shutil.rmtree(folder)
    shutil.copytree(described, folder)
    (folder/'card.json').write_bytes(flipped((folder/'card.json').read_bytes()))
    with pytest.raises(ValueError, match='begin a new card'): model_card(folder, scores=dict(y=dict(loss=3.)))
    (folder/'card.json').unlink()
    model_card(folder, scores=dict(y=dict(loss=3.)))
    assert [*card_facts(folder)['scores']]==['y']

def resealed(**k):
    def f(m):
        s = json.loads((m/'lightbrain.json').read_bytes()) | k
        (m/'lightbrain.json').write_text(seal({a: b for a,b in s.items() if b is not KeyError}))
    return f
SEALS = {f'{a} is {b!r:.30}': resealed(**{a: b}) for a,b in [('files', o) for o in (None, 7, ['config.json'], 'abc', {}, {'config.json': {}},
        {'config.json': '0'*64}, {'../../etc/passwd': '0'*64}, {'/dev/zero': '0'*64}, {'a\0b': '0'*64}, {'a'*5000: '0'*64}, KeyError)]
        +[('format', o) for o in (None, 7, [[[]]], KeyError)]} | {f'it is {b[:5]}': plain('lightbrain.json', b) for b in (b'', b'7', b'\xff', b'['*10**5)}
SEALS |= {o: replaced('lightbrain.json', o) for o in (['folder']+['loop','dangling','pipe','hole']*LINKS)}
def test_seals(home, monkeypatch): refused(home, monkeypatch, SEALS, sealed=True)

# any damage at all

def spoilt(g, m):
    "One damage, drawn"
    file = g.choice(sorted(o for o in m.iterdir() if o.name!='README.md'))
    b = bytearray(file.read_bytes())
    how = g.choice(['bit','cut','insert','zero','value','double','swap','empty'])
    i = g.randrange(len(b))
    if how=='bit': b[i] ^= 1<<g.randrange(8)
    if how=='cut': b = b[:i]
    if how=='insert': b[i:i] = g.choice([b'\xff', b'"', b'{', b']', b'0'*50, b'\0', b'-', b'e9', b'null'])
    if how=='zero': b[i:i+64] = bytes(len(b[i:i+64]))
    if how=='double': b = b+b
    if how=='empty': b = b''
    if how=='swap': b = bytearray(g.choice(sorted(m.iterdir())).read_bytes())
    if how=='value' and file.suffix=='.json':
        d = json.loads(b)
        d[g.choice([*d])] = g.choice([None, -1, 0, 1e308, nan, '', 'x', [], {}, [[]], True, 2**40, 2**70, 10**400, '\ud800', {'a': 1}])
        b = json.dumps(d).encode()
    file.write_bytes(b)
    return file.name,how

def test_300_damaged_folders(home, tmp_path):
    "A seed, a damage or two each: read, or refused by a `ValueError`; nothing else ever comes out"
    from lightbrain.sample import stream
    g,seen = random.Random(16),dict(read=0, refused=0)
    for i in range(300):
        m = tmp_path/'m'
        shutil.copytree(home/'model', m)
        (m/'lightbrain.json').unlink()
        what = [spoilt(g, m) for _ in range(g.choice([1, 1, 2]))]
        try:
            with pytest.warns(UserWarning): model = GPT.from_pretrained(m)
            assert model.tokenizer is not None
            ''.join(stream(model, None, 'Ab', 1))
            seen['read'] += 1
        except ValueError as e:
            seen['refused'] += 1
            assert str(e), what
        except Exception as e: raise AssertionError(f'{i}, {what}') from e
        shutil.rmtree(m)
    print('\n', seen)
    assert min(seen.values())>20

# sets

def forged(home, **k):
    "The set, its manifest edited and sealed anew"
    out = home/'forged'
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(home/'set', out)
    m = json.loads((out/'manifest.json').read_bytes())
    for key,v in k.items():
        place,names = m,key.split('__')
        for o in names[:-1]: place = place[o]
        place[names[-1]] = v
        if v is KeyError: del place[names[-1]]
    (out/'manifest.json').write_text(seal(m))
    return out

MANIFESTS = [{k: v} for k in ('tokenizer','splits','files','source','origin','notices','dropped','splits__train','splits__train__size',
    'splits__validation__tokens','splits__train__sha256','tokenizer__sha256','tokenizer__n_vocab','tokenizer__eot_token')
    for v in ('gpt2', None, -7, [1], 2**70, KeyError) if not (k=='tokenizer__eot_token' and v is None) and (k, v)!=('source', 'gpt2')]
def test_forged_manifests(home, monkeypatch):
    "What a set says of itself, evaluated and trained on: a line each"
    monkeypatch.chdir(home)
    for k in MANIFESTS:
        forged(home, **k)
        if [*k] in (['dropped'], ['splits__validation__tokens']) and isinstance([*k.values()][0], int): continue   # counts: believed
        for name,words in dict(evaluate=['--model', 'model', '--max-tokens', 100], train=['--out', 'never', '--preset', 'nano']).items():
            try: said = shell(name, '--data', 'forged', '--device', 'cpu', *words)
            except Exception as e: raise AssertionError(k) from e
            assert any(o in said for o in ('prepare the set again','mean nothing','not match','only 4,096 rows')), (k, name, said)
    assert not (home/'never'/'model').exists()

def test_forged_tapes(home, monkeypatch):
    "Tapes and tables that a fitting manifest vouches for"
    monkeypatch.chdir(home)
    def with_file(name, b):
        out = forged(home)
        (out/name).write_bytes(b)
        m = json.loads((out/'manifest.json').read_bytes())
        split = m['splits'].get(name.split('.')[0])
        if split: split |= dict(size=len(b), tokens=len(b)//2, sha256=file_sha256(out/name))
        else: m['files'][name] = file_sha256(out/name)
        (out/'manifest.json').write_text(seal(m))
    for name,b in (('train.bin', b''), ('train.bin', b'\x01'), ('validation.bin', b'\xff'*200), ('train.bin', b'\xff'*2000),
            ('vocab.json', b'7'), ('vocab.json', gpt2_files()['vocab.json']), ('questions.jsonl', b'7\n'), ('questions.jsonl', b'\xff\n')):
        with_file(name, b)
        assert shell('evaluate', '--model', 'model', '--data', 'forged', '--max-tokens', 100, '--truncate', 'keep-end', '--device', 'cpu'), (name, b[:9])
    forged(home)                                              # negative control
    assert not shell('evaluate', '--model', 'model', '--data', 'forged', '--max-tokens', 100, '--truncate', 'keep-end', '--device', 'cpu')

# checkpoints

TINY = dict(preset='nano', vocab_size=300, n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=2, warmup_steps=1, eval_tokens=32,
    max_steps=4, eval_every=4, save_every=2, log_every=2, keep=2, device='cpu', dtype='float32')

@pytest.fixture(scope='module')
def run(home):
    "A run of four steps, with checkpoints of steps 2 and 4"
    Trainer(TrainConfig(**TINY), home/'set', home/'run', progress=False).fit()
    return home/'run'

def deep(d, path, v):
    *most,last = path
    for o in most: d = d[o]
    if v is KeyError: del d[last]
    else: d[last] = v
def state(*path, v): return 'state', lambda s: deep(s, path, v)
def memory(*path, v): return 'optimizer', lambda s: deep(s, path, v)
def learnt(f): return 'model', f

def first_tensor(s): return s['state_dict']['state'][0]
STATES = dict(step=state('step', v='4'), other_step=state('step', v=3), no_step=state('step', v=KeyError), minus=state('step', v=-4),
    stepper=state('stepper', v=None), done=state('stepper', 'done', v=99), pieces=state('stepper', 'micro_batch', v=-1),
    dtype=state('stepper', 'dtype', v='int8'), scaler=state('stepper', 'scaler', v=7), guard=state('stepper', 'guard', v=[]),
    guard_more=state('stepper', 'guard', 'after_update', v='x'), skipped=state('stepper', 'guard', 'skipped', v=10**9),
    recent=state('stepper', 'guard', 'recent', v=['x']), rng=state('rng', v={}), rng_python=state('rng', 'python', v=(3, (1, 2), None)),
    rng_numpy=state('rng', 'numpy', v=('MT19937', [1], 2, 3, 4)), rng_torch=state('rng', 'torch', v=torch.zeros(3)), wall=state('wall_s', v='x'),
    wall_nan=state('wall_s', v=nan), window=state('window', v=[1.]), best=state('best', v=7), arithmetic=state('arithmetic', v=[1]),
    config=state('config', v=None), no_config=state('config', v={}), steps=state('config', 'max_steps', v=-3), hashes=state('data', v=7),
    tokenizer=state('tokenizer', v='gpt2'), no_tokenizer=state('tokenizer', v=KeyError), list=('state', lambda s: [1]), none=('state', lambda s: 7),
    optimizer=('optimizer', lambda s: 7), kind=memory('kind', v=7), params=memory('params', v=7), no_state=memory('state_dict', v=KeyError),
    keys=memory('state_dict', 'state', v={'x': {}}), group=memory('state_dict', 'param_groups', v=[]), rate=memory('state_dict', 'param_groups', 0, 'lr', v='x'),
    betas=memory('state_dict', 'param_groups', 0, 'betas', v=(0.9,)), rate_nan=memory('state_dict', 'param_groups', 0, 'weight_decay', v=nan),
    lost=('optimizer', lambda s: first_tensor(s).pop(sorted(first_tensor(s))[0]) is None or None),
    shape=('optimizer', lambda s: first_tensor(s).update({k: torch.zeros(7) for k in first_tensor(s)})),
    text=('optimizer', lambda s: first_tensor(s).update({k: 'x' for k in first_tensor(s)})),
    weights=('model', lambda s: [1]), weights_2=('model', lambda s: 7), weights_nan=learnt(lambda s: [v.fill_(nan) for v in s.values()] and None),
    weights_gone=learnt(lambda s: s.pop(WTE) is None or None), weights_shape=learnt(lambda s: s.update({WTE: torch.zeros(3)})),
    weights_int=learnt(lambda s: s.update({WTE: s[WTE].long()})), weights_key=learnt(lambda s: s.update({7: torch.zeros(3)})),
    pickle=('state', lambda s: s | dict(extra=Payload())))

def test_forged_states(home, run, monkeypatch):
    "Sealed, and not ours: said in a sentence, and the checkpoint before is used, to the same weights"
    monkeypatch.chdir(home)
    want,bad = (run/'model'/'model.safetensors').read_bytes(),[]
    for what,(part,change) in STATES.items():
        shutil.rmtree('again', ignore_errors=True)
        shutil.copytree(run, 'again')
        path = Path('again/checkpoints/step-00000004')
        s = read_part(path, part)
        torch.save(change(s) or s, path/f'{part}.pt')
        files = {o: dict(size=(path/o).stat().st_size, sha256=file_sha256(path/o)) for o in FILES[1:]}
        (path/FILES[0]).write_bytes(seal(read_manifest(path) | dict(files=files)).encode())
        try:
            t = Trainer(TrainConfig(**TINY), 'set', 'again', progress=False)
            if not (t.resume() and t.step==2 and t.messages[0].startswith('skipped step-00000004: ')): bad.append((what, t.step, t.messages))
        except Exception as e: bad.append((what, type(e).__name__, str(e)[:200]))
    assert not bad, '\n'.join(map(str, bad))
    t.fit()                                                   # the last of them goes on to its end
    assert Path('again/model/model.safetensors').read_bytes()==want
    assert not Path('executed').exists()

def test_forged_manifests_of_checkpoints(home, run, monkeypatch):
    monkeypatch.chdir(home)
    for k in [{a: b} for a,b in (('step','4'), ('step', None), ('about', None), ('about', [1]), ('versions', 7), ('files', None), ('files', {}),
            ('files', ['model.pt']), ('files', {'model.pt': 7}), ('files', {'model.pt': {'size': '7', 'sha256': ''}}), ('format', None))]:
        shutil.rmtree('again', ignore_errors=True)
        shutil.copytree(run, 'again')
        path = Path('again/checkpoints/step-00000004')
        (path/FILES[0]).write_bytes(seal(read_manifest(path) | k).encode())
        t = Trainer(TrainConfig(**TINY), 'set', 'again', progress=False)
        assert t.resume() and t.step==2 and t.messages[0].startswith('skipped step-00000004: '), k

# settings

BOMB = 'a: &a [x,x,x,x,x,x,x,x,x]\n'+''.join(f'{c}: &{c} [{",".join(["*"+d]*9)}]\n' for d,c in zip('abcdefgh', 'bcdefghi'))
YAML = ['['*5000, 'a: '+'['*5000, '{'*5000, '- '*5000, BOMB, 'a: &a {b: 1}\nlr: *a\n', 'a: &a {lr: 1}\n<<: *a\n', '&a [*a]', 'a: &a {b: *a}', 'lr: *no',
    'lr: !!python/object/apply:os.mkdir ["executed"]', '\0', 'lr: 1\n---\nlr: 2\n', '# '+'x'*10**6, ''.join(f'k{i}: 1\n' for i in range(5000)), '7',
    'x'*5000+': 1', 'lr: .nan', 'lr: .inf', 'max_steps: -1', 'max_steps: '+'9'*5000, 'n_layer: 20000', 'n_embd: 1'+'0'*30, 'lr: 2020-01-01', '? [a]\n: 1',
    'lr: !!binary aGVsbG8=', '"lr: 1', '\tlr: 1', 'lr: "\\ud800"', 'lr: "\\x1b[31m"', '~: 1', 'lr: 1\nlr: 2', 'lr:\n  - 1', 'seed: 0x10', 'compile: 7']
def test_settings(home, monkeypatch):
    "A config.yaml from anywhere: one short line, at once, and nothing is run"
    monkeypatch.chdir(home)
    for text in YAML:
        Path('c.yaml').write_text(text, encoding='utf-8')
        begun = time.monotonic()
        said = shell('train', '--data', 'set', '--out', 'never', '--config', 'c.yaml')
        assert 'c.yaml' in said and time.monotonic()-begun<15, (text[:30], said)
    for how in ['folder']+['loop','pipe','hole']*LINKS:
        shutil.rmtree('c.yaml') if Path('c.yaml').is_dir() else Path('c.yaml').unlink(missing_ok=True)
        replaced('c.yaml', how)(Path('.'))
        assert 'c.yaml' in shell('train', '--data', 'set', '--out', 'never', '--config', 'c.yaml'), how
    assert not Path('executed').exists() and not Path('never').exists()

def test_temperatures(home, monkeypatch):
    "So cold that float32 knows no such number: the likeliest token, as at 0; what is none is refused"
    monkeypatch.chdir(home)
    words = ['--model', 'model', '--input', 'Ab', '--max-new-tokens', 3, '--device', 'cpu']
    for t in ('1e-30', '1e-38', '1e-46', '1e-300', '5e-324', '1e-400', '1e30', '1e300'): assert not shell('generate', *words, '--temperature', t), t
    for t in ('-1', 'nan', 'inf', '1e400'): assert 'temperature' in shell('generate', *words, '--temperature', t), t
    cold = [cli.generate('model', 'Ab', 9, temperature=t, device='cpu') for t in (0, 1e-46)]
    assert cold[0]==cold[1]

def test_a_vocabulary_above_that_of_gpt2(home, monkeypatch):
    "Rows to spare are never drawn and not exported as tokens; a vocabulary without its tokenizer is named"
    monkeypatch.chdir(home)
    from lightbrain.tokenizer import gpt2_tokenizer
    GPT(GPTConfig(vocab_size=50304, block_size=16, n_layer=1, n_head=1, n_embd=4)).save_pretrained('wide', gpt2_tokenizer())
    GPT(GPTConfig(vocab_size=60000, block_size=16, n_layer=1, n_head=1, n_embd=4)).save_pretrained('nameless')
    for name,words in COMMANDS.items():
        said = shell(name, '--model', 'wide', *[o.replace('exported', 'wide-hf') for o in words])
        assert 'mean nothing to the other' in said if name=='evaluate' else not said
        assert 'no vocab.json' in shell(name, '--model', 'nameless', *words)

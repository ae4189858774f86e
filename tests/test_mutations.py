"Faults that once survived every test: each property is tested, then tested with the fault planted, where it must fail"
import contextlib, inspect, io, json, math, random
import numpy as np, pytest, torch
from torch import nn
from lightbrain import cli, evaluate, sample, train as loop
from lightbrain.fast import kernels, muon
from lightbrain.run import trainer as train
from lightbrain.fast.budget import probe
from lightbrain.run.config import TrainConfig
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.data import TokenDataset
from lightbrain.prep.prepare import prepare
from lightbrain.model import GPT, GPTConfig
from lightbrain.tokenizer import gpt2_tokenizer

SIZE = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, dropout=0.5)
CONFIG = TrainConfig.from_dict(SIZE | dict(preset='tiny', batch_size=2, max_steps=2, warmup_steps=1, eval_tokens=64,
    device='cpu', dtype='float32'))
PROMPT = 'Fever fell'

class Place:
    "A model in training mode, its folder, a prepared set, and room for runs"
    def __init__(self, folder):
        torch.manual_seed(0)
        self.folder,self.data,self.saved,self.runs = folder,folder/'data',folder/'model',0
        self.model = GPT(GPTConfig(**SIZE))
        with torch.no_grad():
            for p in self.model.parameters(): p.mul_(8)              # opinions, so that the likeliest token is no accident of rounding
        self.model.save_pretrained(self.saved)
        prepare('synthetic:60', self.data, workers=1)
        self.kernels = kernels.kernels(dtype=torch.float32)[0]
    def run(self):
        self.runs += 1
        return self.folder/f'run{self.runs}'

@pytest.fixture(scope='module')
def place(tmp_path_factory): return Place(tmp_path_factory.mktemp('small'))

def rewritten(f, old, new):
    "`f` with a fault written into it"
    source,scope = inspect.getsource(f),dict(f.__globals__)
    assert source.count(old)==1, f"`{old}` is gone from {f.__name__}: plant the fault elsewhere"
    exec(source.replace(old, new), scope)
    return scope[f.__name__]

def rewrite(module, name, old, new): return lambda m: m.setattr(module, name, rewritten(getattr(module, name), old, new))

# The answers stand at the end of a prompt

def a_long_prompt_keeps_its_end(place):
    seen,enc,records = [],gpt2_tokenizer(),synthetic_records(3)
    class Reader(nn.Module):
        "Remembers what it was asked to read"
        def __init__(self):
            super().__init__()
            self.config,self.lm_head = GPTConfig(**SIZE),nn.Linear(16, 50257, bias=False)
        def hidden(self, x):
            seen.extend(x.tolist())
            return torch.ones(*x.shape, 16)
    r = evaluate.pubmedqa(Reader(), records, enc, batch_size=1, truncate='keep-end')
    want = [enc.encode_ordinary(render_record(o, answer=False)) for o in records]
    assert r.truncated==3 and sorted(seen[:3])==sorted(o[-16:] for o in want)      # behind them, prompts without content

# A tall matrix takes longer steps

def muon_steps_fit_the_shape(place):
    def step(g):
        p = nn.Parameter(torch.zeros_like(g))
        p.grad = g.clone()
        muon.Muon([dict(params=[p], muon=True)], lr=1., weight_decay=0., dtype=torch.float32).step()
        return p.detach()
    for m,n in ((64, 16), (48, 3), (16, 16)):
        g = torch.randn(m, n, generator=torch.Generator().manual_seed(m))
        assert torch.allclose(step(g), (m/n)**0.5*step(g.T).T, atol=1e-4)
    strength = torch.linalg.svdvals(step(g))
    assert 0.6<strength.min() and strength.max()<1.3, 'a square matrix moves by about 1 in every direction'

# Programs older than `n_positions` read `n_ctx`

def config_json_names_the_context_twice(place):
    d = json.loads((place.saved/'config.json').read_text())
    GPT.from_pretrained(place.saved).save_pretrained(out := place.run())
    again = json.loads((out/'config.json').read_text())
    for o in (d, again): assert o.get('n_ctx')==o.get('n_positions')==16

def without_n_ctx(m):
    whole = GPT.hf_config
    m.setattr(GPT, 'hf_config', lambda self: {k:v for k,v in whole(self).items() if k!='n_ctx'})

# Every switch of `lightbrain-generate` reaches the sampler

def said(place, **how):
    "What `lightbrain-generate` writes"
    with contextlib.redirect_stdout(io.StringIO()):
        text, = cli.generate(model=place.saved, input=PROMPT, max_new_tokens=8, device='cpu', **dict(temperature=30., top_p=1.) | how)
    return text

def greedy(place):
    enc,m = gpt2_tokenizer(),GPT.from_pretrained(place.saved).eval()
    ids = torch.tensor([enc.encode_ordinary(PROMPT)])
    for _ in range(8): ids = torch.cat([ids, m(ids)[0][:,-1:].argmax(-1)], 1)
    return enc.decode(ids[0].tolist())

def narrow(**how):
    "With this setting nothing but the likeliest token is left; without it, chance decides"
    def check(place):
        best = greedy(place)
        assert said(place)!=best and said(place, seed=7)!=best, 'this model would be greedy anyway'
        assert said(place, **how)==best
    return check

def the_seed_decides(place):
    assert said(place, seed=1)==said(place, seed=1)!=said(place, seed=2)

def deaf_to(name, default):
    "`stream` no longer hears one of its settings"
    def plant(m):
        real = sample.stream
        m.setattr(sample, 'stream', lambda *a, **how: real(*a, **how | {name: default}))
    return plant

# Bits per byte: the bits of these tokens, over the bytes of these tokens

def bits_are_of_the_same_tokens_as_bytes(place):
    "On all of the held-out side, document by document, in windows of 16"
    enc,m = gpt2_tokenizer(),place.model
    tape = TokenDataset(place.data, 'validation').tokens.astype('int64').tolist()
    size = lambda i: 0 if i==enc.eot_token else len(enc.decode_single_token_bytes(i))
    r,nats,n,bytes_ = cli.evaluation(m, place.data),0.,0,0
    with loop.eval_mode(m):
        while tape:
            doc,tape = torch.tensor(tape[:tape.index(enc.eot_token)+1]),tape[tape.index(enc.eot_token)+1:]
            for i in range(0, len(doc)-1, 16):
                y = doc[i+1:i+17]
                nats += m(doc[None,i:i+len(y)], y[None])[1].item()*len(y)
            n,bytes_ = n+len(doc)-1,bytes_+sum(map(size, doc[1:].tolist()))
    assert r['tokens']==n and abs(r['loss']-nats/n)<1e-4*r['loss']
    assert abs(r['bits_per_byte']-nats/math.log(2)/bytes_)<1e-4*r['bits_per_byte']

def shifted_bytes(cut):
    def plant(m):
        real = evaluate.bytes_per_token
        m.setattr(evaluate, 'bytes_per_token', lambda tokens, enc: real(tokens[cut], enc))
    return plant

def one_token_less(m):
    real = loop.document_windows
    m.setattr(loop, 'document_windows', lambda tokens, *a: real(tokens[:-1], *a))

def crosses_documents(m):
    real = loop.document_windows
    m.setattr(loop, 'document_windows', lambda tokens, size, end: real(tokens, size))

# One mean loss: every token but the first, once, in float32 whatever goes on around it

def mean_loss_is_of_every_token(place):
    m,ids = place.model,torch.randint(50257, (100,), generator=own())
    with loop.eval_mode(m): nats = sum(m(ids[None,i:i+16][:,:99-i], ids[None,i+1:i+17])[1].item()*min(16, 99-i) for i in range(0, 99, 16))
    with torch.autocast('cpu', dtype=torch.bfloat16): assert abs(loop.mean_loss(m, ids)*99/nats-1)<1e-6

# One row of NaN, which the text at hand does not use

def a_row_of_nan_is_refused(use):
    def check(place):
        row = place.model.transformer.wpe.weight.data[-1]
        kept = row.clone()
        row.fill_(math.nan)
        try: use(place.model)
        except ValueError as e: assert 'transformer.wpe.weight: 16 of its 256 weights' in str(e)
        else: assert False, 'a score, or a text, as if nothing were wrong'
        finally: row.copy_(kept)
        use(place.model)
    return check

SHORT = [dict(question='', context=dict(contexts=[]), final_decision='yes')]
READ = {
    'perplexity': lambda m: evaluate.perplexity(m, [1, 2, 3]), 'pubmedqa': lambda m: evaluate.pubmedqa(m, SHORT, gpt2_tokenizer(), truncate='keep-end'),
    'generate': lambda m: sample.generate(m, [1], 1), 'stream': lambda m: list(sample.stream(m, gpt2_tokenizer(), 'Fever', 1))}

def unchecked(m):
    for module in (evaluate, sample): m.setattr(module, 'check_weights', lambda model: None)

# The tokenizer is the model's: an answer counts as a whole, and what has no token is never said

class Letters:
    "One token per letter, 128 of them"
    n_vocab,eot_token = 128,0
    def encode_ordinary(self, s): return [ord(c) for c in s]
    def decode_single_token_bytes(self, i): return bytes([i])

def speller(rows):
    torch.manual_seed(0)
    model = GPT(GPTConfig(**SIZE | dict(vocab_size=rows, block_size=64)))
    with torch.no_grad(): model.lm_head.weight.mul_(20)
    return model

def an_answer_counts_as_a_whole(place):
    records,model = synthetic_records(4),speller(128)
    prompts = [Letters().encode_ordinary(render_record(o, answer=False))[-59:] for o in records]
    def whole(prompt, word):
        ids = prompt+Letters().encode_ordinary(' '+word)
        with loop.eval_mode(model): logp = model(torch.tensor([ids[:-1]]))[0][0].log_softmax(-1)
        return sum(logp[i-1,ids[i]].item() for i in range(len(prompt), len(ids)))
    want = [max(evaluate.ANSWER_WORDS, key=lambda w: whole(p, w)) for p in prompts]
    assert evaluate.pubmedqa(model, records, Letters(), truncate='keep-end').predictions==want

def no_row_without_a_token_is_drawn(place):
    with pytest.warns(UserWarning, match='the model has 72 rows more'):
        said = ''.join(sample.stream(speller(200), Letters(), 'Fever', 40, temperature=5., generator=own(), stop_at_eot=False))
    assert len(said)==40 and said.isascii()

def anothers_tokenizer_is_refused(place):
    model = speller(100)
    for use in (lambda: evaluate.pubmedqa(model, synthetic_records(1), Letters()), lambda: sample.stream(model, Letters(), 'abc')):
        try: use()
        except ValueError as e: assert 'this tokenizer has 128 tokens, the model knows 100' in str(e)
        else: assert False, 'a score, or a text, of a model that does not know these tokens'

def any_tokenizer(m):
    for module in (evaluate, sample): m.setattr(module, 'tokenizer_of', lambda model, tokenizer: tokenizer)

# The caller's random state

def state(): return random.getstate(),str(np.random.get_state()[1].tolist()),np.random.get_state()[2:],torch.get_rng_state().tolist()

def calm(f):
    "Python's, NumPy's and torch's generators stand where they stood before `f(place)`"
    def check(place):
        place.model.train()
        torch.manual_seed(5)
        before = state()
        with contextlib.redirect_stdout(io.StringIO()): f(place)
        assert state()==before, 'the random state of the caller has changed'
    return check

def own(): return torch.Generator().manual_seed(0)

QUIET = {
    'Trainer': lambda o: train.Trainer(CONFIG, o.data, o.run()),
    'fit': lambda o: train.Trainer(CONFIG, o.data, o.run()).fit(),
    'probe': lambda o: probe(o.model.config, 1, 0.001, device='cpu'),
    'from_pretrained': lambda o: GPT.from_pretrained(o.saved),
    'perplexity': lambda o: evaluate.perplexity(o.model, list(range(99))),
    'pubmedqa': lambda o: evaluate.pubmedqa(o.model, synthetic_records(2), gpt2_tokenizer(), truncate='keep-end'),
    'mean_loss': lambda o: loop.mean_loss(o.model, list(range(99)), max_tokens=64),
    'evaluation': lambda o: cli.evaluation(o.model, o.data, 64),
    'generate': lambda o: sample.generate(o.model, [1, 2], 4, generator=own()),
    'stream': lambda o: list(sample.stream(o.model, gpt2_tokenizer(), PROMPT, 4, generator=own())),
    'lightbrain-generate': said,
    'show_samples': lambda o: cli.show_samples(o.model, o.data, 1),
    'kernels_agree': lambda o: kernels.kernels_agree(o.kernels or pytest.skip('no C compiler here')),
    'batch': lambda o: TokenDataset(o.data, 'train').batch(0, 2, 16, seed=1)}

def no_fork(m): m.setattr(torch.random, 'fork_rng', lambda *a, **k: contextlib.nullcontext())
def nothing_put_back(m): m.setattr(train, 'set_rng_state', lambda s: None)
def still_dropping(m): m.setattr(GPT, 'eval', lambda self: self)
def no_generator(m):
    real = sample.sample_logits
    m.setattr(sample, 'sample_logits', lambda *a, generator=None, **k: real(*a, **k))
def built_by_chance(m):
    real = GPT.from_pretrained
    m.setattr(GPT, 'from_pretrained', lambda *a, **k: (GPT(GPTConfig(**SIZE)), real(*a, **k))[1])
def by_chance(m): m.setattr(TokenDataset, '_starts', lambda self, *a: torch.randint(9, (2,)).numpy())
def random_rows(m):
    real = kernels.softmax_less_truth_
    m.setattr(kernels, 'softmax_less_truth_', lambda *a: (torch.randn(2), real(*a))[1])

NOISE = {'Trainer':no_fork, 'fit':nothing_put_back, 'probe':no_fork, 'from_pretrained':built_by_chance, 'perplexity':still_dropping,
    'pubmedqa':still_dropping, 'mean_loss':still_dropping, 'evaluation':still_dropping, 'generate':no_generator, 'stream':no_generator,
    'lightbrain-generate':no_generator, 'show_samples':no_generator, 'kernels_agree':random_rows, 'batch':by_chance}

# The table: fault -> (property, how the fault is planted)

FAULTS = {
    'pubmedqa keeps the start': (a_long_prompt_keeps_its_end, rewrite(evaluate, '_fit', 'prompts[i][-room:]', 'prompts[i][:room]')),
    "Muon's shape factor is missing": (muon_steps_fit_the_shape, rewrite(muon, 'muon_update', 'alpha=-lr*longer', 'alpha=-lr')),
    "Muon's shape factor upside down": (muon_steps_fit_the_shape, rewrite(muon, 'muon_update', 'p.shape[0]/p.shape[1]', 'p.shape[1]/p.shape[0]')),
    'one window less': (mean_loss_is_of_every_token, one_token_less),
    'in the format around it': (mean_loss_is_of_every_token, rewrite(loop, 'window_losses', 'with eval_mode(model), fast:', 'with eval_mode(model):')),
    'the first token of an answer': (an_answer_counts_as_a_whole,
        rewrite(evaluate, '_prompts', 'answer_ids(tokenizer)', '[a[:1] for a in answer_ids(tokenizer)]')),
    'rows without a token': (no_row_without_a_token_is_drawn, rewrite(sample, 'next_ids', '[:,:n_vocab]', '')),
    "another model's tokenizer": (anothers_tokenizer_is_refused, any_tokenizer),
    'n_ctx is missing': (config_json_names_the_context_twice, without_n_ctx),
    '--top-p is ignored': (narrow(top_p=1e-9), deaf_to('top_p', None)),
    '--min-p is ignored': (narrow(min_p=1.), deaf_to('min_p', None)),
    '--top-k is ignored': (narrow(top_k=1), deaf_to('top_k', None)),
    '--temperature is ignored': (narrow(temperature=0.), deaf_to('temperature', 30.)),
    '--seed is ignored': (the_seed_decides, deaf_to('generator', None)),
    'bytes of tokens that are not scored': (bits_are_of_the_same_tokens_as_bytes, rewrite(cli, '_on_text', 'bytes_per_token(tokens[at]', 'bytes_per_token(tokens')),
    'bytes of the tokens read': (bits_are_of_the_same_tokens_as_bytes, rewrite(cli, '_on_text', 'bytes_per_token(tokens[at]', 'bytes_per_token(tokens[at-1]')),
    'a window reads the document before': (bits_are_of_the_same_tokens_as_bytes, crosses_documents),
    'bytes of one token less': (bits_are_of_the_same_tokens_as_bytes, shifted_bytes(slice(1, None))),
    'one token is not scored': (bits_are_of_the_same_tokens_as_bytes, one_token_less),
} | {f'{name} reads weights that are NaN': (a_row_of_nan_is_refused(READ[name]), unchecked) for name in READ
} | {f"{name} draws from the caller's generators": (calm(QUIET[name]), NOISE[name]) for name in NOISE}

@pytest.mark.parametrize('fault', FAULTS)
def test_the_property(fault, place): FAULTS[fault][0](place)

@pytest.mark.parametrize('fault', FAULTS)
def test_the_fault_is_seen(fault, place, monkeypatch):
    "Negative control for each: with the fault planted, the same property fails"
    holds,plant = FAULTS[fault]
    plant(monkeypatch)
    with pytest.raises(AssertionError): holds(place)

"What generate promises: draws by the right distribution, one text however it is computed, and int8 that costs no loss"
import math
import pytest, torch
from lightbrain import sample
from lightbrain.model import GPT, GPTConfig
from lightbrain.sample import generate, keep_min_p, keep_top_k, keep_top_p, next_logits, quantize_int8, sample_logits, sampling_probs, stream
from lightbrain.train import mean_loss

def own(seed=0): return torch.Generator().manual_seed(seed)

@pytest.fixture(scope='module')
def model():
    "Random, but with opinions: greedy texts of its own for each prompt"
    torch.manual_seed(0)
    m = GPT(GPTConfig(vocab_size=97, block_size=128, n_layer=2, n_head=2, n_embd=32)).eval()
    with torch.no_grad():
        for n,p in m.named_parameters():
            if '.h.' in n and n.endswith('weight'): p *= 8
    return m

# 100,000 draws from 30 scores with ties; each dial, and a fault of it that must be noticed

Z = (torch.randn(30, generator=own(3))*2).round(decimals=1)
DIALS = {'temperature': dict(temperature=0.7), 'top_k': dict(top_k=8), 'top_p': dict(top_p=0.8), 'min_p': dict(min_p=0.1),
         'all': dict(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05)}
def threshold_k(x, k=8): return x.masked_fill(x<x.sort(-1, descending=True).values[...,k:k+1], -math.inf).softmax(-1)   # k+1 and its ties
def short_p(x):
    top,order = x.softmax(-1).sort(-1, descending=True)
    keep = torch.zeros_like(top).scatter(-1, order, (top.cumsum(-1)<=0.8).float())     # drops the one that reaches p
    return x.softmax(-1)*keep
def bar_for_all(x): return x.softmax(-1)*(x.softmax(-1)>=0.1)
def another_order(x): return keep_top_p(keep_min_p(keep_top_k(x, 20).softmax(-1), 0.05), 0.9).pow(1/1.3)   # heat at the end
FAULTS = {'temperature': lambda x: (x*0.7).softmax(-1), 'top_k': threshold_k, 'top_p': short_p, 'min_p': bar_for_all, 'all': another_order}

def far(drawn, probs):
    "Pearson's statistic as a number of standard deviations above its mean; infinite if an impossible token came"
    seen,ok = torch.bincount(drawn, minlength=len(probs)),probs>0
    if seen[~ok].any(): return math.inf
    want = probs[ok].double()*len(drawn)
    free = max(int(ok.sum())-1, 1)
    return (((seen[ok]-want)**2/want).sum().item()-free)/(2*free)**0.5

@pytest.mark.parametrize('dial', DIALS)
def test_chi_square(dial):
    how,x = DIALS[dial],Z.expand(100_000, -1)
    want = sampling_probs(Z, **how)
    assert far(sample_logits(x, generator=own(), **how), want)<5
    assert far(torch.multinomial(FAULTS[dial](Z), 100_000, True, generator=own()), want)>20

# One text, however it is computed

def uncached(model, idx, n):
    idx = torch.tensor([idx])
    for _ in range(n):
        with torch.no_grad(): new = model(idx[:,-model.config.block_size:])[0][:,-1].argmax(-1)
        idx = torch.cat([idx, new[:,None]], 1)
    return idx

def test_the_cache_changes_nothing(model):
    "300 greedy tokens, far past the context of 128; a window that rolls keys and values along writes another text"
    want = uncached(model, [5, 17, 3], 300)
    assert torch.equal(generate(model, [5, 17, 3], 300, temperature=0), want)
    assert len(want.unique())>10, 'a text of one word proves little'

def test_a_rolling_cache_is_noticed(model, monkeypatch):
    def rolling(model, idx, cache):
        if cache.n==model.config.block_size: cache.kv,cache.n = cache.kv.roll(-1, dims=4),cache.n-1
        with torch.no_grad(): return model.lm_head(sample.read_on(model, idx[:,-1:] if cache.n else idx, cache)[:,-1])
    monkeypatch.setattr(sample, 'next_logits', rolling)
    got,want = generate(model, [5, 17, 3], 300, temperature=0),uncached(model, [5, 17, 3], 300)
    assert torch.equal(got[:,:129], want[:,:129]) and not torch.equal(got, want)

PROMPTS = [[5, 17, 3], [9], list(range(20, 60)), [2, 2]]
@pytest.mark.parametrize('how', [{}, dict(repetition_penalty=1.4), dict(eos_token=1), dict(eos_token=1, repetition_penalty=1.2)], ids=str)
def test_batched_is_one_by_one(model, how):
    alone = [generate(model, o, 150, temperature=0, **how)[0].tolist() for o in PROMPTS]
    if 'eos_token' in how:                          # a token that some rows really say
        how = how | dict(eos_token=alone[0][len(PROMPTS[0])+20])
        alone = [generate(model, o, 150, temperature=0, **how)[0].tolist() for o in PROMPTS]
        assert len({len(a)-len(p) for a,p in zip(alone, PROMPTS)})>1
    assert [o.tolist() for o in generate(model, PROMPTS, 150, temperature=0, **how)]==alone

@pytest.mark.parametrize('how', [{}, dict(eos_token=1, temperature=1.3), dict(top_p=0.9, repetition_penalty=1.2)], ids=str)
def test_batched_is_one_by_one_when_drawn(model, how):
    "With a generator for each row; one for all makes a row depend on its company"
    def dice(): return [own(i) for i in range(len(PROMPTS))]
    alone = [generate(model, o, 40, generator=g, **how)[0].tolist() for o,g in zip(PROMPTS, dice())]
    assert [o.tolist() for o in generate(model, PROMPTS, 40, generator=dice(), **how)]==alone
    assert [o.tolist() for o in generate(model, PROMPTS[::-1], 40, generator=dice()[::-1], **how)]==alone[::-1]
    last = generate(model, PROMPTS[-1], 40, generator=own(), **how)[0].tolist()          # in company of the same seed
    assert generate(model, PROMPTS, 40, generator=own(), **how)[-1].tolist()!=last

@pytest.mark.parametrize('n', [0, 3, 5])
@pytest.mark.parametrize('prompts', [PROMPTS, [[1, 2]]*4], ids=['unequal', 'equal'])
def test_one_generator_a_row(model, prompts, n):
    with pytest.raises(ValueError, match=f'{n} generators for 4 rows'): generate(model, prompts, 3, generator=[own()]*n)

def test_equal_prompts_give_a_tensor(model):
    out = generate(model, [[1, 2], [3, 4]], 5, generator=own())
    assert out.shape==(2, 7) and torch.equal(out, generate(model, torch.tensor([[1, 2], [3, 4]]), 5, generator=own()))
    assert not torch.equal(out, generate(model, [[1, 2], [3, 4]], 5, generator=own(1)))

def test_unequal_prompts_are_judged_one_by_one(model):
    for bad,why in (([[1, 2], []], 'holds no token'), ([[1], [2, 97]], 'vocabulary from 0 to 96'), ([[1], [2]*129], 'has 129 tokens'), (['a', 'bc'], 'encode text')):
        with pytest.raises(ValueError, match=why): generate(model, bad, 3)

def test_a_penalty_looks_at_its_own_row_only(model):
    "Rows that wait for their prompt are filled up; a filler that is punished would change them"
    z = torch.tensor([[3., 2., -1.], [3., 2., -1.]])
    assert sample.penalize_repeats(z, torch.tensor([[0], [2]]), 2.).tolist()==[[1.5, 2., -1.], [3., 2., -2.]]

def test_misspelled_dials_are_refused(model):
    for use in (lambda: generate(model, [1], 1, topk=3), lambda: stream(model, None, [1], 1, topk=3)):
        with pytest.raises(TypeError, match='topk'): use()

# int8

def test_int8_costs_no_loss(run):
    "A trained model on its validation text: within 0.01 nats; 3 bits are not, so the comparison sees a difference"
    from lightbrain.data import TokenDataset
    model,data = GPT.from_pretrained(run/'run'/'model'),TokenDataset(run/'data', 'validation')
    T = model.config.block_size
    toks = torch.as_tensor(data.tokens[:16*T+1].astype('int64'))
    x,y = toks[:-1].view(-1, T),toks[1:].view(-1, T)
    def nats(m):
        with torch.no_grad(): return m(x, y)[1].item()
    before,small = nats(model),quantize_int8(model)
    assert abs(nats(small)-before)<0.01
    for m in (model, small): assert abs(mean_loss(m, toks)-nats(m))<0.01        # and so says the usual score
    with torch.no_grad():
        for p in model.parameters():
            if p.dim()==2: p.copy_((p/p.abs().max()*3).round()/3*p.abs().max())
    assert abs(nats(model)-before)>0.01

def test_int8_is_for_reading(model, tmp_path):
    from lightbrain.export import to_gguf, to_onnx, to_transformers
    small = quantize_int8(model)
    assert generate(small, PROMPTS[0], 140, temperature=0).shape==(1, 143)
    assert [o.shape[0] for o in generate(small, PROMPTS, 5)]==[len(o)+5 for o in PROMPTS]
    for use in (to_gguf, to_onnx, to_transformers, lambda m, out: m.save_pretrained(out)):
        with pytest.raises(ValueError): use(small, tmp_path/'out')
    with pytest.raises(ValueError, match='cannot be trained'): small.train()
    assert not (tmp_path/'out').exists() and isinstance(model, GPT) and model.lm_head.weight.dtype==torch.float32

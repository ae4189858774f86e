"What a cell cannot show of the fast loss: every path on one ladder, real out-of-memory, other processes, checkpoints, benchmarks"
import json, math, os, shutil, subprocess, sys, tempfile
from contextlib import contextmanager
import pytest, torch
import torch.nn.functional as F
from torch import nn
from conftest import LONG, ROOT
from lightbrain import attention
from lightbrain.fast import faststep, kernels as kernels_module, muon as muon_module
from lightbrain.attention import causal_mask
from lightbrain.run.checkpoint import load_checkpoint, save_checkpoint
from lightbrain.core import pick_dtype
from lightbrain.files import file_sha256
from lightbrain.fast.faststep import FusedLoss
from lightbrain.fast.kernels import kernels
from lightbrain.model import GPT, GPTConfig, count_params, cross_entropy
from lightbrain.fast.muon import make_optimizer
from lightbrain.optim import make_adamw
from lightbrain.run import trainer as train_module
from lightbrain.run.config import TrainConfig
from lightbrain.prep.prepare import prepare
from lightbrain.sample import KVCache, read_on
from lightbrain.run.trainer import Trainer
from lightbrain.train import Step, autocast

try: from transformers import GPT2LMHeadModel
except ImportError: GPT2LMHeadModel = None

CFG = GPTConfig(vocab_size=389, block_size=24, n_layer=2, n_head=2, n_embd=32, dropout=0.)
BF16 = pick_dtype('cpu')==torch.bfloat16

def batch(seed=0, b=3, t=16):
    "Ids and the ids that follow"
    i = torch.randint(CFG.vocab_size, (b, t+1), generator=torch.Generator().manual_seed(seed))
    return i[:,:-1],i[:,1:]

def new_model(seed=0):
    torch.manual_seed(seed)
    return GPT(CFG)

class Plain:
    "Lesson 04's model and loss; `fused` chooses torch's attention kernel or lesson 03's own"
    def __init__(self, model, fused):
        self.model = model
        for b in model.transformer.h: b.attn.fused = fused
    def hidden_of(self, x): return self.model.hidden(x)
    def loss(self, x, y): return cross_entropy(self.model.lm_head(self.model.hidden(x)), y)

class Fast(FusedLoss):
    def loss(self, x, y): return self(x, y)
    def hidden_of(self, x):
        with autocast(x.device, self.dtype): return self.hidden(self.model.transformer.wte(x)).float()

PATHS = {'by hand': lambda m: Plain(m, False), 'torch kernel': lambda m: Plain(m, True),
         'fast float32': lambda m: Fast(m, torch.float32, use_kernels=False)}
if kernels(dtype=torch.float32)[0]: PATHS['fast C float32'] = lambda m: Fast(m, torch.float32)
if BF16:
    PATHS['fast bfloat16'] = lambda m: Fast(m, torch.bfloat16, use_kernels=False)
    if kernels()[0]: PATHS['fast C bfloat16'] = lambda m: Fast(m, torch.bfloat16)
EXACT = [o for o in PATHS if 'bfloat16' not in o]

class Reader:
    "A path that reads and does not train: its outputs are compared instead of its gradients"
    def __init__(self, model): self.model = model.eval()
    @torch.no_grad()
    def loss(self, x, y): return cross_entropy(self.model.lm_head(self.hidden_of(x)), y)

class Cached(Reader):
    "Three tokens at a time, with the keys and values of the earlier ones remembered"
    @torch.no_grad()
    def hidden_of(self, x):
        cache = KVCache(self.model, len(x))
        return torch.cat([read_on(self.model, o, cache) for o in x.split(3, 1)], 1)

class Exported(Reader):
    "The graph that torch.export makes, for any batch and length"
    def __init__(self, model):
        super().__init__(model)
        class Body(nn.Module):
            def __init__(self): super().__init__(); self.gpt = model
            def forward(self, idx): return self.gpt.hidden(idx)
        sizes = {0: torch.export.Dim('rows', min=2, max=64), 1: torch.export.Dim('tokens', min=2, max=CFG.block_size)}
        self.hidden_of = torch.export.export(Body(), (batch()[0].contiguous(),), dynamic_shapes=dict(idx=sizes)).module()

class Reloaded(Reader):
    "Written to a folder in the layout of Hugging Face's GPT-2, and read again"
    def __init__(self, model):
        with tempfile.TemporaryDirectory() as d:
            model.save_pretrained(f'{d}/model')
            super().__init__(GPT.from_pretrained(f'{d}/model'))
    def hidden_of(self, x): return self.model.hidden(x)

READERS = {'cached': Cached, 'exported': Exported, 'saved and read': Reloaded}

def leak(path):
    "How much earlier hidden states change when the last token does"
    x,_ = batch(1)
    other = x.clone(); other[:,-1] = (x[:,-1]+1)%CFG.vocab_size
    with torch.no_grad(): return (path.hidden_of(x)-path.hidden_of(other))[:,:-1].abs().max().item()

def gradients(path):
    "Loss and every gradient, by name"
    path.model.zero_grad(set_to_none=True)
    loss = path.loss(*batch(2))
    loss.backward()
    return {'loss': loss.detach()} | {n: p.grad for n,p in path.model.named_parameters()}

def far(path):
    "Largest relative distance of loss and gradients from the path by hand, on the same weights"
    twin = new_model(); twin.load_state_dict(path.model.state_dict())
    with healthy(): want = gradients(Plain(twin, False))
    got = gradients(path)
    if got.keys()!=want.keys(): return math.inf
    return max(((got[n].float()-want[n]).norm()/want[n].norm().clamp(min=1e-3)).item() for n in want)

def overfit(path, steps=60):
    "Loss after learning one batch by heart"
    opt,(x,y) = torch.optim.AdamW(path.model.parameters(), lr=1e-2),batch(3)
    for _ in range(steps): opt.zero_grad(); loss = path.loss(x, y); loss.backward(); opt.step()
    return loss.item()

def ladder(make, exact, learn=False):
    "Which properties hold, by name"
    path = make(new_model())
    m,fresh = path.model,path.loss(*batch(0, 8)).item()
    out = dict(causal=leak(path)<(1e-5 if exact else 0.), fresh=abs(fresh-math.log(CFG.vocab_size))<0.3,
        tied=m.lm_head.weight.untyped_storage().data_ptr()==m.transformer.wte.weight.untyped_storage().data_ptr(),
        counted=sum(p.numel() for p in m.parameters())==count_params(CFG))
    if not exact: out['causal'] = leak(path)<1e-6
    with torch.no_grad():
        for n,p in m.named_parameters():
            if '.h.' in n and n.endswith('weight') and p.dim()==2: p.mul_(8)       # far from the start: attention has an opinion
    out['gradients'] = far(path)<(1e-4 if exact else 0.05)
    if learn: out['overfits'] = overfit(make(new_model()))<0.1
    return out

@pytest.mark.parametrize('name', PATHS)
def test_every_path_climbs_the_ladder(name):
    out = ladder(PATHS[name], name in EXACT, learn=True)
    assert all(out.values()), out

def strange(model, seed=3):
    "Weights far from the start: attention has an opinion, norms and biases too"
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters(): p.add_(torch.randn(p.shape, generator=g), alpha=0.3)
    return model

def reader_ladder(make):
    "Which properties hold for a path that only reads, by name"
    fresh = make(new_model()).loss(*batch(0, 8)).item()
    with healthy(): want = Plain(strange(new_model()), False).hidden_of(batch(2)[0]).detach()
    path = make(strange(new_model()))
    m,got = path.model,path.hidden_of(batch(2)[0]).detach()
    return dict(causal=leak(path)<1e-5, fresh=abs(fresh-math.log(CFG.vocab_size))<0.3, equal=((got-want).norm()/want.norm()).item()<1e-4,
        tied=m.lm_head.weight.untyped_storage().data_ptr()==m.transformer.wte.weight.untyped_storage().data_ptr(),
        counted=sum(p.numel() for p in m.parameters())==count_params(CFG))

@pytest.mark.parametrize('name', READERS)
def test_every_reader_climbs_the_ladder(name):
    out = reader_ladder(READERS[name])
    assert all(out.values()), out

@pytest.mark.skipif(GPT2LMHeadModel is None, reason='transformers is not installed')
def test_transformers_climbs_it_with_our_weights(tmp_path):
    class Theirs(Reader):
        def __init__(self, model):
            super().__init__(model)
            model.save_pretrained(tmp_path/'model')
            self.theirs = GPT2LMHeadModel.from_pretrained(tmp_path/'model').eval()
        @torch.no_grad()
        def hidden_of(self, x): return self.theirs.transformer(x).last_hidden_state
    out = reader_ladder(Theirs)
    assert all(out.values()), out

# Faults, planted into every path's own attention
_weights,_sdpa,_fast = attention.attention_weights,F.scaled_dot_product_attention,faststep.fast_attention

@contextmanager
def healthy():
    "The reference is never faulty"
    now = attention.attention_weights,F.scaled_dot_product_attention,faststep.fast_attention
    attention.attention_weights,F.scaled_dot_product_attention,faststep.fast_attention = _weights,_sdpa,_fast
    try: yield
    finally: attention.attention_weights,F.scaled_dot_product_attention,faststep.fast_attention = now

def inverted(q, k, past): return (q@k.mT*q.shape[-1]**-0.5).masked_fill(past, -math.inf).softmax(-1).nan_to_num(0)
def unscaled(q, k, past): return (q@k.mT).masked_fill(~past, -math.inf).softmax(-1)
def masked_late(q, k, past): return (q@k.mT*q.shape[-1]**-0.5).softmax(-1)*past
FAULTS = {'inverted mask': (inverted, {'causal','gradients'}), 'missing scale': (unscaled, {'gradients'}),
          'mask after softmax': (masked_late, {'causal','gradients'})}

@pytest.mark.parametrize('name', PATHS)
@pytest.mark.parametrize('fault', FAULTS)
def test_a_wrong_attention_falls_off(name, fault, monkeypatch):
    wrong,found_by = FAULTS[fault]
    w = lambda q,k: wrong(q, k, causal_mask(q.shape[-2]))
    monkeypatch.setattr(attention, 'attention_weights', lambda q,k,mask=None: w(q, k))
    monkeypatch.setattr(F, 'scaled_dot_product_attention', lambda q,k,v,**kw: w(q, k)@v)
    monkeypatch.setattr(faststep, 'fast_attention', lambda q,key,v,p=0.,k=None: w(q, key)@v)
    out = ladder(PATHS[name], name in EXACT)
    assert {k for k,ok in out.items() if not ok} >= found_by, out

@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize('fault', FAULTS)
def test_a_reader_with_a_wrong_attention_falls_off(name, fault, monkeypatch):
    wrong,found_by = FAULTS[fault]
    def sdpa(q, k, v, attn_mask=None, **kw): return wrong(q, k, causal_mask(q.shape[-2]) if attn_mask is None else attn_mask)@v
    monkeypatch.setattr(F, 'scaled_dot_product_attention', sdpa)
    out = reader_ladder(READERS[name])
    assert not out['equal'], out
    if name!='cached': assert not out['causal'] or 'causal' not in found_by, out      # the cache holds no future to read

@pytest.mark.parametrize('name', PATHS)
def test_an_unshifted_target_falls_off(name):
    path = PATHS[name](new_model())
    x,_ = batch(0, 8)
    assert path.loss(x, x).item() < math.log(CFG.vocab_size)-0.05 < path.loss(*batch(0, 8)).item()

@pytest.mark.parametrize('name', PATHS)
def test_an_untied_head_falls_off(name):
    def untied(m): m.lm_head.weight = nn.Parameter(m.lm_head.weight.detach().clone()); return PATHS[name](m)
    m = untied(new_model()).model
    assert m.lm_head.weight.data_ptr()!=m.transformer.wte.weight.data_ptr()
    out = ladder(untied, name in EXACT)
    assert not out['tied'] and not out['counted'] and not out['gradients'], out

def test_an_untied_head_still_trains_correctly():
    "The loss does not assume tied weights; it looks"
    a,b = new_model(),new_model()
    for m in (a, b): m.lm_head.weight = nn.Parameter(m.lm_head.weight.detach().clone())
    want,got = gradients(Plain(a, False)),gradients(Fast(b, torch.float32))
    assert want.keys()==got.keys() and len(want)==len(gradients(Plain(new_model(), False)))+1
    for n in want: torch.testing.assert_close(got[n], want[n], rtol=1e-4, atol=1e-6)

@LONG
@pytest.mark.skipif(not shutil.which('c++') and not shutil.which('g++'), reason='torch.compile needs a C++ compiler here')
def test_compiled_body_climbs_too():
    path = Fast(new_model(), torch.float32, compile=True)
    assert leak(path)<1e-5 and far(path)<1e-4
    assert path.body is not faststep.fast_body
    print(path.notes or 'compiled')

# Number formats

@pytest.mark.parametrize('capability,dtype', [((7,5), torch.float16), ((8,0), torch.bfloat16)])
def test_a_t4_gets_float16_and_a_scaler(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *a: capability)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *a, **k: True)      # as torch says on a T4
    assert pick_dtype('cuda')==dtype
    m = new_model()
    step = Step(m, make_adamw(m), loss=FusedLoss(m, pick_dtype('cuda')))
    assert step.dtype==dtype and step.scaler.is_enabled()==(dtype==torch.float16)

def test_bfloat16_on_a_cpu_only_where_the_processor_has_it(monkeypatch):
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: has, raising=False)
        monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: False, raising=False)
        assert pick_dtype('cpu')==(torch.bfloat16 if has else torch.float32)

def test_float16_with_a_real_scaler():
    "Scale, backward, unscale: float32's gradients come out, and an infinity skips the step"
    m,want = new_model(),gradients(Plain(new_model(), False))
    step = Step(m, make_optimizer(m, 'muon'), loss=FusedLoss(m, torch.float16))
    step.gradients(*batch(2))
    scale = step.scaler.get_scale()
    for n,p in m.named_parameters():
        g = p.grad/scale
        assert g.isfinite().all() and (g-want[n]).norm()<0.02*want[n].norm().clamp(min=1e-3), n
    before = [p.detach().clone() for p in m.parameters()]
    m.transformer.h[0].mlp.c_fc.weight.grad[0,0] = math.inf
    step.update()
    assert step.guard.skipped==1 and step.scaler.get_scale()<scale
    assert all(torch.equal(a, b) for a,b in zip(before, m.parameters()))
    step(*batch(2))
    assert step.guard.skipped==1 and not torch.equal(before[0], next(m.parameters()))     # the next one moves

def test_nan_is_not_hidden():
    for name,make in PATHS.items():
        m = new_model()
        with torch.no_grad(): m.transformer.h[0].mlp.c_fc.weight[0,0] = math.nan
        assert not make(m).loss(*batch()).isfinite(), name

# Training

class Forgetful(Fast):
    "A fault: the tied matrix gets no gradient from its job as embedding"
    def loss(self, x, y):
        W = self.model.lm_head.weight
        return faststep.fused_cross_entropy(self.hidden(F.embedding(x, W.detach())), W, y)

@pytest.mark.skipif(not BF16, reason='this processor has no bfloat16')
def test_the_same_curve_over_100_steps():
    "Fast bfloat16 is no further from plain float32 than plain bfloat16 is, twice over"
    def curve(make, low=False):
        m = new_model()
        path,opt,out = make(m),torch.optim.AdamW(m.parameters(), lr=3e-3),[]
        for i in range(100):
            with torch.autocast('cpu', torch.bfloat16, enabled=low): loss = path.loss(*batch(i%7, 4))
            opt.zero_grad(); loss.backward(); opt.step(); out.append(loss.item())
        return torch.tensor(out)
    plain,low,fast = curve(PATHS['torch kernel']),curve(PATHS['torch kernel'], True),curve(list(PATHS.values())[-1])
    assert plain[-10:].mean()<plain[:10].mean()-2
    noise = (low-plain).abs().mean()
    assert (fast-plain).abs().mean()<2*noise+0.01, ((fast-plain).abs().mean(), noise)
    wrong = curve(lambda m: Forgetful(m, torch.float32))
    assert (wrong-plain).abs().mean()>2*noise+0.01, (wrong-plain).abs().mean()

def test_muon_survives_a_checkpoint(tmp_path):
    "Stop, save, load into fresh objects, go on: the weights of an uninterrupted run, bit for bit"
    def train(m, opt, steps):
        step = Step(m, opt, loss=FusedLoss(m))
        for i in steps: step(*batch(i))
    one = new_model(); opt = make_optimizer(one, 'muon'); train(one, opt, range(6))
    two = new_model(); opt = make_optimizer(two, 'muon'); train(two, opt, range(3))
    save_checkpoint(tmp_path/'c', model=two, optimizer=opt, step=3)
    three = new_model(9); opt = make_optimizer(three, 'muon')
    load_checkpoint(tmp_path/'c', model=three, optimizer=opt)
    train(three, opt, range(3, 6))
    assert all(torch.equal(a, b) for a,b in zip(one.parameters(), three.parameters()))
    with pytest.raises(ValueError): load_checkpoint(tmp_path/'c', model=three, optimizer=make_optimizer(three, 'adamw'))

def test_muons_short_cut_wants_all_of_float32(monkeypatch):
    "The Gram matrix needs every digit: with TF32 or bfloat16 behind float32's back, Muon goes the straight way"
    monkeypatch.setattr(muon_module, '_on_gram', lambda *a: 1/0)
    w = torch.randn(8, 32)
    with pytest.raises(ZeroDivisionError): muon_module.newton_schulz(w)          # here it would be taken
    torch.set_float32_matmul_precision('medium')
    try: assert muon_module.newton_schulz(w).isfinite().all()
    finally: torch.set_float32_matmul_precision('highest')

def test_dropout_off_in_eval_on_in_training():
    m = GPT(GPTConfig(**(CFG.__dict__|dict(dropout=0.2))))
    loss,(x,y) = FusedLoss(m),batch()
    assert loss(x, y).item()!=loss(x, y).item()
    torch.manual_seed(5); a = loss(x, y).item()
    torch.manual_seed(5); assert a==loss(x, y).item()
    loss.eval(); assert loss(x, y).item()==loss(x, y).item()

def test_a_look_between_two_batches_sees_the_weights_of_now():
    "The head's copy belongs to a batch: without gradients the loss is that of the weights as they are"
    m = new_model()
    loss,(x,y) = FusedLoss(m, torch.float32),batch()
    Step(m, torch.optim.SGD(m.parameters(), lr=1.), loss=loss)(x, y)
    assert loss.low is not None
    with torch.no_grad(): now = loss(x, y)
    torch.testing.assert_close(now, Plain(m, False).loss(x, y).detach(), rtol=1e-5, atol=1e-5)
    assert (loss(x, y)-now).abs()>1e-3                                             # the copy is older: it would show

# The trainer's use of it

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    d = tmp_path_factory.mktemp('data')/'set'
    prepare('synthetic:80', d, progress=False)
    return d

def fast_trainer(data, out, **kw):
    c = dict(preset='nano', vocab_size=50257, n_layer=1, n_head=2, n_embd=32, block_size=32, max_steps=8, warmup_steps=2, batch_size=8, step='fast',
             optimizer='muon', eval_every=8, save_every=3, eval_tokens=256, log_every=1, device='cpu', dtype='float32')
    return Trainer(TrainConfig(**c|kw), data, out, progress=False)

def cramped(t, room):
    "From its fourth step on, a trainer's memory holds `room` windows"
    loss = t.stepper.loss
    real = loss.forward
    def f(x, y):
        if t.step>=3 and len(x)>room: raise torch.OutOfMemoryError('no room')
        return real(x, y)
    loss.forward = f
    return t

def dies_at(step, t):
    "A trainer that is gone before a step"
    real = t.batch
    def f(n):
        if n==step: raise ZeroDivisionError
        return real(n)
    t.batch = f
    return t

def weights(t): return torch.cat([p.detach().flatten() for p in t.model.parameters()])

def test_a_halved_batch_is_part_of_the_run(data, tmp_path):
    "Memory runs out, the run is interrupted, and goes on where there is room: the same bits all the same"
    whole = cramped(fast_trainer(data, tmp_path/'whole', dropout=0.2), 3).fit()
    assert whole.stepper.micro_batch==2 and sum('did not fit' in o for o in whole.messages)==2
    with pytest.raises(ZeroDivisionError): dies_at(7, cramped(fast_trainer(data, tmp_path/'cut', dropout=0.2), 3)).fit()
    shutil.copytree(tmp_path/'cut', tmp_path/'forgets')
    again = fast_trainer(data, tmp_path/'cut', dropout=0.2).fit()
    assert again.stepper.micro_batch==2 and torch.equal(weights(again), weights(whole))
    roomy = fast_trainer(data, tmp_path/'roomy', dropout=0.2).fit()
    assert not torch.equal(weights(roomy), weights(whole))                        # the size of the pieces does show
    forgets = fast_trainer(data, tmp_path/'forgets', dropout=0.2)
    forgets.stepper.micro_batch = 1                                                       # smaller than the one that was saved
    assert not torch.equal(weights(forgets.fit()), weights(whole))
    assert any('1 window at once here, 2 windows at once before' in o for o in forgets.messages)      # and it says so
    assert not any('windows at once before' in o for o in again.messages)

def test_a_measurement_does_not_change_a_run(data, tmp_path, monkeypatch):
    "float32 was faster when the run began; the next machine thinks otherwise; the run stays what it was"
    monkeypatch.setattr(train_module, 'pick_dtype', lambda d: torch.bfloat16)
    want = fast_trainer(data, tmp_path/'want').fit()
    monkeypatch.setattr(train_module, 'faster_dtype', lambda dtype, device: torch.float32)
    t = fast_trainer(data, tmp_path/'run', dtype='auto')
    assert t.stepper.dtype==t.stepper.loss.dtype==torch.float32
    with pytest.raises(ZeroDivisionError): dies_at(7, t).fit()
    assert 'fast step: products in float32' in t.messages
    monkeypatch.setattr(train_module, 'faster_dtype', lambda dtype, device: dtype)
    assert fast_trainer(data, tmp_path/'other', dtype='auto').stepper.dtype==torch.bfloat16
    t = fast_trainer(data, tmp_path/'run', dtype='auto').fit()
    assert t.stepper.dtype==t.stepper.loss.dtype==t.optimizer.dtype==torch.float32
    assert torch.equal(weights(t), weights(want))

@pytest.mark.skipif(not shutil.which('c++') and not shutil.which('g++'), reason='torch.compile needs a C++ compiler here')
def test_the_trainer_compiles_or_says_why_not(data, tmp_path, monkeypatch):
    plain = fast_trainer(data, tmp_path/'plain', max_steps=3, dropout=0.).fit()
    compiled = fast_trainer(data, tmp_path/'compiled', max_steps=3, dropout=0., compile=True).fit()
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-4)
    assert compiled.stepper.loss.body is not faststep.fast_body
    def broken(*a, **k): raise RuntimeError('no compiler')
    monkeypatch.setattr(faststep.torch, 'compile', lambda f, **kw: broken)
    fell = fast_trainer(data, tmp_path/'fell', max_steps=3, dropout=0., compile=True).fit()
    assert torch.equal(weights(fell), weights(plain)) and any('torch.compile does not work' in o for o in fell.messages)

# Other processes

CRAMPED = '''
import resource, torch
from lightbrain.fast.faststep import FusedLoss
from lightbrain.model import GPT, GPTConfig
from lightbrain.optim import make_adamw
from lightbrain.train import Step
torch.manual_seed(0)
m = GPT(GPTConfig(vocab_size=20011, block_size=64, n_layer=2, n_head=2, n_embd=64, dropout=0.))
def new_step(**kw): return Step(m, make_adamw(m), loss=FusedLoss(m, torch.float32), **kw)
step = new_step()
x = torch.randint(20011, (64, 64))
new_step(micro_batch=1).gradients(x[:2], x[:2])          # whatever is needed once
used = int(open('/proc/self/statm').read().split()[0])*resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used+120*2**20, resource.RLIM_INFINITY))
step.gradients(x, x)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
grad = m.transformer.h[0].mlp.c_fc.weight.grad.clone()
new_step().gradients(x, x)
same = torch.allclose(grad, m.transformer.h[0].mlp.c_fc.weight.grad, atol=1e-6)
print(step.micro_batch, sum('did not fit' in o for o in step.notes), same)
'''

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs RLIMIT_AS')
def test_real_out_of_memory():
    p = subprocess.run([sys.executable, '-c', CRAMPED], capture_output=True, text=True, env=os.environ|dict(OMP_NUM_THREADS='1'))
    assert p.returncode==0, p.stderr[-500:]
    micro,notes,same = p.stdout.split()
    assert int(micro)<64 and int(notes)>=1 and same=='True', p.stdout

BUILD = 'import sys; from lightbrain.fast.kernels import kernels; k,line = kernels(sys.argv[1]); print(bool(k), line)'

def test_kernels_without_a_compiler(tmp_path):
    for env in (dict(CC='', PATH='/nowhere'), dict(CC='/no/such/cc')):
        p = subprocess.run([sys.executable, '-c', BUILD, str(tmp_path)], capture_output=True, text=True, env=os.environ|env)
        assert p.returncode==0 and p.stdout.startswith('False') and p.stdout.count('\n')==1, p.stdout+p.stderr
    assert not list(tmp_path.iterdir())

@pytest.mark.skipif(not kernels()[0], reason='no C compiler here')
def test_kernels_built_by_two_at_once_and_then_cached(tmp_path):
    run = lambda **env: subprocess.Popen([sys.executable, '-c', BUILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ|env)
    both = [run(), run()]
    assert [p.communicate()[0].split()[0] for p in both]==['True','True']
    lib, = tmp_path.glob('kernels-*.so')
    assert {o.name for o in tmp_path.iterdir()}=={lib.name, lib.with_suffix('.sha256').name}
    built = lib.stat().st_mtime_ns
    assert run().communicate()[0].startswith('True')
    assert lib.stat().st_mtime_ns==built

EVIL = '''#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void evil(void) { fclose(fopen(getenv("MARK"), "w")); }
'''
POSIX = pytest.mark.skipif(os.name=='nt', reason='the modes of POSIX')

@pytest.fixture
def home(tmp_path, monkeypatch):
    "A home that everybody may write into, and in it a cache with one library, which leaves a mark when it is loaded, in the place of ours"
    name = kernels_module.build_kernels(tmp_path/'good').name
    cache = tmp_path/'home'/'.cache'/'lightbrain'
    cache.mkdir(parents=True)
    (tmp_path/'evil.c').write_text(EVIL)
    cc = os.environ.get('CC') or next(filter(shutil.which, ('cc','gcc','clang')))
    subprocess.run([cc, '-shared', '-fPIC', tmp_path/'evil.c', '-o', cache/name], check=True)
    for o in (tmp_path/'home', tmp_path/'home'/'.cache', cache): o.chmod(0o777)
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    monkeypatch.setenv('MARK', str(tmp_path/'mark'))
    return cache/name

def start():
    "Exit code and words of a process that wants the kernels"
    p = subprocess.run([sys.executable, '-c', 'from lightbrain.fast.kernels import kernels; k,line = kernels(); print(bool(k), line)'],
        capture_output=True, text=True)
    return p.returncode,(p.stdout+p.stderr).strip()

def seal(lib):
    "What anybody who can write there would put beside a library"
    lib.with_suffix('.sha256').write_text(file_sha256(lib))
    for o in (lib, lib.with_suffix('.sha256')): o.chmod(0o644)

PLANTS = dict(nothing_beside_it=lambda lib: None, wrong_sha=lambda lib: (seal(lib), lib.with_suffix('.sha256').write_text('0'*64)),
    writable=lambda lib: (seal(lib), lib.chmod(0o666)), writable_sha=lambda lib: (seal(lib), lib.with_suffix('.sha256').chmod(0o646)),
    foreign=lambda lib: (seal(lib), os.chown(lib, 65534, -1)), foreign_sha=lambda lib: (seal(lib), os.chown(lib.with_suffix('.sha256'), 65534, -1)),
    foreign_folder=lambda lib: (seal(lib), os.chown(lib.parent, 65534, -1)))

@POSIX
@pytest.mark.skipif(not kernels()[0], reason='no C compiler here')
@pytest.mark.parametrize('plant', PLANTS)
def test_a_planted_kernel_is_not_run(plant, home, tmp_path):
    if 'foreign' in plant and os.geteuid(): pytest.skip('only root can give a file away')
    PLANTS[plant](home)
    rc,said = start()
    assert rc==0 and not (tmp_path/'mark').exists(), said
    if plant=='foreign_folder': assert said.startswith('False') and 'belongs to somebody else' in said and '\n' not in said
    else:
        assert said=='True compiled kernels: in use' and home.read_bytes()==(tmp_path/'good'/home.name).read_bytes()
        assert [o.stat().st_mode&0o777 for o in (home.parent, home, home.with_suffix('.sha256'))]==[0o700, 0o600, 0o600]

@POSIX
@pytest.mark.skipif(not kernels()[0], reason='no C compiler here')
def test_the_planted_kernel_would_run(home, tmp_path):
    "Negative control: one that we vouch for is loaded and leaves its mark; so the tests above could fail"
    seal(home)
    home.parent.chmod(0o700)
    assert start()[0]!=0 and (tmp_path/'mark').exists()

@POSIX
@pytest.mark.skipif(not kernels()[0], reason='no C compiler here')
@pytest.mark.parametrize('size', [0, 100, 5000, -1])
def test_a_truncated_kernel_is_made_anew(size, home, tmp_path):
    "Loading such a file ends a process with a bus error before it can say a word"
    good = (tmp_path/'good'/home.name).read_bytes()
    home.write_bytes(good)
    seal(home)
    home.write_bytes(good[:size])
    assert start()==(0, 'True compiled kernels: in use') and home.read_bytes()==good

@POSIX
def test_a_folder_that_we_may_not_use(tmp_path, monkeypatch):
    "No home, a file in the way: PyTorch's path and one line"
    def homeless(): raise RuntimeError('Could not determine home directory.')
    monkeypatch.setattr(kernels_module.Path, 'home', homeless)
    (tmp_path/'file').write_text('')
    for folder in (None, tmp_path/'file', tmp_path/'file'/'below'):
        k,line = kernels.__wrapped__(folder)
        assert k is None and '; PyTorch does the same' in line and '\n' not in line
    if kernels()[0]: assert 'no home folder' in kernels.__wrapped__()[1]

C_FAULTS = dict(head=('e[y[i]]*r - 1','e[y[i]]*r'), gelu=('.5f*a*(1 + gate','.5f*a*(2 + gate'), gelu_back=('1 + .134145f*a*a','1'),
    drop_add=('x[i] + up(y[i])','x[i] - up(y[i])'), drop_back=('down(g[i]*','down(2*g[i]*'), attend=('(up(p[j]) - top)*scale','(up(p[j]) - top)'),
    mask=('len = r%t + 1;\n        float top','len = t;\n        float top'), attend_back=('(e[j] - dot)*scale','e[j]*scale'))

@pytest.mark.skipif(not kernels()[0], reason='no C compiler here')
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
@pytest.mark.parametrize('fault', C_FAULTS)
def test_a_wrong_kernel_is_not_used(tmp_path, monkeypatch, fault, dtype):
    source = kernels_module.KERNELS
    assert kernels(dtype=dtype)[0].dtype==dtype and source.count(C_FAULTS[fault][0])==1
    monkeypatch.setattr(kernels_module, 'KERNELS', source.replace(*C_FAULTS[fault]))
    k,line = kernels.__wrapped__(tmp_path, dtype)
    assert k is None and 'disagree' in line and '\n' not in line

@pytest.mark.skipif(not BF16, reason='this processor has no bfloat16')
def test_the_throughput_benchmark_runs(tmp_path):
    out = tmp_path/'rounds.json'
    p = subprocess.run([sys.executable, ROOT/'bench'/'throughput.py', '--preset', 'nano', '--batch', '1', '--rounds', '1',
        '--only', 'plain-bf16,fast', '--out', out], capture_output=True, text=True)
    assert p.returncode==0, p.stderr[-800:]
    assert ('ratios' in p.stdout or 'disturbed' in p.stdout) and set(json.loads(out.read_text())[0])=={'plain-bf16','fast'}

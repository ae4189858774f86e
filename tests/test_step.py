"""The pieces of lesson 05 where they are pushed: a score of odd texts, a step in any pieces and formats, a run that is refused

The lesson shows what they do; here stand the arguments that nobody should give, and the accidents."""
import copy, math
from contextlib import contextmanager
from unittest import mock
import pytest, torch
import torch.nn.functional as F
from torch import nn
from lightbrain.config import GPTConfig
from lightbrain.corpus import synthetic_records
from lightbrain.data import TokenDataset, record_document, write_tapes
from lightbrain.model import GPT
from lightbrain.optim import lr_at, make_adamw
from lightbrain.tokenizer import BPETokenizer, train_bpe
from lightbrain.train import (MAX_SKIPS, Guard, PlainLoss, Step, eval_mode, head_losses, is_out_of_memory, mean_loss, scored_windows,
    source_losses, train, window_losses)

SIZES = dict(vocab_size=500, block_size=64, n_layer=2, n_head=2, n_embd=32, dropout=0.)
I = torch.randint(3000, (32,1), generator=torch.Generator().manual_seed(1))+torch.arange(65)
TAPE = torch.randint(500, (4000,), generator=torch.Generator().manual_seed(0))
X,Y = TAPE[I][:,:-1],TAPE[I][:,1:]                       # (32,64) each

def gpt(**kw):
    torch.manual_seed(0)
    return GPT(GPTConfig(**SIZES | kw))

def step_of(dropout=0., dtype=torch.float32, **kw):
    m = gpt(dropout=dropout)
    return Step(m, torch.optim.AdamW(m.parameters(), lr=1e-2), dtype, **kw)

def same(a, b): return all(torch.equal(p, q) for p,q in zip(a.parameters(), b.parameters(), strict=True))
def apart(a, b): return ((a-b).norm()/b.norm()).item()
def refused(why, error=ValueError): return pytest.raises(error, match=why)

# Scores

def test_eval_mode_puts_each_part_back():
    net = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    net[0].eval()                                        # frozen on purpose
    with pytest.raises(RuntimeError, match='stop'), eval_mode(net):
        assert not net.training and not torch.is_grad_enabled()
        raise RuntimeError('stop')
    assert [net.training, net[0].training, net[1].training]==[True, False, True] and torch.is_grad_enabled()

def test_documents_are_scored_one_by_one():
    model,text,end = gpt(),TAPE[:321],TAPE[160].item()
    parts = [o for o in text.tensor_split((text==end).nonzero()[:,0]+1) if len(o)>1]
    sums,counts = (sum(o, []) for o in zip(*[window_losses(model, o) for o in parts]))
    assert len(parts)>1 and mean_loss(model, text, end=end)==pytest.approx(sum(sums)/sum(counts), abs=1e-5)

@pytest.mark.parametrize('form', [lambda t: t.view(2, 64), lambda t: t.view(2, 64).tolist(), lambda t: t.numpy()])
def test_ids_in_any_form(form):
    assert mean_loss(gpt(), form(TAPE[:128]), max_tokens=99)==mean_loss(gpt(), TAPE[:128], max_tokens=99)

@pytest.mark.parametrize('ids,how,why', [([1.7,2.2,3.9], {}, 'are no whole numbers'), ([1], {}, 'a loss needs 2 tokens'),
    ([], {}, 'a loss needs 2 tokens'), ([5,5], dict(end=5), 'a loss needs 2 tokens'), ([1,500], {}, 'token id 500 is outside'),
    ([1,2], dict(block_size=999), 'block_size=999'), ([1,2], dict(batch_size=0), 'batch_size=0'), ([1,2], dict(max_tokens=0), 'max_tokens=0')])
def test_a_score_refused(ids, how, why):
    model = gpt().train()
    with refused(why): mean_loss(model, ids, **how)
    assert model.training and torch.is_grad_enabled()

def test_head_losses_a_few_rows_at_a_time():
    g = torch.Generator().manual_seed(0)
    vectors,rows,targets = torch.randn(10, 8, generator=g),torch.randn(100, 8, generator=g),torch.randint(100, (10,), generator=g)
    want = F.cross_entropy(vectors@rows.T, targets, reduction='none')
    for budget in (1, 300, 10**6): assert torch.allclose(head_losses(vectors, rows, targets, budget), want, atol=1e-5)
    with mock.patch('torch.nn.functional.linear', wraps=F.linear) as spy: head_losses(vectors, rows, targets, 300)
    assert [len(c.args[0]) for c in spy.call_args_list]==[3,3,3,1]                       # 300 logits at once, no more

# The guard

def test_guard_counts_and_stops():
    guard = Guard()
    assert guard.before_update(3, 2.5, 1.0, scaled=False) is None
    for loss,norm in ((math.nan, 1.), (2.5, math.inf)):
        with refused('before its update'): guard.before_update(3, loss, norm, scaled=False)
    guard.before_update(3, 2.5, math.inf, scaled=True)                                   # the scaler will skip it
    for before,after in ((8,8), (8,4), (4,4), (4,2)): guard.after_update(3, before, after)
    assert (guard.skipped, guard.in_row)==(2, 1)
    with refused('0.5, below 1'): guard.after_update(3, 1., 0.5)

def test_guard_gives_up_after_ten_in_a_row():
    guard = Guard()
    for k in range(MAX_SKIPS-1): guard.after_update(k, 2.**(16-k), 2.**(15-k))
    with refused('10 steps in a row'): guard.after_update(9, 2.**7, 2.**6)
    often = Guard()
    for k in range(40): often.after_update(k, 2.**(20-k//2), 2.**(20-(k+1)//2))          # every second step: it goes on
    assert often.skipped==20

# The loss

def test_plain_loss():
    model = gpt()
    want = model(X, Y)[1].item()
    assert PlainLoss(model)(X, Y).item()==pytest.approx(want, abs=1e-6)
    half = PlainLoss(model, torch.bfloat16)(X, Y)
    assert half.dtype==torch.float32 and half.item()==pytest.approx(want, abs=0.02)

def test_the_token_behind_the_mark_counts_more():
    model,mark = gpt(),X[0,3:5].tolist()                                                 # as if an answer followed these two
    ce,by_hand = F.cross_entropy(model(X)[0].flatten(0, 1), Y.flatten(), reduction='none').view_as(Y),0.
    for row in range(len(X)):
        for t in range(X.shape[1]): by_hand += ce[row,t].item()*(5 if t>0 and X[row,t-1:t+1].tolist()==mark else 1)
    assert PlainLoss(model, mark=mark, weight=5)(X, Y).item()==pytest.approx(by_hand/Y.numel(), abs=1e-5)
    assert PlainLoss(model, mark=mark, weight=5)(X, Y).item()!=ce.mean().item()
    assert PlainLoss(model, mark=mark)(X, Y).item()==pytest.approx(ce.mean().item(), abs=1e-6)      # weight 1: as usual

# The step

def test_the_step_of_a_few_lines_of_torch():
    "Ten steps of each, from the same weights, end at the same bits"
    step,plain = step_of(),gpt()
    opt = torch.optim.AdamW(plain.parameters())
    for k in range(10):
        x,y = TAPE[I+k][:,:-1],TAPE[I+k][:,1:]
        loss,norm = step(x, y, lr=1e-3*k)
        opt.param_groups[0]['lr'] = 1e-3*k
        want = F.cross_entropy(plain(x)[0].flatten(0, 1), y.flatten())
        want.backward()
        want_norm = nn.utils.clip_grad_norm_(plain.parameters(), 1.)
        opt.step()
        opt.zero_grad()
        assert (loss, norm)==pytest.approx((want.item(), want_norm.item()), abs=1e-5)
    assert step.done==10 and same(step.model, plain) and not same(step.model, gpt())

def gradient(step):
    loss = step.gradients(X, Y, seed=1)
    return loss.item(),torch.cat([p.grad.flatten() for p in step.model.parameters()])/step.scaler.get_scale()

@pytest.mark.parametrize('size', [1, 5, 16, 99])
def test_any_pieces_the_same_gradient(size):
    (loss,g),(want,whole) = gradient(step_of(micro_batch=size)),gradient(step_of())
    assert loss==pytest.approx(want, abs=1e-5) and apart(g, whole)<1e-5

def test_float16_nearly_the_same_gradient():
    (loss,g),(want,whole) = gradient(step_of(dtype=torch.float16, micro_batch=5)),gradient(step_of())
    assert abs(loss-want)<0.01 and apart(g, whole)<0.02

def test_dropout_follows_the_seed():
    def after(seed):
        step = step_of(dropout=0.3, micro_batch=2)
        step(X[:8], Y[:8], seed=seed)
        return step.model
    assert same(after(7), after(7)) and not same(after(7), after(8))

class Cramped(PlainLoss):
    "A memory for no more than `room` windows"
    room = 3
    def forward(self, x, y):
        if len(x)>self.room: raise torch.OutOfMemoryError('no room')
        return super().forward(x, y)

def cramped(room=3, **kw):
    m = gpt()
    loss = Cramped(m)
    loss.room = room
    return Step(m, torch.optim.AdamW(m.parameters(), lr=1e-2), loss=loss, **kw)

def test_smaller_pieces_are_kept():
    step = cramped()
    for _ in range(2): step(X[:8], Y[:8])                # the second step does not try eight again
    assert (step.micro_batch, len(step.notes))==(2, 2)
    with refused('take a smaller preset'): cramped(room=0).gradients(X, Y)
    with refused('target dtype', RuntimeError): step_of().gradients(X, Y.int())          # another error is no shortage

@pytest.mark.parametrize('words', ["can't allocate memory: 9 bytes", 'MPS backend out of memory (MPS allocated: 1 GB)', 'CUDA error: out of memory',
    'DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.'])
def test_out_of_memory_in_many_words(words):
    assert is_out_of_memory(RuntimeError(words)) and is_out_of_memory(torch.OutOfMemoryError('no'))
    assert not is_out_of_memory(RuntimeError('shapes do not match'))

def test_a_step_refused_when_made():
    m = gpt()
    opt = torch.optim.SGD(m.parameters(), lr=1.)
    for bad in (torch.float64, torch.int8, 'float16'):
        with refused('must be one of'): Step(m, opt, bad)
    with refused('leave dtype out'): Step(m, opt, torch.float16, loss=PlainLoss(m))
    with refused('no weight of this model'): Step(gpt(), opt)
    for p in m.parameters(): p.requires_grad_(False)
    with refused('freeze less than all'): Step(m, opt)
    with refused('micro_batch=0'): cramped(micro_batch=0)
    with refused('grad_clip=0'): cramped(grad_clip=0)

def test_a_step_refused_leaves_the_weights():
    step = step_of(micro_batch=2)
    with refused('call gradients'): step.update()
    for a,b in ((X[:4], Y[:9]), (X[:0], Y[:0]), (X[:4], Y[:4,:9])):
        with refused('give both'): step(a, b)
    with refused('targets run from'): step(X[:4], Y[:4]*99)
    for lr in (math.nan, math.inf, -1e-3):
        with refused('must be a finite number'): step(X[:4], Y[:4], lr=lr)
    assert same(step.model, gpt()) and step.done==0

class Team(nn.Module):
    "Plays DistributedDataParallel, and writes down what it is asked"
    def __init__(self, loss):
        super().__init__()
        self.loss,self.asked = loss,[]
    def forward(self, x, y):
        self.asked.append(len(x))
        return self.loss(x, y)
    @contextmanager
    def no_sync(self):
        self.asked.append('hold')
        yield

def test_in_a_team():
    loss = PlainLoss(gpt())
    team = Step(loss.model, None, loss=loss, net=Team(loss), micro_batch=3, mean=lambda t: t+1)
    alone = step_of().gradients(X[:8], Y[:8]).item()
    assert team.gradients(X[:8], Y[:8]).item()==pytest.approx(alone+1, abs=1e-5)
    assert team.net.asked==['hold',3,'hold',3,2]
    loss = Cramped(gpt())
    with refused('cannot begin again; lower batch_size'): Step(loss.model, None, loss=loss, net=Team(loss)).gradients(X, Y)

def planted(bad, **kw):
    "A step whose gradient holds `bad` in one place"
    step = step_of(**kw)
    step.model.lm_head.weight.register_hook(lambda grad: grad*bad)
    return step

@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_no_update_that_destroys(bad):
    step = planted(bad)
    with refused('step 0 was stopped before its update'): step(X, Y)
    assert same(step.model, gpt()) and step.done==0

def test_float16_skips_and_gives_up():
    step = planted(math.inf, dtype=torch.float16)
    step(X, Y)
    assert same(step.model, gpt()) and (step.done, step.guard.skipped, step.scaler.get_scale())==(1, 1, 2.**15)
    for _ in range(8): step(X, Y)
    with refused('10 steps in a row were skipped'): step(X, Y)

def schedule(update): return lr_at(update+1, 1e-2, 1e-3, 4, 10)

def begin():
    step = step_of(dtype=torch.float16)
    step.scaler = torch.amp.GradScaler('cpu', init_scale=2.**12)
    return step

def walk(step, n, bad=None):
    "`n` steps, the gradient of step `bad` infinite; the rates that they used"
    rates = []
    for _ in range(n):
        k = step.done
        hook = step.model.lm_head.weight.register_hook(lambda grad: grad*math.inf) if k==bad else None
        rates.append(schedule(k-step.guard.skipped))     # a skip is no update
        step(TAPE[I+k][:,:-1], TAPE[I+k][:,1:], lr=rates[-1])
        if hook: hook.remove()
    return rates

def resumed(without=()):
    "The last two of six steps by another, who knows all but `without`"
    first,second = begin(),begin()
    walk(first, 4, bad=2)
    for name in ('model','optimizer'): getattr(second, name).load_state_dict(copy.deepcopy(getattr(first, name).state_dict()))
    new = begin().state_dict()
    second.load_state_dict(first.state_dict() | {k: new[k] for k in without})
    return second.model,second.scaler.get_scale(),walk(second, 2)

def test_one_overflow_and_everything_is_right():
    "The step is skipped, the scale halved, the rate waits; whoever continues behind it goes on as if nothing had been"
    straight = begin()
    rates = walk(straight, 6, bad=2)
    assert rates==[schedule(o) for o in (0,1,2,2,3,4)] and (straight.guard.skipped, straight.scaler.get_scale())==(1, 2.**11)
    model,scale,tail = resumed()
    assert scale==2.**11 and tail==rates[4:] and same(model, straight.model)
    assert resumed(['scaler'])[1]!=scale and resumed(['guard'])[2]!=tail                 # negative controls

# The run

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A prepared set, and its tokenizer"
    folder = tmp_path_factory.mktemp('sets')/'set'
    docs = [record_document(o, 'synthetic') for o in synthetic_records(60, level=1)]
    tok = BPETokenizer(*train_bpe([d.text for d in docs], 400))
    write_tapes(docs, folder, tok)
    return folder,tok

SHORT = dict(steps=4, batch_size=4, device='cpu', progress=False)
def small(**kw): return gpt(**dict(n_layer=1, n_embd=16, vocab_size=400, dropout=0.1) | kw)
def run(folder, **kw): return (m := small()),train(m, folder, **SHORT | kw)

def test_same_call_same_model(made, tmp_path):
    folder,tok = made
    torch.manual_seed(5)
    before = torch.get_rng_state()
    (a,log_a),(b,log_b),(c,log_c) = run(folder, out=[tmp_path/'one', tmp_path/'two']),run(folder),run(folder, seed=7)
    assert same(a, b) and log_a==log_b and not same(a, c) and log_a!=log_c
    for home in ('one','two'):
        again = GPT.from_pretrained(tmp_path/home)
        assert same(again, a) and again.tokenizer.encode_ordinary('fever')==tok.encode_ordinary('fever')
    torch.set_rng_state(before)
    train(a, folder, **SHORT)
    assert torch.equal(torch.get_rng_state(), before)    # nobody else's dice are touched

def test_rates_of_a_run(made):
    rates = [o['lr'] for o in run(made[0], lr=1e-2, warmup=2)[1][1:]]
    assert rates==pytest.approx([lr_at(k, 1e-2, 1e-3, 2, 4) for k in (1,2,3,4)])
    spoilt = small()
    spoilt.lm_head.weight.register_hook(lambda grad: grad*math.inf)
    rows = train(spoilt, made[0], dtype=torch.float16, lr=1e-2, warmup=2, **SHORT)[1:]
    assert len({o['lr'] for o in rows})==1 and same(spoilt, small())                     # all were skipped: the rate waits

def test_each_source_has_its_loss(made, tmp_path):
    docs = [record_document(o, 'ab'[i%2]) for i,o in enumerate(synthetic_records(120, level=1))]
    write_tapes(docs, tmp_path/'two', made[1])
    side,one = (TokenDataset(o, 'validation') for o in (tmp_path/'two', made[0]))
    starts,_ = scored_windows(side.tokens, 64)
    sums,counts = window_losses(small(), side.tokens)
    found = source_losses(side, starts, sums, counts)
    assert set(found)=={'a','b'} and sum(o['tokens'] for o in found.values())==sum(counts)
    assert sum(o['loss']*o['tokens'] for o in found.values())==pytest.approx(sum(sums)) and source_losses(one, [], [], [])=={}

@pytest.mark.parametrize('bad', [0, 2.5, True, '9'])
def test_steps_refused(made, bad):
    with refused('steps='): run(made[0], steps=bad)

def test_a_run_refused_before_its_first_step(made, tmp_path):
    folder,tok = made
    other = small()
    other.tokenizer = BPETokenizer(*train_bpe('fever and fever', 260))
    (tmp_path/'letters').mkdir()
    (tmp_path/'letters'/'mine.txt').write_text('private')
    for why,kw in {'lr=inf': dict(lr=math.inf), 'max_steps=4': dict(warmup=9), 'would move no weight': dict(optimizer=make_adamw(small())),
                   'lr=1e-3 must be a finite number': dict(lr='1e-3')}.items():
        with refused(why): run(folder, **kw)
    with pytest.raises(TypeError, match='learning_rate'): run(folder, learning_rate=1.)
    with mock.patch.object(Step, '__init__', side_effect=AssertionError('too late')):
        with refused('is not a prepared set'): run(tmp_path/'nothing')
        with refused(f'set vocab_size={tok.n_vocab}'): train(small(vocab_size=300), folder, **SHORT)
        with refused('the model has the tokenizer bpe'): train(other, folder, **SHORT)
        with refused("'mine.txt', not written by LightBrain"): run(folder, out=tmp_path/'letters')
        with refused('which belong to something else'): run(folder, out=folder)
    assert {o.name for o in (tmp_path/'letters').iterdir()}=={'mine.txt'}

"""What only a GPU can show; skipped where there is none

    python -m pytest tests/gpu -s                            # on a machine with a CUDA device
    LIGHTBRAIN_GPU_TESTS=cpu python -m pytest tests/gpu      # the tests themselves, tried in small on a CPU

Bands, not equal bits: a GPU adds up in an order of its own. What came out is printed, so that a claim can be made from it.
"""
import os, subprocess, sys, time
from copy import deepcopy
from pathlib import Path
import pytest, torch
import torch.nn.functional as F
from safetensors.torch import load_file
from lightbrain.run.checkpoint import list_checkpoints
from lightbrain.run.config import TrainConfig
from lightbrain.data import TokenDataset
from lightbrain.prep.prepare import prepare
from lightbrain.fast.faststep import FusedLoss, fast_body
from lightbrain.model import GPT, preset
from lightbrain.sample import generate
from lightbrain.run.log import read_metrics
from lightbrain.run.trainer import Trainer
from lightbrain.train import PlainLoss, train

WHERE = os.environ.get('LIGHTBRAIN_GPU_TESTS', 'cuda')
pytestmark = pytest.mark.skipif(WHERE=='cuda' and not torch.cuda.is_available(), reason='no CUDA device here')
SMALL = dict(preset='nano', vocab_size=50257, block_size=64, dropout=0., batch_size=8 if WHERE=='cuda' else 2, lr=1e-3, warmup_steps=5, max_steps=30, eval_every=30,
    eval_tokens=512, log_every=1, save_minutes=0, save_every=1000, device=WHERE, dtype='float32')

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "A prepared set of invented records"
    folder = tmp_path_factory.mktemp('gpu')/'data'
    prepare('synthetic:300', folder, progress=False)
    return folder

def losses(data, out, **kw):
    "The training losses of a short run"
    Trainer(TrainConfig(**SMALL | kw), data, out, progress=False).fit()
    return torch.tensor([o['loss'] for o in read_metrics(out) if o['loss'] is not None])

def furthest(a, b):
    "The largest difference between two files of weights"
    a,b = (load_file(Path(o)/'model'/'model.safetensors') for o in (a, b))
    return max((a[k]-b[k]).abs().max().item() for k in a)

@pytest.mark.parametrize('step', ('plain','fast'))
@pytest.mark.parametrize('dtype,band', (('bfloat16',0.08), ('float16',0.02)))
def test_half_precision_follows_float32(data, tmp_path, dtype, band, step):
    "The float16 run goes through GradScaler; a band for each format, and losses that fall"
    exact = losses(data, tmp_path/'exact', step=step)
    half = losses(data, tmp_path/'half', step=step, dtype=dtype)
    gap = (exact-half).abs().max().item()
    print(f'{dtype} {step}: at most {gap:.4f} nats from float32 in {len(half)} steps; {half[0]:.3f} -> {half[-1]:.3f}')
    assert gap<band and half[-1]<half[0]-1
    assert (exact-half[0]).abs().max()>band                       # the band is narrower than what training changes

@pytest.mark.parametrize('step', ('plain','fast'))
@pytest.mark.parametrize('optimizer', ('adamw','muon'))
def test_resume_after_a_kill(data, tmp_path, optimizer, step):
    "kill -9 after a checkpoint, the same command again: the weights of an undisturbed run, within a band"
    last = 200 if WHERE=='cuda' else 24
    s = SMALL | dict(max_steps=last, save_every=last//10, eval_every=last, dropout=0.1, optimizer=optimizer, step=step)
    def start(out):
        flags = [o for k,v in s.items() for o in (f"--{k.replace('_','-')}", str(v))]
        return subprocess.Popen([sys.executable, '-m', 'lightbrain.cli', 'train', '--data', str(data), '--out', str(tmp_path/out),
            *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    def done(p):
        err = p.communicate(timeout=300)[1]
        assert p.returncode==0, err
    whole,p = start('whole'),start('cut')
    while p.poll() is None and not list_checkpoints(tmp_path/'cut'/'checkpoints'): time.sleep(0.005)
    assert p.poll() is None, p.communicate()[1]
    p.kill(); p.communicate()
    at = max(o for o,_ in list_checkpoints(tmp_path/'cut'/'checkpoints'))
    assert 0<at<last
    done(start('cut')); done(whole); done(start('again'))
    gap,noise = furthest(tmp_path/'cut', tmp_path/'whole'),furthest(tmp_path/'again', tmp_path/'whole')
    print(f'{optimizer} {step}: killed at step {at}; resumed and whole differ by {gap:.2e}, two whole runs by {noise:.2e}')
    assert gap<=max(10*noise, 1e-6)                                # no further than a run is from its own repetition
    first = [o for o in read_metrics(tmp_path/'cut') if o['loss'] is not None]
    assert [o['step'] for o in first]==list(range(1, last+1))         # no seam in the log

@pytest.mark.parametrize('dtype,band', ((torch.float32,1e-4), (torch.bfloat16,0.05)))
def test_fast_and_plain_step_agree(data, dtype, band):
    "The same loss, and gradients that differ by no more than the format rounds"
    torch.manual_seed(1)
    one = GPT(preset('nano', vocab_size=50257, dropout=0.)).to(WHERE)
    two = deepcopy(one)
    x,y = TokenDataset(data).batch(0, 8, 128, device=WHERE)
    fast,plain = FusedLoss(one, dtype)(x, y),PlainLoss(two, dtype)(x, y)
    for o in (fast, plain): o.backward()
    gaps = {n: ((p.grad-q.grad).norm()/q.grad.norm()).item()
        for (n,p),q in zip(one.named_parameters(), two.parameters()) if q.grad.norm()>1e-5}
    worst = max(gaps, key=gaps.get)
    print(f'{dtype}: losses {fast.item():.5f} and {plain.item():.5f}; gradients at most {gaps[worst]:.1e} apart ({worst})')
    assert abs(fast.item()-plain.item())<band and gaps[worst]<2*band
    wrong = ((two.lm_head.weight.grad.roll(1, 0)-one.lm_head.weight.grad).norm()/two.lm_head.weight.grad.norm()).item()
    assert wrong>2*band                                           # gradients of the wrong tokens would show

def test_compile_or_one_line(data):
    "torch.compile gives the same loss, or one line says that it does not work here"
    torch.manual_seed(1)
    model = GPT(preset('nano', vocab_size=50257, dropout=0.)).to(WHERE)
    x,y = TokenDataset(data).batch(0, 8, 128, device=WHERE)
    eager = FusedLoss(model, torch.float32)(x, y)
    compiled = FusedLoss(model, torch.float32, compile=True)
    loss = compiled(x, y)
    want,got = (torch.autograd.grad(o, model.transformer.h[0].mlp.c_fc.weight)[0] for o in (eager, loss))
    print(f'eager {eager.item():.5f}, compiled {loss.item():.5f}; {compiled.notes or "compiled"}')
    assert abs(eager-loss)<1e-3 and (got-want).norm()<1e-2*want.norm() and compiled.body is not fast_body

def test_out_of_memory_halves_the_batch(data, tmp_path, monkeypatch):
    "A limit of 600 MB, faked on the card: smaller pieces, the same loss"
    c = dict(batch_size=256 if WHERE=='cuda' else 16, block_size=128, max_steps=2, eval_every=2, step='fast')
    free = losses(data, tmp_path/'free', **c)
    if WHERE=='cuda':
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(600e6/torch.cuda.get_device_properties(0).total_memory)
    else:
        real = FusedLoss.forward
        def forward(self, x, y):
            if len(x)>4: raise torch.OutOfMemoryError('faked')
            return real(self, x, y)
        monkeypatch.setattr(FusedLoss, 'forward', forward)
    try: tight = losses(data, tmp_path/'tight', **c)
    finally:
        if WHERE=='cuda': torch.cuda.set_per_process_memory_fraction(1.)
    notes = [o['note'] for o in read_metrics(tmp_path/'tight') if 'did not fit' in (o.get('note') or '')]
    print('\n'.join(notes), f'losses {free.tolist()} and {tight.tolist()}')
    assert notes and (free-tight).abs().max()<2e-4

def test_generate_with_the_cache(data):
    "Greedy text with the key-value cache on the GPU = without it, and past the window"
    torch.manual_seed(1)
    model = GPT(preset('nano', vocab_size=50257, block_size=64)).to(WHERE).eval()
    prompt = TokenDataset(data).tokens[:9].astype('int64').tolist()
    ids = torch.tensor([prompt], device=WHERE)
    with torch.no_grad():
        for _ in range(80): ids = torch.cat([ids, model.lm_head(model.hidden(ids[:,-64:]))[:,-1:].argmax(-1)], 1)
    cached = generate(model, prompt, 80, temperature=0)
    assert cached.flatten().tolist()==ids.flatten().tolist()

def test_two_processes_on_one_card(data, tmp_path):
    "gloo, because nccl wants a card for each; the losses of one process alone"
    s = SMALL | dict(max_steps=10, eval_every=10)
    flags = [o for k,v in s.items() for o in (f"--{k.replace('_','-')}", str(v))]
    team = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '--max-restarts', '0']
    for out,launch in (('one',[]), ('two',team)):
        p = subprocess.run([sys.executable, *launch, '-m', 'lightbrain.cli', 'train', '--data', str(data), '--out', str(tmp_path/out),
            *flags], capture_output=True, text=True, timeout=300, env=os.environ | dict(OMP_NUM_THREADS='1'))
        assert p.returncode==0, p.stderr[-2000:]
    one,two = ([o['loss'] for o in read_metrics(tmp_path/o) if o['loss'] is not None] for o in ('one','two'))
    gap = max(abs(a-b) for a,b in zip(one, two, strict=True))
    print(f'two processes: at most {gap:.1e} nats from one in {len(one)} steps')
    assert gap<5e-3

def test_the_loop_of_the_road(data):
    "`train` of lesson 05 picks device and number format; the loss falls as it does in float32 on a CPU"
    how = dict(steps=30, batch_size=4, eval_every=30, eval_tokens=512, progress=False)
    def ends(**kw):
        torch.manual_seed(1)
        log = train(GPT(preset('nano', vocab_size=50257, block_size=64)), data, **how, **kw)
        return log[0]['val_loss'],log[-1]['val_loss']
    (first,here),(_,cpu) = ends(device=WHERE),ends(device='cpu', dtype=torch.float32)
    print(f'validation loss {first:.3f} -> {here:.3f}; in float32 on a CPU {cpu:.3f}')
    assert abs(here-cpu)<0.1 and here<first-1

"Two processes under torchrun: the same steps as one, and a killed rank leads to restart and resume"
import os, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
from lightbrain.run.checkpoint import list_checkpoints
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from test_unbreakable import write_set

pytestmark = pytest.mark.skipif(not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason='this torch has no gloo')
SETTINGS = dict(preset='nano', vocab_size=512, n_layer=1, n_head=2, n_embd=32, block_size=32, dropout=0., batch_size=4, grad_accum=2,
    lr=0.1, warmup_steps=1, schedule='constant',
                max_steps=20, eval_every=20, eval_tokens=64, save_every=5, log_every=1, device='cpu', dtype='float32')

# Runs `lightbrain-train` with SGD; notes its pid, its first gradient, and can be told to go wrong
SCRIPT = '''
import os, sys, time, torch
from pathlib import Path
from safetensors.torch import save_file
import lightbrain.run.trainer as train
torch.set_num_threads(1)
out,fault = Path(sys.argv[sys.argv.index('--out')+1]),os.environ.get('FAULT')
rank = os.environ.get('RANK', '0')
train.make_optimizer = lambda model, *_: torch.optim.SGD(model.parameters(), lr=0.1)
real,clip = train.Trainer.gradients,torch.nn.utils.clip_grad_norm_
def first_gradient(params, *a):
    params = list(params)
    path = out.with_name(out.name+'.grad')
    if rank=='0' and not path.exists(): save_file({str(i):p.grad.clone() for i,p in enumerate(params)}, path)
    return clip(params, 1e9)
torch.nn.utils.clip_grad_norm_ = first_gradient
def gradients(self, x, y):
    with open(out.with_name(f'{out.name}.rank{rank}'), 'a') as f: f.write(f'{os.getpid()} {self.step}\\n')
    if fault=='slow': time.sleep(0.15)
    return real(self, x, y)
train.Trainer.gradients = gradients
from lightbrain.cli import train
train.shell()
'''

@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A prepared set and the script"
    here = tmp_path_factory.mktemp('parallel')
    write_set(here/'data', 60)
    (here/'script.py').write_text(SCRIPT)
    return here

def flags(home, out, **kw):
    return ['--data', str(home/'data'), '--out', str(home/out),
        *(o for k,v in (SETTINGS | kw).items() for o in (f"--{k.replace('_','-')}", str(v)))]
def launch(home, out, world=2, fault='', restarts=3, **kw):
    "Start the script alone, or under torchrun"
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(world), '--max-restarts',
        str(restarts)] if world>1 else []
    return subprocess.Popen([sys.executable, *torchrun, str(home/'script.py'), *flags(home, out, **kw)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | dict(OMP_NUM_THREADS='1', FAULT=fault))
def finish(p):
    try: out,err = p.communicate(timeout=180)
    except subprocess.TimeoutExpired: p.terminate(); raise
    assert p.returncode==0, err[-3000:]
    return out
def away(a, b): x,y = load_file(a),load_file(b); return max((x[k]-y[k]).abs().max().item() for k in x)

@pytest.fixture(scope='module')
def runs(home):
    "The same settings on one process and on two"
    for o in [launch(home, 'one', 1), launch(home, 'two')]: finish(o)
    return home

def test_two_ranks_equal_one(runs):
    "The same global batch: first gradients and the weights after 20 SGD steps"
    grad,params = away(runs/'one.grad', runs/'two.grad'),away(runs/'one'/'model'/'model.safetensors',
        runs/'two'/'model'/'model.safetensors')
    print(f'\nfirst gradients differ by {grad:.1e}, weights after 20 SGD steps by {params:.1e}')
    assert grad<=1e-6 and params<=1e-6

def test_two_ranks_take_the_fast_step_together(home):
    "DDP sees the gradient that head and embedding share, whoever computes it"
    for o in [launch(home, 'fast1', 1, step='fast', max_steps=5), launch(home, 'fast2', 2, step='fast', max_steps=5)]: finish(o)
    assert away(home/'fast1.grad', home/'fast2.grad')<=1e-6
    assert away(home/'fast1'/'model'/'model.safetensors', home/'fast2'/'model'/'model.safetensors')<=1e-6

def test_negative_control_overlapping_rows(runs):
    "Two ranks that both read the first half of the batch would average two equal gradients: another one"
    t = Trainer(TrainConfig(**SETTINGS), runs/'data', runs/'half', progress=False)
    x,y = t.whole_batch(0)
    t.gradients(x[:len(x)//2], y[:len(y)//2])
    want = load_file(runs/'one.grad')
    far = max((p.grad-want[str(i)]).abs().max().item() for i,p in enumerate(t.model.parameters()))
    t.gradients(x, y)
    near = max((p.grad-want[str(i)]).abs().max().item() for i,p in enumerate(t.model.parameters()))
    assert far>1e-4 and near<1e-6

def test_rank_0_writes_alone(runs):
    lines = (runs/'two'/'metrics.jsonl').read_text().splitlines()
    assert len(lines)==20+2 and [s for s,_ in list_checkpoints(runs/'two'/'checkpoints')]==[20, 15]

@pytest.mark.skipif(os.name=='nt', reason='no SIGKILL on Windows')
def test_a_killed_rank_restarts_and_resumes(runs):
    "kill -9 for rank 1: torchrun starts both anew, they continue from the last checkpoint, to the same bits"
    p,note,end = launch(runs, 'killed', fault='slow'),runs/'killed.rank1',time.monotonic()+120
    def lines(): return note.read_text().splitlines() if note.exists() else []
    while len(lines())<8: assert p.poll() is None and time.monotonic()<end; time.sleep(0.02)
    pid,step = map(int, lines()[-1].split())
    os.kill(pid, signal.SIGKILL)
    assert 'continuing killed from step 5' in finish(p)
    pids = {o.split()[0] for o in lines()}
    assert len(pids)==2 and 7<=step<10
    same = [(runs/o/'model'/'model.safetensors').read_bytes() for o in ('two','killed')]
    assert same[0]==same[1]

@pytest.mark.skipif(os.name=='nt', reason='no SIGTERM on Windows')
def test_sigterm_saves_on_both(runs):
    "SIGTERM to torchrun: all finish the same step, number 0 saves it, the same command continues"
    p,note,end = launch(runs, 'stopped', fault='slow', save_every=1000,
        eval_every=1000),runs/'stopped.rank0',time.monotonic()+120
    while not (note.exists() and len(note.read_text().splitlines())>=6):
        assert p.poll() is None and time.monotonic()<end; time.sleep(0.02)
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=120)
    (step,_), = list_checkpoints(runs/'stopped'/'checkpoints')
    assert step>=6
    out = finish(launch(runs, 'stopped', save_every=1000, eval_every=1000))
    assert f'continuing stopped from step {step}' in out
    same = [(runs/o/'model'/'model.safetensors').read_bytes() for o in ('two','stopped')]
    assert same[0]==same[1]

def test_a_batch_that_cannot_be_shared(home):
    "One line that says what to do"
    p = launch(home, 'odd', batch_size=3, restarts=0)
    _,err = p.communicate(timeout=120)
    assert p.returncode!=0
    assert 'cannot be shared equally by 2 processes; use a batch_size that 2 divides, such as 4' in err
    assert not (home/'odd').exists()

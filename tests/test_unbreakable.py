"A training run under attack: kill -9 at any moment, exact resume everywhere, damaged files, full disks, hostile files"
import errno, hashlib, json, multiprocessing, os, pickle, random, shutil, signal, time
from pathlib import Path
import pytest, torch
from lightbrain.run.checkpoint import (FILES, best_checkpoint, latest_checkpoint, list_checkpoints, read_manifest,
    read_part, verify_checkpoint, why_broken)
from lightbrain.files import file_sha256, seal
from lightbrain.corpus import synthetic_records
from lightbrain.data import record_document, write_tapes
from lightbrain.tokenizer import BPETokenizer, train_bpe
import lightbrain.run.trainer as train
from lightbrain.run.config import TrainConfig
from lightbrain.run.log import read_metrics
from lightbrain.run.trainer import Trainer
from lightbrain.train import Guard

torch.set_num_threads(1)
KILLS = int(os.environ.get('LIGHTBRAIN_KILLS', 6))          # 50 for the whole experiment
TINY = dict(preset='nano', vocab_size=512, n_layer=1, n_head=2, n_embd=32, block_size=32, dropout=0.1, batch_size=4,
    lr=3e-3, warmup_steps=5, eval_tokens=64, max_steps=30, eval_every=10, save_every=5, log_every=2, device='cpu', dtype='float32')

class PowerCut(Exception): pass

def write_set(out, n):
    "A set of `n` invented records in a vocabulary of its own"
    docs = [record_document(o, 'synthetic', 'CC0-1.0') for o in synthetic_records(n, level=1)]
    write_tapes(docs, out, BPETokenizer(*train_bpe([o.text for o in docs], 512)))
    return out

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "A set, made once"
    return write_set(tmp_path_factory.mktemp('data')/'set', 60)

def watched(t):
    "Note which blocks of which epoch each batch was cut from"
    T,n,real = t.model.config.block_size,t.train.n_blocks(t.model.config.block_size),t.train.batch
    def batch(step, batch_size, block_size, seed, device, order):
        starts = t.train._starts(step, batch_size, block_size, seed, order)
        t.consumed.append((step, [((step*batch_size+i)//n, int(o)//T) for i,o in enumerate(starts)]))
        return real(step, batch_size, block_size, seed, device, order)
    t.train.batch,t.blocks,t.consumed = batch,n,[]
    return t

def make(data, out, blocks=False, **kw):
    t = Trainer(TrainConfig(**(TINY | kw | (dict(order='blocks') if blocks else {}))), data, out, progress=False)
    return watched(t) if blocks else t

def stop_at(t, step, micro=None):
    "Cut the power before `step`, or in the middle of its accumulated batch"
    real = t.gradients
    def f(x, y):
        if t.step==step and micro is None: raise PowerCut
        if t.step==step:
            forward,count = t.stepper.net.forward,iter(range(micro))
            def cut(*a):
                if next(count, None) is None: raise PowerCut
                return forward(*a)
            t.stepper.net.forward = cut
        return real(x, y)
    t.gradients = f
    return t

def one_step(t):
    "What the loop does with a batch; (loss, length of the gradient)"
    loss = t.gradients(*t.batch(t.step))
    norm = t.update()
    return loss.item(),norm

def weights(t): return hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in t.model.parameters())).hexdigest()

def exported(run): return (run/'model'/'model.safetensors').read_bytes()

def interrupted(data, out, *where, **kw):
    "Train with a power cut at each of `where` (a step, or (step, piece)); the last trainer, and all that was read"
    log = []
    for o in where:
        t = stop_at(make(data, out, **kw), *(o if isinstance(o, tuple) else (o,)))
        with pytest.raises(PowerCut): t.fit()
        log.append(getattr(t, 'consumed', []))
    t = make(data, out, **kw).fit()
    return t,[*log, getattr(t, 'consumed', [])]

def effective(logs):
    "What the weights have really seen: later lives overwrite the steps that an earlier one lost"
    seen = {}
    for life in logs:
        for step in [s for s in seen if life and s>=life[0][0]]: del seen[step]
        for step,rows in life: seen[step] = rows
    return [seen[s] for s in sorted(seen)]

# ---------------------------------------------------------------- exact resume

WHERE = dict(step_0=[0], step_1=[1], inside_accumulation=[(13, 1)], epoch_end=None, last_step=[29], twice=[8, 9],
    three_times=[12, 19, 26], twice_at_one_place=[11, 11])
def around_the_epoch_end(straight):
    "Cut before and after the step whose batch ends one epoch and begins the next"
    k = next(step for step,rows in straight.consumed if {e for e,_ in rows}=={0,1})
    return [k, k+1]

@pytest.fixture(scope='module')
def straight(data, tmp_path_factory):
    "The run that was left alone, in blocks, with accumulation, Muon for the hidden matrices and AdamW for the rest"
    t = make(data, tmp_path_factory.mktemp('straight')/'run', blocks=True, grad_accum=2, optimizer='muon').fit()
    assert {bool(g['muon']) for g in t.optimizer.param_groups}=={True,False}
    return t

@pytest.mark.parametrize('name', WHERE)
def test_resume_is_exact(data, straight, tmp_path, name):
    "Through accumulation, epoch ends, evaluation, Muon and AdamW: same bits, same blocks, same log"
    where = WHERE[name] or around_the_epoch_end(straight)
    t,logs = interrupted(data, tmp_path/'run', *where, blocks=True, grad_accum=2, optimizer='muon')
    assert weights(t)==weights(straight)
    read = effective(logs)
    assert read==[rows for _,rows in straight.consumed]
    flat = [o for rows in read for o in rows]
    assert len(set(flat))==len(flat) and len(flat)==30*8                          # none twice
    assert {b for e,b in flat if e==0}==set(range(t.blocks))                      # none missed in a whole epoch
    keep = lambda run: [{k:v for k,v in o.items() if k not in ('tokens_per_s','wall_s')} for o in read_metrics(run)]
    assert keep(tmp_path/'run')==keep(straight.out)

def test_an_epoch_ends_inside_the_run(straight):
    "The cases above mean something: an epoch ends between two of the steps, and in the middle of a batch"
    epochs = [{e for e,_ in rows} for _,rows in straight.consumed]
    assert {0} in epochs and {0,1} in epochs and straight.blocks<30*8

@pytest.mark.parametrize('dtype', ['bfloat16','float16'])
def test_resume_in_half_precision(data, tmp_path, dtype):
    alone = make(data, tmp_path/'a', dtype=dtype, max_steps=12).fit()
    t,_ = interrupted(data, tmp_path/'b', 7, 11, dtype=dtype, max_steps=12)
    assert weights(t)==weights(alone) and t.stepper.scaler.state_dict()==alone.stepper.scaler.state_dict()

@pytest.mark.parametrize('dtype', ['float32','bfloat16'])
def test_resume_of_the_fast_step(data, tmp_path, dtype):
    kw = dict(step='fast', optimizer='muon', dtype=dtype, max_steps=12)
    alone = make(data, tmp_path/'a', **kw).fit()
    t,_ = interrupted(data, tmp_path/'b', 7, 11, **kw)
    assert weights(t)==weights(alone)!=weights(make(data, tmp_path/'c', **kw | dict(seed=1)).fit())

FAULTS = dict(
    rng=lambda m: m.setattr(train, 'hash_int', lambda *key, real=train.hash_int, **k:
        real(*key, *[os.urandom(4)]*('dropout' in key), **k)),
    position=lambda m: m.setattr(Trainer, 'batch', lambda self, step,
        real=Trainer.batch: real(self, step+(self.resumed or 0))),
    guard=lambda m: m.setattr(Guard, 'load_state_dict', lambda self, state: self.after_update(0, 2., 1.)),
    optimizer=lambda m: m.setattr(train, 'load_checkpoint', lambda path, model, optimizer,
        real=train.load_checkpoint: real(path, model=model)))
@pytest.mark.parametrize('fault', FAULTS)
def test_negative_controls(data, tmp_path, monkeypatch, fault):
    "Leave out one piece of the state, or read one batch too far, and the hashes differ: the tests above can fail"
    monkeypatch.setattr(Trainer, 'resumed', False, raising=False)
    alone = make(data, tmp_path/'a').fit()
    FAULTS[fault](monkeypatch)
    with pytest.raises(PowerCut): stop_at(make(data, tmp_path/'b'), 12).fit()
    monkeypatch.setattr(Trainer, 'resumed', True)
    assert weights(make(data, tmp_path/'b').fit())!=weights(alone)

def test_a_torn_memory_is_not_trusted(data, tmp_path):
    "The same object, its weights spoilt by an interruption before the first save, begins anew"
    alone,t = make(data, tmp_path/'a', max_steps=8).fit(),stop_at(make(data, tmp_path/'b', max_steps=8), 3)
    with pytest.raises(PowerCut): t.fit()
    with torch.no_grad(): t.model.lm_head.weight.mul_(2)
    del t.gradients
    assert weights(t.fit())==weights(alone)

def test_state_that_a_checkpoint_keeps(data, tmp_path):
    t = make(data, tmp_path/'a', max_steps=5).fit()
    path,_ = latest_checkpoint(tmp_path/'a'/'checkpoints')
    state,manifest = read_part(path, 'state'),verify_checkpoint(path)
    assert (state['step'], manifest['step'], state['tokens'])==(5, 5, 5*4*32)
    assert {'python','numpy','torch'} <= state['rng'].keys()
    assert state['config']['seed']==42 and len(state['config_sha256'])==64
    assert manifest['about']['val_loss']==t.best[0]
    assert state['data']['train']==t.train.info['sha256']
    assert {'python','torch','numpy','lightbrain'} <= manifest['versions'].keys()
    assert {p.name for p in path.iterdir()}=={*FILES}

# ---------------------------------------------------------------- kill -9

KILLED = TINY | dict(max_steps=40, save_every=1, eval_every=20, keep=2)

def life(data, out, fault):
    "One life of a run: what the killed process executes. Each step is noted in a file when it is done"
    torch.set_num_threads(1)
    out = Path(out)
    t = Trainer(TrainConfig(**KILLED), data, out, progress=False)
    if fault=='rng':
        train.hash_int = lambda *key, real=train.hash_int, **k: real(*key, *[os.getpid()]*('dropout' in key), **k)
    batch,update,t.begun = t.batch,t.update,None
    def note(text):
        with open(out.with_suffix('.log'), 'a') as f: f.write(text+'\n')
    def noted_batch(step):
        if t.begun is None:
            t.begun = step
            note(f'start {step}')
        return batch(step+t.begun if fault=='position' else step)
    def noted_update():
        norm = update()
        note(f'done {t.step}')
        return norm
    t.batch,t.update = noted_batch,noted_update
    t.fit()
    note('end')

@pytest.fixture(scope='module')
def server():
    "Processes that are forked from one that has torch already: a new life costs a fraction of a second"
    if 'forkserver' not in multiprocessing.get_all_start_methods(): pytest.skip('no forkserver on Windows')
    ctx = multiprocessing.get_context('forkserver')
    ctx.set_forkserver_preload(['lightbrain.run.trainer', 'torch.utils.tensorboard', 'test_unbreakable'])
    return ctx

def draw(n, seed):
    "Where `n` kills shall fall: one in each part of the run, about every other one inside a save"
    g,last = random.Random(seed),KILLED['max_steps']-4
    inside = [i%2==0 for i in range(n)]
    g.shuffle(inside)
    return [(g.randrange(2+i*(last-2)//n, 2+(i+1)*(last-2)//n), o) for i,o in enumerate(inside)]

def kill(p, g, ready, torso, inside):
    "Stop the process at random moments, look where it is, and kill it there or let it go on"
    end = time.monotonic()+120
    while p.is_alive():
        assert time.monotonic()<end, 'never where the kill should fall'
        if ready():
            os.kill(p.pid, signal.SIGSTOP)
            if bool(torso())==inside: return os.kill(p.pid, signal.SIGKILL)
            os.kill(p.pid, signal.SIGCONT)
        time.sleep(g.random()*0.01)

def lives(server, data, out, n_kills, fault=None, seed=0):
    "Run to the end through kills; (where each fell: begun, step, inside a save?; most steps lost)"
    g,plan,fell,lost = random.Random(seed),draw(n_kills, seed),[],0
    log,home = out.with_suffix('.log'),out/'checkpoints'
    def note(): return log.read_text().splitlines() if log.exists() else []
    while True:
        before = len(note())
        p = server.Process(target=life, args=(str(data), str(out), fault)); p.start()
        # of this life, not left by another
        torso = lambda: list(home.glob(f'.step-*.writing-{p.pid}'))
        def done(): return max([int(o.split()[1]) for o in note()[before:] if o.startswith('done')], default=0)
        if len(fell)<len(plan):
            step,inside = plan[len(fell)]
            kill(p, g, lambda: done()>=step and list_checkpoints(home), torso, inside)
        p.join()
        lines = note()
        if lines[-1]=='end': return fell,lost
        assert p.exitcode==-signal.SIGKILL, f'a life ended by itself with {p.exitcode}: {lines[-3:]}'
        fell.append((int(lines[before].split()[1]), done(), bool(torso())))
        for _,o in list_checkpoints(home):
            assert why_broken(o) is None, o       # nothing half-written ever has the name
        lost = max(lost, done()-max(s for s,_ in list_checkpoints(home)))

def test_kill_9(server, data, tmp_path):
    "Kills at random moments, many inside a save: the same sha256 as the run that was left alone"
    lives(server, data, tmp_path/'alone', 0)
    want,fell,worst,rounds = exported(tmp_path/'alone'),[],0,0
    while len(fell)<KILLS:
        assert rounds<2*KILLS, f'the runs end before the kills fall: {fell}'
        out = tmp_path/f'run{rounds}'
        here,lost = lives(server, data, out, min(7, max(2, KILLS-len(fell))), seed=rounds)
        assert exported(out)==want
        assert [o['step'] for o in read_metrics(out) if o['loss'] is not None]==[*range(2, 41, 2)]
        begun = [o for o,_,_ in here]
        # each life goes on, further on; at the same step where the save of the very next one was cut
        assert begun[0]==0<min(begun[1:]) and begun==sorted(begun) and 2*len({*begun})>len(begun), here
        fell,worst,rounds = fell+here,max(worst, lost),rounds+1
    inside,thirds = sum(o for _,_,o in fell),{3*step//KILLED['max_steps'] for _,step,_ in fell}
    print(f'\n{len(fell)} kills in {rounds} runs, {inside} inside a save, at steps {[o for _,o,_ in fell]}, '
          f'at most {worst} step(s) lost, all sha256 equal')
    assert 0.3*len(fell)<=inside<=0.7*len(fell) and len(thirds)==3, fell
    assert worst<=1                                              # one save interval

@pytest.mark.parametrize('fault', ['rng','position'])
def test_kill_9_negative_controls(server, data, tmp_path, fault):
    "Without the seed of the dropout, or with the data position off, a killed run ends elsewhere"
    lives(server, data, tmp_path/'alone', 0)
    fell,_ = lives(server, data, tmp_path/'run', 2, fault)
    assert fell[-1][1]>0 and exported(tmp_path/'run')!=exported(tmp_path/'alone')

# ---------------------------------------------------------------- damaged and hostile files

@pytest.fixture(scope='module')
def half_way(data, tmp_path_factory):
    "A run that was cut off after step 12, with checkpoints of steps 5 and 10"
    out = tmp_path_factory.mktemp('half')/'run'
    with pytest.raises(PowerCut): stop_at(make(data, out), 12).fit()
    return out

def zero_a_block(raw):
    "Zero 512 bytes, or fewer, that were not all zero"
    at = next(i for i in range(0, len(raw), 512) if any(raw[i:i+512]))
    return raw[:at]+bytes(len(raw[at:at+512]))+raw[at+512:]

DAMAGE = dict(flip=lambda raw: raw[:len(raw)//2]+bytes([raw[len(raw)//2]^4])+raw[len(raw)//2+1:],
    cut=lambda raw: raw[:-1], half=lambda raw: raw[:len(raw)//2],
              empty=lambda raw: b'', zeroed=zero_a_block, pickle=lambda raw: pickle.dumps(Path('x')))
def test_every_damage_is_found_and_the_one_before_is_used(data, half_way, tmp_path):
    "Each damage in each file: detected, the checkpoint before it is taken, one sentence says so"
    for how,damage in DAMAGE.items():
        for name in FILES:
            out = tmp_path/f'{how}-{name}'
            shutil.copytree(half_way, out)
            f = out/'checkpoints'/'step-00000010'/name
            f.write_bytes(damage(f.read_bytes()))
            t = make(data, out)
            assert t.resume() and t.step==5, (how, name)
            assert len(t.messages)==2 and t.messages[0].startswith('skipped step-00000010: ') and name in t.messages[0]
            shutil.rmtree(out)

def test_the_same_weights_after_damage(data, half_way, tmp_path):
    alone = make(data, tmp_path/'alone').fit()
    shutil.copytree(half_way, tmp_path/'run')
    with open(tmp_path/'run'/'checkpoints'/'step-00000010'/'model.pt', 'r+b') as f: f.truncate(100)
    assert weights(make(data, tmp_path/'run').fit())==weights(alone)

class Payload:
    def __reduce__(self): return os.mkdir, ('executed',)

def as_pickle(path): path.write_bytes(pickle.dumps(Payload()))
def by_torch(path): torch.save(Payload(), path)
def among_the_state(path):
    "A good state, and one thing more in it"
    torch.save(torch.load(path, weights_only=True) | dict(extra=Payload()), path)

@pytest.mark.parametrize('where', ['model.pt','optimizer.pt','state.pt','beside','listed'])
@pytest.mark.parametrize('how', [as_pickle, by_torch, among_the_state])
def test_a_pickle_is_refused_and_never_run(data, half_way, tmp_path, monkeypatch, where, how):
    "In the place of a part, or listed in a sound manifest: refused. Beside them: never opened"
    shutil.copytree(half_way, tmp_path/'run')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')      # the switch that other programs tell people to set
    path = tmp_path/'run'/'checkpoints'/'step-00000010'
    hostile = path/(where if where in FILES else 'extra.pt')
    if where not in FILES: shutil.copy(path/'state.pt', hostile)
    how(hostile)
    if where!='beside':  # a manifest that fits the hostile file
        files = {o.name:dict(size=o.stat().st_size, sha256=file_sha256(o)) for o in path.iterdir() if o.name!=FILES[0]}
        (path/FILES[0]).write_bytes(seal(read_manifest(path) | dict(files=files)).encode())
    t = make(data, tmp_path/'run')
    if where in FILES: assert t.resume() and t.step==5 and 'not what save_checkpoint writes' in t.messages[0]
    elif where=='listed': assert t.resume() and t.step==5 and 'lists extra.pt' in t.messages[0]
    else: assert t.resume() and t.step==10 and len(t.messages)==1  # not listed: it is never opened
    assert not (tmp_path/'executed').exists()
    # negative control: the payload is a live one
    pickle.loads(pickle.dumps(Payload()))
    assert (tmp_path/'executed').exists()

# ---------------------------------------------------------------- what a save costs, and what the best one costs

def test_a_save_hashes_its_bytes_once(data, tmp_path, monkeypatch):
    "Ten saves with a clean-up each read nothing back; a new process looks at what it relies on, once"
    import lightbrain.run.checkpoint as c
    read,real = [],c.file_sha256
    monkeypatch.setattr(c, 'file_sha256', lambda f: read.append(Path(f).parent.name) or real(f))
    t = make(data, tmp_path/'run', save_every=1, eval_every=30, max_steps=10).fit()
    assert read==[]
    monkeypatch.setattr(c, '_verified', {})                          # as in a new process
    with pytest.raises(PowerCut): stop_at(make(data, tmp_path/'run', save_every=1, eval_every=30, max_steps=20), 15).fit()
    assert read==['step-00000010']*6, read                          # three files: found, and loaded

def test_the_best_is_kept_without_a_save_of_its_own(data, tmp_path):
    "Looks at every step, saves at every fifth: the best look is on the disk, and no save was added for it"
    def run(out, cut=None):
        fast = dict(lr=0.03, schedule='constant', warmup_steps=1)      # too fast: it gets worse again
        t = make(data, out, eval_every=1, save_every=5, max_steps=20, keep=1, **fast)
        t.saves = []
        real = t.save
        t.save = lambda: t.saves.append(t.step) or real()
        if cut: stop_at(t, cut)
        return t
    alone = run(tmp_path/'a').fit()
    looks = {o['step']:o['val_loss'] for o in read_metrics(alone.out) if o['val_loss'] and o['step']}
    best = min(looks, key=looks.get)
    assert best%5, 'the best is at a save anyway: choose another rate'
    assert alone.saves==[5, 10, 15, 20]
    path = best_checkpoint(alone.out/'checkpoints')
    assert path.name==f'step-{best:08d}' and read_manifest(path)['about']['val_loss']==looks[best]==alone.best[0]
    # a kill takes the best that waited, and the run that continues meets it again
    with pytest.raises(PowerCut): run(tmp_path/'b', cut=best).fit()
    assert not (tmp_path/'b'/'checkpoints'/path.name).exists()
    again = run(tmp_path/'b').fit()
    assert weights(again)==weights(alone) and again.best==alone.best
    a,b = (read_part(tmp_path/o/'checkpoints'/path.name, 'model') for o in 'ab')
    assert all(a[k].equal(b[k]) for k in a)

# ---------------------------------------------------------------- no room

def full_disk(monkeypatch, n):
    "The n-th operation on the disk and all after it fail, as on a full disk; a file is left half-written"
    count,seen = iter(range(n)),[]
    def wrap(real, half=None):
        def f(*a, **k):
            if next(count, None) is not None: return real(*a, **k)
            seen.append(real.__name__)
            if half: half(*a)
            raise OSError(errno.ENOSPC, 'No space left on device')
        return f
    raw = Path.write_bytes
    monkeypatch.setattr(Path, 'write_bytes', wrap(raw, lambda p,s,*a: raw(p, s[:len(s)//2])))
    monkeypatch.setattr(os, 'fsync', wrap(os.fsync))
    monkeypatch.setattr(Path, 'mkdir', wrap(Path.mkdir))
    monkeypatch.setattr(Path, 'rename', wrap(Path.rename))
    return seen

def test_no_room_at_each_write_of_a_save(data, half_way, tmp_path, monkeypatch):
    "At each operation: a sentence with the room needed, older checkpoints whole, and the run continues later"
    alone,n = make(data, tmp_path/'alone').fit(),0
    while True:
        out = tmp_path/f'run{n}'
        shutil.copytree(half_way, out)
        t = make(data, out); t.resume()
        for _ in range(2): one_step(t)
        with monkeypatch.context() as m:
            failed = full_disk(m, n)
            try: t.save()
            except OSError as e: assert 'this save needs' in str(e) and 'MB' in str(e) and 'untouched' in str(e)
            else:
                # the save is whole, the cleaning failed
                assert not failed or 'could not be removed' in t.messages[-1]
        if not failed: break
        whole = [s for s,p in list_checkpoints(out/'checkpoints') if why_broken(p) is None]
        assert 10 in whole and len(whole)==len(list_checkpoints(out/'checkpoints'))
        assert not list((out/'checkpoints').glob('.*')), 'a torso eats the room that is left'
        if n%7==0: assert weights(make(data, out).fit())==weights(alone)
        shutil.rmtree(out)
        n += 1
    assert n>=14, n
    print(f'\n{n} operations of a save, each refused once')

@pytest.mark.skipif(not os.environ.get('LIGHTBRAIN_TMPFS'),
    reason='set LIGHTBRAIN_TMPFS to a folder on a disk of about 80 MB (mounting one needs root)')
def test_no_room_on_a_real_disk(data, tmp_path):
    "Fill a small disk to each level between nothing and everything free"
    small = Path(os.environ['LIGHTBRAIN_TMPFS'])
    alone,messages = make(data, tmp_path/'alone', max_steps=12).fit(),set()
    cfg = dict(max_steps=12, save_every=2, keep=1)
    room = shutil.disk_usage(small).free
    for part in range(12):
        for o in small.iterdir(): shutil.rmtree(o) if o.is_dir() else o.unlink()
        (small/'ballast').write_bytes(bytes(room*part//12))
        t = make(data, small/'run', **cfg)
        try: t.fit()
        except OSError as e:
            assert 'this save needs' in str(e), e
            messages.add('said')
            for _,p in list_checkpoints(small/'run'/'checkpoints'): assert why_broken(p) is None
        (small/'ballast').unlink()                                           # room again: the same call continues
        assert weights(make(data, small/'run', **cfg).fit())==weights(alone)
    assert messages=={'said'}

# ---------------------------------------------------------------- signals and the clock

@pytest.mark.skipif(os.name=='nt', reason='no signals to children on Windows')
@pytest.mark.parametrize('name,twice', [('SIGTERM', False), ('SIGINT', False), ('SIGHUP', False), ('SIGTERM', True)])
def test_signals(server, data, tmp_path, name, twice):
    "One signal: the step is finished and saved. A second one: at once, and what was saved is whole"
    out = tmp_path/'run'
    p = server.Process(target=slow_life, args=(str(data), str(out))); p.start()
    log,end = out.with_suffix('.log'),time.monotonic()+60
    while not (log.exists() and len(log.read_text().splitlines())>=4):
        assert p.is_alive() and time.monotonic()<end; time.sleep(0.01)
    os.kill(p.pid, getattr(signal, name))
    if twice: time.sleep(0.02); os.kill(p.pid, getattr(signal, name))
    p.join(60)
    done = int(log.read_text().splitlines()[-1])
    steps = [s for s,_ in list_checkpoints(out/'checkpoints')]
    assert p.exitcode==1 and steps==([] if twice else [done])
    alone = make(data, tmp_path/'alone', max_steps=40, save_every=1000, eval_every=1000).fit()
    assert weights(make(data, out, max_steps=40, save_every=1000, eval_every=1000).fit())==weights(alone)

def slow_life(data, out):
    "A run whose steps take a while, so that a signal comes in the middle of one"
    torch.set_num_threads(1)
    for o in ('SIGTERM','SIGHUP'): signal.signal(getattr(signal, o), signal.SIG_DFL)      # a background job is born deaf to some
    signal.signal(signal.SIGINT, signal.default_int_handler)
    t = Trainer(TrainConfig(**(TINY | dict(max_steps=40, save_every=1000, eval_every=1000))), data, out, progress=False)
    real = t.update
    def update():
        end = time.monotonic()+0.2
        while time.monotonic()<end: time.sleep(0.01)
        norm = real()
        with open(Path(out).with_suffix('.log'), 'a') as f: f.write(f'{t.step}\n')
        return norm
    t.update = update
    try: t.fit()
    except KeyboardInterrupt: os._exit(1)

def test_the_clock_bounds_the_loss(data, tmp_path, monkeypatch):
    "With steps of one pretended minute, a save comes at the latest every five steps"
    t,now = make(data, tmp_path/'run', save_every=1000, eval_every=1000, max_steps=13),[0.]
    real = t.update
    def minute():
        now[0] += 60
        return real()
    t.update = minute
    saved = []
    save = t.save
    t.save = lambda: saved.append(t.step) or save()
    monkeypatch.setattr(train.time, 'perf_counter', lambda: now[0])
    t.fit()
    assert saved==[5, 10, 13]
    assert TrainConfig().save_minutes==5

# ---------------------------------------------------------------- numbers that are none

def test_inf_in_float16(data, tmp_path):
    "An injected inf: the step is skipped, the scale halved, the schedule right, and the state survives a resume"
    def run(out, cut=None):
        t = make(data, out, dtype='float16', max_steps=12, log_every=1, save_every=3)
        gradients,update,scale = t.gradients,t.update,t.stepper.scaler.get_scale
        def spoilt(x, y):
            if t.step==cut: raise PowerCut
            hook = t.model.lm_head.weight.register_hook(lambda grad: grad*float('inf')) if t.step==5 else None
            loss = gradients(x, y)
            if hook: hook.remove()
            return loss
        def watched():
            bad,before,was = t.step==5,[p.detach().clone() for p in t.model.parameters()],scale()
            norm = update()
            same = all(a.equal(b) for a,b in zip(before, t.model.parameters()))
            assert not bad or (same, scale(), t.skipped)==(True, was/2, 1)
            return norm
        t.gradients,t.update = spoilt,watched
        return t
    alone = run(tmp_path/'a').fit()
    with pytest.raises(PowerCut): run(tmp_path/'b', cut=8).fit()
    t = run(tmp_path/'b').fit()
    assert weights(t)==weights(alone) and (t.skipped, t.stepper.scaler.get_scale())==(1, 2.**15)
    lr = {o['step']:o['lr'] for o in read_metrics(tmp_path/'b') if o['loss'] is not None}
    assert [lr[s] for s in range(1, 13)]==[t.config.lr_at(o) for o in (0,1,2,3,4,5,5,6,7,8,9,10)]

def test_nan_in_float32_stops_before_the_update(data, tmp_path):
    "No weight changes, the last checkpoint is good, and a NaN that was logged is read back as NaN"
    t = make(data, tmp_path/'run', save_every=3)
    real,seen = t.gradients,{}
    def gradients(x, y):
        if t.step==7:
            seen['hook'] = t.model.lm_head.weight.register_hook(lambda grad: grad*float('nan'))
            seen['before'] = [p.detach().clone() for p in t.model.parameters()]
        return real(x, y)
    t.gradients = gradients
    with pytest.raises(ValueError, match='stopped before its update.*Try a lower lr.*documents'): t.fit()
    assert all(a.equal(b) for a,b in zip(seen['before'], t.model.parameters()))
    assert latest_checkpoint(tmp_path/'run'/'checkpoints')[0].name=='step-00000006'
    t.log = train.RunLog(tmp_path/'run', 6); t._write(loss=float('nan')); t.log.close()
    assert read_metrics(tmp_path/'run')[-1]['loss']!=read_metrics(tmp_path/'run')[-1]['loss']

# ---------------------------------------------------------------- a notebook

CELL = '''
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from lightbrain.train import Guard
import time, torch
torch.set_num_threads(1)
class Slow(Trainer):
    def update(self):
        time.sleep(0.15)
        return super().update()
t = Slow(TrainConfig(**{settings}), {data!r}, {out!r}, progress=False, live=True).fit()
'''
def run_cell(kc, code, seconds=120):
    "Execute a cell; (status, what the error says, kinds of messages)"
    kinds,id = [],kc.execute(code)
    while True:
        m = kc.get_iopub_msg(timeout=seconds)
        if m['parent_header'].get('msg_id')!=id: continue
        kinds.append(m['msg_type'])
        if m['msg_type']=='status' and m['content']['execution_state']=='idle': break
    while True:                                                 # another reply may have been waiting
        m = kc.get_shell_msg(timeout=seconds)
        if m['parent_header'].get('msg_id')==id: return m['content']['status'],m['content'].get('evalue', ''),kinds

@pytest.mark.skipif(os.name=='nt', reason='no signals to a kernel on Windows')
@pytest.mark.parametrize('how', ['stop button', 'SIGTERM'])
def test_in_a_live_notebook(data, tmp_path, how):
    "The stop button finishes the step and saves; the same cell, run again, continues, and shows a curve"
    from threading import Timer
    manager = pytest.importorskip('jupyter_client.manager')
    settings = TINY | dict(max_steps=20, save_every=1000, eval_every=1000)
    cell = CELL.format(settings=settings, data=str(data), out=str(tmp_path/'run'))
    km,kc = manager.start_new_kernel(kernel_name='python3')
    try:
        log,end = tmp_path/'run'/'metrics.jsonl',time.monotonic()+60
        def press():
            while not (log.exists() and len(log.read_text().splitlines())>=3) and time.monotonic()<end: time.sleep(0.02)
            km.interrupt_kernel() if how=='stop button' else km.signal_kernel(signal.SIGTERM)
        Timer(0.1, press).start()
        status,why,_ = run_cell(kc, cell)
        (step,_), = list_checkpoints(tmp_path/'run'/'checkpoints')
        assert status=='error' and f'after step {step}, which is saved' in why and step<20
        status,why,kinds = run_cell(kc, cell)
        assert status=='ok', why
        assert 'display_data' in kinds                          # the live curve
    finally: km.shutdown_kernel(now=True)
    alone = make(data, tmp_path/'alone', **settings).fit()
    alone.model.save_pretrained(tmp_path/'alone'/'model')
    assert exported(tmp_path/'run')==exported(tmp_path/'alone')

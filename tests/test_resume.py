"Resuming: nothing good is thrown away, nobody else's file is touched, and what has changed is said"
import builtins, errno, io, os, shutil, subprocess, sys, time
from contextlib import contextmanager
from pathlib import Path
import pytest, torch
from torch import nn
from lightbrain.cli import shell_args, train
from lightbrain.files import seal
from lightbrain.corpus import synthetic_records
from lightbrain.data import record_document, write_tapes
from lightbrain.run.checkpoint import list_checkpoints, prune_checkpoints, read_manifest
from lightbrain.run.config import TrainConfig
from lightbrain.run.log import read_metrics
from lightbrain.run import trainer
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import BPETokenizer, train_bpe
from test_unbreakable import TINY, PowerCut, data, make, one_step, stop_at, weights, write_set

@pytest.fixture(scope='module')
def half_way(data, tmp_path_factory):
    "A run that was cut off after step 12, with checkpoints of steps 5 and 10"
    out = tmp_path_factory.mktemp('half')/'run'
    with pytest.raises(PowerCut): stop_at(make(data, out), 12).fit()
    return out

@pytest.fixture
def run(half_way, tmp_path):
    "A copy of it"
    shutil.copytree(half_way, tmp_path/'run')
    return tmp_path/'run'

def content(folder):
    "Every file of a folder"
    return {str(o.relative_to(folder)):o.read_bytes() for o in sorted(folder.rglob('*')) if o.is_file()}

def steps(folder): return [s for s,_ in list_checkpoints(folder)]

# ---------------------------------------------------------------- Windows

def test_text_files_as_windows_writes_them(data, tmp_path, monkeypatch):
    "Each text file gets two bytes at the end of a line: the run resumes all the same"
    want = make(data, tmp_path/'alone', max_steps=12).fit()
    real = io.open
    def windows(file, mode='r', buffering=-1, encoding=None, errors=None, newline=None, *a, **k):
        if newline is None and 'b' not in mode and mode!='r': newline = '\r\n'
        return real(file, mode, buffering, encoding, errors, newline, *a, **k)
    monkeypatch.setattr(io, 'open', windows); monkeypatch.setattr(builtins, 'open', windows)
    with pytest.raises(PowerCut): stop_at(make(data, tmp_path/'run', max_steps=12), 7).fit()
    t = make(data, tmp_path/'run', max_steps=12).fit()
    assert t.messages==['continuing run from step 5'] and weights(t)==weights(want)
    text = {k:v for k,v in content(tmp_path/'run').items() if k.endswith(('.json','.jsonl','.yaml'))}
    assert len(text)>5 and not [k for k,v in text.items() if b'\r' in v]
    (tmp_path/'probe').write_text('a\nb\n')  # negative control: the trap was there
    assert (tmp_path/'probe').read_bytes()==b'a\r\nb\r\n'

# ---------------------------------------------------------------- when to save

def test_no_saves_by_the_clock(data, tmp_path):
    "save_minutes=0 saves by steps alone"
    t = make(data, tmp_path/'run', max_steps=12, save_minutes=0., save_every=5, eval_every=4)
    saved,real = [],t.save
    t.save = lambda: saved.append(t.step) or real()
    t.fit()
    assert saved==[5, 10, 12] and t.step==12

# ---------------------------------------------------------------- what has changed

def test_a_longer_run_says_what_becomes_of_the_rate(data, tmp_path):
    "More steps than planned: allowed, and said; the same plan: nothing to say"
    make(data, tmp_path/'run', max_steps=10).fit()
    t = make(data, tmp_path/'run', max_steps=10).fit()
    assert t.messages==['continuing run from step 10']
    t = make(data, tmp_path/'run', max_steps=20).fit()
    old,new = (TrainConfig(**(TINY | dict(max_steps=n))).lr_at(10) for n in (10, 20))
    said = (f'max_steps was 10, now 20: the learning rate at step 10 is {old:.2g} under the old plan, '
        f'{new:.2g} under the new')
    assert said in t.messages and t.step==20 and new>2*old
    assert {o['lr'] for o in read_metrics(t.out) if o['step']==12}=={t.config.lr_at(11)}

def test_a_local_version_of_torch_is_one_version(data, run, monkeypatch):
    "2.15.0+cu132 is what torch calls itself, 2.15.0 what pip knows: the same on both sides, and no warning"
    monkeypatch.setattr(torch, '__version__', '2.99.0+cu132')
    with pytest.raises(PowerCut): stop_at(make(data, run), 17).fit()
    t = make(data, run)
    assert t.resume() and t.messages==['continuing run from step 15']
    monkeypatch.setattr(torch, '__version__', '2.99.0+cpu')
    t = make(data, run)
    assert t.resume()
    said = 'torch 2.99.0+cpu here, torch 2.99.0+cu132 before: the numbers may round otherwise'
    assert t.messages[0]==said

def test_another_number_of_threads_is_said(data, run):
    assert torch.get_num_threads()==1
    torch.set_num_threads(2)
    try:
        t = make(data, run)
        assert t.resume()
    finally: torch.set_num_threads(1)
    said = '2 threads here, 1 thread before: the numbers may round otherwise'
    assert t.messages==[said, 'continuing run from step 10']

def test_no_clipping_resumes(data, tmp_path):
    "grad_clip=inf is no number that JSON knows"
    free = dict(grad_clip=float('inf'), max_steps=8)
    want = make(data, tmp_path/'alone', **free).fit()
    with pytest.raises(PowerCut): stop_at(make(data, tmp_path/'run', **free), 6).fit()
    t = make(data, tmp_path/'run', **free).fit()
    assert t.messages==['continuing run from step 5'] and weights(t)==weights(want)
    with pytest.raises(ValueError, match='grad_clip was inf, now 1.0'): make(data, tmp_path/'run').fit()

# ---------------------------------------------------------------- a second home

def main(argv): return train(**shell_args(train, argv))

def flags(**kw): return [p for k,v in (TINY | kw).items() for p in (f"--{k.replace('_','-')}", str(v))]

def test_mirror_by_every_road(data, tmp_path, monkeypatch):
    "As a flag, in YAML, in a dictionary; and a run can read the config.yaml that it wrote"
    monkeypatch.chdir(tmp_path)
    Path('mine.yaml').write_text('mirror: drive\n')
    for out,args in dict(flag=flags(mirror='drive', max_steps=5), file=['--config', 'mine.yaml', *flags(max_steps=5)]).items():
        main(['--data', str(data), '--out', out, *args])
        home, = Path('drive').glob(f'{out}-*')
        assert steps(home/'checkpoints')==[5]
        config = TrainConfig.from_yaml(f'{out}/config.yaml')
        assert config.mirror=='drive' and config==TrainConfig.from_dict(TINY | dict(mirror='drive', max_steps=5))
        before = content(Path(out)/'checkpoints')
        # the same run: nothing to do
        main(['--data', str(data), '--out', out, '--config', f'{out}/config.yaml'])
        assert content(Path(out)/'checkpoints')==before

@pytest.mark.parametrize('other', [dict(seed=1), dict(max_steps=20)])
def test_two_runs_of_one_name_share_no_home(data, tmp_path, other):
    "exp1/tiny and exp2/tiny, one drive: neither meets the other, and each finds its own again"
    drive = dict(mirror=str(tmp_path/'drive'))
    one = make(data, tmp_path/'exp1'/'tiny', **drive).fit()
    saved = content(tmp_path/'drive')
    two = make(data, tmp_path/'exp2'/'tiny', **drive, **other).fit()
    assert two.step==other.get('max_steps', 30) and not [o for o in two.messages if 'continuing' in o]
    assert 'holds another run of this name (tiny-' in two.messages[0]
    after = content(tmp_path/'drive')
    assert saved.items()<=after.items() and len(after)>len(saved)
    shutil.rmtree(tmp_path/'exp1'); shutil.rmtree(tmp_path/'exp2')  # the machine is gone
    for name,t,kw in (('exp1',one,{}), ('exp2',two,other)):
        again = make(data, tmp_path/name/'tiny', **drive, **kw).fit()
        assert again.messages[0]==f'continuing tiny from step {t.step}' and weights(again)==weights(t)
        assert len(read_metrics(again.out))>10

def test_another_set_has_another_home(data, tmp_path):
    write_set(tmp_path/'set', 40)
    drive = dict(mirror=str(tmp_path/'drive'))
    a,b,again = (make(o, tmp_path/'run', **drive).homes()[1] for o in (data, tmp_path/'set', data))
    assert a!=b and a==again

def test_one_run_however_it_is_written(data, tmp_path):
    "0 and 0.0, text and Path, a link and the folder itself: one home"
    drive = tmp_path/'drive'
    usual = dict(mirror=str(drive), dropout=0.)
    home = lambda out=tmp_path/'run', **kw: make(data, out, **(usual | kw)).homes()[1]
    assert home()==home(dropout=0)==home(mirror=drive)
    assert TrainConfig(mirror=drive).mirror==str(drive)
    if os.name!='nt':
        (tmp_path/'real').mkdir(); (tmp_path/'link').symlink_to(tmp_path/'real')
        assert home(tmp_path/'real'/'run')==home(tmp_path/'link'/'run')

def test_a_second_home_that_is_a_file(data, tmp_path):
    (tmp_path/'drive').write_text('mine')
    for mirror in ('drive', 'drive/below'):
        t = make(data, tmp_path/f'run-{len(mirror)}', max_steps=5, mirror=str(tmp_path/mirror)).fit()
        said = f"the second home did not get step 5 ('{tmp_path/'drive'}' is no folder; name a folder"
        assert t.step==5 and t.messages[0].startswith(said), t.messages
    assert (tmp_path/'drive').read_text()=='mine'

def test_from_the_second_home_past_a_file(data, tmp_path):
    "The first home cannot take what is saved: said at the start, not after the work"
    drive,home = dict(mirror=str(tmp_path/'drive')),tmp_path/'run'/'checkpoints'
    make(data, tmp_path/'run', max_steps=5, **drive).fit()
    shutil.rmtree(home); home.write_text('mine')
    with pytest.raises(ValueError, match='is no folder, and the run goes on from'):
        make(data, tmp_path/'run', **drive).fit()
    t = make(data, tmp_path/'run', max_steps=10, **drive); t.force = True
    assert t.fit().step==10 and 'continuing run from step 5' in t.messages
    assert steps(home)==[10] and home.with_name('checkpoints.aside-1').read_text()=='mine'

def test_another_tokenizer_is_never_forced(data, run, tmp_path):
    "Other text can be, and then the lowest loss on the old one is forgotten; other ids cannot"
    docs = [record_document(o, 'synthetic', 'CC0-1.0') for o in synthetic_records(60, level=1)]           # as `write_set` does
    write_tapes(docs, tmp_path/'ids', BPETokenizer(*train_bpe([o.text for o in docs], 500)))
    t,before = make(tmp_path/'ids', run),content(run)
    t.force = True
    with pytest.raises(ValueError, match='512 tokens.*now bpe .500 tokens.*another folder'): t.fit()
    assert content(run)==before
    write_tapes(docs[:50], tmp_path/'text', BPETokenizer(*train_bpe([o.text for o in docs], 512)))
    t,same = make(tmp_path/'text', run),make(data, run)
    t.force = True
    assert t.resume() and t.best is None and same.resume() and same.best

def test_a_shorter_plan_than_what_is_done(data, tmp_path):
    "Said, and the settings of the run stay"
    out = tmp_path/'run'
    make(data, out, max_steps=8).fit()
    before = (out/'config.yaml').read_bytes()
    t = make(data, out, max_steps=4).fit()
    assert t.step==8 and (out/'config.yaml').read_bytes()==before
    assert any('8 steps are done, more than max_steps=4' in o for o in t.messages), t.messages

# ---------------------------------------------------------------- checkpoints, and none can be used

def newer(f): f.write_bytes(seal(read_manifest(f.parent) | dict(format='lightbrain-checkpoint-9')).encode())
def line_ends(f): f.write_bytes(f.read_bytes().replace(b'\n', b'\r\n'))
def unlisted(f): f.unlink()
def emptied(f): shutil.rmtree(f.parent); f.parent.mkdir()
def in_a_file(f): shutil.rmtree(f.parent); f.parent.write_bytes(b'x')
def in_a_cloud(f):
    for o in [*f.parent.iterdir()]: o.rename(f.parent/f'.{o.name}.icloud')
def renamed(f): f.parent.rename(f'{f.parent} (1)')
def all_gone(home): shutil.rmtree(home)
def not_mounted(home): shutil.rmtree(home); home.symlink_to(home.parent/'no such disk')
def one_file(home): shutil.rmtree(home); home.write_bytes(b'x')
def no_entry(error):
    def f(monkeypatch):
        real = io.open
        def refuse(file, mode='r', *a, **k):
            if 'step-' in str(file) and 'r' in mode: raise OSError(error, os.strerror(error), str(file))
            return real(file, mode, *a, **k)
        monkeypatch.setattr(io, 'open', refuse); monkeypatch.setattr(builtins, 'open', refuse)
    return f
REASONS = dict(newer=(newer, "format 'lightbrain-checkpoint-9', this version reads"),
    line_ends=(line_ends, 'not as it was written'), unlisted=(unlisted, 'is missing'),
    emptied=(emptied, 'holds no checkpoint'), in_a_file=(in_a_file, 'holds no checkpoint'),
    in_a_cloud=(in_a_cloud, 'holds no checkpoint'), renamed=(renamed, 'holds no checkpoint'),
    all_gone=(all_gone, 'is gone or empty, and the log goes to step 12'),
    not_mounted=(not_mounted, 'is no folder'), one_file=(one_file, 'is no folder'),
    permission=(no_entry(errno.EACCES), 'Permission denied'), disk=(no_entry(errno.EIO), 'Input/output error'))
@pytest.mark.parametrize('reason', REASONS)
def test_none_can_be_used(data, run, monkeypatch, reason):
    "Stop with the reason for each, change nothing; with force begin anew beside what was there"
    harm,why = REASONS[reason]
    system,whole = reason in ('permission','disk'),reason in ('all_gone','not_mounted','one_file')
    links = reason=='not_mounted'
    if links and os.name=='nt': pytest.skip('links need rights on Windows')
    if whole: harm(run/'checkpoints')
    elif not system:
        for o in [*(run/'checkpoints').glob('*/MANIFEST.json')]: harm(o)
    before = content(run)
    with monkeypatch.context() as m:
        if system: harm(m)
        with pytest.raises(OSError if system else ValueError, match=why) as e: make(data, run).fit()
    said = str(e.value)
    assert '--force' in said and 'nothing was changed' in said.lower()
    assert system or whole or ('step-00000010' in said and 'step-00000005' in said)
    assert content(run)==before
    if system: assert make(data, run).resume()  # it answers again: nothing was lost
    force = lambda: Trainer(TrainConfig(**(TINY | dict(max_steps=5))), data, run, progress=False, force=True)
    with monkeypatch.context() as m:
        if system:  # until the run has begun
            harm(m)
            f = force(); assert not f.resume()
        else: f = force()
    t = f.fit()
    assert t.step==5 and steps(run/'checkpoints')==[5]
    aside,kept = run/'checkpoints.aside-1','checkpoints/'
    assert os.path.lexists(aside)!=(reason=='all_gone') and aside.is_symlink()==links
    was = {k.removeprefix(kept):v for k,v in before.items() if k.startswith(kept)}
    assert not aside.is_dir() or content(aside)==was
    assert (run/'metrics.jsonl.aside-1').read_bytes()==before['metrics.jsonl']

def test_a_finished_model_is_not_lost(data, half_way, run):
    "Its checkpoints were deleted to make room, and the same command is given once more"
    make(data, run, max_steps=12).fit()
    shutil.rmtree(run/'checkpoints'); (run/'metrics.jsonl').unlink()
    before = content(run)
    with pytest.raises(ValueError, match="model' holds a model.*Nothing was changed"): make(data, run).fit()
    assert content(run)==before
    t = Trainer(TrainConfig(**(TINY | dict(max_steps=5))), data, run, progress=False, force=True).fit()
    kept = {k.removeprefix('model/'):v for k,v in before.items() if k.startswith('model/')}
    assert t.step==5 and content(run/'model.aside-1')==kept

def test_what_cannot_be_read_is_not_passed_over(data, run, monkeypatch):
    "The newest gives an error, an older one is whole: stop, unless forced. Not for a second home"
    bad = run/'checkpoints'/'step-00000010'/'model.pt'
    real = builtins.open
    def refuse(file, *a, **k):
        if str(file)==str(bad): raise OSError(errno.EIO, 'Input/output error', str(file))
        return real(file, *a, **k)
    def no_drive(path, real=os.listdir):
        if 'drive' in str(path): raise OSError(errno.ENOTCONN, 'Transport endpoint is not connected', str(path))
        return real(path)
    with monkeypatch.context() as m:
        m.setattr(builtins, 'open', refuse)
        with pytest.raises(OSError, match='cannot be read at the moment.*no damage'): make(data, run).fit()
        forced = make(data, run); forced.force = True
        assert forced.resume() and forced.step==5
    with monkeypatch.context() as m:
        m.setattr(os, 'listdir', no_drive)
        t = make(data, run, mirror='drive')
        assert t.resume() and t.step==10 and 'Transport endpoint' in t.messages[0]
        shutil.rmtree(run/'checkpoints')  # ... unless it may hold all there is
        with pytest.raises(OSError, match='Transport endpoint'): make(data, run, mirror='drive').fit()

STRAYS = 'desktop.ini', 'Thumbs.db', '.DS_Store', '@eaDir/x', 'notes.txt'
def test_strays_are_ignored_and_stay(data, half_way, run):
    "Files of systems and of people in every checkpoint: the newest is used, and cleaning up leaves them"
    want = make(data, half_way.parent/'straight').fit()
    for p in (run/'checkpoints').iterdir():
        for name in STRAYS:
            (p/name).parent.mkdir(exist_ok=True)
            (p/name).write_bytes(b'not ours')
    t = make(data, run).fit()
    assert t.messages[0]=='continuing run from step 10' and weights(t)==weights(want)
    assert steps(run/'checkpoints')==[30, 25]
    for step in (5, 10):
        left = content(run/'checkpoints'/f'step-{step:08d}')
        assert left=={str(Path(o)):b'not ours' for o in STRAYS}

def test_a_save_makes_way_for_notes(data, run):
    "The newest is damaged and has notes in it; its step comes again: saved, and the notes are there"
    newest = run/'checkpoints'/'step-00000010'
    (newest/'notes.txt').write_text('mine')
    (newest/'model.pt').write_bytes(b'{}')
    t = make(data, run, max_steps=12).fit()
    assert t.messages[-1]=='continuing run from step 5' and steps(run/'checkpoints')[:2]==[12, 10]
    assert (run/'checkpoints'/'step-00000010.aside-1'/'notes.txt').read_text()=='mine'

@pytest.mark.parametrize('step', [5, 10])
def test_a_later_format_is_kept(data, run, step):
    "The other one is usable; this one is neither written over nor cleaned up"
    path = run/'checkpoints'/f'step-{step:08d}'
    newer(path/'MANIFEST.json')
    before = content(path)
    t = make(data, run).fit()
    assert t.step==30 and before==content(path.with_name(path.name+'.aside-1') if step==10 else path)

def test_only_ours_is_cleaned_up(data, run):
    "Files that no manifest lists, a name that we do not give; what a killed clean-up left blocks nothing"
    home = run/'checkpoints'
    mine = [home/o/'model.pt' for o in ('step-7', 'step-00000003', '.step-00000005.old-pruned')]
    shutil.copytree(home/'step-00000005', home/'step-4')
    for o in mine: o.parent.mkdir(); o.write_text('mine')
    before = content(home/'step-4')
    t = make(data, run).fit()
    assert steps(home)[:2]==[30, 25] and 5 not in steps(home)  # cleaned up all the same
    assert not [o for o in t.messages if 'could not be removed' in o], t.messages
    assert content(home/'step-4')==before
    assert [o.read_text() for o in home.glob('*/model.pt') if o.read_bytes()==b'mine']==['mine']*3

def test_a_clean_up_of_nothing(tmp_path):
    (tmp_path/'.step-00000005.writing-1').mkdir()
    assert prune_checkpoints(tmp_path)==[]

def test_force_where_nobody_may_look(data, run, monkeypatch):
    "The folder, or one checkpoint, cannot be listed: with force it gets another name, as the message said"
    real = os.listdir
    def refuse(path='.'):
        if Path(path)==run/'checkpoints' and not (run/'checkpoints.aside-1').exists():
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return real(path)
    monkeypatch.setattr(os, 'listdir', refuse)
    with pytest.raises(OSError, match='go on with --force'): make(data, run).fit()
    t = make(data, run, max_steps=5); t.force = True
    assert t.fit().step==5 and steps(run/'checkpoints.aside-1')==[10, 5]

@pytest.mark.skipif(os.name=='nt' or os.geteuid()==0, reason='nobody keeps root out')
@pytest.mark.parametrize('where', ['checkpoints', 'checkpoints/step-00000010'])
def test_force_where_nobody_may_enter(data, run, where):
    (run/where).chmod(0)
    try:
        with pytest.raises(OSError, match='go on with --force'): make(data, run).fit()
        t = make(data, run, max_steps=12); t.force = True
        assert t.fit().step==12
    finally:
        for o in (run/where, run/f'{where}.aside-1'):
            if o.exists(): o.chmod(0o755)
    assert (run/f'{where}.aside-1').is_dir()

# ---------------------------------------------------------------- whose folder?

def test_a_manifest_of_somebody_else(data, tmp_path):
    "Another program's MANIFEST.json does not make a folder ours, not even with force"
    (tmp_path/'proj'/'checkpoints'/'step-5').mkdir(parents=True)
    (tmp_path/'proj'/'checkpoints'/'step-5'/'MANIFEST.json').write_text('{"a": 1}')
    (tmp_path/'proj'/'config.yaml').write_text('a: 1')
    before = content(tmp_path)
    t = make(data, tmp_path/'proj'); t.force = True
    with pytest.raises(ValueError, match='was not written by a LightBrain run'): t.fit()
    assert content(tmp_path)==before

@pytest.mark.parametrize('name', ['checkpoints/.DS_Store', 'model/.DS_Store'])
def test_what_a_system_left_is_nobodys(data, tmp_path, name):
    (tmp_path/'run'/name).parent.mkdir(parents=True); (tmp_path/'run'/name).touch()
    assert make(data, tmp_path/'run', max_steps=5).fit().step==5

@pytest.mark.parametrize('name', ['model/thesis.txt', 'model/model.safetensors', 'config.yaml', 'metrics.jsonl',
    'checkpoints/best.pt'])
def test_a_folder_of_somebody_else_is_left_alone(data, tmp_path, name):
    out = tmp_path/'proj'
    (out/name).parent.mkdir(parents=True)
    (out/name).write_text('{"step": 1, "loss": 2.0}\n')
    before = content(tmp_path)
    with pytest.raises(ValueError, match='was not written by a LightBrain run') as e:
        make(data, out, max_steps=5).fit()
    assert str(out/name.split('/')[0]) in str(e.value) and content(tmp_path)==before
    (out/name).unlink()
    if '/' in name: (out/name).parent.rmdir()
    (out/'README.md').write_text('notes are welcome')
    assert make(data, out, max_steps=5).fit().step==5

def test_a_model_of_somebody_else_in_our_own_run(data, run):
    "It would be found at the end, after all the work: it is found at the start"
    (run/'model').mkdir(); (run/'model'/'thesis.txt').write_text('years')
    with pytest.raises(ValueError, match='thesis.txt'): make(data, run).fit()
    assert steps(run/'checkpoints')==[10, 5]

def test_a_run_killed_before_its_first_save_is_ours(data, tmp_path):
    with pytest.raises(PowerCut): stop_at(make(data, tmp_path/'run'), 3).fit()
    assert steps(tmp_path/'run'/'checkpoints')==[]
    log = (tmp_path/'run'/'metrics.jsonl').read_bytes()
    # asked to save more often: it was to save every five steps then
    t = make(data, tmp_path/'run', max_steps=5, save_every=1).fit()
    assert t.step==5 and 'metrics.jsonl is now called metrics.jsonl.aside-1' in t.messages[0]
    assert (tmp_path/'run'/'metrics.jsonl.aside-1').read_bytes()==log

def test_placeholders_in_a_second_home(data, tmp_path):
    "The machine is gone and the drive has not downloaded: stop; with force all of it is kept"
    drive = dict(mirror=str(tmp_path/'drive'), max_steps=12)
    make(data, tmp_path/'run', **drive).fit()
    shutil.rmtree(tmp_path/'run')
    for f in [*(tmp_path/'drive').glob('*/*/*/MANIFEST.json')]: in_a_cloud(f)
    before = content(tmp_path/'drive')
    with pytest.raises(ValueError, match='holds no checkpoint'): make(data, tmp_path/'run', **drive).fit()
    assert content(tmp_path/'drive')==before
    t = make(data, tmp_path/'run', **drive); t.force = True
    assert t.fit().step==12 and {*before.values()}<={*content(tmp_path/'drive').values()}

def test_no_run_in_its_data(data):
    before = content(data)
    for out in (data, data/'run', data/'a'/'b'):
        with pytest.raises(ValueError, match='would lie in the folder of its data; choose a place beside'):
            make(data, out)
    assert content(data)==before
    with pytest.raises(ValueError, match='root of a disk'): make(data, Path(data.anchor))

def test_both_splits_are_of_one_set(data, tmp_path, monkeypatch):
    "A `prepare` between the opening of the two: opened once more, and refused if it happens again"
    import lightbrain.run.trainer as train
    shutil.copytree(data, tmp_path/'set')
    real,again = train.TokenDataset,[0]
    def opened(folder, split, **kw):
        if split=='validation' and again:
            write_set(tmp_path/'new', 40+again.pop())
            shutil.rmtree(folder); (tmp_path/'new').rename(folder)
        return real(folder, split, **kw)
    monkeypatch.setattr(train, 'TokenDataset', opened)
    t = make(tmp_path/'set', tmp_path/'run')
    assert t.train.manifest==t.val.manifest and not again
    again += [1, 2]
    with pytest.raises(ValueError, match='changes while it is read'): make(tmp_path/'set', tmp_path/'run')

# ---------------------------------------------------------------- the update

@pytest.mark.parametrize('fault', [None, 'unscale', 'clip'])
def test_the_update_gets_a_clipped_gradient(data, tmp_path, monkeypatch, fault):
    "float16: the norm is that of float32, and AdamW gets a gradient of length grad_clip; else it is seen"
    _,want = one_step(make(data, tmp_path/'a', dropout=0.))
    t = make(data, tmp_path/'b', dropout=0., dtype='float16', grad_clip=0.05)
    if fault=='unscale':   # as if the step did not call it: the scaler does, after the clipping
        real,calls = torch.amp.GradScaler.unscale_,iter([None])
        late = lambda self, o: next(calls, self) and real(self, o)
        monkeypatch.setattr(torch.amp.GradScaler, 'unscale_', late)
    if fault=='clip':
        clip = nn.utils.clip_grad_norm_
        monkeypatch.setattr(nn.utils, 'clip_grad_norm_', lambda params, longest: clip(params, float('inf')))
    got,update = [],t.optimizer.step
    def step(*a, **k):
        got.append(torch.cat([p.grad.flatten() for p in t.model.parameters()]).norm().item())
        return update(*a, **k)
    t.optimizer.step = step
    _,norm = one_step(t)
    fine = norm==pytest.approx(want, rel=0.05) and got==pytest.approx([0.05], rel=1e-3)
    assert want>0.1 and fine==(fault is None), (want, norm, got)

@pytest.mark.parametrize('step', ['plain','fast'])
def test_the_process_is_as_it_was(data, tmp_path, monkeypatch, step):
    "With the fast step memory is kept while `fit` runs, and no longer, however it ends"
    seen = []
    @contextmanager
    def kept_heap():
        seen.append('kept')
        try: yield True
        finally: seen.append('given back')
    monkeypatch.setattr(trainer, 'kept_heap', kept_heap)
    with pytest.raises(PowerCut): stop_at(make(data, tmp_path/'run', step=step, max_steps=4), 2).fit()
    make(data, tmp_path/'run', step=step, max_steps=4).fit()
    assert seen==(['kept','given back']*2 if step=='fast' else [])

# ---------------------------------------------------------------- two at once

SLOW = '''
import sys, time
from pathlib import Path
import lightbrain.run.trainer as train
real,end = train.Trainer.gradients,time.monotonic()+120
def slow(self, x, y):
    waits = (self.config.seed, self.step)==(1, 3)
    while waits and not Path('go on').exists() and time.monotonic()<end: time.sleep(0.02)
    return real(self, x, y)
train.Trainer.gradients = slow
from lightbrain.cli import train
train.shell()
'''
def test_two_trains_into_one_folder(data, tmp_path):
    "The second is refused in one sentence and touches nothing; the first never notices"
    env = os.environ | dict(OMP_NUM_THREADS='1')
    args = lambda seed: [sys.executable, '-c', SLOW, '--data', str(data), '--out', 'run', *flags(seed=seed)]
    said = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = subprocess.Popen(args(1), cwd=tmp_path, env=env, **said)
    end = time.monotonic()+120
    while not (tmp_path/'run'/'metrics.jsonl').exists():
        assert first.poll() is None and time.monotonic()<end, first.communicate()
        time.sleep(0.02)
    second = subprocess.run(args(2), cwd=tmp_path, env=env, timeout=120, **said)
    (tmp_path/'go on').touch()
    out,err = first.communicate(timeout=120)
    said = second.stderr.strip().splitlines()
    assert second.returncode==1 and len(said)==1 and 'another process is training into' in said[0], said
    assert first.returncode==0, err
    want = make(data, tmp_path/'alone', seed=1).fit()
    assert TrainConfig.from_yaml(tmp_path/'run'/'config.yaml').seed==1
    models = [(tmp_path/o/'model'/'model.safetensors').read_bytes() for o in ('run','alone')]
    losses = [[o['loss'] for o in read_metrics(tmp_path/o)] for o in ('run','alone')]
    assert models[0]==models[1] and losses[0]==losses[1]
    assert not list(tmp_path.glob('.*'))                                  # no lock is left behind

# ---------------------------------------------------------------- the log

def test_a_damaged_log_does_not_stop_a_run(data, half_way, run):
    "A byte that is no UTF-8, a broken line in the middle: left out, counted, said once"
    want = read_metrics(make(data, half_way.parent/'logged').fit().out)
    log = run/'metrics.jsonl'
    lines = log.read_bytes().split(b'\n')
    lines[1],lines[3] = lines[1][:9]+b'\xff'+lines[1][9:],lines[3][:20]
    log.write_bytes(b'\n'.join(lines))
    t = make(data, run).fit()
    said = [o for o in t.messages if '2 lines could not be read' in o]
    assert len(said)==1 and 'metrics.jsonl' in said[0]
    rows = [o for o in read_metrics(run) if 'note' not in o]
    keep = lambda rows: [(o['step'], o['loss'], o['val_loss']) for o in rows]
    assert keep(rows)==[o for i,o in enumerate(keep(want)) if i not in (1, 3)]
    assert not [o for o in make(data, run).fit().messages if 'could not be read' in o]

def test_a_blank_line_is_no_damage(data, run):
    log = run/'metrics.jsonl'
    log.write_bytes(log.read_bytes().replace(b'\n', b'\n\n', 1)+b'\r\n')
    assert make(data, run).fit().messages==['continuing run from step 10']

def test_no_place_for_tensorboard(data, tmp_path):
    pytest.importorskip('tensorboard')
    (tmp_path/'run').mkdir(); (tmp_path/'run'/'tensorboard').write_text('mine')
    t = make(data, tmp_path/'run', max_steps=5).fit()
    assert t.step==5 and [o[:27] for o in t.messages]==['TensorBoard gets nothing ([']
    assert (tmp_path/'run'/'tensorboard').read_text()=='mine'

@pytest.mark.parametrize('text', ['.inf', 'inf', '.Inf', '+.INF'])
def test_infinity_as_yaml_writes_it(text):
    assert TrainConfig.from_dict(dict(grad_clip=text)).grad_clip==float('inf')

"Folders under attack: other people's files, kills inside a swap, mount points, odd names, two writers, flipped bits"
import builtins, errno, io, json, os, re, shutil, signal, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import pytest
import lightbrain.files as files
from lightbrain.files import atomic_dir, check_folder, lock_folder, settle
from lightbrain.data import TokenDataset, load_manifest, set_files
from lightbrain.prep.prepare import prepare
from lightbrain.model import GPT, GPTConfig, verify_model

MANIFEST = json.dumps(dict(format='lightbrain-test', files=['a','b']))
KILL = signal.SIGKILL if os.name!='nt' else signal.SIGTERM

def contents(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob('*')) if p.is_file()}

def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name,text in files.items(): (folder/name.replace('__', '.')).write_text(text)

def notes(path, word='note', n=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(dict(id=f'{word}:{i}', text=f'{word} {i}: stable, no complaints.'))+'\n' for i in range(n)))

def python(env, code, *args, **kwargs):
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **kwargs)

def last_line(p):
    assert p.returncode==1 and 'Traceback' not in p.stderr, p.stdout+p.stderr
    return p.stderr.strip().splitlines()[-1]

# other people's files

FOREIGN = {
    'an extension of a browser': dict(manifest__json='{"manifest_version": 3, "name": "dark mode"}', background__js='x'),
    'a list of files': dict(manifest__json='{"files": ["background.js"]}', background__js='x'),
    'nothing readable': dict(manifest__json='{', train__bin='x', validation__bin='x'),
    'a name of ours, another mark': dict(manifest__json='{"format": "dvc-1", "files": ["train.bin"]}', train__bin='x'),
    'no manifest': dict(thesis__txt='two years of work'),
}
@pytest.mark.parametrize('kind', FOREIGN)
def test_a_folder_that_is_not_ours(command, tmp_path, kind):
    write(tmp_path/'dear', **FOREIGN[kind])
    (tmp_path/'dear'/'sub').mkdir()
    write(tmp_path/'dear'/'sub', photo__jpg='x')
    before = contents(tmp_path)
    line = last_line(command('prepare', '--source', 'synthetic:50', '--out', 'dear', cwd=tmp_path))
    assert 'would be lost' in line and any(repr(o.name) in line for o in (tmp_path/'dear').iterdir())
    assert contents(tmp_path)==before

def test_a_file_more_in_a_set_of_ours(command, tmp_path):
    "A run inside its data, a source inside its result, a text of somebody: refused and named; droppings of a system are not"
    out = tmp_path/'set'
    prepare('synthetic:50', out, progress=False)
    for name in ('checkpoints/step-00000001/state.json','metrics.jsonl','scores.json','notes.txt'):
        (out/name).parent.mkdir(parents=True, exist_ok=True)
        (out/name).write_text('{}')
        before = contents(out)
        line = last_line(command('prepare', '--source', 'synthetic:60', '--out', 'set', cwd=tmp_path))
        assert repr(name.split('/')[0]) in line and contents(out)==before
        if '/' in name: shutil.rmtree(out/name.split('/')[0])
        else: (out/name).unlink()
    before = contents(out)
    assert "'set/questions.jsonl' lies in" in last_line(command('prepare', '--source', 'set/questions.jsonl', '--out', 'set', cwd=tmp_path))
    assert contents(out)==before
    notes(tmp_path/'corpus'/'notes.jsonl')
    assert 'corpus' in last_line(command('prepare', '--source', 'corpus/notes.jsonl', '--out', 'corpus', cwd=tmp_path))
    assert (tmp_path/'corpus'/'notes.jsonl').exists()
    for o in ('.DS_Store','desktop.ini','Thumbs.db'): (out/o).write_text('')
    assert command('prepare', '--source', 'synthetic:60', '--out', 'set', cwd=tmp_path).returncode==0      # negative control
    assert load_manifest(out)['source']=='synthetic:60'

@pytest.mark.parametrize('how', ['beside','fixed'])
def test_a_file_that_comes_while_we_work(tmp_path, monkeypatch, how):
    out = tmp_path/'set'
    if how=='fixed': monkeypatch.setattr(files, '_fixed', lambda path: path==out)
    prepare('synthetic:50', out, progress=False)
    before = contents(out)
    def docs():
        from lightbrain.prep.sources import load_documents
        yield from load_documents('synthetic:60')
        (out/'thesis.txt').write_text('mine')
    with pytest.raises(ValueError, match='thesis.txt'): prepare(docs(), out, progress=False)
    assert contents(out)==before | {'thesis.txt': b'mine'} and [o.name for o in tmp_path.iterdir()]==['set']

@pytest.mark.parametrize('name', ['.lightbrain.notes','.lightbrain.writing-mine','@eaDir/keep.txt','lost+found/keep.txt','.DS_Store'])
def test_what_is_not_ours_stays(tmp_path, name):
    "Names that look like ours are somebody's; what a system dropped is nobody's, and stays all the same"
    out = tmp_path/'set'
    prepare('synthetic:50', out, progress=False)
    (out/name).parent.mkdir(exist_ok=True)
    (out/name).write_text('mine')
    if name.startswith('.lightbrain'):
        with pytest.raises(ValueError, match=name): prepare('synthetic:60', out, progress=False)
    else:
        prepare('synthetic:60', out, progress=False)
        assert TokenDataset(out, verify=True).manifest['source']=='synthetic:60'
    assert (out/name).read_text()=='mine' and [o.name for o in tmp_path.iterdir()]==['set']

def test_a_file_that_comes_at_the_last_moment(tmp_path, monkeypatch):
    out,rename = tmp_path/'set',Path.rename
    prepare('synthetic:50', out, progress=False)
    before = contents(out) | {'thesis.txt': b'mine'}
    def late(self, target):
        if self==out: (out/'thesis.txt').write_text('mine')
        return rename(self, target)
    monkeypatch.setattr(Path, 'rename', late)
    with pytest.raises(ValueError, match='thesis.txt'): prepare('synthetic:60', out, progress=False)
    assert contents(out)==before and [o.name for o in tmp_path.iterdir()]==['set']

@pytest.mark.parametrize('number', ['EXDEV','EPERM','EACCES','EBUSY','ENOSPC'])
@pytest.mark.skipif(os.name=='nt', reason='there a file that is open keeps a folder in its place, and must')
def test_a_folder_that_may_not_be_renamed(tmp_path, monkeypatch, number):
    "Layers of a container, a parent with the sticky bit: the work is not lost; another error is one, and the old set stays"
    out,rename = tmp_path/'set',Path.rename
    prepare('synthetic:50', out, progress=False)
    before = contents(out)
    def refuse(self, target):
        if self==out: raise OSError(getattr(errno, number), 'no')
        return rename(self, target)
    monkeypatch.setattr(Path, 'rename', refuse)
    if number=='ENOSPC':
        with pytest.raises(OSError) as e: prepare('synthetic:60', out, progress=False)
        assert 'MB are free' in e.value.__notes__[0] and 'untouched' in e.value.__notes__[0]
        assert contents(out)==before
    else:
        prepare('synthetic:60', out, progress=False)
        assert TokenDataset(out, verify=True).manifest['source']=='synthetic:60'
    assert [o.name for o in tmp_path.iterdir()]==['set']

@pytest.mark.parametrize('whose', ['questions','tapes','ours'])
def test_a_damaged_manifest_proves_little(tmp_path, whose):
    "A datasheet of ours vouches for the tapes that it describes; and for questions, if it counts any"
    out = tmp_path/'set'
    notes(tmp_path/'notes.jsonl')
    again = lambda: prepare(tmp_path/'notes.jsonl', out, progress=False)
    again()
    (out/'manifest.json').write_bytes((out/'manifest.json').read_bytes()[:100])
    if whose=='questions': (out/'questions.jsonl').write_text('mine')
    if whose=='tapes': write(out, train__bin='mine', validation__bin='mine')
    before = contents(out)
    if whose=='ours': again(); TokenDataset(out, verify=True)
    else:
        with pytest.raises(ValueError, match='would be lost'): again()
        assert contents(out)==before

def test_evaluation_in_the_result(tmp_path):
    prepare('synthetic:50', tmp_path/'set', progress=False)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match='questions.jsonl. lies in'):
        prepare('synthetic:60', tmp_path/'set', evaluation=tmp_path/'set'/'questions.jsonl', progress=False)
    assert contents(tmp_path)==before

def test_a_checkpoint_over_somebodys_weights(tmp_path):
    from lightbrain.run.checkpoint import save_checkpoint
    save = lambda name: save_checkpoint(tmp_path/name, model=small(), optimizer=None, step=1)
    write(tmp_path/'dear', model__safetensors='mine')
    with pytest.raises(ValueError, match='model.safetensors'): save('dear')
    assert contents(tmp_path)=={'dear/model.safetensors': b'mine'}
    for _ in range(2): save('step')                                   # negative control

def deep(path): path.write_bytes(b'['*100_000)

def test_odd_folders(tmp_path):
    "A link to itself, brackets without end, a long name: a sentence, or it works"
    prepare('synthetic:50', tmp_path/'set', progress=False)
    deep(tmp_path/'set'/'manifest.json')
    with pytest.raises(ValueError, match='prepare the set again'): load_manifest(tmp_path/'set')
    prepare('synthetic:50', tmp_path/'set', progress=False)           # as the message says
    small().save_pretrained(tmp_path/'model')
    deep(tmp_path/'model'/'lightbrain.json')
    with pytest.raises(ValueError, match='is not as it was written'): GPT.from_pretrained(tmp_path/'model')
    small().save_pretrained(tmp_path/'model')
    long = tmp_path/('n'*250)
    for _ in range(2): prepare('synthetic:50', long, progress=False)
    assert contents(long)==contents(tmp_path/'set') and len([*tmp_path.iterdir()])==3

@pytest.mark.skipif(os.name=='nt', reason='making links needs a privilege there')
def test_a_link_to_itself(tmp_path):
    (tmp_path/'loop').symlink_to('loop')
    for f in (lambda o: prepare('synthetic:50', o, progress=False), load_manifest, small().save_pretrained, GPT.from_pretrained):
        with pytest.raises(ValueError, match='link to itself'): f(tmp_path/'loop')

def test_where_nothing_may_be_written_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: path!=tmp_path)
    (tmp_path/'set').mkdir()
    assert files.beside(tmp_path/'set', 'source')==tmp_path/'set'/'.lightbrain.source'
    monkeypatch.undo()
    assert files.beside(tmp_path/'set', 'source')==tmp_path/'.set.source'    # negative control

def test_another_folder_took_the_name(tmp_path):
    "Killed between the two renames, and then somebody made a folder of that name: neither is touched"
    for o in ('old','new'): write(tmp_path/'.set.writing-1'/o, a=o)
    write(tmp_path/'set', a='mine')
    before = contents(tmp_path)
    settle(tmp_path/'set')
    assert contents(tmp_path)==before

def test_a_folder_named_like_the_shards(tmp_path):
    write(tmp_path/'.set.shards', thesis__txt='mine')
    prepare('synthetic:50', tmp_path/'set', progress=False)
    assert contents(tmp_path/'.set.shards')=={'thesis.txt': b'mine'}

def test_names_in_a_forged_manifest(tmp_path, monkeypatch):
    "A list may name files of its own folder only"
    out = tmp_path/'set'
    monkeypatch.setattr(files, '_fixed', lambda path: path==out)
    forged = json.dumps(dict(format='lightbrain-test', files=['a', '../thesis.txt', str(tmp_path/'other.txt'), 7, None]))
    write(out, a='x', manifest__json=forged)
    write(tmp_path, thesis__txt='mine', other__txt='mine')
    with atomic_dir(out, marker='manifest.json') as d: (d/'manifest.json').write_text(MANIFEST)
    assert contents(tmp_path)=={'set/manifest.json': MANIFEST.encode(), 'thesis.txt': b'mine', 'other.txt': b'mine'}

def small(): return GPT(GPTConfig(vocab_size=50, block_size=8, n_layer=1, n_head=1, n_embd=8))

def test_a_model_folder_that_is_not_ours(tmp_path):
    "A model from elsewhere, a folder with one of the names in it, and a model of ours with somebody's file"
    write(tmp_path/'hub', model__safetensors='theirs', config__json='{}', vocab__json='{}')
    write(tmp_path/'dear', model__safetensors='theirs', thesis__txt='mine')
    small().save_pretrained(tmp_path/'ours')
    small().save_pretrained(tmp_path/'ours')                          # negative control
    write(tmp_path/'ours', my_notes__md='mine')
    before = contents(tmp_path)
    for name,file in dict(hub='config.json', dear='model.safetensors', ours='my_notes.md').items():
        with pytest.raises(ValueError, match=re.escape(file)): small().save_pretrained(tmp_path/name)
    assert contents(tmp_path)==before

def test_refused_before_the_work(tmp_path):
    def never():
        raise AssertionError('the work has begun')
        yield
    (tmp_path/'a_file').write_text('x')
    write(tmp_path/'dear', thesis__txt='mine')
    for out in (tmp_path.anchor, tmp_path/'a_file', tmp_path/'a_file'/'set', tmp_path/'dear'):
        with pytest.raises(ValueError): set_files(out)
        if out!=tmp_path.anchor:
            with pytest.raises(ValueError): prepare(never(), out, progress=False)
    with pytest.raises(AssertionError): prepare(never(), tmp_path/'deep'/'new', progress=False)      # negative control
    assert sorted(contents(tmp_path))==['a_file','dear/thesis.txt'] and not (tmp_path/'deep').exists()

# kills

SWAP = """if True:
    import os, pathlib, signal, sys
    import lightbrain.files as files
    out,fixed,n = pathlib.Path(sys.argv[1]),sys.argv[2]=='fixed',int(sys.argv[3])
    if fixed: files._fixed = lambda path: path==out
    calls = 0
    def deadly(f):
        def g(*args, **kwargs):
            global calls
            if str(args[0]).startswith(str(out)) or '.set.' in str(args[0]): calls += 1
            if calls==n: os.kill(os.getpid(), signal.SIGKILL if os.name!='nt' else signal.SIGTERM)
            return f(*args, **kwargs)
        return g
    pathlib.Path.rename,os.replace,pathlib.Path.unlink = map(deadly, (pathlib.Path.rename, os.replace, pathlib.Path.unlink))
    with files.atomic_dir(out, marker='manifest.json') as d:
        for name in ('a','b','manifest.json'): (d/name).write_text('new' if name!='manifest.json' else sys.argv[4])"""

@pytest.mark.parametrize('how', ['beside','fixed'])
def test_kill_before_every_rename(env, tmp_path, monkeypatch, how):
    "Wherever in a swap the process dies: the next reader sees the whole old folder or the whole new one"
    out = tmp_path/'set'
    if how=='fixed': monkeypatch.setattr(files, '_fixed', lambda path: path==out)
    old = dict(zip(('a','b','c','manifest.json'), (b'old', b'old', b'old', MANIFEST.replace('"b"', '"b", "c"').encode())))
    new = dict(a=b'new', b=b'new') | {'manifest.json': MANIFEST.encode()}
    seen = []
    for n in range(1, 30):
        if out.exists(): shutil.rmtree(out)
        write(out, **{k.replace('.', '__'): v.decode() for k,v in old.items()})
        p = python(env, SWAP, out, how, n, MANIFEST)
        _,err = p.communicate()
        if not p.returncode: break
        assert p.returncode==-KILL or os.name=='nt', err
        settle(out)
        now = {k:v for k,v in contents(out).items() if not k.startswith('.lightbrain.')}
        assert now in (old, new), (n, sorted(now))
        seen.append(now==new)
        with atomic_dir(out, marker='manifest.json') as d: (d/'manifest.json').write_text(MANIFEST)     # and the next writer goes on
        assert list(contents(out))==['manifest.json'] and [o.name for o in tmp_path.iterdir()]==['set']
    assert {*seen}=={True,False} and len(seen)>=(3 if how=='beside' else 6), seen

RENAME = """if True:
    import os, pathlib, signal, sys
    from lightbrain.prep.prepare import prepare
    rename,out = pathlib.Path.rename,pathlib.Path(sys.argv[1])
    def deadly(self, target):
        r = rename(self, target)
        if self==out: os.kill(os.getpid(), signal.SIGKILL if os.name!='nt' else signal.SIGTERM)
        return r
    pathlib.Path.rename = deadly
    prepare('synthetic:60', out, progress=False)"""

def test_a_set_finds_its_name_again(env, command, tmp_path):
    "kill -9 between the two renames, then a reader"
    out = tmp_path/'set'
    prepare('synthetic:50', out, progress=False)
    p = python(env, RENAME, out)
    _,err = p.communicate()
    assert p.returncode and not out.exists(), err
    assert {len(TokenDataset(out, s, verify=True))>0 for s in ('train','validation')}=={True}
    assert load_manifest(out)['source']=='synthetic:60' and not [o for o in tmp_path.iterdir() if o.name not in ('set','.set.shards')]

def test_a_model_finds_its_name_again(tmp_path):
    for o in ('old','new'): small().save_pretrained(tmp_path/'.model.writing-1'/o)
    GPT.from_pretrained(tmp_path/'model')
    assert [o.name for o in tmp_path.iterdir()]==['model']

@pytest.mark.parametrize('name', ['set.old-1','set.writing-2','.set.old-3','.set.writing-4'])
def test_ordinary_names(env, tmp_path, name):
    "A killed process leaves no torso under the final name, whatever the name is; and such folders are nobody's remains"
    out = tmp_path/name
    code = """if True:
        import os, signal, sys
        from lightbrain.files import atomic_dir
        with atomic_dir(sys.argv[1], marker='manifest.json') as d:
            (d/'a').write_text('half')
            os.kill(os.getpid(), signal.SIGKILL if os.name!='nt' else signal.SIGTERM)"""
    p = python(env, code, out)
    p.communicate()
    assert p.returncode
    settle(out)
    with pytest.raises(RuntimeError), atomic_dir(out, marker='manifest.json'): raise RuntimeError
    assert not out.exists()
    write(out, a='mine')
    with atomic_dir(tmp_path/'set') as d: (d/'a').write_text('x')
    settle(tmp_path/'set')
    assert contents(out)=={'a': b'mine'}

# mount points

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid()!=0 or not sys.platform.startswith('linux'), reason='mounting needs root')
@pytest.mark.parametrize('how', ['tmpfs','bind'])
def test_mount_point(command, tmp_path, how):
    (tmp_path/'disk of mine').mkdir()
    (tmp_path/'other').mkdir()
    disk = tmp_path/'disk of mine'
    mount = ['mount', '-t', 'tmpfs', 'tmpfs', disk] if how=='tmpfs' else ['mount', '--bind', tmp_path/'other', disk]
    if subprocess.run(mount, capture_output=True).returncode: pytest.skip('mounting is not allowed here')
    try:
        for n in (50, 60):
            p = command('prepare', '--source', f'synthetic:{n}', '--out', disk, cwd=tmp_path)
            assert p.returncode==0, p.stderr
            assert TokenDataset(disk, verify=True).manifest['source']==f'synthetic:{n}'
        assert sorted(contents(disk))==sorted(load_manifest(disk)['files'].keys() | {'manifest.json','train.bin','validation.bin'})
        before = contents(disk) | {'thesis.txt': b'mine'}
        (disk/'thesis.txt').write_text('mine')
        assert 'thesis.txt' in last_line(command('prepare', '--source', 'synthetic:50', '--out', disk, cwd=tmp_path))
        assert contents(disk)==before
    finally: subprocess.run(['umount', disk], check=True)
    assert sorted(o.name for o in tmp_path.iterdir())==['disk of mine','other']

def test_fixed_place(tmp_path, monkeypatch):
    "The same for everybody: a folder that cannot be renamed, and one in which a shell stands"
    prepare('synthetic:50', tmp_path/'straight', progress=False)
    want = contents(tmp_path/'straight')
    for name in ('disk','here'):
        out = tmp_path/name
        out.mkdir()
        if name=='disk': monkeypatch.setattr(files, '_fixed', lambda path: path==out)
        else: monkeypatch.undo(); monkeypatch.chdir(out)
        inode = out.stat().st_ino
        for n in (60, 50): prepare(f'synthetic:{n}', out, progress=False)
        assert contents(out)==want and out.stat().st_ino==inode
    assert sorted(o.name for o in tmp_path.iterdir())==['disk','here','straight']

# two writers

def test_two_prepares(env, command, tmp_path):
    "The second one says so in a line; the first is not disturbed"
    code = """if True:
        import sys
        from lightbrain.prep.prepare import prepare
        from lightbrain.prep.sources import load_documents
        def docs():
            yield from load_documents('synthetic:50')
            print('at work', flush=True)
            input()
        prepare(docs(), sys.argv[1], progress=False)"""
    p = python(env, code, tmp_path/'set')
    assert p.stdout.readline()=='at work\n'
    working = {o.name for o in tmp_path.iterdir()}
    line = last_line(command('prepare', '--source', 'synthetic:60', '--out', 'set', cwd=tmp_path))
    assert 'another process is writing' in line and str(tmp_path/'set') in line
    assert {o.name for o in tmp_path.iterdir()}==working
    _,err = p.communicate('\n')
    assert p.returncode==0, err
    assert TokenDataset(tmp_path/'set', verify=True).manifest['kept']==50
    assert command('prepare', '--source', 'synthetic:60', '--out', 'set', cwd=tmp_path).returncode==0      # negative control: now it may

def test_a_lock_of_a_killed_process(env, tmp_path):
    code = """if True:
        import sys
        from lightbrain.files import lock_folder
        with lock_folder(sys.argv[1], 'training in'): print('mine', flush=True); input()"""
    for out in (tmp_path/'run', tmp_path/'a'/'b'/'run'):
        p = python(env, code, out)
        assert p.stdout.readline()=='mine\n'
        with pytest.raises(ValueError, match='another process is training in'), lock_folder(out): pass
        p.kill(); p.communicate()
        with lock_folder(out): pass
    assert not contents(tmp_path) and not (tmp_path/'run').exists()

@pytest.mark.parametrize('locked', [True,False])
def test_many_for_one_lock(env, tmp_path, locked):
    "Twelve processes ask again and again: never two at a time. Negative control: without the lock they meet"
    code = """if True:
        import os, sys, time
        from contextlib import nullcontext
        from lightbrain.files import lock_folder
        if sys.argv[2]=='False': lock_folder = nullcontext
        got,end = 0,time.monotonic()+60
        while got<20 and time.monotonic()<end:
            try:
                with lock_folder(sys.argv[1]+'/a/b/run'):
                    fd = os.open(sys.argv[1]+'/inside', os.O_CREAT|os.O_EXCL)
                    time.sleep(0.002)
                    os.close(fd); os.unlink(sys.argv[1]+'/inside')
                    got += 1
            except ValueError: pass
            time.sleep(0.001)
        print(got)"""
    ps = [python(env, code, tmp_path, locked) for _ in range(12)]
    said = [p.communicate(timeout=200) for p in ps]
    err = ''.join(o[1] for o in said)
    assert ('FileExistsError' in err)!=locked and (not locked or not err), err
    if locked: assert {o[0] for o in said}=={'20\n'} and not contents(tmp_path)      # and each had its turn

@pytest.mark.skipif(os.name=='nt', reason='flock is not how it locks')
@pytest.mark.parametrize('number', ['ENOLCK','ENOSYS','EOPNOTSUPP','EIO'])
def test_a_disk_without_locks(tmp_path, monkeypatch, number):
    "Said once, and the work goes on; another error is one"
    import fcntl
    def refuse(*args): raise OSError(getattr(errno, number), 'no')
    monkeypatch.setattr(fcntl, 'flock', refuse)
    if number=='EIO':
        with pytest.raises(OSError), lock_folder(tmp_path/'run'): pass
    else:
        with pytest.warns(UserWarning, match='without locks|not supported'), lock_folder(tmp_path/'run'): pass
        with pytest.warns(UserWarning), atomic_dir(tmp_path/'set') as d: (d/'a').write_text('x')
        assert contents(tmp_path)=={'set/a': b'x'}
    monkeypatch.undo()
    with lock_folder(tmp_path/'run'): pass                            # negative control

@pytest.mark.parametrize('who', ['thread','child'])
@pytest.mark.filterwarnings('ignore:.*fork')
def test_others_in_this_process(tmp_path, who):
    "Who holds a lock may ask again; another thread, or a forked child, is somebody else"
    def ask():
        try:
            with lock_folder(tmp_path/'run'): return 'mine'
        except ValueError as e: return str(e).split("'")[0]
    def other():
        if who=='thread':
            with ThreadPoolExecutor(1) as pool: return pool.submit(ask).result()
        r,w = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(w, ask().encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(r, 100).decode()
    if who=='child' and not hasattr(os, 'fork'): pytest.skip('no fork on Windows')
    with lock_folder(tmp_path/'run', 'training into'):
        assert ask()=='mine'
        assert other()=='another process is training into '
    assert other()==ask()=='mine' and not contents(tmp_path)

# prepared again, prepared twice

@pytest.mark.parametrize('damage', ['cut','empty','bit','older','no splits','gone'])
def test_prepare_again(command, tmp_path, damage):
    "What the message advises works, in the place nobody chose, too"
    prepared = lambda: command('prepare', '--source', 'synthetic:60', cwd=tmp_path)
    assert prepared().returncode==0
    out = tmp_path/'data'/'processed'/'synthetic-60'
    f,want = out/'manifest.json',contents(out)
    raw = f.read_bytes()
    if damage=='cut': f.write_bytes(raw[:100])
    if damage=='empty': f.write_bytes(b'')
    if damage=='bit': f.write_bytes(raw[:500]+bytes([raw[500]^1])+raw[501:])
    if damage=='older': f.write_text(json.dumps(dict(format='lightbrain-tokens-0', files={'train.bin':0})))
    if damage=='no splits': f.write_text(json.dumps(json.loads(raw) | dict(splits=0, files=0)))
    if damage=='gone': f.unlink()
    with pytest.raises(ValueError): TokenDataset(out, verify=True)
    p = prepared()
    assert p.returncode==0, p.stderr
    assert contents(out)==want
    f.write_bytes(raw[:100])
    (out/'thesis.txt').write_text('mine')                             # negative control
    assert 'thesis.txt' in last_line(prepared()) and (out/'thesis.txt').exists()

def test_two_sources_of_one_name(command, tmp_path, monkeypatch, capsys):
    "prepare refuses, quickstart goes elsewhere; the set of the first source stays"
    import lightbrain.cli as cli, lightbrain.run.trainer
    for o in ('a','b'): notes(tmp_path/o/'notes.jsonl', word=o)
    processed = tmp_path/'data'/'processed'
    assert command('prepare', '--source', 'a/notes.jsonl', cwd=tmp_path).returncode==0
    before = contents(processed)
    assert '--out' in last_line(command('prepare', '--source', 'b/notes.jsonl', cwd=tmp_path))
    assert contents(processed)==before
    assert command('prepare', '--source', 'a/notes.jsonl', cwd=tmp_path).returncode==0 and contents(processed)==before
    runs = []
    def trainer(cfg, data, run):
        runs.append((data, run))
        raise RuntimeError('that is enough')
    monkeypatch.setattr(lightbrain.run.trainer, 'Trainer', trainer)
    monkeypatch.chdir(tmp_path)
    for o in 'abab':                                                  # the second time round, each continues where it was
        with pytest.raises(RuntimeError, match='enough'): cli.quickstart(source=f'{o}/notes.jsonl')
    (data_a,run_a),(data_b,run_b) = runs[:2]
    assert runs[2:]==runs[:2] and data_a!=data_b and run_a!=run_b and data_a.name=='quickstart-notes'
    assert [(d/'documents.tsv').read_text().splitlines()[1].split('\t')[3][0] for d in (data_a,data_b)]==['a','b']

def test_a_set_without_a_note(command, tmp_path, monkeypatch):
    "Made with --out, or copied: the name of a file proves nothing, so prepare refuses and quickstart goes elsewhere"
    import lightbrain.cli as cli, lightbrain.run.trainer
    for o in ('a','b'): notes(tmp_path/o/'notes.jsonl', word=o)
    monkeypatch.chdir(tmp_path)
    processed = tmp_path/'data'/'processed'
    for name in ('notes','quickstart-notes'): prepare('a/notes.jsonl', processed/name, progress=False)
    before = contents(processed)
    line = last_line(command('prepare', '--source', 'b/notes.jsonl', cwd=tmp_path))
    assert '--out' in line and 'no note says' in line and contents(processed)==before
    def trainer(cfg, data, run): raise RuntimeError(data.name)
    monkeypatch.setattr(lightbrain.run.trainer, 'Trainer', trainer)
    for _ in range(2):
        with pytest.raises(RuntimeError, match='quickstart-notes-'): cli.quickstart(source='b/notes.jsonl')
    now = contents(processed)
    assert {k: now[k] for k in before}==before and (processed/'.notes.source').exists()==False
    assert command('prepare', '--source', 'b/notes.jsonl', '--out', processed/'notes', cwd=tmp_path).returncode==0
    assert command('prepare', '--source', 'b/notes.jsonl', cwd=tmp_path).returncode==0      # now a note lies there

@pytest.mark.parametrize('where', ['inside','outside'])
def test_a_project_moves(tmp_path, monkeypatch, where):
    "With its source, or away from it: the same set either way. Negative control: another source is another"
    from lightbrain.cli import free_place, remember
    for o in ('project','elsewhere/deep'): (tmp_path/o).mkdir(parents=True)
    source = lambda: tmp_path/'archive'/'notes.jsonl' if where=='outside' else Path('notes.jsonl').resolve()
    monkeypatch.chdir(tmp_path/'project')
    notes(source())
    write(Path('sets/notes'), manifest__json='{}')
    remember('sets/notes', str(source()))
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path/'project', tmp_path/'elsewhere'/'deep'/'project')
    monkeypatch.chdir(tmp_path/'elsewhere'/'deep'/'project')
    assert free_place('sets/notes', str(source()))=='sets/notes'
    notes(Path('other/notes.jsonl'))
    with pytest.raises(ValueError, match='say where'): free_place('sets/notes', 'other/notes.jsonl')

@pytest.mark.parametrize('swaps', [1,9])
def test_evaluate_while_a_set_is_made_anew(tmp_path, monkeypatch, swaps):
    "The two splits are of one set, or a sentence says why not"
    import lightbrain.cli as cli, lightbrain.data
    prepare('synthetic:100', tmp_path/'set', progress=False)
    opened,real = [],TokenDataset.__init__
    def slow(self, folder, split='train', *a, **k):
        if split=='validation' and len(opened)<swaps:
            prepare(f'synthetic:{150+len(opened)}', tmp_path/'set', progress=False)
            opened.append(split)
        real(self, folder, split, *a, **k)
    monkeypatch.setattr(TokenDataset, '__init__', slow)
    model = GPT(GPTConfig(block_size=8, n_layer=1, n_head=1, n_embd=8)).eval()
    if swaps==1: assert cli.evaluation(model, tmp_path/'set', 64)['tokens']==64
    else:
        with pytest.raises(ValueError, match='made anew'): cli.evaluation(model, tmp_path/'set', 64)
    assert len(opened)==min(swaps, 2)

def test_a_look_into_the_middle_of_a_swap(tmp_path, monkeypatch):
    "The first look meets another process's half; the second, under the lock, does not"
    import lightbrain.prep.prepare as data
    prepare('synthetic:50', tmp_path/'set', progress=False)
    looks,real = [],data.set_files
    def first_fails(folder):
        looks.append(folder)
        if len(looks)==1: raise ValueError('half')
        return real(folder)
    monkeypatch.setattr(data, 'set_files', first_fails)
    prepare('synthetic:60', tmp_path/'set', progress=False)
    assert load_manifest(tmp_path/'set')['source']=='synthetic:60'

# bits

def test_one_flipped_bit_in_a_model(tmp_path):
    "Every bit of the seals and of the config, and some of the weights"
    m = tmp_path/'model'
    small().save_pretrained(m)
    for name in ('lightbrain.json','config.json','model.safetensors'):
        raw = (m/name).read_bytes()
        for i in range(0, 8*len(raw), 4999 if name=='model.safetensors' else 1):
            bad = bytearray(raw)
            bad[i//8] ^= 1<<i%8
            (m/name).write_bytes(bad)
            with pytest.raises(ValueError, match='is not as it was written'): verify_model(m)
        with pytest.raises(ValueError): GPT.from_pretrained(m)
        (m/name).write_bytes(raw)
    seals = json.loads((m/'lightbrain.json').read_bytes())
    for worse in ({'files': {}}, {'format': 'lightbrain-model-2'}, {'files': seals['files'] | {'config.json': None}}, {'files': seals['files'] | {'x': None}}):
        (m/'lightbrain.json').write_text(json.dumps(seals | worse))
        with pytest.raises(ValueError, match='is not as it was written'): GPT.from_pretrained(m)
    (m/'lightbrain.json').write_text(files.seal(seals))
    assert verify_model(m)                                            # negative control: whole again
    (m/'README.md').write_text('My model.')
    GPT.from_pretrained(m)                                            # the card is yours to edit
    (m/'lightbrain.json').unlink()
    with pytest.warns(UserWarning, match='no lightbrain.json'): GPT.from_pretrained(m)      # a model from elsewhere

def test_an_edited_card_stays(tmp_path):
    "Saved again, with the same weights or others; a card that we wrote follows the model"
    m,wide = tmp_path/'model',GPT(GPTConfig(vocab_size=50, block_size=8, n_layer=1, n_head=1, n_embd=16))
    small().save_pretrained(m)
    wide.save_pretrained(m)
    assert 'width 16' in (m/'README.md').read_text()
    edited = (m/'README.md').read_text()+'Trained on the notes of ward 7.\n'
    (m/'README.md').write_text(edited)
    for o in (small(), wide): o.save_pretrained(m)
    assert (m/'README.md').read_text()==edited and verify_model(m)
    wide.save_pretrained(m, readme='Said by the caller.')
    assert (m/'README.md').read_text()=='Said by the caller.'

@pytest.mark.parametrize('damage', ['gone','empty','cut'])
def test_a_model_without_its_seals_is_saved_again(tmp_path, damage):
    "As an earlier version left it, or as our own message advises"
    m = tmp_path/'model'
    small().save_pretrained(m)
    seals = (m/'lightbrain.json').read_bytes()
    if damage=='gone': (m/'lightbrain.json').unlink()
    else: (m/'lightbrain.json').write_bytes(seals[:0 if damage=='empty' else 20])
    small().save_pretrained(m)
    assert verify_model(m)
    (m/'lightbrain.json').unlink()
    (m/'README.md').write_text('# Another model')                     # negative control: nothing says that it is ours
    with pytest.raises(ValueError, match='would be lost'): small().save_pretrained(m)

def test_evaluate_and_generate_find_it(run, command, tmp_path):
    shutil.copytree(run/'run'/'model', tmp_path/'model')
    evaluate = 'evaluate', '--model', 'model', '--data', run/'data'
    generate = 'generate', '--model', 'model', '--input', 'Abstract:', '--max-new-tokens', 2
    for name,what in (('model.safetensors', evaluate), ('model.safetensors', generate), ('config.json', generate), ('vocab.json', generate)):
        f = tmp_path/'model'/name
        raw = f.read_bytes()
        f.write_bytes(raw[:-50]+bytes([raw[-50]^1])+raw[-49:])
        assert f"'{Path('model')/name}' is not as it was written" in last_line(command(*what, cwd=tmp_path))
        f.write_bytes(raw)
    for whole in (True,False):                                        # negative control; and a model from elsewhere: a note
        p = command(*generate, cwd=tmp_path)
        assert p.returncode==0 and ('lightbrain.json' in p.stderr)!=whole, p.stderr
        (tmp_path/'model'/'lightbrain.json').unlink(missing_ok=True)

def test_the_same_bytes_on_windows(tmp_path, monkeypatch):
    "A system that turns each newline into two bytes when text is written changes nothing"
    prepare('synthetic:50', tmp_path/'linux', progress=False)
    real = io.open
    def windows(file, mode='r', buffering=-1, encoding=None, errors=None, newline=None, *a, **k):
        if newline is None and 'b' not in mode and mode!='r': newline = '\r\n'
        return real(file, mode, buffering, encoding, errors, newline, *a, **k)
    monkeypatch.setattr(io, 'open', windows); monkeypatch.setattr(builtins, 'open', windows)
    prepare('synthetic:50', tmp_path/'windows', progress=False)
    assert contents(tmp_path/'windows')==contents(tmp_path/'linux')
    Path(tmp_path/'seen').write_text('a\n')
    assert (tmp_path/'seen').read_bytes()==b'a\r\n'                   # negative control: the simulation does something
    monkeypatch.undo()
    TokenDataset(tmp_path/'windows', verify=True)

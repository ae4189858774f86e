"The shell commands as a person uses them: help, good runs, bad input, kills"
import json, os, random, re, signal, subprocess, sys, time
from configparser import ConfigParser
import pytest
import lightbrain
from conftest import ROOT, SMALL

ini = ConfigParser(delimiters='=')
ini.read(ROOT/'settings.ini')
COMMANDS = [o.split(' = ')[0].removeprefix('lightbrain-') for o in ini['DEFAULT']['console_scripts'].strip().splitlines()]

def loaded(p):
    "The modules that a process with `-X importtime` says it has imported"
    return set(re.findall(r'^import time:.*\| *(\S+)$', p.stderr, re.M))

@pytest.mark.parametrize('name', COMMANDS)
def test_help_needs_no_torch(script, env, tmp_path, name):
    words = [sys.executable, '-X', 'importtime', script(name)[1], '--help']
    p = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert p.returncode==0 and p.stdout.startswith(f'usage: lightbrain-{name}')
    assert 'lightbrain.cli' in loaded(p) and 'torch' not in loaded(p)

@pytest.mark.parametrize('name', lightbrain.__all__)
def test_the_top_level(site, env, tmp_path, name):
    "`from lightbrain import GPT` works, and nothing is loaded before it is asked for"
    words = [sys.executable, '-X', 'importtime', '-c', 'import lightbrain; print(dir(lightbrain))']
    p = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert name in p.stdout and 'lightbrain' in loaded(p) and not [o for o in loaded(p) if o.startswith(('lightbrain.','torch'))]
    code = f"from lightbrain import {name} as o; print(callable(o), o.__module__)"
    p = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert p.stdout.split()==['True', f'lightbrain.{lightbrain._HOME[name]}'], p.stderr
    with pytest.raises(AttributeError, match='it has GPT'): lightbrain.gtp

def test_the_wheel(site):
    "Every room is in it, and the mark that its types may be trusted; no page, no measurement, no test"
    files = {o.relative_to(site).as_posix() for o in (site/'lightbrain').rglob('*') if o.suffix!='.pyc'}
    code = {o.relative_to(ROOT).as_posix() for o in (ROOT/'lightbrain').rglob('*.py')}
    assert code<=files and 'lightbrain/py.typed' in files
    assert not [o for o in files if o.endswith('.ipynb') or 'races' in o]
    tops = {o.name for o in site.iterdir()}-{'bin','sitecustomize.py','__pycache__','lightbrain'}
    assert all(o.endswith('.dist-info') for o in tops), tops

OLDER = """import sys
import fastcore.script as s              # as of 2.2.12, Colab's: no CliError, and flags are spelled --max_steps only
if hasattr(s, 'CliError'): del s.CliError
real = s.anno_parser
def older(func, prog=None, pos=None):
    p = real(func, prog, pos=pos)
    for a in p._actions: a.option_strings = ['--'+o[2:].replace('-', '_') if o[:2]=='--' else o for o in a.option_strings]
    p._option_string_actions = {o: a for a in p._actions for o in a.option_strings}
    return p
s.anno_parser = older
script = sys.argv.pop(1)
sys.argv[0] = __file__ = script
exec(compile(open(script, encoding='utf-8').read(), script, 'exec'))
"""
def test_an_older_fastcore(script, env, tmp_path):
    "Colab's fastcore: help, a good run and a bad one"
    (tmp_path/'older.py').write_text(OLDER)
    def older(name, *args):
        return subprocess.run([sys.executable, 'older.py', script(name)[1], *args], cwd=tmp_path, env=env, capture_output=True, text=True)
    for name in COMMANDS:
        p = older(name, '--help')
        assert p.returncode==0 and p.stdout.startswith(f'usage: lightbrain-{name}'), p.stderr
        assert '-' not in ''.join(re.findall(r'^  --(\w+[-_]\w+)', p.stdout, re.M)), 'this is no older fastcore'
    for flag in ('--test-records','--test_records'):
        p = older('prepare', '--source', 'synthetic:50', '--out', 'set', flag, 'exclude')
        assert p.returncode==0 and '-> set' in p.stdout and 'splits' not in p.stderr, p.stderr
    p = older('prepare', '--source', 'missing.json', '--out', 'new')
    assert p.returncode==1 and p.stderr.strip().count('\n')==0 and 'no file or folder' in p.stderr, p.stderr

@pytest.mark.parametrize('file', ['lightbrain/cli.py','nbs/09_cli.ipynb','nbs/index.ipynb','README.md'])
def test_example_prompts(file):
    "They do not end in a blank (a word carries its own in front), and ask nothing that only a doctor should answer"
    found = re.findall(r'--input \\*"(.*?)\\*"', (ROOT/file).read_text(encoding='utf-8'), re.S)
    assert found and not [o for o in found if o!=o.strip() or o.endswith('?')], found

def test_the_chain(run, command):
    p = command('evaluate', '--model', 'run/model', '--data', 'data', '--out', 'scores.json', cwd=run)
    assert p.returncode==0, p.stderr
    r = json.loads((run/'scores.json').read_text())
    assert r['loss']<10 and r['questions']>10 and 'trigram' in p.stdout and 'always "yes"' in p.stdout
    text = 'Abstract: Few options exist for nausea in torvic dermatitis.'      # invented, and no question: this is not a doctor
    p = command('generate', '--model', 'run/model', '--input', text, '--max-new-tokens', 8, cwd=run)
    assert p.returncode==0, p.stderr
    assert p.stdout.startswith(text) and 'not medical advice' in p.stdout and 'blank' not in p.stderr
    p = command('generate', '--model', 'run/model', '--input', text+' ', '--max-new-tokens', 8, cwd=run)
    assert p.returncode==0 and p.stdout.startswith(text+' ') and 'ends in a blank' in p.stderr
    p = command('plot', 'run', cwd=run)
    assert p.returncode==0 and all((run/'run'/'plots'/f'{o}.png').stat().st_size>1000 for o in ('loss','lr','throughput'))
    assert any((run/'run'/'tensorboard').iterdir())
    rows = [json.loads(o) for o in (run/'run'/'metrics.jsonl').read_text().splitlines()]
    assert set(rows[0])==set('step tokens loss val_loss lr grad_norm tokens_per_s wall_s skipped_steps'.split())
    vals = [o['val_loss'] for o in rows if o['val_loss']]
    assert vals[-1]<vals[0]

def test_the_tokenizer_travels(run, command, tmp_path):
    "Two files go from the set to the model; a set made with them from there is the same set"
    for o in ('vocab.json','merges.txt'): assert (run/'data'/o).read_bytes()==(run/'run'/'model'/o).read_bytes()
    p = command('prepare', '--source', 'synthetic:400', '--out', 'again', '--tokenizer', run/'run'/'model', cwd=tmp_path)
    assert p.returncode==0 and '1,000 tokens' in p.stdout and '--vocab-size 1000' in p.stdout, p.stderr
    assert (tmp_path/'again'/'train.bin').read_bytes()==(run/'data'/'train.bin').read_bytes()
    p = command('prepare', '--source', 'synthetic:400', '--out', 'other', '--train-tokenizer', 900, cwd=tmp_path)
    assert p.returncode==0 and (tmp_path/'other'/'train.bin').read_bytes()!=(run/'data'/'train.bin').read_bytes()

def test_held_out_text_teaches_no_tokenizer(command, tmp_path):
    "A word of the held-out side only is no token, one of the training side is: planted in both"
    from lightbrain.data import split_of
    rows = [dict(id=f'n{i}', text=f"{'qqqz' if split_of(f'n{i}')=='validation' else 'xxxz'} fever fell. "*20) for i in range(60)]
    (tmp_path/'notes.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    p = command('prepare', '--source', 'notes.jsonl', '--out', 'set', '--train-tokenizer', 300, '--near-duplicates', 'keep', cwd=tmp_path)
    assert p.returncode==0, p.stderr
    vocab = json.loads((tmp_path/'set'/'vocab.json').read_text())
    assert any('xxxz' in o for o in vocab) and not any('qq' in o for o in vocab)

@pytest.mark.parametrize('why', ['evaluation','test','copy','nothing'])
def test_what_is_left_out_teaches_no_tokenizer(command, tmp_path, why):
    "A training-side document that copies an evaluation record, is a test record or copies a held-out text; 'nothing' is the control"
    from lightbrain.data import split_of
    from lightbrain.prep.clean import pubmedqa_test_pmids
    ids = [o for o in map('n{}'.format, range(4000)) if split_of(o, 0.2)=='train']
    held = next(o for o in map('h{}'.format, range(99)) if split_of(o, 0.2)=='validation')
    number = next(o for o in sorted(pubmedqa_test_pmids()) if split_of(f'pmid:{o}', 0.2)=='train')
    rng = random.Random(1)
    rows = [dict(id=f'p{i}', text=' '.join(rng.choices(['fever','cough','mild','rest','water','days','low','high'], k=40))) for i in range(300)]
    planted = ' '.join(f'zqxw {o} zqxw' for o in rng.sample(range(1000), 60))
    if why=='copy': rows.append(dict(id=held, text=planted))
    rows.append(dict(id=f'pmid:{number}' if why=='test' else ids[0], text=planted))
    (tmp_path/'src.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    record = dict(QUESTION='What now?', CONTEXTS=[planted], LONG_ANSWER='Rest.', final_decision='yes')
    (tmp_path/'ev.json').write_text(json.dumps({'7': record}))
    more = {'evaluation': ('--evaluation','ev.json')}.get(why, ())
    p = command('prepare', '--source', 'src.jsonl', '--out', 'set', '--train-tokenizer', 600, '--validation', 0.2, '--test-records', 'exclude', *more, cwd=tmp_path)
    assert p.returncode==0, p.stderr
    learned = [o for o in json.loads((tmp_path/'set'/'vocab.json').read_text()) if 'zq' in o or 'xw' in o]
    assert bool(learned)==(why=='nothing'), learned
    assert not [o.name for o in tmp_path.iterdir() if o.name.startswith('.')]         # the first set is gone

def test_what_the_terminal_cannot_show(run, script, env, tmp_path):
    "A character that it lacks becomes a question mark, not an error"
    words = [*script('generate'), '--model', str(run/'run'), '--input', 'na\u00efve', '--max-new-tokens', '2']
    p = subprocess.run(words, cwd=tmp_path, env=env | dict(PYTHONIOENCODING='ascii'), capture_output=True, text=True)
    assert p.returncode==0 and p.stdout.startswith('na?ve'), p.stderr

def test_an_abbreviation_is_no_flag(command, tmp_path):
    p = command('prepare', '--sour', 'synthetic:50', '--out', 'new', cwd=tmp_path)
    assert p.returncode==2 and 'unrecognized arguments: --sour' in p.stderr and not [*tmp_path.iterdir()]

def test_ctrl_c_says_what_is_left(monkeypatch):
    "Python's own has no words; what prepare keeps is said in a note"
    from lightbrain import cli
    def stop(*notes):
        def f():
            "Stop"
            e = KeyboardInterrupt()
            for o in notes: e.add_note(o)
            raise e
        with pytest.raises(SystemExit) as said: cli.command(f).shell([])
        return str(said.value)
    assert stop()=='lightbrain-f: stopped by Ctrl-C; nothing unfinished was kept: the same command redoes it'
    assert stop('3 finished pieces are kept')=='lightbrain-f: stopped by Ctrl-C; 3 finished pieces are kept'

def test_a_fault_of_ours_is_seen_whole():
    from lightbrain import cli
    def f():
        "Fail"
        raise RuntimeError('the sum is 3, not 2')
    with pytest.raises(RuntimeError): cli.command(f).shell([])

def test_the_next_command_can_be_pasted(command, tmp_path):
    "A blank and a dash in front: the line that is shown works"
    p = command('prepare', '--source', 'synthetic:50', '--out=-my set', cwd=tmp_path)
    assert p.returncode==0 and "--data './-my set' --out" in p.stdout, p.stderr+p.stdout

def test_python_m(run, env, tmp_path):
    def cli(*words):
        words = [sys.executable, '-m', 'lightbrain.cli', *map(str, words)]
        return subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    p = cli()
    assert p.returncode==0 and all(f'\n  {o} ' in p.stdout for o in COMMANDS) and not p.stderr
    p = cli('tain', '--data', 'x')
    assert p.returncode==1 and p.stderr.strip()==f"lightbrain: no command 'tain'; choose one of {', '.join(COMMANDS)}"
    p = cli('train', '--data', run/'data', '--out', 'run', '--max-steps', 2, *SMALL)
    assert p.returncode==0 and 'step 2: ' in p.stdout, p.stderr
    assert cli('train', '--help').stdout.startswith('usage: lightbrain-train')

def test_doctor(command, tmp_path):
    p = command('doctor', cwd=tmp_path)
    assert 'checksums match' in p.stdout
    assert p.returncode==int('Fix:' in p.stdout)

BAD = {                                         # arguments -> what the one line must contain
    'prepare --source missing.json --out new': 'no file or folder',
    'prepare --source empty.jsonl --out new': 'is empty',
    'prepare --source cut.jsonl --out new': 'line 2: not JSON',
    'prepare --source one.txt --out new': 'none of which fell into',
    'prepare --source synthetic:50 --out mine': 'would be lost',
    'prepare --source bigbio/pubmed_qa --out new': 'qiaojin/PubMedQA',
    'prepare --source qiaojin/PubMedQA --out new': 'use --source synthetic',
    'prepare --source synthetic:50 --out new --validation 2': 'such as 0.1',
    'prepare --source synthetic:50 --out new --tokenizer nowhere': 'vocab.json',
    'prepare --source synthetic:50 --out new --tokenizer gpt2 --train-tokenizer 300': 'choose one',
    'prepare --source synthetic:50 --out new --train-tokenizer 100': 'use at least 257',
    'prepare --source synthetic:50 --out new --train-tokenizer 0': 'use at least 257',
    'prepare --source synthetic:50 --out new --train-tokenizer 65537': 'at most 65,536',
    'prepare --source synthetic:50 --out new --tokenizer gpt2 --train-tokenizer 0': 'choose one',
    'prepare --source= --out new': 'leave the flag out',
    'prepare --source synthetic:50 --out=': 'leave the flag out',
    'prepare --source synthetic:50 --out new --out newer': 'twice',
    'train --data {data} --out new --max-steps 2 --max_steps 3': 'twice',
    'train --data {data} --out new --preset nano --vocab-size 100000000000 --device cpu': 'beyond any machine',
    'train --data {data} --out new --preset nano --batch-size 1000000000000 --device cpu': 'lower batch_size',
    'evaluate --model {model} --data {model}': 'not a prepared set',
    'evaluate --model {model} --data {data} --out {data}/questions.jsonl': 'choose another --out',
    'evaluate --model {model} --data {data} --out {model}/x.json': 'choose another --out',
    'evaluate --model {model} --data {data} --out one.txt/x.json': 'choose another --out',
    'evaluate --model {model} --data {data} --out mine': 'choose another --out',
    'generate --model {model} --input x --seed 18446744073709551616': 'at most 64 bits',
    'quickstart --source synthetic:50 --max-steps 0': 'at least 1',
    'quickstart --source synthetic:50 --seed -1': 'at least 0',
    'quickstart --source synthetic:50 --device abacus': 'it has cpu',
    'quickstart --source synthetic:50 --out data/processed/quickstart-synthetic-50/run': 'folder of its data',
    'train --data missing --out new': 'lightbrain-prepare',
    'train --data {short} --out new --preset nano --block-size 8 --device cpu': '50,257',
    'train --data {data} --out new --preset huge': 'choose from nano',
    'train --data {data} --out new --config typo.yaml': "did you mean 'max_steps'",
    'train --data {data} --out new --config missing.yaml': 'configs/',
    'train --data {data} --out new --preset nano --n-head 3': 'pick one of',
    'train --data {data} --out new --device abacus': 'it has cpu',
    'train --data {short} --out new --preset tiny-512 --n-layer 1 --n-head 1 --n-embd 8': 'lower block_size',
    'evaluate --model missing --data {data}': 'save_pretrained',
    'evaluate --model {model} --data missing': 'no file or folder',
    'evaluate --model {model} --data {short}': 'mean nothing to the other',
    'generate --model {model} --input {long}': 'context',
    'generate --model {model} --input x --temperature -1': 'temperature',
    'generate --model {model} --input x --temperature -1e-46': 'temperature=-1e-46 must be',
    'train --data {data} --out new --lr -1E-3': 'lr',
    'plot missing': 'no metrics.jsonl',
    'quickstart --source missing.txt': 'no file or folder',
}
OUTSIDE = {*list(BAD)[::9], 'prepare --source qiaojin/PubMedQA --out new'}        # in a process of their own; the last needs its offline hub

@pytest.mark.parametrize('args', BAD)
def test_bad_input(run, command, monkeypatch, capsys, tmp_path, args):
    "One line that says what to do, exit code 1, nothing written"
    from lightbrain import cli
    for name,text in {'empty.jsonl':'', 'cut.jsonl':'{"text": "a"}\n{"te', 'one.txt':'Stable.', 'typo.yaml':'preset: nano\nmax_step: 5\n', 'mine/thesis.txt':'mine'}.items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text(text)
    if '{short}' in args: assert command('prepare', '--source', 'synthetic:12', '--out', 'short', cwd=tmp_path).returncode==0
    words = [o.format(data=run/'data', model=run/'run'/'model', short='short', long='pain '*300) for o in args.split(' ')]
    before = set(tmp_path.rglob('*'))
    if args in OUTSIDE:
        p = command(*words, cwd=tmp_path)
        assert p.returncode==1, p.stdout+p.stderr
        said,err = p.stderr.strip().splitlines()[-1],p.stderr
    else:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(getattr(cli, words[0]), 'in_shell', False)    # `shell` sets it; back to this afterwards
        with pytest.raises(SystemExit) as e: cli.main(words)
        said,err = e.value.code,capsys.readouterr().err
        assert isinstance(said, str) and '\n' not in said                 # Python prints it, and leaves with 1
    assert BAD[args] in said and 'Traceback' not in err
    assert set(tmp_path.rglob('*'))==before
    assert (tmp_path/'mine'/'thesis.txt').read_text()=='mine'

def wait_for(condition, p, seconds=120):
    end = time.monotonic()+seconds
    while not condition():
        assert p.poll() is None and time.monotonic()<end, 'the run ended, or took too long'
        time.sleep(0.02)

def weights(folder): return (folder/'model'/'model.safetensors').read_bytes()

@pytest.mark.parametrize('how', ['kill', pytest.param('interrupt', marks=pytest.mark.skipif(os.name=='nt', reason='no SIGINT to children on Windows'))])
def test_interrupted_run_continues_to_the_same_weights(run, command, script, env, tmp_path, how):
    args = '--data', run/'data', '--out', tmp_path/'run', '--max-steps', 40, '--save-every', 10, '--eval-every', 20, *SMALL
    listen = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) if os.name!='nt' else {}      # a shell's background job is born deaf to it
    p = subprocess.Popen([*script('train'), *map(str, args)], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, **listen)
    wait_for(lambda: (tmp_path/'run'/'checkpoints'/'step-00000010').exists(), p)
    p.send_signal(signal.SIGINT if how=='interrupt' else signal.SIGKILL if os.name!='nt' else signal.SIGTERM)
    _,err = p.communicate(timeout=60)
    assert p.returncode!=0 and not (tmp_path/'run'/'model').exists()
    if how=='interrupt': assert 'the same command continues' in err and 'Traceback' not in err
    p = command('train', *args, cwd=tmp_path)
    assert p.returncode==0 and 'continuing' in p.stdout, p.stderr
    assert weights(tmp_path/'run')==weights(run/'run')
    steps = [json.loads(o)['step'] for o in (tmp_path/'run'/'metrics.jsonl').read_text().splitlines() if json.loads(o)['loss'] is not None]
    assert steps==sorted(set(steps))

def test_another_seed_gives_other_weights(run, command, tmp_path):
    "Negative control for the test above: its comparison can fail"
    p = command('train', '--data', run/'data', '--out', 'run', '--max-steps', 40, *SMALL, '--seed', 1, cwd=tmp_path)
    assert p.returncode==0 and weights(tmp_path/'run')!=weights(run/'run')

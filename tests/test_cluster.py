"Many ranks make the same set as one machine: plain processes, datatrove, Slurm (a stand-in), after kills and deletions"
import gzip, json, os, random, signal, stat, subprocess, sys, time
from pathlib import Path
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from conftest import SHARED
from lightbrain.files import file_sha256
from lightbrain.corpus import synthetic_record, render_record
from lightbrain.prep.prepare import prepare
from lightbrain.prep.cluster import Job, Plan, assign_files, cost, finish, run_rank, unfinished

SIZES = 420,260,160,100,60
DRIVER = """import sys
from lightbrain.prep.cluster import Job, pipeline
if __name__=='__main__':
    source,work,out,tasks,engine = sys.argv[1:]
    more = dict(partition='cpu', time='01:00:00') if engine=='slurm' else dict(workers=2)
    if engine=='ray':
        import ray
        ray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR')
        more['mem_per_cpu_gb'] = 0.2
    pipeline(Job(source, work, block_chars=30_000), out, int(tasks), engine, **more).run()
"""
RANK = """import sys
from lightbrain.prep.cluster import Job, run_rank
source,work,rank,world_size = sys.argv[1:]
run_rank(Job(source, work, block_chars=30_000), int(rank), int(world_size))
"""
# What `sbatch`, `srun` and `scontrol` do for datatrove, one task after another on this machine
SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
first,last = re.search('#SBATCH --array=([0-9]+)-([0-9]+)', script).groups()
env = os.environ | dict(a.split('=') for o in sys.argv if o.startswith('--export=ALL,') for a in o.split(',')[1:])
with open(os.environ['FAKE_SLURM_LOG'], 'a') as f:
    for i in range(int(first), int(last)+1):
        p = subprocess.run(['bash', sys.argv[-1]], env=env | dict(SLURM_ARRAY_TASK_ID=str(i), SLURM_JOB_ID='7', SLURM_NODELIST='here'),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(re.search('launch_pickled_pipeline|merge_stats', script)[0], i, p.returncode, file=f)
print('Submitted batch job 7')
"""
SRUN = """#!/bin/bash
while [[ $1 != launch_pickled_pipeline ]]; do shift; done
exec "$@"
"""

def files_of(folder): return {p.name: file_sha256(p) for p in Path(folder).iterdir()}

@pytest.fixture(scope='module')
def notes(tmp_path_factory):
    "1,000 documents in five files of different sizes, and the set that `prepare` makes of them"
    here,k = tmp_path_factory.mktemp('scale')/'notes',0
    here.mkdir()
    for i,n in enumerate(SIZES):
        rows = [json.dumps(dict(id=f'note:{j}', text=render_record(synthetic_record(j)))) for j in range(k, k+n)]
        (here/f'part{i}.jsonl').write_text('\n'.join(rows), encoding='utf-8')
        k += n
    m = prepare(here, here.parent/'core', progress=False)
    assert m['kept']==sum(SIZES)==1000
    return here,files_of(here.parent/'core')

@pytest.fixture
def driver(env, tmp_path):
    "Run a script with arguments in an environment without a network"
    def run(code, *args, **more):
        (tmp_path/'driver.py').write_text(code)
        return subprocess.Popen([sys.executable, str(tmp_path/'driver.py'), *map(str, args)], env=env | more, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding='utf-8')
    return run

def done(p):
    out,err = p.communicate(timeout=300)
    assert p.returncode==0, err[-3000:]

@pytest.mark.parametrize('world_size', [1,2,4])
def test_plain_processes(driver, notes, tmp_path, world_size):
    "Every file of the set is the same; a set with another split is not"
    source,want = notes
    for p in [driver(RANK, source, tmp_path/'work', r, world_size) for r in range(world_size)]: done(p)
    job = Job(source, tmp_path/'work', block_chars=30_000)
    finish(job, tmp_path/'out')
    assert files_of(tmp_path/'out')==want
    assert prepare(source, tmp_path/'small', validation=0.2, progress=False) and files_of(tmp_path/'small')!=want     # negative control

@pytest.mark.parametrize('tasks', [1,2,4])
def test_datatrove(driver, notes, tmp_path, tasks):
    pytest.importorskip('datatrove', reason='pip install "lightbrain[scale]"')
    source,want = notes
    done(driver(DRIVER, source, tmp_path/'work', tmp_path/'out', tasks, 'local'))
    assert files_of(tmp_path/'out')==want

def shards_of(work): return {p: p.stat().st_mtime_ns for p in Path(work).glob('*/*.npz')}

def test_datatrove_redoes_only_what_is_missing(driver, notes, tmp_path):
    pytest.importorskip('datatrove', reason='pip install "lightbrain[scale]"')
    source,want = notes
    args = source, tmp_path/'work', tmp_path/'out', 4, 'local'
    done(driver(DRIVER, *args))
    before = shards_of(tmp_path/'work')
    job = Job(source, tmp_path/'work', block_chars=30_000)
    gone = max(([p for p in sorted(before) if p.parent==folder] for folder in {p.parent for p in before}), key=len)[1:3]
    for p in gone: p.unlink()
    hurt = unfinished(job, 4)
    assert len(hurt)==1
    done(driver(DRIVER, *args))
    after = shards_of(tmp_path/'work')
    assert {p for p in after if after[p]!=before[p]}==set(gone) and after.keys()==before.keys()
    logs = {p.stem: p.stat().st_mtime_ns for p in (tmp_path/'work'/'log-4'/'logs').iterdir()}
    assert max(logs, key=logs.get)==f'task_{hurt[0]:05d}'
    assert files_of(tmp_path/'out')==want and not unfinished(job, 4)

def test_a_new_file_is_not_overlooked(driver, notes, tmp_path):
    "datatrove's own notes say that all tasks are complete; a file that came later must be read all the same"
    pytest.importorskip('datatrove', reason='pip install "lightbrain[scale]"')
    import shutil
    source = tmp_path/'notes'
    shutil.copytree(notes[0], source)
    args = source, tmp_path/'work', tmp_path/'out', 2, 'local'
    done(driver(DRIVER, *args))
    shutil.copy(source/'part0.jsonl', source/'part9.jsonl')
    (source/'part9.jsonl').write_text('\n'.join(json.dumps(dict(id=f'new:{j}', text=render_record(synthetic_record(j)))) for j in range(5000, 5100)))
    done(driver(DRIVER, *args))
    assert files_of(tmp_path/'out')==(prepare(source, tmp_path/'core', progress=False) and files_of(tmp_path/'core'))

@pytest.mark.skipif(os.name=='nt', reason='the stand-in for Slurm is a shell script')
def test_slurm(driver, env, notes, tmp_path):
    "datatrove's Slurm executor, with a stand-in for sbatch that runs the tasks here"
    pytest.importorskip('datatrove', reason='pip install "lightbrain[scale]"')
    source,want = notes
    (tmp_path/'bin').mkdir()
    for name,code in dict(sbatch=SBATCH.replace('{python}', sys.executable), srun=SRUN, scontrol='#!/bin/bash\necho localhost\n').items():
        (tmp_path/'bin'/name).write_text(code)
        (tmp_path/'bin'/name).chmod(stat.S_IRWXU)
    path = os.pathsep.join([str(tmp_path/'bin'), str(Path(sys.executable).parent), env['PATH']])
    done(driver(DRIVER, source, tmp_path/'work', tmp_path/'out', 3, 'slurm', PATH=path, FAKE_SLURM_LOG=str(tmp_path/'jobs')))
    jobs = [o for o in (tmp_path/'jobs').read_text().splitlines() if 'pickled' in o]
    assert jobs==[f'launch_pickled_pipeline {i} 0' for i in (0,1,2,0)]          # three ranks, then the last step
    assert files_of(tmp_path/'out')==want

def test_ray(driver, env, notes, tmp_path):
    pytest.importorskip('datatrove', reason='pip install "lightbrain[scale]"')
    pytest.importorskip('ray', reason='pip install "datatrove[ray]"')
    source,want = notes
    done(driver(DRIVER, source, tmp_path/'work', tmp_path/'out', 2, 'ray'))
    assert files_of(tmp_path/'out')==want

def test_without_datatrove(driver, notes, tmp_path):
    "The module imports and works; only the pipeline asks for the extra, in one sentence"
    code = "import sys; sys.modules['datatrove'] = None\n"+RANK+"from lightbrain.prep.cluster import pipeline\ntry: pipeline(Job(source, work), 'out', 2)\nexcept ValueError as e: print(e)\n"
    p = driver(code, notes[0], tmp_path/'work', 0, 2)
    out,err = p.communicate()
    assert p.returncode==0, err
    assert out.strip()=='this needs datatrove; install it with: pip install "lightbrain[scale]"'

@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on Windows')
def test_killed_ranks(driver, notes, tmp_path):
    "kill -9 of a rank at random moments: it is unfinished, `finish` refuses, and the same command completes it"
    source,want = notes
    start,r,seen = time.monotonic(),random.Random(0),set()
    done(driver(RANK, source, tmp_path/'straight', 0, 1))
    wall = time.monotonic()-start
    for i in range(20):
        if i>=int(os.environ.get('LIGHTBRAIN_KILLS', 4)) and any(seen): break          # on a busy machine some come too early
        job = Job(source, tmp_path/f'work{i}', block_chars=30_000)
        p = driver(RANK, source, job.work, 0, 1)
        end = time.monotonic()+wall
        while not list(Path(job.work).glob('*/*.npz')) and p.poll() is None and time.monotonic()<end: time.sleep(0.005)
        time.sleep(r.uniform(0, 0.1))
        p.kill(); p.communicate()
        left = len(list(Path(job.work).glob('*/*.npz')))
        if unfinished(job):
            with pytest.raises(ValueError, match='files are not finished'): finish(job, tmp_path/f'out{i}')
            assert not (tmp_path/f'out{i}').exists()
            seen.add(left)
        assert sum(o['made'] for o in run_rank(job))==len(list(Path(job.work).glob('*/*.npz')))-left
        finish(job, tmp_path/f'out{i}')
        assert files_of(tmp_path/f'out{i}')==want
    assert any(seen), 'no kill came in the middle of the work: the test saw nothing'

def citation(pmid, word, bare):
    abstract = '' if bare else f'<Abstract><AbstractText>{word} and the {pmid} of it.</AbstractText></Abstract>'
    return f'<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>T{word}</ArticleTitle>{abstract}</Article></MedlineCitation></PubmedArticle>'

CITATIONS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from('abcd'), st.booleans()), max_size=8)

@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CITATIONS, st.sets(st.integers(1, 12), max_size=4)), min_size=1, max_size=4), st.integers(1, 3))
def test_any_pubmed_folder(tmp_path_factory, files, world_size):
    "Versions, deletions and lost abstracts within and across files: the same manifest, or the same refusal, as from `prepare`"
    here = tmp_path_factory.mktemp('pm')
    (here/'pm').mkdir()
    for i,(cites,deletes) in enumerate(files, 1):
        gone = f"<DeleteCitation>{''.join(f'<PMID>{o}</PMID>' for o in sorted(deletes))}</DeleteCitation>" if deletes else ''
        with gzip.open(here/'pm'/f'pubmed26n{i:04}.xml.gz', 'wt') as f:
            f.write(f"<PubmedArticleSet>{''.join(citation(*o) for o in cites)}{gone}</PubmedArticleSet>")
    job = Job(here/'pm', here/'work', block_chars=60)
    def ranks():
        for r in range(world_size): run_rank(job, r, world_size)
        return finish(job, here/'many', validation=0.5)
    results = []
    for make in (lambda: prepare(here/'pm', here/'core', validation=0.5, progress=False), ranks):
        try: results.append(make())
        except ValueError as e: results.append(str(e))
    assert results[0]==results[1]
    if isinstance(results[0], dict): assert files_of(here/'core')==files_of(here/'many')

@pytest.mark.skipif(not SHARED.exists(), reason='needs the real files in ../shared')
def test_real_files(tmp_path):
    "Everything a user brings, in one list: the same set from three ranks"
    f = SHARED/'fixtures'
    source = [f/'pubmed_xml', f/'pmc_jats', f/'medquad_xml', f/'plain_text', f/'biomed_text.sample.jsonl', f/'biomed_text.sample.csv',
              f/'pubmedqa'/'ori_pqal.sample.json', f/'noteevents'/'noteevents_shaped_acibench.csv']
    m = prepare(source, tmp_path/'core', progress=False)
    job = Job(source, tmp_path/'work')
    for r in range(3): run_rank(job, r, 3)
    assert finish(job, tmp_path/'many')==m
    assert files_of(tmp_path/'many')==files_of(tmp_path/'core')
    assert m['dropped'] and len(Plan(job).parts)>20

@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 8))
def test_shares_are_fair(sizes, world_size):
    "Each file once; no rank has more than an even share and one file (a bound of any such rule, Graham 1966)"
    shares = assign_files(sizes, world_size)
    assert sorted(i for o in shares for i in o)==list(range(len(sizes))) and len(shares)==world_size
    assert max(sum(sizes[i] for i in o) for o in shares)<=sum(sizes)/world_size+max(sizes, default=0)

def test_evaluation_records_and_columns(notes, tmp_path):
    "Options that shape a shard go the same way as in `prepare`; another option is other work"
    exam = [synthetic_record(i) for i in range(1000, 1010)]
    (tmp_path/'rows.csv').write_text('key,body,who\n'+'\n'.join(f'{i},"{render_record(synthetic_record(i))}",p{i%9}' for i in range(200)))
    columns = dict(text_column='body', id_column='key', group_column='who')
    m = prepare(tmp_path/'rows.csv', tmp_path/'core', near_duplicates='keep', evaluation=exam, progress=False, **columns)
    job = Job(tmp_path/'rows.csv', tmp_path/'work', near_duplicates='keep', evaluation=exam, columns=columns)
    run_rank(job)
    assert finish(job, tmp_path/'many')==m and m['leak']['evaluation_records']==10
    assert unfinished(Job(tmp_path/'rows.csv', tmp_path/'work', near_duplicates='keep', columns=columns))==[0]

def test_costs_are_computed_from_their_parts():
    rates = dict(parse_mb_s=20, encode_mb_s=10, finish_mb_s=50)
    o = cost(**rates, cores=10)
    xml,text = 40e6*1178*9.7/1e6, 8e9*4.6/1e6
    assert o['hours']==pytest.approx((xml/20+text/10)/10/3600+text/50/3600)
    assert o['GB to download']==pytest.approx(47.12) and o['GB of tapes']==16

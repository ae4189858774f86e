"""What lesson 05 trains on which machine: a GPU is never left idle, and its number format is one that it has units for

No GPU is needed: a T4 and a newer card are played. How far the lesson's own cells run in float16, on records that have
the shape of PubMedQA's, is tried on a CPU."""
import json, sys
from types import SimpleNamespace
import matplotlib, pytest, torch
from conftest import ROOT
from lightbrain.corpus import synthetic_records
from lightbrain.train import HUB, plan_run, run_documents

@pytest.fixture
def card(monkeypatch):
    "`card(7, 5)` plays a machine with one GPU of that compute capability; `card()` one without"
    def play(*capability):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: bool(capability))
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: int(bool(capability)))
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *a: capability)
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *a, **kw: True)      # a T4 says so, by emulation
        monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
        for o in ('LIGHTBRAIN_SCALE','IN_TEST'): monkeypatch.delenv(o, raising=False)
    return play

@pytest.mark.parametrize('capability,dtype', [((7,5), torch.float16), ((7,0), torch.float16), ((8,0), torch.bfloat16), ((9,0), torch.bfloat16)])
def test_full_uses_the_gpu(card, capability, dtype):
    card(*capability)
    for plan in (plan_run(), plan_run('full')):
        assert (plan['scale'], plan['device'].type, plan['dtype'])==('full', 'cuda', dtype)
        assert (plan['preset'], plan['source'], plan['note'])==('tiny', HUB, '')

def test_without_a_gpu_it_is_said(card):
    card()
    full,laptop = plan_run('full'),plan_run()
    assert 'no GPU here' in full['note'] and full|dict(note='')==laptop
    assert (laptop['scale'], laptop['device'].type, laptop['dtype'])==('laptop', 'cpu', torch.float32)
    assert plan_run('ci')['steps']<laptop['steps'] and plan_run('ci')['source']==laptop['source']=='synthetic'

def hub(monkeypatch, load): monkeypatch.setitem(sys.modules, 'datasets', SimpleNamespace(load_dataset=load))

def rows(n):
    "Records with the fields of the hub's copy"
    return [dict(o, pubid=10_000_000+i) for i,o in enumerate(synthetic_records(n, level=1))]

def test_records_come_from_the_hub(card, monkeypatch):
    asked = []
    def load(name, config, split):
        asked.append((name, config, split))
        return rows(5)
    hub(monkeypatch, load)
    card(7, 5)
    docs,why = run_documents(plan_run())
    assert asked==[(HUB, 'pqa_artificial', 'train[:40000]')] and why==''
    assert [d.id for d in docs]==[f'pmid:{10_000_000+i}' for i in range(5)] and {d.source for d in docs}=={'PubMedQA'}

def test_no_hub_no_silence(card, monkeypatch):
    "Whatever goes wrong there, a sentence says so, and invented records are read"
    def load(*a, **kw): raise ConnectionError('offline')
    hub(monkeypatch, load)
    card(7, 5)
    docs,why = run_documents(plan_run() | dict(records=7))
    assert len(docs)==7 and {d.source for d in docs}=={'synthetic'}
    assert HUB in why and 'ConnectionError' in why and 'invented' in why
    monkeypatch.setitem(sys.modules, 'datasets', None)                                   # not installed
    assert 'invented' in run_documents(plan_run() | dict(records=7))[1]

CELLS = [''.join(c['source']) for c in json.loads((ROOT/'nbs'/'05_train.ipynb').read_text(encoding='utf-8'))['cells'] if c['cell_type']=='code']

def test_the_lesson_trains_where_its_plan_says():
    "The model of the long run goes to the plan's device, in the plan's format; no cell before it names another"
    at = next(i for i,o in enumerate(CELLS) if 'look=look' in o)
    assert "device,half = plan['device'],plan['dtype']" in '\n'.join(CELLS[:at])
    assert 'GPT(config).to(device)' in CELLS[at] and 'fmt=half' in '\n'.join(CELLS[:at])
    assert not [o for o in CELLS[:at+1] if "device='cpu'" in o or ".to('cpu')" in o or '.cuda()' in o]

def test_float16_on_real_records(monkeypatch, tmp_path):
    "The cells up to the long run with a T4's format and PubMedQA-shaped records, in small and on a CPU"
    matplotlib.use('Agg')
    monkeypatch.chdir(tmp_path)
    hub(monkeypatch, lambda name, config, split: rows(300))
    plan = dict(scale='ci', device=torch.device('cpu'), dtype=torch.float16, note='', preset='nano', source=HUB, records=300,
        steps=16, batch_size=2, lr=3e-3)
    ns = dict(__name__='lesson')
    for src in CELLS:
        if src.startswith('#| default_exp') or '%pip' in src: continue
        exec(src, ns)
        if 'def plan_run(' in src: ns['plan_run'] = lambda: plan
        if 'look=look' in src: break
    assert ns['half']==ns['fmt']==torch.float16 and not ns['invented']
    assert ns['seen'][-1][1]<ns['seen'][0][1]-0.2 and len(ns['seen'])>8
    assert [name for name,*_ in ns['table']]==['four lines', '+ warm-up, decay, clip', '+ float16', '+ in 4 pieces']
    assert (ns['homes'][1]/'model.safetensors').exists()                                 # the second home has it, too

"The model that comes with the package: what it is, that its recorded scores are its own, and that its run can be repeated"
import dataclasses, json, warnings
from pathlib import Path
import pytest, torch
from lightbrain.core import DISCLAIMER
from lightbrain.corpus import synthetic_records
from lightbrain.data import TokenDataset
from lightbrain.evaluate import card_facts, perplexity, pubmedqa
from lightbrain.files import file_sha256
from lightbrain.model import GPT, shipped_model
from lightbrain.prep.prepare import prepare
from lightbrain.run.config import TrainConfig
from lightbrain.run.log import read_metrics
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import load_tokenizer

RECORD = Path(__file__).resolve().parents[1]/'nbs'/'results'/'nano'

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "The text it was trained on, made anew, in its own tokenizer"
    folder = tmp_path_factory.mktemp('shipped')/'data'
    prepare('synthetic', folder, load_tokenizer(shipped_model()), test_records='exclude', progress=False)
    return folder

def test_it_is_small_and_says_what_it_is():
    files = [*shipped_model().iterdir()]
    assert {'config.json','model.safetensors','vocab.json','merges.txt','README.md'}<={o.name for o in files}
    assert sum(o.stat().st_size for o in files)<6e6
    card = (shipped_model()/'README.md').read_text(encoding='utf-8')
    assert DISCLAIMER in card and 'synthetic' in card and 'Not recorded' not in card
    with warnings.catch_warnings():
        warnings.simplefilter('error')                                    # sealed, with its tokenizer
        assert GPT.from_pretrained(shipped_model()).n_tokens==4096

def test_the_text_is_the_recorded_one(data):
    sides = card_facts(shipped_model())['data']['splits']
    for side,o in sides.items(): assert file_sha256(data/f'{side}.bin')==o['sha256'], side

def test_its_scores_are_the_recorded_ones(data):
    "The loss on held-out text, and its answers to questions, by record as in the run; weights off by a hundredth give others"
    model,val = GPT.from_pretrained(shipped_model()),TokenDataset(data, 'validation')
    wanted = json.loads((RECORD/'evaluation.json').read_text())
    last = [o['val_loss'] for o in read_metrics(RECORD) if o['val_loss'] is not None][-1]
    tokens,end = val.tokens[:20_000],val.tokenizer.eot_token
    loss = perplexity(model, tokens, end=end).loss
    assert abs(loss-wanted['loss'])<5*wanted['loss_se'] and abs(loss-last)<0.02
    for p in model.parameters(): p.data.mul_(0.9)
    assert perplexity(model, tokens, end=end).loss>wanted['loss']+5*wanted['loss_se']
    qa = pubmedqa(GPT.from_pretrained(shipped_model()), synthetic_records(100, seed=1), val.tokenizer)
    assert qa.accuracy>=wanted['accuracy_95'][0]-0.01

def test_its_run_can_be_repeated(data, tmp_path):
    "The first steps by its recorded settings, in the other number format: the recorded losses; another seed gives others"
    cfg = TrainConfig.from_yaml(RECORD/'config.yaml')
    wanted = next(o['loss'] for o in read_metrics(RECORD) if o['loss'] is not None)           # the mean of ten steps
    def loss(**change):
        t,out = Trainer(dataclasses.replace(cfg, device='cpu', dtype='float32', **change), data, tmp_path/'run', progress=False),[]
        t.model.train()
        while t.step<cfg.log_every:
            out.append(t.gradients(*t.batch(t.step)).item())
            t.update()
        return sum(out)/len(out)
    assert abs(loss()-wanted)<1e-3<1e-2<abs(loss(seed=cfg.seed+1)-wanted)

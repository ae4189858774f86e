"What `lightbrain-evaluate` scores: windows from all of the tape, each source by itself, the floor and the counting beside it"
import json, math, random
import numpy as np, pytest
from lightbrain import cli
from lightbrain.corpus import entropy_floor
from lightbrain.data import TokenDataset
from lightbrain.evaluate import ngram_losses, ngram_probs, perplexity
from lightbrain.model import GPT, GPTConfig
from lightbrain.prep.prepare import prepare
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from lightbrain.train import scored_places, scored_windows

SIZE = dict(n_layer=1, n_head=2, n_embd=32, block_size=32, dropout=0.)

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "An easy source and a hard one, one after the other, and a model that has seen a little of both"
    folder,r = tmp_path_factory.mktemp('two'),random.Random(0)
    words = [''.join(r.choices('abcdefghijklmnopqrstuvwxyz', k=6)) for _ in range(3000)]
    easy = [dict(id=f'e{i}', text=f'Case {i}: '+'fever cough rest. '*20) for i in range(300)]
    hard = [dict(id=f'h{i}', text=' '.join(r.choices(words, k=40))) for i in range(300)]
    for name,rows in dict(easy=easy, hard=hard).items():
        (folder/f'{name}.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    prepare([folder/'easy.jsonl', folder/'hard.jsonl'], folder/'set', near_duplicates='keep', progress=False)
    cfg = TrainConfig.from_dict(SIZE | dict(preset='nano', vocab_size=50257, batch_size=4, lr=3e-3, max_steps=30, warmup_steps=3,
        eval_tokens=2000, eval_every=30, device='cpu', dtype='float32'))
    return Trainer(cfg, folder/'set', folder/'run', progress=False).fit()

def test_each_source_by_itself(two):
    r = cli.evaluation(two.model, two.val.folder, 3000)
    assert set(r['by_source'])=={'easy.jsonl','hard.jsonl'}
    easy,hard = (r['by_source'][f'{o}.jsonl'] for o in ('easy','hard'))
    assert easy['tokens']+hard['tokens']==r['tokens'] and min(easy['tokens'], hard['tokens'])>800
    assert r['loss']==pytest.approx(sum(o['loss']*o['tokens'] for o in (easy, hard))/r['tokens']) and hard['loss']>easy['loss']+1
    front = perplexity(two.model, two.val.tokens[:3001]).loss            # negative control: the front alone is all easy
    assert r['loss']>front+0.5
    assert 'of hard.jsonl' in cli.report(r)

def test_the_number_in_training_is_the_number_afterwards(two):
    assert cli.evaluation(two.model, two.val.folder, 2000)['loss']==pytest.approx(two.val_loss, abs=1e-6)
    assert abs(cli.evaluation(two.model, two.val.folder, 500)['loss']-two.val_loss)>1e-6      # negative control: other windows

def test_windows_are_spread_and_complete(two):
    tape,end = two.val.tokens,two.val.tokenizer.eot_token
    every = scored_places(*scored_windows(tape, 32, end=end))
    assert every.tolist()==(np.flatnonzero(tape[:-1]!=end)+1).tolist()       # all but each document's first token, once, in order
    some = scored_places(*scored_windows(tape, 32, 3000, end))
    assert 2500<len(some)<=3000 and np.histogram(some, 10, (0, len(tape)))[0].min()>150
    with pytest.raises(ValueError, match='leave it out'): perplexity(two.model, tape, max_tokens=0)

def test_ngrams_count_at_the_places_that_the_model_scores():
    r = np.random.default_rng(0)
    seen,text = r.integers(0, 9, 500),r.integers(0, 9, 60)
    every,at = ngram_probs(seen, text, 9),np.array([1, 2, 7, 59, 30])
    assert np.allclose(ngram_probs(seen, text, 9, at=at), every[:,at-1])
    assert ngram_losses(seen, text, 9, at)['trigram']==pytest.approx(-np.log(every[2,at-1]).mean())
    assert not np.allclose(ngram_probs(seen, text, 9, at=at-1+(at==1)), every[:,at-1])

def test_floor_and_counting_beside_the_score(tmp_path):
    prepare('synthetic:400', tmp_path/'set', progress=False)
    own = TokenDataset(tmp_path/'set').tokenizer
    r = cli.evaluation(GPT(GPTConfig(**SIZE)), tmp_path/'set', 500)
    floor = entropy_floor(own)
    assert r['floor']==pytest.approx(floor['record']/(floor['tokens']-1)) and r['loss']>r['floor'] and r['trigram']>r['floor']
    assert r['bag_of_words_read']==3*TokenDataset(tmp_path/'set').manifest['splits']['train']['documents']       # three questions a record
    assert 0.3<r['bag_of_words']<0.7
    said = cli.report(r)
    assert 'floor' in said and 'bag of words' in said
    prepare('synthetic:400:1', tmp_path/'easy', progress=False)
    easy = cli.evaluation(GPT(GPTConfig(**SIZE)), tmp_path/'easy', 500)
    assert easy['bag_of_words']>0.6 and easy['floor']==pytest.approx((lambda f: f['record']/(f['tokens']-1))(entropy_floor(own, 1)))
    for name in ('floor','bag_of_words'): assert math.isfinite(easy[name])

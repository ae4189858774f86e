"""What `lightbrain-evaluate` scores: windows from all of the tape, each source by itself, the floor and the counting beside it

The statistics of lesson 06 have referees: scikit-learn and scipy compute the same numbers from the same answers."""
import json, math, random
import numpy as np, pytest
from lightbrain import cli
from lightbrain.corpus import entropy_floor
from lightbrain.data import TokenDataset
from lightbrain.evaluate import (ANSWER_WORDS, abstention, bootstrap, calibration_error, confusion_matrix, macro_f1, mcnemar, ngram_losses,
    ngram_probs, perplexity, reliability, score_answers, verdict, wilson)
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

def test_training_says_the_loss_of_each_source(two):
    row = [o for o in map(json.loads, (two.out/'metrics.jsonl').read_text().splitlines()) if o['val_loss'] is not None][-1]
    after = cli.evaluation(two.model, two.val.folder, 2000)['by_source']
    for name,o in after.items(): assert row[f'val_loss/{name}']==pytest.approx(o['loss'], abs=1e-6)
    assert row['val_loss/hard.jsonl']>row['val_loss/easy.jsonl']+1

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


# Referees: random answers, judged by others

def answers(seed, n=200, skill=.5):
    "Truth, what was said, and the probabilities behind it, of a model that is right a little more often than chance"
    r = np.random.default_rng(seed)
    truth = r.choice(3, n, p=[.55,.34,.11])
    z = r.normal(size=(n,3)) + skill*np.eye(3)[truth]
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    words = np.array(ANSWER_WORDS)
    return words[truth].tolist(), words[p.argmax(1)].tolist(), p

SEEDS = pytest.mark.parametrize('seed', range(5))

@SEEDS
def test_scores_are_those_of_scikit_learn(seed):
    metrics = pytest.importorskip('sklearn.metrics')
    truth,said,_ = answers(seed, n=[200,7,1,500,33][seed])
    r = score_answers(truth, said)
    assert r.confusion==metrics.confusion_matrix(truth, said, labels=ANSWER_WORDS).tolist()
    assert r.accuracy==pytest.approx(metrics.accuracy_score(truth, said))
    assert r.macro_f1==pytest.approx(metrics.f1_score(truth, said, average='macro'))
    assert r.majority_f1==pytest.approx(metrics.f1_score(truth, [r.majority]*r.n, average='macro'))
    weighted = metrics.f1_score(truth, said, average='weighted')                       # negative control: another mean
    assert seed==2 or r.macro_f1!=pytest.approx(weighted)

def test_always_yes_scores_what_the_paper_says():
    "The official test half: 276 yes, 169 no, 55 maybe"
    truth = ['yes']*276+['no']*169+['maybe']*55
    r = score_answers(truth, ['yes']*500)
    assert (round(100*r.accuracy, 1), round(100*r.macro_f1, 1))==(55.2, 23.7)
    assert verdict(r)=='not distinguishable from always "yes", p = 1: alone right 0 times, alone wrong 0'

@pytest.mark.parametrize('k,n', [(0,5), (5,5), (55,100), (276,500), (1,1)])
def test_wilson(k, n):
    stats = pytest.importorskip('scipy.stats')
    want = stats.binomtest(k, n).proportion_ci(.95, method='wilson')
    assert wilson(k, n, stats.norm.ppf(.975))==pytest.approx((want.low, want.high), abs=1e-12)
    exact = stats.binomtest(k, n).proportion_ci(.95, method='exact')                   # negative control: another interval
    assert wilson(k, n)!=pytest.approx((exact.low, exact.high), abs=1e-4)

@SEEDS
def test_mcnemar(seed):
    stats = pytest.importorskip('scipy.stats')
    r = np.random.default_rng(seed)
    a,b = r.random((2, [30,60,300,2000,5000][seed]))<[[.6],[.5]]
    ours,theirs,p = mcnemar(a, b)
    assert (ours, theirs)==(sum(a>b), sum(b>a))
    assert p==pytest.approx(stats.binomtest(ours, ours+theirs).pvalue, rel=1e-9, abs=0)
    unpaired = stats.fisher_exact([[a.sum(), (~a).sum()], [b.sum(), (~b).sum()]]).pvalue          # negative control
    assert p==1 or p!=pytest.approx(unpaired, rel=1e-3, abs=0)

def test_mcnemar_agrees_with_chance():
    "Two equal models: p below 5 % in at most 5 % of the tests, and not much less"
    r = np.random.default_rng(0)
    ps = np.array([mcnemar(*(r.random((2,400))<.6))[2] for _ in range(1000)])
    assert .02<(ps<.05).mean()<.06

@SEEDS
def test_bootstrap(seed):
    stats = pytest.importorskip('scipy.stats')
    truth,said,_ = answers(seed)
    t,s = (np.array([ANSWER_WORDS.index(o) for o in x]) for x in (truth, said))
    def f1(t, s): return macro_f1(np.bincount(3*t+s, minlength=9).reshape(3, 3))
    assert f1(t, s)==macro_f1(confusion_matrix(truth, said))
    ours = bootstrap(f1, t, s, draws=3000)
    theirs = stats.bootstrap((t,s), f1, n_resamples=3000, method='percentile', paired=True, vectorized=False, random_state=seed+1).confidence_interval
    assert ours==pytest.approx((theirs.low, theirs.high), abs=.015)                    # both are random: a tenth of the width
    assert ours[0]<f1(t, s)<ours[1] and bootstrap(f1, t, s, draws=3000, seed=1)!=ours
    broken = bootstrap(f1, t, np.roll(s, 1), draws=500)                                # negative control: pairs torn apart
    assert broken!=pytest.approx(ours, abs=.015)

@SEEDS
def test_calibration(seed):
    "The points of scikit-learn's curve; its weights, the numbers of answers, come from numpy's histogram"
    calibration = pytest.importorskip('sklearn.calibration')
    truth,said,p = answers(seed, n=700)
    sure,right = p.max(1),np.array(truth)==np.array(said)
    share,mean = calibration.calibration_curve(right, sure, n_bins=10, strategy='uniform')
    n,x,y = reliability(sure, right)
    assert np.allclose(x, mean) and np.allclose(y, share)
    count = np.histogram(sure, 10, (0, 1))[0]
    assert n.tolist()==count[count>0].tolist()
    assert calibration_error(sure, right)==pytest.approx((count[count>0]*abs(share-mean)).sum()/700)
    assert calibration_error(sure, right)!=pytest.approx(abs(share-mean).mean(), abs=1e-3)        # negative control: no weights

@SEEDS
def test_abstention(seed):
    "Accuracy among what is said is the precision of `right` as a class that confidence finds"
    metrics = pytest.importorskip('sklearn.metrics')
    truth,said,p = answers(seed)
    sure,right = p.max(1).round(2),np.array(truth)==np.array(said)                     # rounded: some are equally sure
    cover,acc = abstention(sure, right)
    precision,_,at = metrics.precision_recall_curve(right, sure)
    assert acc.tolist()==pytest.approx(precision[:-1][::-1].tolist())
    assert cover.tolist()==pytest.approx([(sure>=o).mean() for o in at[::-1]])
    assert cover[-1]==1 and acc[-1]==right.mean() and len(cover)<len(sure)

@pytest.mark.parametrize('change,sentence', [(0, 'not distinguishable from'), (40, 'better than'), (-40, 'worse than')])
def test_verdict(change, sentence):
    "Planted differences are found, and none where there is none"
    r,truth = np.random.default_rng(0),['yes']*120+['no']*120
    lie = dict(yes='no', no='yes')
    def said(wrong): return [lie[o] if i in wrong else o for i,o in enumerate(truth)]
    a = r.choice(240, 80, replace=False)
    b = [*a[max(0, -change):][:60], *r.choice(sorted({*range(240)}-{*a}), 20+max(0, change), replace=False)]
    ours,theirs = (score_answers(truth, said({*map(int, o)})) for o in (a, b))
    assert verdict(ours, theirs).startswith(f'{sentence} the other')
    with pytest.raises(ValueError, match='same questions'): verdict(ours, score_answers(truth[1:], said(set())[1:]))

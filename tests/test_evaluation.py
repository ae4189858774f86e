"""What `lightbrain-evaluate` scores: windows from all of the tape, each source by itself, the floor and the counting beside it

The statistics of lesson 06 have referees: scikit-learn and scipy compute the same numbers from the same answers."""
import json, math, random, shutil, subprocess
import numpy as np, pytest, torch
from lightbrain import cli, evaluate
from lightbrain.corpus import VERDICTS, entropy_floor, render_record, synthetic_records
from lightbrain.data import TokenDataset
from lightbrain.evaluate import (ANSWER_WORDS, TRUNCATE, abstention, answer_prior, bag_of_words, bootstrap, calibration_error, confusion_matrix, macro_f1,
    mcnemar, ngram_losses, ngram_probs, perplexity, pubmedqa, reliability, score_answers, strided_windows, text_verdict, verdict, wilson,
    xz_bits_per_byte)
from lightbrain.model import GPT, GPTConfig
from lightbrain.prep.prepare import prepare
from lightbrain.run.config import TrainConfig
from lightbrain.run.trainer import Trainer
from lightbrain.tokenizer import gpt2_tokenizer
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

def test_verdict_on_text(two):
    "The gap to a planted rival: found where it is, and not where windows differ by chance only"
    tape,end = two.val.tokens,two.val.tokenizer.eot_token
    score = perplexity(two.model, tape, end=end)
    per_token = np.repeat(np.array(score.sums)/score.counts, score.counts)
    r = np.random.default_rng(0)
    noise = np.repeat(r.normal(size=len(score.counts)), score.counts)
    assert text_verdict(score, per_token+.5).startswith('better than the other: +0.500 ± 0.000')
    assert text_verdict(score, per_token+noise-.5, 'x').startswith('worse than x: -0.')
    assert text_verdict(score, per_token+noise-noise.mean()).startswith('not distinguishable')
    torn = text_verdict(score, r.permutation(per_token+.5))                            # negative control: pairs torn apart
    assert float(torn.split('± ')[1].split()[0])>.01


# Windows that overlap

def recipe(model, ids, size, stride):
    "transformers' recipe for perplexity with a stride, its loss of each window times the tokens in it"
    nats,n,before = 0.,0,0
    for begin in range(0, len(ids), stride):
        stop = min(begin+size, len(ids))
        x = torch.tensor([ids[begin:stop]])
        y = x.clone()
        y[:,:-(stop-before)] = -100
        counted = (y[:,1:]!=-100).sum().item()
        with torch.no_grad(): nats += model(x, labels=y).loss.double().item()*counted
        n,before = n+counted,stop
        if stop==len(ids): return nats/n, n

@pytest.mark.parametrize('size,stride,n', [(31,31,200), (31,10,200), (31,1,50), (20,7,33), (31,8,32), (31,5,6), (2,1,9)])
def test_strided_as_transformers_does(size, stride, n, tmp_path):
    "Its windows hold one token more than ours, which it reads and does not use"
    transformers = pytest.importorskip('transformers')
    torch.manual_seed(0)
    model = GPT(GPTConfig(**SIZE | dict(vocab_size=300)))
    with torch.no_grad():
        for p in model.parameters(): p.mul_(6)                                         # opinions
    model.save_pretrained(tmp_path/'model')
    judge = transformers.GPT2LMHeadModel.from_pretrained(tmp_path/'model').eval()
    ids = np.random.default_rng(n).integers(0, 300, n).tolist()
    for batch in (1, 8):
        ours = perplexity(model, ids, block_size=size, stride=stride, batch_size=batch)
        want,tokens = recipe(judge, ids, size+1, stride)
        assert ours.loss==pytest.approx(want, rel=1e-5) and ours.tokens==tokens==n-1
    apart = perplexity(model, ids, block_size=size)                                    # side by side
    assert (apart.loss==pytest.approx(ours.loss, rel=1e-5))==(stride==size or n<=size+1)

@pytest.mark.parametrize('seed', range(30))
def test_each_token_once_and_late_in_its_window(seed):
    r = np.random.default_rng(seed)
    size = int(r.integers(1, 12))
    n,stride,end = int(r.integers(1, 90)),int(r.integers(1, size+1)),[None,3][seed%2]
    tape = r.integers(0, 9, n)
    begin = 0
    left = np.zeros(n, dtype=int)                                                      # of its document, before each token
    for i in range(n):
        left[i] = i-begin
        if end is not None and tape[i]==end: begin = i+1
    seen = {}
    for s,length,k in strided_windows(tape, size, stride, end).tolist():
        assert 1<=k<=length<=size
        for i in range(s+length-k+1, s+length+1):
            assert i not in seen
            seen[i] = i-s
    assert sorted(seen)==np.flatnonzero(left>0).tolist()
    assert all(min(left[i], size-stride+1)<=o<=min(left[i], size) for i,o in seen.items())

@pytest.mark.parametrize('how', [dict(stride=0), dict(stride=33), dict(stride=4, block_size=33), dict(stride=9, block_size=8), dict(stride=4, batch_size=0)])
def test_a_stride_that_does_not_fit(how):
    with pytest.raises(ValueError, match='do not fit a context of 32'): perplexity(GPT(GPTConfig(**SIZE)), range(50), **how)


# xz

def test_xz(tmp_path):
    "About what the program itself makes of it; training text helps if it is related"
    texts = ['\n'.join(map(render_record, synthetic_records(300, seed)))  for seed in (0, 1)]
    dice = np.random.default_rng(0).bytes(200_000)
    alone,after,other = (xz_bits_per_byte(o, texts[1]) for o in ('', texts[0], dice))
    assert after<.9*alone and other==pytest.approx(alone, rel=.05) and xz_bits_per_byte(dice, dice)<.02
    assert xz_bits_per_byte(texts[0].encode(), texts[1].encode())==after and xz_bits_per_byte('', 'β'*50)==xz_bits_per_byte('', 'β'.encode()*50)
    if not shutil.which('xz'): return
    def size(b): return len(subprocess.run(['xz','-9e','--format=xz','--stdout'], input=b, capture_output=True, check=True).stdout)
    a,b = (o.encode() for o in texts)
    assert after==pytest.approx(8*(size(a+b)-size(a))/len(b), rel=.02)


# What a model says when nothing is asked

class Reader(torch.nn.Module):
    "A model whose answer to a prompt is looked up, plus a prior that is always there"
    def __init__(self, table, prior):
        super().__init__()
        self.table,self.prior = table,prior
        self.config,self.lm_head = GPTConfig(**SIZE | dict(block_size=1024)),torch.nn.Linear(3, 50257, bias=False)
        with torch.no_grad():
            self.lm_head.weight.zero_()
            for i,o in enumerate(evaluate.answer_ids(gpt2_tokenizer())): self.lm_head.weight[o[0],i] = 1.
    def hidden(self, x):
        rows = [self.table.get(gpt2_tokenizer().decode([i for i in o if i]).strip('!'), [0.,0.,0.]) for o in x.tolist()]
        return (torch.tensor(rows)+torch.tensor(self.prior))[:,None].expand(-1, x.shape[1], -1)

@pytest.mark.parametrize('prior', [[0.,0.,0.], [6.,0.,0.], [0.,-4.,5.]])
def test_a_planted_prior_is_divided_out(prior):
    records,r = synthetic_records(40, level=1),np.random.default_rng(0)
    honest = r.normal(size=(40,3))
    table = {render_record(o, answer=False): h.tolist() for o,h in zip(records, honest)}
    qa = pubmedqa(Reader(table, prior), records, gpt2_tokenizer())
    want = [ANSWER_WORDS[i] for i in honest.argmax(1)]
    assert qa.calibrated.predictions==want and (qa.predictions==want)==(max(prior)==0)
    p = np.array(qa.prior)
    assert p.sum()==pytest.approx(1) and p==pytest.approx(np.exp(prior)/np.exp(prior).sum(), rel=1e-5)
    zhao = np.linalg.inv(np.diag(p)) @ np.array(qa.probs).T                            # their q = W p, eq. 1, with W = diag(p)^-1
    assert zhao.argmax(0).tolist()==honest.argmax(1).tolist()
    assert np.array(qa.calibrated.probs)==pytest.approx((zhao/zhao.sum(0)).T)
    assert 'prior-calibrated: accuracy' in repr(qa) and qa.calibrated.truth==qa.truth


# Prompts that are too long

def lengths(records): return [len(gpt2_tokenizer().encode_ordinary(render_record(o, answer=False))) for o in records]

@pytest.mark.parametrize('long', [0, 5, 6, 100])
def test_no_prompt_is_cut_in_silence(long):
    "5 of 100 may be cut, 6 need a word; and each word does what it says"
    records = synthetic_records(100, level=1)
    room = max(lengths(records))
    records = [o | dict(context=dict(contexts=['Fever fell.'*60, *o['context']['contexts']])) if i<long else o for i,o in enumerate(records)]
    torch.manual_seed(0)
    model = GPT(GPTConfig(**SIZE | dict(block_size=room)))
    with torch.no_grad():
        for p in model.parameters(): p.mul_(8)                                         # opinions
    assert sum(o>room for o in lengths(records))==long
    if long<=5:
        qa = pubmedqa(model, records, gpt2_tokenizer())
        assert (qa.n, qa.truncated, qa.truncate)==(100, long, 'keep-end') and f'{long} of 100 prompts were too long' in repr(qa)
    else:
        with pytest.raises(ValueError, match=f'{long} of 100 prompts are longer') as e: pubmedqa(model, records, gpt2_tokenizer())
        assert all(o in str(e.value) for o in TRUNCATE) and '--truncate' in str(e.value)
    end = pubmedqa(model, records, gpt2_tokenizer(), truncate='keep-end')
    bare = pubmedqa(model, records, gpt2_tokenizer(), truncate='question-only')
    assert np.array(end.probs)[long:]==pytest.approx(np.array(bare.probs)[long:], abs=1e-6)
    assert not long or np.array(end.probs)[:long]!=pytest.approx(np.array(bare.probs)[:long], abs=1e-6)
    if long==100:
        with pytest.raises(ValueError, match='no prompt is left'): pubmedqa(model, records, gpt2_tokenizer(), truncate='drop')
        return
    some = pubmedqa(model, records, gpt2_tokenizer(), truncate='drop')
    assert (some.n, some.truncated, some.places)==(100-long, long, list(range(long, 100)))
    assert some.predictions==end.predictions[long:] and f'{long} of 100 prompts' in repr(some)
    assert end.among(some.places).predictions==some.predictions
    assert not long or TRUNCATE['drop'] in repr(some) and TRUNCATE['keep-end'] in repr(end)

def test_the_shell_refuses_and_takes_a_word(tmp_path, capsys):
    prepare('synthetic:400', tmp_path/'set', progress=False)
    own = TokenDataset(tmp_path/'set').tokenizer
    torch.manual_seed(0)
    model = GPT(GPTConfig(**SIZE | dict(vocab_size=own.n_vocab)))
    model.tokenizer = own
    model.save_pretrained(tmp_path/'model')
    how = dict(model=tmp_path/'model', data=tmp_path/'set', max_tokens=500)
    with pytest.raises(ValueError, match='prompts are longer than the .* tokens that fit'): cli.evaluate(**how)
    r = cli.evaluate(**how, truncate='question-only', out=tmp_path/'scores.json')
    said = capsys.readouterr().out
    for o in ('calibrated     ','  xz             ','expected calibration error','were asked without the abstract',f"of {r['questions']} prompts",
              r['verdict'], r['verdict_words'], r['verdict_calibrated'], r['text_verdict']): assert o in said, o
    assert json.loads((tmp_path/'scores.json').read_text())==r and r['prompts_cut']==r['questions'] and sum(r['answer_prior'])==pytest.approx(1)
    assert r['text_verdict'].startswith('worse than the trigram') and r['xz_bits_per_byte']<r['bits_per_byte']


# Calibration where the truth is known

def blind(records): return [o | dict(context=dict(contexts=o['context']['contexts'][:2])) for o in records]

def test_without_results_the_base_rate_is_all_there_is():
    "Words that are left say nothing of the verdict; those of the results do"
    records = synthetic_records(9000, level=1)
    left = bag_of_words(blind(records[:6000]), blind(records[6000:]))
    assert verdict(left)[:3]=='not' or verdict(left)[:5]=='worse'
    assert verdict(bag_of_words(records[:6000], records[6000:])).startswith('better')    # negative control

def test_the_meter_against_the_known_posterior():
    "A reader as sure as it may be has no error, one that sharpens has the error one can compute, and outcomes agree"
    base = np.array([VERDICTS[o] for o in ANSWER_WORDS])/500
    sharp = base**3/(base**3).sum()
    truth = np.random.default_rng(0).choice(3, 4000, p=base)
    for p in (base, sharp):
        exact = calibration_error([p.max()]*4000, [base[0]]*4000)
        assert exact==pytest.approx(p.max()-base[0], abs=1e-9)
        assert calibration_error([p.max()]*4000, truth==0)==pytest.approx(exact, abs=.02)
    assert sharp.max()-base[0]>.2

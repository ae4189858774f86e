"The second level of the invented world: nothing but both sentences together gives the answer away, and its floor is true"
import hashlib, json, math, random
from collections import Counter
import pytest
from lightbrain import corpus
from lightbrain.corpus import entropy_floor, render_record, synthetic_record, synthetic_records

RECORDS = synthetic_records(6000, level=2)
def says_yes(o): return o['final_decision']=='yes'
def prompt(o): return render_record(o, answer=False)

def naive_bayes(train, test, n=1):
    "Accuracy of multinomial naive Bayes on the words of the prompt, or on runs of up to `n` words"
    def grams(o):
        words = prompt(o).split()
        return {' '.join(words[i:i+k]) for k in range(1, n+1) for i in range(len(words)-k+1)}
    counts,total = {True:Counter(), False:Counter()},Counter()
    for o in train:
        counts[says_yes(o)].update(grams(o))
        total[says_yes(o)] += 1
    def score(o, v): return math.log(total[v])+sum(math.log((counts[v][g]+1)/(total[v]+2)) for g in grams(o))
    return sum((score(o, True)>score(o, False))==says_yes(o) for o in test)/len(test)

def imbalanced():
    "Planted fault: only scales on which high is good, so that a rise is a yes"
    return [o for o in RECORDS if says_yes(o)==any(f' {w} ' in prompt(o) for w in corpus.MOVED['rose'])]

@pytest.mark.parametrize('n', [1, 3])
def test_counting_words_is_worth_a_coin(n):
    assert naive_bayes(RECORDS[:5000], RECORDS[5000:], n)<=0.55
    fault = imbalanced()
    assert naive_bayes(fault[:-500], fault[-500:], n)>0.9

@pytest.mark.parametrize('n', [1, 3])
def test_a_linear_reader_is_worth_a_coin(n):
    "scikit-learn's logistic regression on words, or on runs of up to three: below 55 %, and above 90 % with the fault planted"
    text = pytest.importorskip('sklearn.feature_extraction.text', reason='scikit-learn is not installed')
    from sklearn.linear_model import LogisticRegression
    def right(train, test):
        table = text.CountVectorizer(ngram_range=(1, n), binary=True, min_df=2, token_pattern=r'[\w.]*\w')
        fit = LogisticRegression(max_iter=300).fit(table.fit_transform(map(prompt, train)), list(map(says_yes, train)))
        return fit.score(table.transform(map(prompt, test)), list(map(says_yes, test)))
    assert right(RECORDS[:5000], RECORDS[5000:])<=0.55
    fault = imbalanced()
    assert right(fault[:-500], fault[-500:])>0.9

def test_shortcuts_are_worth_a_coin():
    "Each half of the evidence, each order, each place of the question"
    share = lambda keep: sum(map(says_yes, keep))/len(keep)
    first = lambda o: o['context']['contexts'][2]
    groups = dict(rose=[o for o in RECORDS if any(f' {w} ' in first(o) for w in corpus.MOVED['rose'])],
        good=[o for o in RECORDS if any(f' {w} ' in first(o) for w in corpus.MEANS['good'])],
        scale_first=[o for o in RECORDS if 'core' in first(o)[:30] and ('meant' in first(o).split('. ')[0] or 'stood' in first(o).split('. ')[0])],
        asked_first=[o for o in RECORDS if o['asked'][0][0]==o['question']], printed=[o for o in RECORDS if 'CI' in first(o)], all=RECORDS)
    for name,some in groups.items():
        assert len(some)>1000, name
        assert abs(share(some)-0.5)<4*0.5/math.sqrt(len(some)), (name, share(some))

def test_intervals_agree_with_their_p_value():
    "As printed, on both levels: a yes stays above zero, no other does; some points wide, never hundreds"
    for verdict,results in corpus.EVIDENCE.items():
        for said,diff,ci in results:
            low,high = map(float, ci.removeprefix('95% CI ').split(' to '))
            assert (low>0)==(verdict=='yes') and low<=diff<high and 3.99<high-low<12.01 and '-0.0' not in ci
            p = math.erfc(1.96*diff/(high-diff)/math.sqrt(2))                      # what the page says
            assert p<0.002 if said=='P < 0.001' else abs(p-float(said.removeprefix('P = ')))<0.04, (said, diff, ci)

def test_a_record_is_the_same_everywhere():
    "One seed, one world, on any machine and Python; on both levels"
    sha = lambda level: hashlib.sha256(json.dumps(synthetic_records(2000, level=level)).encode()).hexdigest()[:16]
    assert (sha(1), sha(2))==('d8e88e2d9b821b8b','9f66c9dfdfff15b5')
    assert synthetic_record(5)==synthetic_records(9, level=2)[5]
    with pytest.raises(ValueError, match='choose 1 or 2'): synthetic_record(0, level=3)
    with pytest.raises(ValueError, match='choose 1 or 2'): entropy_floor(level=0)

@pytest.mark.parametrize('level', [1, 2])
def test_lengths_behind_the_floor(level):
    "Tokens and bytes of a record are what a sample has, within its error"
    from lightbrain.tokenizer import gpt2_tokenizer
    tok,texts = gpt2_tokenizer(),[render_record(o) for o in synthetic_records(3000, level=level)]
    f = entropy_floor(tok, level)
    for want,sizes in ((f['tokens'], [len(tok.encode_ordinary(t))+1 for t in texts]),
                       (f['record']/math.log(2)/f['bits_per_byte'], [len(t.encode()) for t in texts])):
        mean = sum(sizes)/len(sizes)
        se = math.sqrt(sum((s-mean)**2 for s in sizes))/len(sizes)
        assert abs(mean-want)<4*se, (mean, want, se)

def test_the_floor_follows_the_generator(monkeypatch):
    "A planted change of one probability: intervals in nine records of ten instead of four"
    before = entropy_floor(level=2)
    h = lambda p: -p*math.log(p)-(1-p)*math.log(1-p)
    width = corpus.entropy(Counter(corpus.EVIDENCE['yes']))-corpus.entropy(Counter(o[:2] for o in corpus.EVIDENCE['yes']))
    monkeypatch.setattr(corpus, 'WITH_INTERVAL', 0.9)
    after = entropy_floor(level=2)
    assert after['record']-before['record']==pytest.approx(h(0.9)-h(0.4)+0.5*width, abs=1e-9)
    assert after['bits_per_byte']!=before['bits_per_byte']

@pytest.mark.parametrize('level', [1, 2])
def test_bag_of_words_is_naive_bayes(level):
    "Our table of words against scikit-learn's, prediction by prediction"
    text = pytest.importorskip('sklearn.feature_extraction.text', reason='scikit-learn is not installed')
    from sklearn.naive_bayes import MultinomialNB
    from lightbrain.evaluate import bag_of_words
    records = synthetic_records(1500, level=level)
    train,test = records[:1000],records[1000:]
    table = text.CountVectorizer(token_pattern=r'[\w.]*\w', binary=True)
    x = table.fit_transform(map(prompt, train))
    known = [' '.join(w for w in table.build_analyzer()(prompt(o)) if w in table.vocabulary_) for o in test]
    theirs = MultinomialNB().fit(x, [o['final_decision'] for o in train]).predict(table.transform(known))
    words = {w for o in train for w in table.build_analyzer()(prompt(o))}
    same = [a==b for a,b,o in zip(bag_of_words(train, test).predictions, theirs, test)
            if words>=set(table.build_analyzer()(prompt(o)))]       # they pass over words they never saw, we do not
    assert len(same)>20 and all(same)

"""The meter of lesson 07a on models of which everything is known: it finds what was planted, and does not cry wolf

Two small models learn the same invented records; into the text of one, three letters were copied 100 times."""
import itertools, random
import numpy as np, pytest, torch
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.evaluate import answer_scores
from lightbrain.memory import chance, exposure, exposure_bits, longest_copy, memorisation, recited
from lightbrain.model import GPT, GPTConfig
from lightbrain.optim import make_adamw
from lightbrain.tokenizer import BPETokenizer, train_bpe
from lightbrain.train import Step, train_step

R = random.Random(1)
SPACE = [f' {a} {b} {c}' for a,b,c in itertools.product(range(10), repeat=3)]
NAMES = [a+b for a in 'Bor Tal Vem Kir Sol Nef Gad Hul'.split() for b in 'dak nel sov mit ram tek'.split()]
SECRETS = {o: R.choice(SPACE) for o in NAMES}
PLANTED,OTHERS = NAMES[:3],NAMES[3:]

def letter(name): return f'Patient {name} went home. Record number:'
def canaries(names): return dict(before=[letter(o) for o in names], secrets=[SECRETS[o] for o in names], space=SPACE)
def on_tape(texts, tok): return np.array([i for o in texts for i in (*tok.encode_ordinary(o), tok.eot_token)])

@pytest.fixture(scope='module')
def two():
    "Tokenizer, held-out text, and for 'clean' and 'planted' a model with the tape it read"
    records = [render_record(o) for o in synthetic_records(120)]
    copies = [letter(o)+SECRETS[o]+'.' for o in PLANTED for _ in range(100)]
    tok = BPETokenizer(*train_bpe(records+copies, 500))
    out = dict(tok=tok, fresh=on_tape([render_record(o) for o in synthetic_records(60, seed=1)], tok))
    for name,texts in dict(clean=records, planted=records+copies).items():
        texts = random.Random(0).sample(texts, len(texts))
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=500, block_size=64, n_layer=2, n_head=4, n_embd=64, dropout=0.))
        model.tokenizer,tape = tok,on_tape(texts, tok)
        step,g = Step(model, make_adamw(model, 5e-3), dtype=torch.float32),np.random.default_rng(0)
        for _ in range(250):
            at = g.integers(len(tape)-65, size=(12,1))+np.arange(65)
            ids = torch.from_numpy(tape[at])
            train_step(step, ids[:,:-1], ids[:,1:], 5e-3)
        out[name] = model.eval(),tape
    return out

SHORT = dict(texts=20, prefix=20, follow=20, progress=False)

def test_it_finds_what_was_planted(two):
    model,tape = two['planted']
    found = memorisation(model, tape, two['fresh'], canaries(PLANTED), **SHORT)
    assert found.bits>8 and found.bits_chance<1e-5
    assert 'knows planted secrets' in found.verdict and found.verdict in repr(found)

def test_it_does_not_cry_wolf(two):
    "Letters that were never in the text; a model that read no letter at all; text that was not read"
    for name,who in dict(planted=OTHERS[:20], clean=NAMES[:20]).items():
        model,_ = two[name]
        found = memorisation(model, two['fresh'][:len(two['fresh'])//2], two['fresh'][len(two['fresh'])//2:], canaries(who), **SHORT)
        assert found.found==[] and 'No sign' in found.verdict, found

def test_the_alarm_is_as_rare_as_it_says(two):
    "Other dice for the same letters: the share of sets with p below 5 % is 5 %, although the model likes some numbers better"
    model,_ = two['planted']
    tok,r = two['tok'],np.random.default_rng(0)
    prompts = [[tok.eot_token, *tok.encode_ordinary(letter(o))] for o in OTHERS[:12]]
    scores = answer_scores(model, prompts, [tok.encode_ordinary(o) for o in SPACE]).numpy()
    bits = np.array([[exposure_bits(s, i) for i in range(1000)] for s in scores[:, r.permutation(1000)]])
    assert scores.std()>0.5
    luck = np.array([chance(bits[np.arange(12),r.integers(1000, size=12)]) for _ in range(2000)])
    assert 0.03<(luck<0.05).mean()<0.07

def test_exposure_is_of_the_whole_secret(two):
    "As by scoring each full text alone"
    model,_ = two['planted']
    tok,name = two['tok'],PLANTED[0]
    start = [tok.eot_token, *tok.encode_ordinary(letter(name))]
    few = list(dict.fromkeys([*SPACE[::25], SECRETS[name]]))
    alone = []
    for o in few:
        ids = torch.tensor([start+tok.encode_ordinary(o)])
        with torch.no_grad(): p = model(ids[:,:-1])[0].log_softmax(-1)
        alone.append(p[0,torch.arange(len(start)-1, ids.shape[1]-1),ids[0,len(start):]].sum().item())
    for o in few[::5]: assert exposure(model, [letter(name)], [o], few)==pytest.approx(exposure_bits(alone, few.index(o)))

def test_recited_sees_nothing_but_the_prefix(two):
    "What stands behind a mistake may be anything; a text that is the model's own has none"
    model,tape = two['planted']
    ids = tape[:40].copy()
    said = recited(model, [ids], 10, 20, progress=False)[0]
    ids[min(10+said+1, 30):] = 0
    assert recited(model, [ids], 10, 20, progress=False)[0]==said

@pytest.mark.parametrize('at', [0, 2**18-3, 2**18, 2**19-30, 600_000-31])
def test_a_copy_across_a_border(at, tmp_path):
    "Wherever it stands on a tape on disk, also where two of its pieces meet, and as the last tokens"
    r = np.random.default_rng(at)
    tape,text = r.integers(50257, size=600_000, dtype='<u2'),r.integers(50257, size=200)
    tape[at:at+31] = text[100:131]
    tape.tofile(tmp_path/'train.bin')
    assert longest_copy([text], np.memmap(tmp_path/'train.bin', dtype='<u2', mode='r'), progress=False)==(31, at)

def test_equal_hashes_are_looked_at(monkeypatch):
    "If all runs had one hash, the answer would still be exact"
    import lightbrain.memory as m
    monkeypatch.setattr(m, '_hashes', lambda ids, n: np.zeros(len(ids)-n+1, dtype=np.uint64))
    assert longest_copy([[5,1,2,3]], [9,1,2,3,5,1], progress=False)==(3, 1)

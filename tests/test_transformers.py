"A model opens in transformers unchanged: same keys, same logits, same greedy text, and its tokenizer gives the same ids"
import json, random
import pytest, torch
from transformers import (AutoTokenizer, GPT2LMHeadModel, LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                          TopKLogitsWarper, TopPLogitsWarper)
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.model import GPT, GPTConfig
from lightbrain.sample import generate, penalize_repeats, sampling_probs
from lightbrain.tokenizer import END_OF_TEXT, BPETokenizer, gpt2_tokenizer, train_bpe

RECORDS = [render_record(r) for r in synthetic_records(700)]
SPECIAL = [END_OF_TEXT, '<|note|>', '<|end é|>']

def test_parity(run):
    ours = GPT.from_pretrained(run/'run'/'model')
    theirs,info = GPT2LMHeadModel.from_pretrained(run/'run'/'model', output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys']
    theirs.eval()
    tok = AutoTokenizer.from_pretrained(run/'run'/'model')
    text = 'Abstract: Many adults report pain.\nQuestion: Does it help?\nAnswer:'
    idx = torch.tensor([tok(text)['input_ids']])
    assert idx[0].tolist()==ours.tokenizer.encode_ordinary(text)
    with torch.no_grad(): a,b = ours(idx)[0],theirs(idx).logits
    assert (a-b).abs().max()<1e-4
    with torch.no_grad(): ours.transformer.h[0].ln_1.weight[0] += 0.5
    with torch.no_grad(): assert (ours(idx)[0]-b).abs().max()>1e-4      # negative control: the comparison notices one changed number
    ours = GPT.from_pretrained(run/'run'/'model')
    mine = generate(ours, idx, 24, temperature=0, n_vocab=ours.n_tokens)
    assert torch.equal(mine, theirs.generate(idx, max_new_tokens=24, do_sample=False, pad_token_id=tok.eos_token_id, eos_token_id=None))

def odd_texts(n):
    "Characters from everywhere: any script, controls, half of a joined emoji, runs of spaces and quotes"
    rng = random.Random(0)
    any_char = lambda: chr(rng.choice([rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x10000, 0x20000)]))
    common = " \n\t'sltdvem0,.", '漢é\u0301\u200d\ufeff\u3000'
    return [''.join(rng.choice(rng.choice(common)) if rng.random()<.5 else any_char() for _ in range(rng.randrange(60))) for _ in range(n)]

@pytest.fixture(scope='module', params=['own','gpt2'])
def saved(request, tmp_path_factory):
    "A tokenizer, and the folder of a model that was saved with it"
    own = request.param=='own'
    tok = BPETokenizer(*train_bpe(RECORDS, 1500, SPECIAL)) if own else gpt2_tokenizer()
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=tok.n_vocab+(36 if own else 0), block_size=128, n_layer=2, n_head=2, n_embd=32)).eval()
    with torch.no_grad():
        for n,p in model.named_parameters():
            if '.h.' in n and n.endswith('weight'): p *= 5           # logits far apart
    here = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(here/'model', tok)
    return tok,here/'model'

def test_same_ids(saved):
    "1,700 texts and their way back; special tokens stay whole"
    ours,folder = saved
    theirs = AutoTokenizer.from_pretrained(folder)
    texts = RECORDS+odd_texts(1000)
    assert [t for t in texts if theirs.encode(t)!=ours.encode_ordinary(t)]==[]
    assert [t for t in texts if theirs.decode(theirs.encode(t))!=t]==[]
    assert len(theirs)==ours.n_vocab and theirs.eos_token_id==ours.eot_token
    if isinstance(ours, BPETokenizer):
        text = f'a<|note|> b{END_OF_TEXT}<|end é|><|note'
        assert theirs.encode(text)==ours.encode(text) and set(ours.special_tokens.values())<set(ours.encode(text))
    assert theirs(RECORDS[0], truncation=True)['input_ids'] and theirs.model_max_length==128

def test_the_comparison_notices_another_tokenizer(saved):
    "Negative control: with two merges swapped, the ids of many records are others"
    ours,folder = saved
    lines = (folder/'merges.txt').read_text(encoding='utf-8').split('\n')
    swapped = folder.parent/'swapped'
    swapped.mkdir()
    for name in ('config.json','tokenizer_config.json','vocab.json'): (swapped/name).write_bytes((folder/name).read_bytes())
    (swapped/'merges.txt').write_text('\n'.join([lines[0], *lines[101:300], *lines[1:101], *lines[300:]]), encoding='utf-8')
    theirs = AutoTokenizer.from_pretrained(swapped)
    assert any(theirs.encode(t)!=ours.encode_ordinary(t) for t in RECORDS)

def test_same_greedy_text(saved):
    tok,folder = saved
    ours,theirs,reader = GPT.from_pretrained(folder),GPT2LMHeadModel.from_pretrained(folder).eval(),AutoTokenizer.from_pretrained(folder)
    for text in ('Abstract: Many adults report pain.', 'Question:'):
        idx = torch.tensor([reader.encode(text)])
        with torch.no_grad(): assert (ours(idx)[0]-theirs(idx).logits).abs().max()<1e-3
        new = theirs.generate(idx, attention_mask=torch.ones_like(idx), max_new_tokens=24, do_sample=False)
        mine = generate(ours, idx, 24, temperature=0, eos_token=tok.eot_token, n_vocab=ours.n_tokens)
        assert reader.decode(new[0])==tok.decode(mine[0].tolist())

DIALS = [dict(repetition_penalty=1.3), dict(repetition_penalty=0.8), dict(temperature=0.7), dict(top_k=40), dict(top_p=0.9), dict(min_p=0.1), dict(temperature=1.5, min_p=0.05),
         dict(repetition_penalty=1.3, temperature=0.7, top_k=40, top_p=0.9, min_p=0.02)]

@pytest.mark.parametrize('dials', DIALS, ids=str)
def test_same_probabilities(dials):
    "Each dial and all of them, in the order in which transformers' generate applies its own"
    g = torch.Generator().manual_seed(0)
    x,had = torch.randn(20, 300, generator=g)*3,torch.randint(300, (20,40), generator=g)
    rest = {k: v for k,v in dials.items() if k!='repetition_penalty'}
    ours = sampling_probs(penalize_repeats(x, had, dials.get('repetition_penalty', 1.)), **rest)
    warps = dict(repetition_penalty=RepetitionPenaltyLogitsProcessor, temperature=TemperatureLogitsWarper, top_k=TopKLogitsWarper,
                 top_p=TopPLogitsWarper, min_p=MinPLogitsWarper)
    theirs = LogitsProcessorList([warps[k](v) for k,v in dials.items()])(had, x).softmax(-1)
    assert (ours-theirs).abs().max()<1e-6
    assert (ours-x.softmax(-1)).abs().max()>1e-3                         # negative control: the dials do something

def test_the_order_is_theirs():
    "What generate itself builds from these settings, in its order"
    config = GPT2LMHeadModel.config_class(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    torch.manual_seed(0)
    model,used = GPT2LMHeadModel(config).eval(),[]
    real = model._get_logits_processor
    def noted(*a, **k):
        used.extend(real(*a, **k))
        return real(*a, **k)
    model._get_logits_processor = noted
    model.generate(torch.tensor([[1, 2]]), max_new_tokens=2, do_sample=True, pad_token_id=0, eos_token_id=None, **DIALS[-1])
    assert [type(o) for o in used]==[RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper]

def test_same_greedy_text_with_a_penalty(saved):
    "The penalty looks at the prompt, too, and changes the text"
    tok,folder = saved
    ours,theirs = GPT.from_pretrained(folder),GPT2LMHeadModel.from_pretrained(folder).eval()
    idx = torch.tensor([tok.encode_ordinary('Abstract: Many adults report pain.')])
    def their_text(**how): return theirs.generate(idx, attention_mask=torch.ones_like(idx), max_new_tokens=24, do_sample=False, eos_token_id=None, **how)
    mine = generate(ours, idx, 24, temperature=0, repetition_penalty=1.5, n_vocab=ours.n_tokens)
    assert torch.equal(mine, their_text(repetition_penalty=1.5)) and not torch.equal(mine, their_text())

def test_rows_to_spare_are_never_drawn(saved):
    "In transformers, too: a folder says which rows mean nothing; without that note, they are drawn"
    tok,folder = saved
    model = GPT.from_pretrained(folder)
    if model.n_tokens==model.config.vocab_size: return
    with torch.no_grad(): model.transformer.wte.weight[model.n_tokens:] *= 30
    loud = folder.parent/'loud'
    model.save_pretrained(loud)
    idx = torch.tensor([tok.encode_ordinary('Question:')])
    draw = lambda: GPT2LMHeadModel.from_pretrained(loud).generate(idx, attention_mask=torch.ones_like(idx), max_new_tokens=50,
        do_sample=True, eos_token_id=None)[0]
    assert draw().max()<tok.n_vocab
    note = loud/'generation_config.json'
    note.write_text(json.dumps({k:v for k,v in json.loads(note.read_bytes()).items() if k!='suppress_tokens'}))
    assert draw().max()>=tok.n_vocab

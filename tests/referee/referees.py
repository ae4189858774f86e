"What the referees' tests share: when they run, the records, a model whose logits lie far apart, texts that are hard to cut"
import gzip, json, os
from pathlib import Path
import pytest, torch
from conftest import ROOT, SHARED
from lightbrain.config import GPTConfig
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.model import GPT
from lightbrain.tokenizer import BPETokenizer, gpt2_tokenizer, train_bpe

REFEREES = os.environ.get('LIGHTBRAIN_REFEREES')     # 'all'; 'pip': without llama.cpp, which needs node
asked = pytest.mark.skipif(REFEREES not in ('all','pip'), reason='LIGHTBRAIN_REFEREES=all is not set; bash tests/referee/run.sh')

NASTY = ['', ' ', '   ', '\n\n\n', 'a', ' a', 'a ', 'x \n y\t\tz ', "it's don't I'LL we've", 'p<0.001; 95% CI 1.2-3.4',
    'naïve Ångström µg/ml', '漢字かな交じり文', 'e\u0301\u200d\ufeff\u3000x', '👩🏽‍⚕️🇨🇭', '\x00\x07\x7f', 'ß'*40, '1234567890'*4, '\r\nA\r\nB',
    'שלום عليكم', '𝔘𝔫𝔦', '-- ... !!! ??', '\u00a0\u2028\u2029'] + [chr(o)*3+' '+chr(o) for o in range(0x20, 0x3000, 97)]

def records(n):
    "The first `n` real questions of the development set, or invented ones where it is not"
    path = SHARED/'dev'/'pubmedqa_dev.jsonl'
    if not path.exists(): return synthetic_records(n, seed=5)
    return [json.loads(l) for l in path.read_text(encoding='utf-8').split('\n')[:n]]

def documents(n):
    "`n` real documents, or invented records where there are none"
    paths = sorted((SHARED/'dev').glob('biomed_text.dev-*.jsonl.gz'))
    if not paths: return [render_record(o) for o in synthetic_records(n, seed=6)]
    out = []
    for p in paths:
        with gzip.open(p, 'rt', encoding='utf-8') as f:
            out += [json.loads(l)['text'] for l,_ in zip(f, range(n-len(out)))]
    assert len(out)==n, f'{len(out)} of {n} documents in {paths}'
    return out

def own_tokenizer(size, texts=()): return BPETokenizer(*train_bpe([*texts, *(render_record(o) for o in synthetic_records(700))], size))

def student(tokenizer, rows=0, block_size=256, seed=0):
    "A small model of random weights that `tokenizer` belongs to, with `rows` to spare"
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=tokenizer.n_vocab+rows, block_size=block_size, n_layer=2, n_head=2, n_embd=32, dropout=.1)).eval()
    with torch.no_grad():
        for n,p in model.named_parameters():
            if '.h.' in n and n.endswith('weight'): p *= 5
            if n.endswith('bias'): p.normal_(0, .3)
    model.tokenizer = tokenizer
    return model

def students(): return dict(gpt2=lambda: student(gpt2_tokenizer()), own=lambda: student(own_tokenizer(1200), 36))

"""Each format that lesson 08 writes, read by the program that it is for, and each tokenizer by a second one

    bash tests/referee/run.sh                              # makes an environment and runs all of tests/referee"""
import json, os, subprocess, sys
from pathlib import Path
import pytest, torch
from conftest import ROOT
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.evaluate import perplexity
from lightbrain.export import to_gguf, to_onnx, to_transformers
from lightbrain.sample import generate
from lightbrain.tokenizer import gpt2_tokenizer, save_tokenizer, to_tiktoken
from lightbrain.train import scored_windows
from referees import NASTY, REFEREES, asked, documents, own_tokenizer, student, students

pytestmark = asked
NPM = os.environ.get('LIGHTBRAIN_LLAMA')             # folder with node_modules/node-llama-cpp
with_llama = pytest.mark.skipif(REFEREES=='pip', reason='llama.cpp: NOT RUN, no node here')
CODE = [p.read_text(encoding='utf-8') for p in sorted((ROOT/'lightbrain').rglob('*.py'))]      # enough text for 4,096 tokens
TEXTS = [render_record(o) for o in synthetic_records(12, seed=9)]

def test_the_lesson():
    "Strictly: none of its programs may be missing"
    env = os.environ | dict(LIGHTBRAIN_SCALE='ci', IN_TEST='1', OMP_NUM_THREADS='1', MPLBACKEND='agg')
    p = subprocess.run([sys.executable, ROOT/'.ci'/'lesson.py', '08_export'], env=env, capture_output=True, text=True)
    assert p.returncode==0, p.stdout[-3000:]+p.stderr[-3000:]
    assert "'lm_eval': " in p.stdout and "'ONNX Runtime': " in p.stdout
    assert REFEREES=='pip' or "'llama.cpp': " in p.stdout

@pytest.fixture(scope='module', params=['gpt2','own'])
def model(request): return students()[request.param]()

def test_perplexity_by_transformers(model, tmp_path):
    "The same windows, scored by the loss that transformers computes itself"
    from transformers import GPT2LMHeadModel
    theirs = GPT2LMHeadModel.from_pretrained(to_transformers(model, tmp_path/'model')).eval()
    end = model.tokenizer.eot_token
    tape = torch.tensor([i for o in TEXTS for i in [*model.tokenizer.encode_ordinary(o), end]])
    ours,nats,n = perplexity(model, tape, end=end),0.,0
    with torch.no_grad():
        for s,k in zip(*scored_windows(tape.numpy(), 256, end=end)):
            x = tape[None,s:s+k+1]
            nats += theirs(x[:,:-1], labels=x[:,1:], shift_labels=x[:,1:]).loss.double().item()*int(k)
            n += int(k)
    off = abs(nats/n-ours.loss)
    print(f'\n{n:,} tokens: loss {ours.loss:.6f}, by transformers {off:.1e} away; perplexity {ours.perplexity:.2f}')
    assert n==ours.tokens and off<=1e-4
    assert abs(torch.tensor(nats/n).exp()/ours.perplexity-1)<=1e-4

def test_logits_by_onnx_runtime(model, tmp_path):
    import onnxruntime
    run = onnxruntime.InferenceSession(to_onnx(model, tmp_path/'onnx')/'model.onnx').run
    g,worst = torch.Generator().manual_seed(0),0.
    for shape in ((1,1), (3,17), (2,256)):
        x = torch.randint(model.n_tokens, shape, generator=g)
        with torch.no_grad(): off = (torch.from_numpy(run(None, dict(ids=x.numpy()))[0])-model(x)[0]).abs().max().item()
        worst = max(worst, off)
    print(f'\nlogits {worst:.1e} apart at most')
    assert worst<=1e-4

def test_activations_by_transformer_lens(model, tmp_path):
    "What TransformerLens' cache holds of the folder that we wrote: the stream before and after each block, and the end of it"
    from transformer_lens.model_bridge import TransformerBridge
    bridge = TransformerBridge.boot_transformers(str(to_transformers(model, tmp_path/'model')), device='cpu')
    x = torch.tensor([model.tokenizer.encode_ordinary(TEXTS[0])[:200]])
    ours,t = {},model.transformer
    def note(name, at): return lambda layer,args,out: ours.__setitem__(name, (args[0] if at=='in' else out).detach())
    hooks = [t.h[0].register_forward_hook(note('blocks.0.hook_in', 'in'))]
    for i,o in enumerate(t.h): hooks.append(o.register_forward_hook(note(f'blocks.{i}.hook_out', 'out')))
    with torch.no_grad(): logits,cache = bridge.run_with_cache(x)
    with torch.no_grad(): mine = model(x)[0]
    for o in hooks: o.remove()
    assert len(ours)==model.config.n_layer+1
    off = {n: (cache[n]-o).abs().max().item() for n,o in ours.items()} | {'logits': (logits-mine).abs().max().item()}
    print('\n'+', '.join(f'{n} {o:.1e}' for n,o in off.items()))
    assert max(off.values())<=1e-4 and (cache['blocks.0.hook_out']-ours['blocks.1.hook_out']).abs().max()>1e-2

SCRIPT = '''
import {getLlama} from "node-llama-cpp"; import fs from "fs";
const [file, texts, n, begun] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 1});
const model = await llama.loadModel({modelPath: file, useMmap: false});
const context = await model.createContext({contextSize: 256, threads: 1, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"});
const said = [], sequence = context.getSequence();
for (const text of JSON.parse(fs.readFileSync(texts, "utf8"))) {
    const ids = model.tokenize(text), written = [];
    if (said.length < +begun) {
        await sequence.clearHistory();
        for await (const o of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) if (written.push(o) == +n) break;
    }
    said.push({ids, written});
}
console.log(JSON.stringify(said));
process.exit(0);
'''

def greedy(model, ids, n):
    "Our `n` likeliest tokens after `ids`, and how clear the closest choice was, in standard deviations of the logits"
    new = generate(model, ids, n, temperature=0, n_vocab=model.n_tokens)[0]
    with torch.no_grad(): logits = model(new[None,:-1])[0][0,len(ids)-1:,:model.n_tokens]
    best = logits.topk(2).values
    return new[len(ids):].tolist(), ((best[:,0]-best[:,1])/logits.std(-1)).min().item()

@with_llama
def test_greedy_text_by_llama_cpp(model, tmp_path):
    """The same ids for every text, and the same 20 tokens after each beginning

    llama.cpp looks its GELU up in a table of 16-bit numbers, which may turn a near draw; so a beginning counts whose choices are all clear."""
    tok,begun = model.tokenizer,[o[:20+9*i] for i,o in enumerate(TEXTS)]
    texts = begun + [o for o in NASTY if '\0' not in o]
    (tmp_path/'texts.json').write_text(json.dumps(texts))
    script = Path(NPM)/f'greedy-{os.getpid()}.mjs'
    script.write_text(SCRIPT)
    words = ['node', script, to_gguf(model, tmp_path/'m.gguf'), tmp_path/'texts.json', '20', str(len(begun))]
    try: p = subprocess.run(words, capture_output=True, text=True, timeout=300)
    finally: script.unlink()
    assert p.returncode==0, p.stderr
    said = json.loads(p.stdout.splitlines()[-1])
    assert [o for o,s in zip(texts, said) if s['ids']!=tok.encode_ordinary(o)]==[]
    ours = [(*greedy(model, s['ids'], 20), s['written']) for s in said[:len(begun)]]
    clear = [(a,b) for a,gap,b in ours if gap>.005]
    print(f'\n{len(texts)} texts, the same ids; 20 greedy tokens after {len(clear)} of {len(begun)} beginnings: {sum(a==b for a,b in clear)} the same')
    assert len(clear)>=4 and all(a==b for a,b in clear)

@pytest.mark.parametrize('name', ['gpt2','own'])
def test_ids_by_tokenizers(name, tmp_path):
    "Our two files in the library `tokenizers`, against tiktoken: 1,000 documents, and nasty Unicode; GPT-2's, and one of ours"
    from tokenizers import ByteLevelBPETokenizer
    tok = gpt2_tokenizer() if name=='gpt2' else own_tokenizer(4096, CODE)
    save_tokenizer(tok, tmp_path)
    theirs = ByteLevelBPETokenizer(str(tmp_path/'vocab.json'), str(tmp_path/'merges.txt'))
    fast,texts = to_tiktoken(tok),documents(1000)+NASTY
    want = [fast.encode_ordinary(o) for o in texts]
    assert [o for o,w in zip(texts, want) if theirs.encode(o).ids!=w]==[]
    if name=='own': assert tok.n_vocab==4096 and [o for o,w in zip(texts[-300:], want[-300:]) if tok.encode_ordinary(o)!=w]==[]
    print(f'\n{len(texts)} texts, {sum(map(len, want)):,} tokens, the same ids')

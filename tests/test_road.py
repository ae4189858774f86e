"The road alone: a script of 25 lines goes from invented records to a model that another program loads"
import ast, re, subprocess, sys
import pytest, torch
from conftest import ROOT
from lightbrain.core import DISCLAIMER
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.data import TokenDataset
from lightbrain.evaluate import perplexity, pubmedqa
from lightbrain.model import GPT
from lightbrain.sample import generate, stream
from lightbrain.tokenizer import gpt2_tokenizer, load_tokenizer

SCRIPT = ROOT/'bench'/'road.py'
TEXTS = [render_record(o) for o in synthetic_records(300, seed=5)] + ['β-blocker 🩺', '  two  blanks', '<|endoftext|>', "it's 1,000\n\n"]
LOADED = "import runpy,sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); print(*sorted(sys.modules))"

@pytest.fixture(scope='module')
def walked(tmp_path_factory):
    "(folder, what the script said, every module that was loaded on the way)"
    folder = tmp_path_factory.mktemp('road')
    r = subprocess.run([sys.executable, '-c', LOADED, SCRIPT, folder, '600', '40'], capture_output=True, text=True, encoding='utf-8')
    assert not r.returncode, r.stderr
    said,_,modules = r.stdout.rstrip('\n').rpartition('\n')
    return folder,said,modules.split()

def test_the_script_is_short_and_stays_on_the_road(walked):
    lines = SCRIPT.read_text(encoding='utf-8').splitlines()
    assert len(lines)<=25 and max(map(len, lines))<=120
    named = {o.module for o in ast.walk(ast.parse('\n'.join(lines))) if isinstance(o, ast.ImportFrom)}
    loaded = {o for o in walked[2] if o.startswith('lightbrain.')}
    assert {'lightbrain.data','lightbrain.train','lightbrain.sample'}<=named-{'pathlib'}<=loaded
    assert not {o for o in loaded if re.match(r'lightbrain\.(prep|run|fast|cli)\b', o)}

def test_it_says_loss_trigram_text_and_what_the_text_is(walked):
    loss,trigram = (float(re.search(o, walked[1])[1]) for o in (r'\(loss ([\d.]+)', r'trigram loss ([\d.]+)'))
    assert 0.5<trigram<5 and 0.5<loss<5, 'ln 4096 is 8.3: nothing was learned'
    assert re.search(r'^Abstract:\s*\S', walked[1], re.M) and walked[1].rstrip().endswith(DISCLAIMER)

def test_the_folder_holds_the_model_that_was_measured(walked):
    model,held_out = GPT.from_pretrained(walked[0]/'model'),TokenDataset(walked[0]/'set', 'validation').tokens
    def said(): return repr(perplexity(model, held_out, end=model.tokenizer.eot_token))
    assert said() in walked[1]
    with torch.no_grad(): model.transformer.ln_f.weight[0] += 0.1
    assert said() not in walked[1]

@pytest.mark.filterwarnings('ignore:the model has')
def test_the_tokenizer_came_along(walked):
    "Set and model hold the learner's own, the model takes it by itself, and GPT-2's is refused by name"
    model,own = GPT.from_pretrained(walked[0]/'model'),load_tokenizer(walked[0]/'set')
    assert load_tokenizer(walked[0]/'model') is own is not gpt2_tokenizer() and 1000<own.n_vocab<4096
    ids = own.encode_ordinary('Abstract: Fever')
    with pytest.warns(UserWarning, match=f'the model has {4096-own.n_vocab:,} rows more'):
        said = ''.join(stream(model, None, 'Abstract: Fever', 20, temperature=0))
    assert own.decode(generate(model, ids, 20, temperature=0)[0,len(ids):].tolist()).startswith(said)
    records = synthetic_records(20)
    assert pubmedqa(model, records).predictions==pubmedqa(model, records, own).predictions
    for use in (lambda: pubmedqa(model, records, gpt2_tokenizer()), lambda: stream(model, gpt2_tokenizer(), 'Fever')):
        with pytest.raises(ValueError, match=r'the model has the tokenizer .*, the text has gpt2 \(50,257 tokens'): use()

@pytest.mark.filterwarnings('ignore:the model has')
def test_transformers_reads_the_folder(walked):
    "The same ids for every text, the same greedy text"
    transformers = pytest.importorskip('transformers')
    model,own = GPT.from_pretrained(walked[0]/'model'),load_tokenizer(walked[0]/'model')
    tok = transformers.AutoTokenizer.from_pretrained(walked[0]/'model')
    theirs = transformers.AutoModelForCausalLM.from_pretrained(walked[0]/'model').eval()
    for s in TEXTS: assert tok.encode(s)==own.encode(s, allowed_special='all'), s
    assert tok.encode(TEXTS[0])!=gpt2_tokenizer().encode(TEXTS[0])
    ids = torch.tensor([tok.encode('Abstract: Fever')])
    want = theirs.generate(ids, max_new_tokens=30, do_sample=False, eos_token_id=None)
    assert generate(model, ids, 30, temperature=0).tolist()==want.tolist()

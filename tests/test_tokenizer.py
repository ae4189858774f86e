"A tokenizer is two files: for any text the same ids from Python, from tiktoken, from the disk and in transformers"
import json, pickle
import pytest
from hypothesis import given, settings, strategies as st
from lightbrain.corpus import render_record, synthetic_records
from lightbrain.tokenizer import (END_OF_TEXT, BPETokenizer, gpt2_tokenizer, load_tokenizer, save_tokenizer,
    to_tiktoken, tokenizer_info, train_bpe)

DOCS = [render_record(r) for r in synthetic_records(400)]
SPECIAL = [END_OF_TEXT, '<|note|>', '<|note|><|end é|>']
ANY = st.text(st.one_of(st.characters(), st.sampled_from(" \n\t'sltdvem<|>é漢\u0301\u200d\ufeff\U0001f600\ud800")), max_size=80)

@pytest.fixture(scope='module')
def own(): return BPETokenizer(*train_bpe(DOCS, 1500, SPECIAL))

@pytest.fixture(scope='module')
def folder(own, tmp_path_factory):
    save_tokenizer(own, here := tmp_path_factory.mktemp('tokenizer'))
    return here

@settings(max_examples=1500, deadline=None)
@given(text=ANY)
def test_compiled_is_the_same(own, folder, text):
    fast = load_tokenizer(folder)
    assert fast.encode_ordinary(text)==own.encode_ordinary(text)
    assert fast.encode(text, allowed_special='all')==own.encode(text)
    assert fast.decode(fast.encode_ordinary(text))==own.decode(own.encode_ordinary(text))

@pytest.mark.filterwarnings('ignore:the text gives')
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_training_travels(tmp_path_factory, data):
    "Whatever the archive: ids and merges of a training always imply each other, so that tiktoken agrees and the files come back"
    letters = st.text(st.sampled_from('aab \n漢'), max_size=14)
    tok = BPETokenizer(*train_bpe(data.draw(st.lists(letters, min_size=1, max_size=8))+['abcd'*9], 268))
    save_tokenizer(tok, here := tmp_path_factory.mktemp('any'))
    fast = load_tokenizer(here)
    assert tokenizer_info(fast)==tokenizer_info(tok)
    for text in data.draw(st.lists(letters, max_size=5)): assert fast.encode_ordinary(text)==tok.encode_ordinary(text)

def test_negative_control(own, folder):
    "Two merges swapped give other ids somewhere; the files that say so are refused"
    a,b = 300,301
    merges = own.merges.copy()
    merges[a-256],merges[b-256] = merges[b-256],merges[a-256]
    other = BPETokenizer(own.vocab | {a: own.vocab[b], b: own.vocab[a]}, merges)     # a proper one, but another one
    assert tokenizer_info(other)['sha256']!=tokenizer_info(own)['sha256']
    assert any(other.encode_ordinary(t)!=own.encode_ordinary(t) for t in DOCS)
    with pytest.raises(ValueError, match='another tokenizer'): save_tokenizer(other, folder)
    with pytest.raises(ValueError, match='must follow the order'): BPETokenizer(own.vocab, merges)

def test_travels_between_processes(own):
    "Workers get a tokenizer pickled"
    for tok in (own, to_tiktoken(own), gpt2_tokenizer()):
        there = pickle.loads(pickle.dumps(tok))
        assert tokenizer_info(there)==tokenizer_info(tok) and there.encode_ordinary(DOCS[0])==tok.encode_ordinary(DOCS[0])

def test_written_the_same_each_time(own, folder, tmp_path):
    "The same bytes from Python's tokenizer, tiktoken's, and one that was read: manifests hold their sha256"
    for i,tok in enumerate((own, to_tiktoken(own), load_tokenizer(folder))):
        save_tokenizer(tok, tmp_path/str(i))
        for name in ('vocab.json','merges.txt'): assert (tmp_path/str(i)/name).read_bytes()==(folder/name).read_bytes()
    assert json.loads((folder/'vocab.json').read_bytes())[END_OF_TEXT]==own.eot_token

def test_damage_is_noticed(own, folder, tmp_path):
    "Flip a bit in many places: a sentence, or a tokenizer with another sha256, never silence"
    raw = {o.name: o.read_bytes() for o in folder.iterdir()}
    refused = 0
    for name,data in raw.items():
        for at in range(0, len(data), len(data)//60):
            for o,d in raw.items(): (tmp_path/o).write_bytes(d)
            (tmp_path/name).write_bytes(data[:at]+bytes([data[at]^1])+data[at+1:])
            try: assert tokenizer_info(load_tokenizer(tmp_path))['sha256']!=tokenizer_info(own)['sha256'], (name, at)
            except ValueError as e: refused += str(tmp_path) in str(e)
    assert refused>60

"""The whole road and no workshop: python bench/road.py FOLDER RECORDS STEPS, such as: road.py runs/road 6000 400"""
import sys
from pathlib import Path
from lightbrain.core import DISCLAIMER, seed_all
from lightbrain.corpus import synthetic_records
from lightbrain.data import TokenDataset, record_document, split_documents, write_tapes
from lightbrain.evaluate import ngram_losses, perplexity
from lightbrain.model import GPT, preset
from lightbrain.sample import stream
from lightbrain.tokenizer import BPETokenizer, END_OF_TEXT, train_bpe
from lightbrain.train import scored_places, scored_windows, train

folder,records,steps = (f(o) for f,o in zip((Path, int, int), sys.argv[1:] or ('runs/road', 6000, 400)))
docs = [record_document(o, 'synthetic') for o in synthetic_records(records)]
learn,_ = split_documents(docs)
tok = BPETokenizer(*train_bpe((d.text for d in learn), 4096), [END_OF_TEXT])
write_tapes(docs, folder/'set', tok)
seed_all(42)
model = GPT(preset('nano', dropout=0.))
train(model, folder/'set', steps, lr=3e-3, order='documents', progress=False)
model.save_pretrained(folder/'model', tok)              # what `transformers` loads
seen,held_out,end = *(TokenDataset(folder/'set', o).tokens for o in ('train','validation')), tok.eot_token
at = scored_places(*scored_windows(held_out, 128, end=end))
print(perplexity(model, held_out, end=end), '\ntrigram loss', ngram_losses(seen, held_out, 4096, at)['trigram'])
print('Abstract:', *stream(model, tok, 'Abstract:', 60, temperature=0.7), '\n', DISCLAIMER, sep='')

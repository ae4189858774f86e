"""Write the JSON lines for a real run: one document in 20, chosen by the sha1 of its id, is held out; all others are trained on

    python bench/real_text.py SHARD.jsonl.gz [...] --out texts.jsonl.gz
    lightbrain-prepare --source texts.jsonl.gz --group-column group --validation 0.05 --out data/processed/real \\
        --evaluation PUBMEDQA.jsonl --test-records exclude

`lightbrain-prepare` chooses the side of a document by a hash of its group. So each document gets a group of its own whose hash
lies on the side that sha1 has chosen: the held-out documents are then the same ones for any program that knows the rule.

The rule: sha1(id) modulo 20 is 0, where sha1 is read as a number; all 160 bits of it, or the first 32. Both, because the
shards at hand were themselves cut by the last bits of sha1, so that the 160-bit rule finds one document in 12,017.
"""
import argparse, gzip, hashlib, itertools, json
from lightbrain.data import split_of

HELD_OUT = 20      # one document in so many

def side_of(id):
    "By the rule that other programs know, too"
    h = int(hashlib.sha1(id.encode()).hexdigest(), 16)
    return 'train' if h%HELD_OUT and (h>>128)%HELD_OUT else 'validation'

def group_of(id):
    "The first name made from the id that falls on its side"
    return next(g for k in itertools.count() if split_of(g := f'{id}#{k}', 1/HELD_OUT)==side_of(id))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('shards', nargs='+')
    p.add_argument('--out', required=True)
    args,n = p.parse_args(),dict(train=0, validation=0)
    with gzip.open(args.out, 'wt', encoding='utf-8', newline='\n') as out:
        for shard in args.shards:
            with gzip.open(shard, 'rt', encoding='utf-8') as f:
                for line in f:
                    d = json.loads(line)
                    n[side_of(d['id'])] += 1
                    out.write(json.dumps(d | dict(group=group_of(d['id'])), ensure_ascii=False)+'\n')
    print(', '.join(f'{k} {v:,} documents' for k,v in n.items()))

if __name__=='__main__': main()

"""What came out of a real run, without its weights and without a word of its text: python bench/real_results.py runs/tiny data/processed/real PUBMEDQA.jsonl nbs/results/tiny-cpu

Calls the shipped commands: `lightbrain-evaluate` on the set and on the questions (both go into the model's card), `lightbrain-export
--to hf`. Then: the exported folder's loss in `transformers` on the same windows, what was learned by heart, and samples, one a seed and
none left out. The record gets settings, log, manifest, card, plots and these numbers. Where the plan was changed on the way, `began.yaml` is laid beside them by hand: the settings before that."""
import json, shutil, sys
from pathlib import Path
import torch
from lightbrain.cli import evaluate, export
from lightbrain.data import TokenDataset, load_manifest
from lightbrain.fast.budget import matmul_ceiling
from lightbrain.memory import memorisation
from lightbrain.model import GPT
from lightbrain.run.log import plot_run
from lightbrain.sample import stream

PROMPTS = 'The patient', 'Background:', 'In conclusion,', 'What are the symptoms of', 'The gene', 'Doctor:'

def by_transformers(folder, tokens, T, rows=32):
    "Loss of an exported model on windows laid end to end, by transformers and by us, nats a token"
    from transformers import GPT2LMHeadModel
    theirs,ours = GPT2LMHeadModel.from_pretrained(folder).eval(),GPT.from_pretrained(folder)
    x = torch.tensor(tokens[:rows*T].astype('int64')).view(rows, T)
    with torch.no_grad():
        logits = theirs(x[:,:-1]).logits
        return dict(transformers=torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:,1:].flatten()).item(),
            ours=ours(x[:,:-1], x[:,1:])[1].item(), tokens=rows*(T-1))

def main(run, data, questions, out):
    model = GPT.from_pretrained(run/'model')
    val,T = TokenDataset(data, 'validation'),model.config.block_size
    r = dict(text=evaluate(str(run/'model'), str(data), max_tokens=len(val.tokens)),
             answers=evaluate(str(run/'model'), str(questions), truncate='keep-end'))
    folder = export(str(run/'model'), 'hf', str(run/'hf'))
    r['referee'] = by_transformers(folder, val.tokens, T)
    r['ceiling'] = matmul_ceiling(torch.float32, 'cpu')                  # nothing else may run now
    found = memorisation(model, TokenDataset(data, 'train'), val)
    r['memory'] = {k: getattr(found, k) for k in ('recited','recited_chance','copied','distinct','repeated','verdict')}
    r['samples'] = [dict(seed=i, prompt=o, text=''.join(stream(model, None, o, 60, temperature=0.8, top_p=0.95,
        generator=torch.Generator().manual_seed(i)))) for i,o in enumerate(PROMPTS)]
    out.mkdir(parents=True, exist_ok=True)
    (out/'results.json').write_text(json.dumps(r, indent=1)+'\n', encoding='utf-8')
    for o in ('config.yaml','metrics.jsonl'): shutil.copy(run/o, out/o)
    for o in ('README.md','datasheet.md','card.json','loss.svg'): shutil.copy(run/'model'/o, out/o)
    m = load_manifest(data)
    (out/'manifest.json').write_text(json.dumps(m, indent=1)+'\n', encoding='utf-8')
    for o in plot_run(run): shutil.copy(o, out/o.name)

if __name__=='__main__': main(*map(Path, sys.argv[1:]))

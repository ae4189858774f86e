"A trained model opens in transformers unchanged: same keys, same logits, same greedy text"
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel
from lightbrain.model import GPT
from lightbrain.sample import generate

def test_parity(run):
    ours = GPT.from_pretrained(run/'run'/'model')
    theirs,info = GPT2LMHeadModel.from_pretrained(run/'run'/'model', output_loading_info=True)
    assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys']
    theirs.eval()
    tok = AutoTokenizer.from_pretrained(run/'run'/'model')
    text = 'Abstract: Many adults report pain.\nQuestion: Does it help?\nAnswer:'
    idx = torch.tensor([tok(text)['input_ids']])
    with torch.no_grad(): a,b = ours(idx)[0],theirs(idx).logits
    assert (a-b).abs().max()<1e-4
    with torch.no_grad(): ours.transformer.h[0].ln_1.weight[0] += 0.5
    with torch.no_grad(): assert (ours(idx)[0]-b).abs().max()>1e-4      # negative control: the comparison notices one changed number
    ours = GPT.from_pretrained(run/'run'/'model')
    mine = generate(ours, idx, 24, temperature=0)
    assert torch.equal(mine, theirs.generate(idx, max_new_tokens=24, do_sample=False, pad_token_id=50256, eos_token_id=None))

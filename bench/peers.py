"The plain GPT-2 recipe, re-stated: what people write first, and what LightBrain is measured against"
import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

class PlainBlock(nn.Module):
    "Read, think, add: every operation a separate call"
    def __init__(self, c):
        super().__init__()
        C = c.n_embd
        self.n_head,self.p = c.n_head,c.dropout
        self.ln_1,self.ln_2 = nn.LayerNorm(C),nn.LayerNorm(C)
        self.c_attn,self.attn_proj = nn.Linear(C, 3*C),nn.Linear(C, C)
        self.c_fc,self.mlp_proj = nn.Linear(C, 4*C),nn.Linear(4*C, C)
        self.drop = nn.Dropout(c.dropout)
    def forward(self, x):
        B,T,C = x.shape
        q,k,v = (o.view(B, T, self.n_head, -1).transpose(1, 2) for o in self.c_attn(self.ln_1(x)).split(C, -1))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0., is_causal=True)
        x = x + self.drop(self.attn_proj(y.transpose(1, 2).reshape(B, T, C)))
        return x + self.drop(self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate='tanh')))

class PlainGPT(nn.Module):
    "GPT-2 with tied embeddings and logits for every position"
    def __init__(self, c):
        super().__init__()
        self.config = c
        self.wte,self.wpe = nn.Embedding(c.vocab_size, c.n_embd),nn.Embedding(c.block_size, c.n_embd)
        self.drop,self.ln_f = nn.Dropout(c.dropout),nn.LayerNorm(c.n_embd)
        self.h = nn.ModuleList(PlainBlock(c) for _ in range(c.n_layer))
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        for n,p in self.named_parameters():
            if n.endswith('proj.weight'): nn.init.normal_(p, std=0.02/math.sqrt(2*c.n_layer))
            elif p.dim()>1: nn.init.normal_(p, std=0.02)
            elif n.endswith('bias'): nn.init.zeros_(p)
    def hidden(self, x):
        h = self.drop(self.wte(x) + self.wpe(torch.arange(x.shape[1], device=x.device)))
        for block in self.h: h = block(h)
        return self.ln_f(h)
    def forward(self, x, y):
        logits = self.lm_head(self.hidden(x))
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), y.reshape(-1))    # fp32 logits

def plain_groups(model, weight_decay=0.1):
    "Decay matrices, leave vectors alone"
    ps = list(model.parameters())
    return [dict(params=[p for p in ps if p.dim()>1], weight_decay=weight_decay),
            dict(params=[p for p in ps if p.dim()<2], weight_decay=0.)]

def plain_batch(path, batch_size, block_size, generator=None):
    "Random windows; the file is opened anew for each batch, as the plain recipe does"
    tokens = np.memmap(path, dtype='<u2', mode='r')
    starts = torch.randint(len(tokens)-block_size, (batch_size,), generator=generator)
    x = torch.stack([torch.from_numpy(tokens[i:i+block_size].astype(np.int64)) for i in starts])
    y = torch.stack([torch.from_numpy(tokens[i+1:i+1+block_size].astype(np.int64)) for i in starts])
    return x,y

class PlainStep:
    "The plain step: loss, gradients, clipping, AdamW; called like `lightbrain.train.Step`"
    def __init__(self, model, optimizer, dtype):
        self.model,self.optimizer,self.dtype = model,optimizer,dtype
    def gradients(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype!=torch.float32): loss = self.model(x, y)
        loss.backward()
        return loss.detach()
    def update(self, lr):
        for g in self.optimizer.param_groups: g['lr'] = lr
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

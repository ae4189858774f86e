"Build a small medical language model from scratch, one notebook at a time"
from importlib import import_module

__version__ = "0.1.0"

_HOME = dict(GPT='model', preset='config', gpt2_tokenizer='tokenizer', load_tokenizer='tokenizer', prepare='prep.prepare',
    TokenDataset='data', TrainConfig='run.config', Trainer='run.trainer', generate='sample', stream='sample',
    perplexity='evaluate', pubmedqa='evaluate')
__all__ = [*_HOME]

def __getattr__(name):
    "Import what is asked for, and not before: `import lightbrain` and a command's `--help` load no torch"
    if name not in _HOME: raise AttributeError(f"lightbrain has no '{name}'; it has {', '.join(_HOME)}")
    return getattr(import_module(f'.{_HOME[name]}', __name__), name)

def __dir__(): return sorted({*globals(), *_HOME})

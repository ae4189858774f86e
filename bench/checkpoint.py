"Time to save and to verify, and the share of a run at one save in five minutes: python bench/checkpoint.py [preset]"
import statistics, sys, tempfile, time
from pathlib import Path
from lightbrain.run.checkpoint import checkpoint_dir, latest_checkpoint
from lightbrain.run.checkpoint import verify_checkpoint
from lightbrain.prep.prepare import prepare
from lightbrain.run.trainer import TrainConfig, Trainer

def clock(f): t = time.perf_counter(); f(); return time.perf_counter()-t

preset = sys.argv[1] if len(sys.argv)>1 else 'tiny'
with tempfile.TemporaryDirectory() as tmp:
    prepare('synthetic:200', Path(tmp)/'data', progress=False)
    t = Trainer(TrainConfig(preset=preset, batch_size=1, device='cpu', dtype='float32'), Path(tmp)/'data',
        Path(tmp)/'run', progress=False)
    t.train_step()                                              # now the optimizer has its two tensors for each weight
    save,verify = [],[]
    for t.step in range(1,
        8):                                  # from the fourth on, an old one is verified and removed each time
        save.append(clock(t.save))
        verify.append(clock(lambda: verify_checkpoint(checkpoint_dir(t.out/'checkpoints', t.step))))
    find = clock(lambda: latest_checkpoint(t.out/'checkpoints'))
    mb = sum(o['size'] for o in verify_checkpoint(latest_checkpoint(t.out/'checkpoints')[0])['files'].values())/1e6
    s,v = statistics.median(save[3:]),statistics.median(verify)
    print(f'{preset}: a checkpoint of {mb:.0f} MB')
    print(f'save, with verifying and removing old ones  {s:.2f} s ({min(save[3:]):.2f} to {max(save[3:]):.2f})')
    print(f'verify one                                  {v:.2f} s; find the newest sound one {find:.2f} s')
    print(f'share of a run at one save in 5 minutes     {s/300:.2%}')

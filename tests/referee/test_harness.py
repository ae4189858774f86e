"""lm-evaluation-harness and our own scoring, one against the other: every log-likelihood within 1e-4, the same marks

    bash tests/referee/run.sh                              # makes an environment and runs all of tests/referee
    LIGHTBRAIN_RECORDS=500                                 # this many real questions instead of 60, where they are"""
import copy, json, os
import pytest, torch
from lightbrain.corpus import pubmedqa_record, render_record, synthetic_records
from lightbrain.evaluate import ANSWER_WORDS, answer_ids, answer_scores, pubmedqa
from lightbrain.export import harness, to_transformers
from referees import NASTY, asked, records, students

pytestmark = asked
RECORDS = int(os.environ.get('LIGHTBRAIN_RECORDS', 60))
YAML = r'''
task: local_pubmedqa
dataset_path: json
dataset_kwargs:
  data_files: {test: FOLDER/exam.jsonl}
  cache_dir: FOLDER/cache
test_split: test
output_type: multiple_choice
doc_to_text: "Abstract: {{contexts|join(' ')}}\nQuestion: {{question}}\nAnswer:"
doc_to_target: final_decision
doc_to_choice: [yes_, no_, maybe]
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
'''.replace('yes_', '"yes"').replace('no_', '"no"')

@pytest.fixture(scope='module', params=['gpt2','own'])
def model(request): return students()[request.param]()

def examined(lm, asked, folder):
    "(log-likelihood of each answer (N,3), share right), as lm_eval finds them with a local file and a local description"
    import lm_eval
    from lm_eval.tasks import TaskManager
    folder.mkdir()
    rows = [dict(contexts=o['context']['contexts'], question=o['question'], final_decision=o['final_decision']) for o in asked]
    (folder/'exam.jsonl').write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
    (folder/'exam.yaml').write_text(YAML.replace('FOLDER', str(folder)), encoding='utf-8')
    found = lm_eval.simple_evaluate(model=lm, tasks=['local_pubmedqa'], bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False))
    rows = sorted(found['samples']['local_pubmedqa'], key=lambda o: o['doc_id'])
    nats = torch.tensor([[float(r[0]) for r in o['filtered_resps']] for o in rows], dtype=torch.float64)
    return nats, found['results']['local_pubmedqa']['acc,none']

def ours(model, asked):
    "The same two numbers, by lesson 06"
    tok,answers = model.tokenizer,answer_ids(model.tokenizer)
    room = model.config.block_size-max(map(len, answers))+1
    prompts = [tok.encode_ordinary(render_record(o, answer=False))[-room:] for o in asked]
    return answer_scores(model, prompts, answers), pubmedqa(model, asked, truncate='keep-end')

def exam(model):
    "Real questions, most longer than the context; for a tokenizer with answers of unequal length only some that fit"
    if len({len(o) for o in answer_ids(model.tokenizer)})==1: return [pubmedqa_record(o) for o in records(RECORDS)]
    return synthetic_records(60, seed=7)

def test_one_exam(model, tmp_path):
    asked = exam(model)
    nats,share = examined(harness(model), asked, tmp_path/'ours')
    mine,result = ours(model, asked)
    off = (nats-mine).abs().max().item()
    print(f'\n{len(asked)} questions, {result.truncated} cut: log-likelihoods differ by {off:.1e} at most; '
          f'right: {share:.3f} by lm_eval, {result.accuracy:.3f} by us')
    assert off<=1e-4 and abs(share-result.accuracy)<1e-9
    assert len(set(result.predictions))>1, 'a model that always says the same shows little'
    other = copy.deepcopy(model)                       # negative control: another model is seen
    with torch.no_grad(): other.transformer.h[0].ln_1.weight[0] += .5
    assert (examined(harness(other), asked[:5], tmp_path/'other')[0]-mine[:5]).abs().max()>1e-4

@pytest.fixture(scope='module')
def both(model, tmp_path_factory):
    """Two examinees: our adapter, and the harness' own on the folder that we wrote

    Its cache of equal contexts is off: in 0.4.13 it takes the scores of the wrong places when two windows hold the same tokens, and one
    of them asks for fewer of these (`test_a_whole_text` found it, on a text that repeats itself)."""
    from lm_eval.models.huggingface import HFLM
    folder = to_transformers(model, tmp_path_factory.mktemp('folder')/'model')
    return harness(model, batch_size=5), HFLM(pretrained=str(folder), device='cpu', dtype='float32', batch_size=5,
        logits_cache=False)

def ask(both, kind, *args):
    "What both answer to the same requests"
    from lm_eval.api.instance import Instance
    requests = lambda: [Instance(request_type=kind, doc={}, arguments=copy.deepcopy(o), idx=i) for i,o in enumerate(args)]
    return [getattr(o, kind)(requests()) for o in both]

def test_the_folder_as_lm_eval_reads_it(both, model, tmp_path):
    asked = exam(model)[:20]
    (a,share_a),(b,share_b) = (examined(lm, asked, tmp_path/n) for lm,n in zip(both, ('a','b')))
    print(f'\n{len(asked)} questions: adapter and HFLM differ by {(a-b).abs().max():.1e} at most')
    assert (a-b).abs().max()<=1e-4 and share_a==share_b

LONG = [render_record(o) for o in synthetic_records(12, seed=8)]
PAIRS = [('Abstract:', ' pain'), ('Abstract: ', 'pain'), ('Answer: \n ', ' yes'), ('', 'Abstract: many adults'),
    ('Question: does it help?\nAnswer:', ' maybe, but it is not known'), ('\n'.join(LONG), ' yes'), ('\n'.join(LONG), '\n'+LONG[0]),
    ('漢', '字'), ('Abstract: e', '\u0301x'), ("don", "'t know")] + [('Abstract: '+o, ' '+o+'!') for o in NASTY[4:30]]

def near(mine, theirs):
    "1e-4, and what is lost where theirs, in float32, are sums of thousands of nats"
    return all(abs(a-b)<=1e-4+2e-7*abs(b) for a,b in zip(mine, theirs))

def test_any_continuation(both):
    mine,theirs = ask(both, 'loglikelihood', *PAIRS)
    off = max(abs(a-b) for (a,_),(b,_) in zip(mine, theirs))
    print(f'\n{len(PAIRS)} pairs: {off:.1e} at most')
    assert near([o for o,_ in mine], [o for o,_ in theirs]) and [o for _,o in mine]==[o for _,o in theirs]

def test_a_continuation_that_melts_into_its_context(both):
    "The two are one token together, and nothing is left to score: both say so"
    with pytest.raises(ValueError, match='at least one of each'): ask(both[:1], 'loglikelihood', ('Abstrac', 't'))
    with pytest.raises(AssertionError): ask(both[1:], 'loglikelihood', ('Abstrac', 't'))

def test_a_whole_text(both):
    "Windows: each token is scored once, however long the text is"
    texts = [(o,) for o in (LONG[0], '\n'.join(LONG), LONG[1]*9, 'a')]
    mine,theirs = ask(both, 'loglikelihood_rolling', *texts)
    off = max(abs(a-b) for a,b in zip(mine, theirs))
    print(f'\n{len(texts)} texts, up to {len(both[0].tok_encode(texts[1][0]))} tokens: {off:.1e} at most, of {max(map(abs, mine)):,.0f} nats')
    assert near(mine, theirs)

def test_greedy_text(both):
    mine,theirs = ask(both, 'generate_until', *[(o, dict(until=u, max_gen_toks=24, do_sample=False))
        for o in (LONG[0], '\n'.join(LONG), 'Abstract:') for u in ([], ['\n'], [' a','e'])])
    assert mine==theirs and any(mine)
    with pytest.raises(ValueError, match='do_sample: false'): ask(both[:1], 'generate_until', ('a', dict(do_sample=True, temperature=.8)))

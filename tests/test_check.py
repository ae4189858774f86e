"`check` against answers that it once misjudged: wrong ones are refused by name, right ones accepted, none is a traceback"
import re, sys
import numpy as np
import pytest, torch
from torch import tensor
from lightbrain.core import check, differs

def stub(*args): raise NotImplementedError

# one exercise for each way in which answers went wrong: the reference, its cases, the mistakes it names

def window(T, width): return torch.ones(T, T).tril().bool() & ~torch.ones(T, T).tril(-width).bool()
def pairs(tape, start, t): return tape[start:start+t],tape[start+1:start+t+1]
def merge(word, a, b): return word.replace(a+b, '+')
def mean_loss(losses): return sum(losses)/len(losses)
def missing(names, n): return sorted(set(range(n))-set(names))
def gradient(z, y):
    grad = z.softmax(1)
    grad[torch.arange(len(y)),y] -= 1
    return grad/len(y)
def f1(hits, wrong, missed): return 2*hits/(2*hits+wrong+missed)
def commonest(words): return max(sorted(set(words)), key=words.count)
def kept(words): return {o for o in words if len(o)>3}
def count(losses): return dict(seen=len(losses), bad=sum(o!=o for o in losses))
def warm(z, tau): return (z/tau).softmax(-1)

WINDOW = dict(cases=[(6,3),(5,2),(4,9)], types=True, mistakes={
    'the width never enters': lambda T,w: window(T, T//2),
    'one too wide': lambda T,w: window(T, w+1),
    'reads the future': lambda T,w: window(T, w).T,
    'upside down': lambda T,w: ~window(T, w),
    'a mask is made of True and False': lambda T,w: window(T, w).float()})
PAIRS = dict(cases=[([5,7,9,2,4,1],1,3),([5,7,9,2,4,1],0,2)], mistakes={
    'start is forgotten at the end': lambda tape,s,t: (tape[s:t+1], tape[s+1:t+2]),
    'the targets equal the inputs': lambda tape,s,t: (tape[s:s+t], tape[s:s+t]),
    'one token too short': lambda tape,s,t: (tape[s:s+t], tape[s+1:s+t])})
MERGE = dict(cases=[('pain','i','n'),('inin','i','n'),('aaa','a','a')], mistakes={
    'only the first pair is merged': lambda w,a,b: w.replace(a+b, '+', 1),
    'merged from the right': lambda w,a,b: '+'.join(w.rsplit(a+b))[::-1].replace('a+', '+a')[::-1]})
LOSS = dict(cases=[([tensor(2.),tensor(3.),tensor(7.)],),([tensor(1.),tensor(5.)],)], grad=True, mistakes={
    'no gradient': lambda ls: sum(o.item() for o in ls)/len(ls),
    'a sum, not a mean': sum,
    'the middle one is ignored': lambda ls: (ls[0]+ls[-1])/2})
MISSING = dict(cases=[([0,3],5),([],2),([1],2)], mistakes={
    'those that are there': lambda names,n: sorted(names),
    'stopped too early': lambda names,n: missing(names, n-1)})
GRADIENT = dict(cases=[(torch.randn(6,5),tensor([0,1,2,3,4,0])),(torch.randn(2,3),tensor([2,2]))], eps=1e-6, mistakes={
    'divide by the rows': lambda z,y: gradient(z, y)*len(y),
    'upside down': lambda z,y: -gradient(z, y)})
F1 = dict(cases=[(20,5,1),(9,9,2),(0,3,4)], mistakes={
    'that is recall': lambda h,w,m: h/(h+m),
    'that is precision': lambda h,w,m: h/(h+w),
    'rounded': lambda h,w,m: round(f1(h, w, m), 2)})
COMMONEST = dict(cases=[(['no','yes','no'],),(['yes','yes','no'],),(['maybe'],)], mistakes={
    'always no': lambda words: 'no', 'the rarest': lambda words: min(sorted(set(words)), key=words.count)})
KEPT = dict(cases=[(['pain','in','fever','pain'],),([],)], mistakes={
    'short words stay': set, 'the long ones are gone': lambda words: {o for o in words if len(o)<=3}})
COUNT = dict(cases=[([1.,float('nan')],),([],)], mistakes={'NaN is bad': lambda ls: dict(seen=len(ls), bad=0)})
WARM = dict(cases=[(torch.randn(4,5),0.5),(torch.randn(3),2.)], grad=True, mistakes={
    'multiplied': lambda z,tau: (z*tau).softmax(-1),
    'the gradient is lost': lambda z,tau: warm(z, tau).detach()})
EXERCISES = {window:WINDOW, pairs:PAIRS, merge:MERGE, mean_loss:LOSS, missing:MISSING, gradient:GRADIENT, f1:F1,
             commonest:COMMONEST, kept:KEPT, count:COUNT, warm:WARM}

def judge(ref, f, **kwargs):
    settings = EXERCISES[ref] | kwargs
    return check(f, ref, *settings['cases'], **{k:v for k,v in settings.items() if k!='cases'})

NAMED = [(ref, why) for ref,o in EXERCISES.items() for why in o['mistakes']]

@pytest.mark.parametrize('ref,why', NAMED, ids=[f'{ref.__name__}-{why}' for ref,why in NAMED])
def test_a_mistake_has_a_name(ref, why):
    v = judge(ref, EXERCISES[ref]['mistakes'][why])
    assert not v and v.why.startswith(why), v
    assert not judge(ref, EXERCISES[ref]['mistakes'][why], mistakes=None)

@pytest.mark.parametrize('ref', EXERCISES, ids=lambda o: o.__name__)
def test_the_reference_is_right_and_a_stub_is_not_wrong(ref):
    assert judge(ref, ref)
    assert judge(ref, stub).why=='nothing written so far'

UNNAMED = {                                  # wrong in a way that nobody thought of: refused all the same
    'a literal': (f1, lambda h,w,m: 40/46, r'f1?\(9, 9, 2\): largest difference'),
    'a float mask': (window, lambda T,w: window(T, w).int(), 'expected torch.bool Tensor, got torch.int32 Tensor'),
    'a list of bools': (window, lambda T,w: window(T, w).tolist(), 'expected torch.bool Tensor, got list'),
    'destroys its input': (warm, lambda z,tau: z.zero_().softmax(-1), 'largest difference'),
    'one gradient of two': (mean_loss, lambda ls: (ls[0]+sum(o.detach() for o in ls[1:]))/len(ls), r'gradient for argument 0\[1\]'),
    'half a gradient': (warm, lambda z,tau: (warm(z, tau)+warm(z, tau).detach())/2, 'gradient for argument 0: largest'),
    'through numpy': (warm, lambda z,tau: torch.from_numpy(warm(z, tau).detach().numpy()), 'is something detached'),
    'an item twice': (missing, lambda names,n: missing(names, n)*2, 'with 6 items, expected 3'),
    'an item twice in a set': (kept, lambda words: [o for o in words if len(o)>3], "got .*'pain', 'fever', 'pain'"),
    'too many items': (kept, lambda words: kept(words) | {'x'}, 'expected'),
    'another key': (count, lambda ls: dict(seen=len(ls), broken=0), "keys .*expected"),
    'another value': (count, lambda ls: dict(seen=len(ls), bad=7), "key 'bad': got 7, expected 1"),
    'another order': (missing, lambda names,n: missing(names, n)[::-1], 'item 0: got 4, expected 1'),
    'no order': (pairs, lambda tape,s,t: tuple(map(set, pairs(tape, s, t))), 'item 0: got .* expected a list of 3'),
    'a shape': (gradient, lambda z,y: gradient(z, y)[None], r'shape \(1, 6, 5\), expected \(6, 5\)'),
    'text for a number': (f1, lambda h,w,m: str(f1(h, w, m)), 'expected numbers, got str'),
    'right at first': (merge, lambda w,a,b: 'pa+', r"inin', 'i', 'n'\): got 'pa\+'"),
}
@pytest.mark.parametrize('kind', UNNAMED)
def test_other_mistakes_are_refused(kind):
    ref,f,message = UNNAMED[kind]
    with np.errstate(all='ignore'): v = judge(ref, f)
    assert not v
    assert re.search(message, v.why), v

RIGHT = {                                    # written in another way, and just as good
    'in place': (warm, lambda z,tau: z.div_(tau).softmax(-1)),
    'in place, with a gradient by hand': (gradient, lambda z,y: z.copy_(gradient(z, y))),
    'an array for a list': (missing, lambda names,n: np.setdiff1d(np.arange(n), names)),
    'a tensor for a list': (missing, lambda names,n: tensor(missing(names, n))),
    'a set for a sorted list': (missing, lambda names,n: set(missing(names, n))),
    'a tuple for a list': (missing, lambda names,n: tuple(missing(names, n))),
    'a generator for a list': (missing, lambda names,n: (i for i in range(n) if i not in names)),
    'a list for a set': (kept, lambda words: sorted(kept(words))),
    'lists for tuples': (pairs, lambda tape,s,t: [list(o) for o in pairs(tape, s, t)]),
    'arrays in a tuple': (pairs, lambda tape,s,t: tuple(map(np.array, pairs(tape, s, t)))),
    'a NumPy number': (f1, lambda h,w,m: np.float64(f1(h, w, m))),
    'a tensor without dimensions': (f1, lambda h,w,m: tensor(f1(h, w, m), dtype=torch.float64)),
    'a float for a count': (count, lambda ls: {k: float(v) for k,v in count(ls).items()}),
    'another sum': (mean_loss, lambda ls: torch.stack(ls).mean()),
    'a mask from positions': (window, lambda T,w: ((d := torch.arange(T)[:,None]-torch.arange(T))>=0) & (d<w)),
    'changes its list': (pairs, lambda tape,s,t: [[tape.pop(s)]+tape[s:s+t-1], tape[s:s+t]]),
}
@pytest.mark.parametrize('kind', RIGHT)
def test_right_answers_are_accepted(kind):
    ref,f = RIGHT[kind]
    v = judge(ref, f)
    assert v, v

def test_nothing_is_changed_and_each_call_has_its_own():
    x,seen = tensor([1.,2.]),[]
    def spoil(x):
        seen.append(x.tolist())
        return x.zero_()
    assert not check(spoil, lambda x: x*2, (x,), mistakes={'a': lambda x: x+1, 'b': spoil})
    assert x.tolist()==[1.,2.] and seen==[[1.,2.]]*2
    same = tensor([1.])
    assert check(lambda a,b: a is b, lambda a,b: True, (same,same))           # two names of one object stay so

class Hostile:
    def __init__(self, *methods):
        def bad(*args): raise SystemExit('no')
        self.__class__ = type('Hostile', (Hostile,), dict.fromkeys(methods, bad))

class Agreeable:
    def __eq__(self, other): return True
    __hash__ = object.__hash__

class Loud(Exception):
    def __str__(self): raise ValueError('louder')

def deeper(*args): return deeper(*args)
def nested(n):
    o = []
    for _ in range(n): o = [o]
    return o
def circle():
    o = []
    o.append(o)
    return o
def late():
    yield 1
    raise KeyError('late')
def leave(*args): sys.exit(3)
def fail(e): raise e

VALUES = dict(none=None, true=True, one=1, float=1., text='a', bytes=b'a', empty=[], list=[1,'a',None], ragged=[[1],[2,3]], set={1}, dict={'a':1},
    frozen=frozenset({1}), tensor=torch.ones(3), scalar=tensor(1.), bool=tensor(True), bools=tensor([True,False]), array=np.ones(3),
    names=np.array(['a','b']), objects=np.array([None,'a']), number=np.float64(1), nan=float('nan'), complex=1j, huge=10**400, type=int,
    function=len, ellipsis=..., range=range(3), tuple=(1,2), nested=[torch.ones(2),3], meta=torch.ones(2, device='meta'),
    sparse=torch.ones(2,2).to_sparse(), grad=torch.ones(2, requires_grad=True)*2, half=torch.ones(3).half(), uint=np.array([2**63], dtype='u8'))
STRANGE = dict(circle=circle(), deep=nested(3000), agreeable=Agreeable(), eq=Hostile('__eq__'), repr=Hostile('__eq__', '__repr__'),
    len=Hostile('__len__', '__iter__', '__eq__'), cast=Hostile('__float__', '__array__', '__bool__'), generator=late)
ERRORS = dict(exit=leave, recursion=deeper, loud=lambda *a: fail(Loud()), base=lambda *a: fail(BaseException('x')), memory=lambda *a: fail(MemoryError()),
    generator=lambda *a: late(), arguments=lambda: 0, no_function=3, group=lambda *a: fail(ExceptionGroup('x', [ValueError()])))

@pytest.mark.parametrize('want', VALUES)
@pytest.mark.filterwarnings('error')
def test_never_a_traceback(want):
    "Every value against every other: only equals are equal, and all of it is a sentence"
    w = VALUES[want]
    for o,got in (VALUES | STRANGE).items():
        v = check(lambda x: got, lambda x: 2*x, (torch.ones(3),), grad=True)
        assert not v and len(repr(v))<400, o
        for types in (False, True):
            v = check(lambda: got, lambda: w, types=types, mistakes={'no': lambda: 1/0, 'exit': leave})
            assert '\n' not in repr(v) and len(repr(v))<400, o
            if o==want and want not in ('objects','meta','sparse'): assert v, (o, v)
            if o in STRANGE: assert not v, o
    for o,f in ERRORS.items():
        v = check(f, lambda x: w, (1,))
        assert not v and 'your code raised' in v.why and len(repr(v))<400, o
    assert check(lambda: w, lambda: w, types=True) or want in ('objects','meta','sparse')

def test_an_answer_that_may_be_none():
    assert check(lambda x: None, lambda x: None, (1,))
    assert not check(lambda x: 0, lambda x: None, (1,))
    assert 'return' in check(lambda x: None, lambda x: 0, (1,)).why

def test_a_stop_stays_a_stop():
    for f in (lambda: fail(KeyboardInterrupt()), lambda: Interrupted()):
        with pytest.raises(KeyboardInterrupt): check(f, lambda: 1)

class Interrupted:
    def __repr__(self): raise KeyboardInterrupt

def test_the_message_names_the_case():
    assert check(lambda n: n, abs, (1,), (-2,), (-3,)).why=='f(-2): got -2, expected 2'
    def mine(x, y): return x
    assert check(mine, lambda x,y: y, (torch.ones(2), torch.ones(40,50))).why.startswith(
        'mine(tensor([1., 1.]), Tensor of shape (40, 50)): shape (2,)')
    assert len(check(mine, lambda x,y: y, ('a'*10_000, 'b'*10_000)).why)<300

def test_the_mistakes_of_the_teacher():
    "An argument that is no tuple, one that cannot be copied, a reference that fails: said to whoever wrote the exercise"
    with pytest.raises(ValueError, match='no tuple'): check(len, len, [1])
    with pytest.raises(ValueError, match='cannot be copied'): check(stub, len, (iter(open(__file__)),))
    with pytest.raises(ZeroDivisionError): check(len, lambda o: 1/0, ([],))
    for ref in (lambda x: x.detach(), lambda x: 7):
        with pytest.raises(ValueError, match='no gradient of the reference'): check(ref, ref, (torch.ones(2),), grad=True)

def test_a_mistake_counts_only_if_it_explains_every_case():
    "Negative control: with the first case alone, the other mistake would be blamed"
    wrong = {'squared': lambda x: x*x, 'doubled': lambda x: x+x}
    assert check(lambda x: x+x, lambda x: x+1, (2,), (3,), mistakes=wrong).why.startswith('doubled')
    assert check(lambda x: x+x, lambda x: x+1, (2,), mistakes=wrong).why.startswith('squared')
    assert check(lambda x: 7, lambda x: x+1, (2,), (3,), mistakes=wrong).why.startswith('f(2)')

def test_whole_numbers_are_exact():
    assert not check(lambda: 2**60+1, lambda: 2**60)
    assert differs(tensor([2**60]), tensor([2**60+1])) and not differs(tensor([2**60]), tensor([2**60]))
    assert differs(np.array([2**64-1], dtype='u8'), np.array([2**64-2], dtype='u8'))
    assert differs(1+2e-5, 1.) and not differs(1+5e-6, 1.) and differs(1+5e-6, 1., eps=0)

def test_true_is_one_unless_types_are_asked():
    assert not differs(True, 1) and differs(True, 1, types=True) and differs(1, True, types=True)

"""Numbers in the prose of the road come from a cell

A number in a sentence is right only as long as somebody remembers it. So each must stand in an output of its own lesson,
or in its code, where it is a setting; what comes from elsewhere (a citation, a fact of the field) is listed here, with its source."""
import json, re
import pytest
from conftest import ROOT

ROAD = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
SMALL = {str(i) for i in range(11)}        # counting to ten needs no source

FACTS = {                                  # number -> where it comes from; for all lessons
}

def plain(text):
    "Prose without what is no claim: code, formulas, links, lesson and equation numbers, citations, table heads"
    for pattern in (r'```.*?```', r'`[^`]*`', r'\$\$.*?\$\$', r'\$[^$]*\$', r'<[^>]*>', r'\[(?:(?:prep|run|fast|exercises)/)?\d\d[a-z]*\b', r'\]\([^)]*\)', r'https?://\S+', r'^\*\*Sources\.\*\*.*$', r'\*You read\*:[^*]*',      # .ci/course.py computes it
                    r'\b(?:eq|eqs|equation|row|point|cell|step|question|exercise)s?\.? \d[\d.]*\w?', r'^#+ .*$', r'^\*\*\d+\. ', r'^\d+\. ',
                    r'(?<![\w/.,])(?:(?:prep|run|fast|exercises)/)?\d\d[a-z]*(?: \w+)?(?=\])', r'[Ll]essons? [\d\w/, ]+?(?=[.;:)]|$)',
                    r'\b(?:19|20)\d\d\b', r'\b[A-Za-z]+-?\d[\w.-]*', r'\d+[a-zA-Z]+\d*'):
        text = re.sub(pattern, ' ', text, flags=re.S if '```' in pattern or '$$' in pattern else re.M)
    return text

def numbers(text): return {n.rstrip('.,') for n in re.findall(r'\d[\d,.]*', text)}

def same(number, text):
    "Is the number there, with or without commas, as a percentage of a fraction, or rounded from more digits?"
    digits = number.replace(',', '')
    value,places = float(digits),len(digits.partition('.')[2])
    for o in text:
        if round(o, places)==value or round(100*o, places)==value: return True
    return False

def given(cells):
    "The numbers in the outputs and in the code of a lesson"
    text = ''
    for c in cells:
        if c['cell_type']!='code': continue
        text += ''.join(c['source']).replace('_', '') + '\n'
        for o in c['outputs']:
            data = o.get('data', {})
            text += ''.join(o.get('text', '')) + ''.join(''.join(v) for k,v in data.items() if k.startswith('text/')) + '\n'
    found = re.findall(r'\d[\d,]*\.?\d*(?:e[+-]?\d+)?', text.replace(',', '') + ' ' + text)
    return {float(o.replace(',', '').rstrip('.')) for o in found if o.replace(',', '').rstrip('.')}

def unfounded(cells):
    "The numbers in the prose of a lesson that no cell of it shows"
    have,out = given(cells),{}
    for c in cells:
        if c['cell_type']!='markdown': continue
        for n in numbers(plain(''.join(c['source']))):
            if n.count('.')<2 and n not in SMALL and n not in FACTS and not same(n, have): out[n] = ''.join(c['source'])
    return out

@pytest.mark.parametrize('path', ROAD, ids=lambda p: p.stem)
def test_numbers_have_a_source(path):
    found = unfounded(json.loads(path.read_text(encoding='utf-8'))['cells'])
    assert not found, '\n'.join(f'{n}: {t[:200]}' for n,t in found.items())

def lesson(prose, code='', said=''):
    return [dict(cell_type='markdown', source=[prose]),
            dict(cell_type='code', source=[code], outputs=[dict(output_type='stream', text=[said])])]

@pytest.mark.parametrize('prose,said', [
    ('It was right in 97.3 % of the cases.', 'right: 0.9731'), ('About 1,985 questions.', '1985'), ('A loss of 1.05.', '1.0479'),
    ('Lesson 05 says so, in eq. 5.12 and in [03 Attention](03_attention.ipynb).', ''), ('Radford et al. 2019 have `n=50257` and $10^{6}$.', ''),
    ('Three of 10.', '')])
def test_a_number_with_a_source(prose, said): assert unfounded(lesson(prose, said=said))=={}

@pytest.mark.parametrize('prose,said', [('It was right in 97.4 % of the cases.', 'right: 0.9731'), ('About 1,986 questions.', '1985'),
    ('A loss of 1.06.', '1.0479'), ('It takes 40 minutes.', '')])
def test_a_planted_number(prose, said): assert len(unfounded(lesson(prose, said=said)))==1

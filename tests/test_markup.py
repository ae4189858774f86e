"Text keeps its meaning: superscripts, citations, formulas and blocks of PubMed and JATS, whose title it is, control characters, bounded work"
import gzip, re
from collections import Counter
from random import Random
import pytest
from hypothesis import given, settings, strategies as st
from conftest import SHARED
from lightbrain.prep import markup
from lightbrain.prep.clean import normalize
from lightbrain.prep.markup import read_jats, read_pubmed, xml_root
from lightbrain.prep.sources import load_documents

MML = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'
META = '<article-id pub-id-type="pmc">9000001</article-id><title-group><article-title>Rest</article-title></title-group>'

def article(body, meta=META, after=''): return (f'<article {MML} xmlns:xlink="http://www.w3.org/1999/xlink"><front><article-meta>{meta}</article-meta></front>'
    f'<body>{body}</body>{after}</article>')
def citation(abstract, title='T'): return (f'<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>101</PMID><Article><ArticleTitle>{title}</ArticleTitle>'
    f'<Abstract><AbstractText {MML}>{abstract}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle></PubmedArticleSet>')

@pytest.fixture
def jats(tmp_path):
    "The article that an XML text holds"
    def read(text):
        (tmp_path/'a.nxml').write_text(text, encoding='utf-8')
        o, = read_jats(tmp_path/'a.nxml')
        return o
    return read

@pytest.fixture
def pubmed(tmp_path):
    def read(text):
        (tmp_path/'a.xml').write_text(text, encoding='utf-8')
        o, = read_pubmed(tmp_path/'a.xml')
        return o
    return read

def cite(text, kind='bibr'): return f'<xref ref-type="{kind}" rid="r1">{text}</xref>'
def math(s): return '<inline-formula><mml:math>'+re.sub('<(/?)m', r'<\1mml:m', s)+'</mml:math></inline-formula>'

SCRIPTS = {                                        # the same in PubMed and in JATS
    'to 10<sup>6</sup> cells':'to 10^6 cells', '2 x 10<sup>-8</sup>;':'2 x 10^-8;', 'mL/min/1.73 m<sup>2</sup>.':'mL/min/1.73 m^2.', '10<sup>9 </sup>units':'10^9 units',
    '10 <sup>9</sup> units':'10^9 units', '10<sup>−</sup><sup>6</sup> M':'10^−6 M', '<b>10</b><sup><i>6</i></sup>':'10^6', 'kg<sup>-1</sup> day<sup>-1</sup>':'kg^-1 day^-1',
    '10<sup>5–6</sup>':'10^(5–6)', 'Ca<sup>2+</sup>, Na<sup>+</sup>':'Ca^2+, Na+', 'CD4<sup>+</sup>CD25<sup>high</sup>':'CD4+CD25^high', 'SO<sub>4</sub><sup>2−</sup>':'SO4^2−',
    'χ<sup>2</sup> = 4':'χ^2 = 4', 'the 19<sup>th</sup> day':'the 19th day', 'a <sup>14</sup>C test':'a 14C test', '[<sup>18</sup>F]FDG':'[18F]FDG', 'H<sub>2</sub>O':'H2O',
    'log<sub>10</sub>2':'log10 2', '10<sup>6</sup>5':'10^6 5', '1<sub>2</sub>':'1_2', '2<sup>1</sup>/<sub>2</sub> years':'2 1/2 years', 'CO<sub>2 </sub>rose':'CO2 rose',
    'e<sup>x<sub>1</sub></sup>':'e^x1', 'x<sup>y<sup>2</sup></sup>':'x^(y^2)'}

@pytest.mark.parametrize('said', SCRIPTS)
def test_superscripts_and_subscripts(said, jats, pubmed):
    want = SCRIPTS[said]
    o = pubmed(citation(said, said))
    assert (o['abstract'], o['title'])==(want, want)
    said = said.replace('<b>','<bold>').replace('</b>','</bold>').replace('<i>','<italic>').replace('</i>','</italic>')
    o = jats(article(f'<sec><title>{said}</title><p>{said}</p></sec>', META.replace('Rest', said)))
    assert (o['paragraphs'], o['title'], o['left_out'])==([want, want], want, {})

CITED = {                                          # text -> what is left, and how many citations were left out
    f'fever<sup>{cite(12)}</sup> fell':('fever fell', 1), f'fever.<sup>{cite(1)},{cite(2)}–{cite(4)}</sup> It fell':('fever. It fell', 3), f'it fell [{cite(3)}, {cite(4)}].':('it fell.', 2),
    f'it fell [{cite(1)}, 2, {cite(3)}].':('it fell.', 2), f'it fell ({cite(3)}).':('it fell.', 1), f'fever {cite("[3]")}, {cite("[4]")} fell':('fever fell', 2),
    f'fever {cite("<sup>3</sup>")} fell':('fever fell', 1), f'Numbers {cite(1)}–{cite(3)} agree':('Numbers agree', 2), f'(n = 3, {cite(4)}) died':('(n = 3) died', 1),
    f'fever{cite(3)}falls':('fever falls', 1), f'm<sup>2</sup><sup>{cite(5)}</sup>':('m^2', 1), f'm<sup>2{cite(5)}</sup>':('m^2', 1), 'as before<sup>13</sup>. Then':('as before. Then', 1),
    'it fell.<sup>12,13</sup> Then':('it fell. Then', 1), 'a metre<sup>2</sup> and 10<sup>13</sup> cells':('a metre^2 and 10^13 cells', 0), 'delta<sup>32</sup>':('delta^32', 0),
    f'As shown by {cite("Smith et al. (2010)")}, it fell':('As shown by Smith et al. (2010), it fell', 0), f'(see {cite("Lee, 2013")}; {cite("Kim, 2014")})':('(see Lee, 2013; Kim, 2014)', 0),
    f'Smith ({cite(2010)}, {cite("2011a")}) found':('Smith (2010, 2011a) found', 0), f'fever [{cite(3)}; {cite("Lee 2013")}]':('fever [Lee 2013]', 1),
    f'{cite("Figure 2", "fig")}, {cite(3, "table")}':('Figure 2, 3', 0), f'fever{cite("<sup>a</sup>", "fn")} fell':('fever fell', 1), f'fever{cite("*", "table-fn")}.':('fever.', 1),
    'Gram (-) and [ ] and (–) stay':('Gram (-) and [ ] and (–) stay', 0), '(1, 2) and [3] stay':('(1, 2) and [3] stay', 0)}

@pytest.mark.parametrize('said', CITED)
def test_citations(said, jats):
    o = jats(article(f'<p>{said}</p>'))
    assert (o['paragraphs'], o['left_out'].get('xref', 0))==([CITED[said][0]], CITED[said][1])

MINUS8 = '<msup><mn>10</mn><mrow><mo>−</mo><mn>8</mn></mrow></msup>'
FORMULAS = {math('<mi>p</mi><mo>&lt;</mo><mn>0.05</mn>'):'p < 0.05', math(MINUS8):'10^−8', math('\n <mrow>\n <mi>n</mi>\n <mo>=</mo>\n <mn>40</mn>\n</mrow>\n'):'n = 40',
    math('<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac>'):'(a + b)/2', math('<mn>3</mn><mfrac><mn>1</mn><mn>2</mn></mfrac>'):'3 1/2',
    math('<mn>54</mn><mtext> years</mtext>'):'54 years', math('<mi>sin</mi><mi>x</mi>'):'sin x', math('<mn>2</mn><mi>x</mi><mo>-</mo><mn>1</mn>'):'2x - 1', math('<mn>2</mn><mo>\u2062</mo><mn>3</mn>'):'2 3',
    math('<msub><mi>x</mi><mi>i</mi></msub><mo>≥</mo><msqrt><mi>y</mi></msqrt>'):'x_i ≥ √(y)', math('<mmultiscripts><mi>C</mi><mprescripts/><none/><mn>14</mn></mmultiscripts>'):'14C',
    math('<mfenced><mi>a</mi><mi>b</mi></mfenced>'):'(a, b)', math('<semantics><mi>p</mi><annotation encoding="application/x-tex">p</annotation></semantics>'):'p',
    '<inline-formula><alternatives><tex-math>$n=4$</tex-math><mml:math><mml:mi>n</mml:mi></mml:math><inline-graphic/></alternatives></inline-formula>':'n',
    '<inline-formula><mml:math><mml:mi>n</mml:mi></mml:math><tex-math>$n$</tex-math></inline-formula>':'n', '<inline-formula>p &lt; 0.05</inline-formula>':'p < 0.05',
    r'<inline-formula><tex-math>\documentclass[12pt]{minimal}\usepackage{amsmath}\begin{document}$$\alpha \times 10^{-6} \leq 5\,\mathrm{mg}$$\end{document}</tex-math></inline-formula>':'α × 10^-6 ≤ 5 mg'}

@pytest.mark.parametrize('said', FORMULAS)
def test_formulas_once(said, jats, pubmed):
    o = jats(article(f'<p>It was ({said}), so.</p>'))
    assert o['paragraphs']==[f'It was ({FORMULAS[said]}), so.'] and not o['left_out']
    if 'mml:' in said and 'alternatives' not in said and 'tex-math' not in said: assert pubmed(citation(f'It was ({said}), so.'))['abstract']==f'It was ({FORMULAS[said]}), so.'

BLOCKS = {                                         # body -> paragraphs, what is left out
    '<p>Ward 3<break/>Second floor</p>':(['Ward 3 Second floor'], {}), '<p>with:<list><list-item><label>1.</label><p>rest</p></list-item><list-item><p>sleep</p></list-item></list>or not</p>':(['with: 1. rest sleep or not'], {}),
    '<def-list><def-item><term>ZRV</term><def><p>zoravexil</p></def></def-item></def-list>':(['ZRV zoravexil'], {}), '<p>a<def-list><def-item><term>b</term><def><p>c</p></def></def-item></def-list>d</p>':(['a b c d'], {}),
    '<boxed-text><caption><title>Key points</title></caption><p>One.</p><permissions><copyright-statement>C</copyright-statement></permissions></boxed-text>':(['Key points', 'One.'], {'permissions':1}),
    '<preformat>a  1\n  b 2\n</preformat><code>x = 1</code>':(['a  1\n  b 2', 'x = 1'], {}), '<p>a<code>b</code>c<preformat>d</preformat>e</p>':(['a b c d e'], {}),
    '<verse-group><verse-line>one</verse-line><verse-line>two</verse-line></verse-group>':(['one', 'two'], {}), '<disp-quote><p>said</p><attrib>Nobody</attrib></disp-quote>':(['said', 'Nobody'], {}),
    '<list><list-item>raw</list-item><list-item>cells</list-item></list>':(['raw', 'cells'], {}), '<sec><label>2</label><title>T</title><p>x</p></sec>':(['T', 'x'], {'label':1}),
    '<p>a<fn><p>note</p></fn>.</p>':(['a.'], {'fn':1}), '<p>a<table-wrap><table><tr><td>1</td></tr></table></table-wrap>b</p>':(['a b'], {'table-wrap':1}),
    '<p>a<array><tbody><tr><td>1</td><td>2</td></tr></tbody></array>b</p>':(['a b'], {'array':1}), '<p>a<table><tr><td>1</td></tr></table>b</p><p>c<disp-formula>d</disp-formula>e</p>':(['a b', 'c e'], {'table':1, 'disp-formula':1}),
    '<p>a</p><fig><caption><p>b</p></caption></fig><supplementary-material><p>S1</p></supplementary-material>':(['a'], {'fig':1, 'supplementary-material':1}),
    'loose words':(['loose words'], {}), '<sec><td>one</td><td>two</td></sec>':(['one', 'two'], {}), '<p>a<td>b</td><td>c</td></p>':(['a b c'], {})}

@pytest.mark.parametrize('body', BLOCKS)
def test_blocks(body, jats):
    o = jats(article(body))
    assert (o['paragraphs'], dict(o['left_out']))==BLOCKS[body]

def test_a_broken_title_and_an_old_scan(jats):
    o = jats(article('<preformat preformat-type="pmc-ocr-text">A hundred lines.</preformat>', META.replace('Rest', 'Rest<break/>and sleep<fn><p>x</p></fn>')))
    assert (o['title'], o['paragraphs'])==('Rest and sleep', ['A hundred lines.'])

CC = '<license xlink:href="http://creativecommons.org/licenses/{}/4.0/"><p>x</p></license>'
HEAD = ('<article-id pub-id-type="pmid">7</article-id><article-id pub-id-type="doi">10.5/x</article-id><title-group><article-title>{}</article-title></title-group>'
    '<permissions>'+CC.format('by-nc')+'</permissions>')
OTHERS = {'decision letter':f'<sub-article><front-stub>{HEAD.format("Letter")}</front-stub><body><p>Reviewed.</p></body></sub-article>',
    'translation':f'<sub-article article-type="translation"><front><article-meta>{HEAD.format("Ruhe")}<abstract><p>Kurz.</p></abstract></article-meta></front><body><p>Ja.</p></body></sub-article>',
    'response':f'<response><front-stub>{HEAD.format("Answer")}</front-stub><body><p>Thanks.</p></body></response>',
    'two':2*f'<sub-article><front><article-meta>{HEAD.format("Letter")}</article-meta></front><body><fig><permissions>{CC.format("by-nd")}</permissions></fig></body></sub-article>'}

@pytest.mark.parametrize('name', OTHERS)
@pytest.mark.parametrize('known', [True,False])
def test_the_articles_own_title_ids_and_licence(name, known, jats):
    "What another text or a figure says about itself is never the article's, even where the article is silent"
    meta = META+(f'<article-id pub-id-type="pmid">102</article-id><article-id pub-id-type="doi">10.5/own</article-id><permissions>{CC.format("by")}</permissions>' if known else '')
    figure = f'<fig><caption><p>F</p></caption><permissions>{CC.format("by-nc")}</permissions></fig><boxed-text><p>B</p><permissions>{CC.format("by-nc")}</permissions></boxed-text>'
    o = jats(article(f'<p>Own.</p>{figure}', meta, OTHERS[name]))
    want = ('PMC9000001', 102, '10.5/own', 'Rest', 'CC-BY-4.0') if known else ('PMC9000001', None, '', 'Rest', 'unknown')
    assert tuple(o[k] for k in ('pmcid','pmid','doi','title','license'))==want and o['paragraphs']==['Own.', 'B']
    assert o['left_out']['sub-article']+o['left_out']['response']==(2 if name=='two' else 1)

def test_licence_of_old_files_stands_elsewhere(jats):
    assert jats(article('<p>x</p>', META+CC.format('by')))['license']=='CC-BY-4.0'
    link = '<permissions><license><license_ref>https://creativecommons.org/licenses/by/4.0/</license_ref></license></permissions>'
    assert jats(article('<p>x</p>', META+link))['license']=='CC-BY-4.0'

@pytest.mark.parametrize('text,want', [('left\x0cAllergies','left Allergies'), ('a\x0bb\x1cc\x1dd\x1ee\x1ff','a b c d e f'), ('one\x00two\x08three\x7ffour','one two three four'),
    ('a\x85b\x92c\x9fd','a b c d'), ('padded\x00\x00','padded'), ('\x00',''), ('a\tb\r\nc','a\tb\nc'), ('5 °C, 3 µg','5 °C, 3 µg')])
def test_control_characters(text, want, tmp_path):
    assert normalize(text)==want==normalize(want)
    (tmp_path/'a.txt').write_text(f'x {text} y', encoding='utf-8', newline='')
    d, = load_documents(tmp_path/'a.txt')
    assert normalize(d.text).split()==['x', *want.split(), 'y']

ATTACKS = {'many attributes':'<article '+' '.join(f'a{i}="x"' for i in range(500_000))+'/>', 'one attribute':'<article a="'+'x'*2**23+'"/>', 'inside':'<article><body><p a="'+'x'*2**23+'">p</p></body></article>',
    'comment':'<!--'+'x'*2**23+'--><article/>', 'text':article('x'*2**23)}

@pytest.mark.parametrize('name', ATTACKS)
def test_a_tag_of_many_megabytes_is_named(name, tmp_path):
    p = tmp_path/'a.xml'
    p.write_text(ATTACKS[name], encoding='utf-8')
    with pytest.raises(ValueError, match='a.xml: more than 4,194,304 bytes in which no tag'): list(read_jats(p))

@pytest.mark.parametrize('tag', ['<article a="{}"/>', '<article><body><p a="{}">p</p></body></article>'])
def test_a_long_tag_is_looked_at_few_times(tag, tmp_path, monkeypatch):
    "The parser begins an unfinished tag anew with each piece: pieces grow, so that the work does not grow with the square of its length"
    p,pieces = tmp_path/'a.xml',[]
    p.write_text(tag.format('x'*4_000_000), encoding='utf-8')
    read = markup._Pieces.read
    monkeypatch.setattr(markup._Pieces, 'read', lambda self: pieces.append(1) or read(self))
    list(read_jats(p))
    assert 2<len(pieces)<24

@pytest.mark.parametrize('subset', ['<!ENTITY a "ha"><!ENTITY b "&a;&a;">', '<!ENTITY a SYSTEM "file:///etc/passwd">', '<!ENTITY % a "ha">', '<!ATTLIST i a CDATA "haha">', '<!ATTLIST i a CDATA #FIXED "haha">'])
def test_declarations_are_refused(subset, tmp_path):
    p = tmp_path/'a.xml'
    p.write_text(f'<!DOCTYPE article [{subset}]>{article("<p>x</p>")}', encoding='utf-8')
    for read in (xml_root, lambda p: list(read_jats(p)), lambda p: list(read_pubmed(p))):
        with pytest.raises(ValueError, match='a.xml, line 1: declares the entity'): read(p)

@pytest.mark.parametrize('tag', ['sup','sub','alternatives','list','sec','p','fn','xref ref-type="bibr"','inline-formula','mml:mrow','mml:msup','mml:mfrac','mml:mmultiscripts'])
def test_deep_nesting(tag, jats):
    n = 20_000
    o = jats(article(f'<p>so</p><p>{f"<{tag}>"*n}pain{f"</{tag.split()[0]}>"*n}</p>'))
    assert o['paragraphs'][0]=='so' and all('pain' in p for p in o['paragraphs'][1:])

# Random trees. Words are invented and different, so that each can be told apart; what a reader should give is written down while the tree grows

class Tree:
    "A random piece of XML, with the words it must give (`want`) and the elements it leaves out (`left`)"
    def __init__(self, seed): self.r,self.n,self.want,self.left = Random(seed),0,[],Counter()
    def word(self):
        self.n += 1
        return 'w'+''.join('abcdefghij'[int(c)] for c in str(self.n))
    def words(self, kept=True):
        said = [self.word() for _ in range(self.r.randint(1, 3))]
        if kept: self.want += said
        return ' '.join(said)
    def inline(self, depth, tags):
        "Words and inline elements, with blanks between them"
        return ' '.join(self.piece(depth, tags) for _ in range(self.r.randint(1, 4)))
    def piece(self, depth, tags):
        k = self.r.randrange(8 if depth else 4)
        if k<2: return self.words()
        if k==2:
            w,e,kind = self.word(),self.r.randint(4, 99),self.r.randrange(4)
            self.want += ([f'{e}^{e}'], [f'{w}C{e}'], [f'10^−{e}'], [w, '=', str(e)])[kind]
            return (f'{e}<sup>{e}</sup>', f'{w}C<sub>{e}</sub>', f'10<sup>−{e}</sup>', math(f'<mi>{w}</mi><mo>=</mo><mn>{e}</mn>'))[kind]
        tag = self.r.choice(tags)
        return f'<{tag}>{self.inline(depth-1, tags) if depth else self.words()}</{tag}>'
    def cited(self):
        "A word and what it cites: numbers, which go, or a name and a year, which stay"
        w,kind = self.words(),self.r.randrange(5)
        if kind==4:
            name = self.word()
            self.want += [name, '(2010)']
            return f'{w} {cite(name+" (2010)")}'
        self.left['xref'] += 2
        return w+(' [{}, {}]','<sup>{},{}</sup>',' ({}–{})',' {} and {}')[kind].format(*map(cite, self.r.sample(range(1, 200), 2)))
    def gone(self):
        tag = self.r.choice(['fig','table-wrap','disp-formula','fn','supplementary-material','media','array'])
        self.left[tag] += 1
        return f'<{tag}><p>{self.words(False)}{cite(3)}</p></{tag}>'
    def paragraph(self, depth):
        "Where a line breaks there is no blank, and still the words must stay apart"
        said,broken = self.words(),False
        for _ in range(self.r.randint(0, 6)):
            breaks = self.r.random()<.5
            made = [lambda: '<break/>', self.gone, lambda: self.block(depth-1) if depth else '<break/>'] if breaks else [self.words, self.cited, lambda: self.inline(2, INLINE)]
            said += ('' if breaks or broken else ' ')+self.r.choice(made)()
            broken = breaks
        return f'<p>{said}</p>'
    def block(self, depth):
        k = self.r.randrange(9 if depth else 3)
        if k==0: return self.gone()
        if k<3: return self.paragraph(max(0, depth-1))
        def blocks(): return ''.join(self.block(depth-1) for _ in range(self.r.randint(1, 3)))
        if k==3: return f'<list><list-item>{blocks()}</list-item><list-item>{blocks()}</list-item></list>'
        if k==4: return f'<disp-quote>{blocks()}<attrib>{self.words()}</attrib></disp-quote>'
        if k==5: return f'<def-list><def-item><term>{self.words()}</term><def>{blocks()}</def></def-item></def-list>'
        if k==6: return f'<preformat>{self.words()}</preformat><code>{self.words()}</code>'
        if k==7: return f'<boxed-text><caption><title>{self.words()}</title></caption>{blocks()}</boxed-text>'
        return f'<verse-group><verse-line>{self.words()}</verse-line><verse-line>{self.words()}</verse-line></verse-group>'
    def section(self, depth):
        title = self.words()
        return f'<sec><title>{title}</title>'+''.join(self.section(depth-1) if depth and self.r.random()<.3 else self.block(3) for _ in range(self.r.randint(1, 3)))+'</sec>'

INLINE = ['italic','bold','named-content','styled-content','ext-link','sc','underline','monospace']

@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**40))
def test_random_articles(tmp_path_factory, seed):
    "The words of the article's own paragraphs in order, none glued, none lost uncounted, whatever else is in the file"
    t,p = Tree(seed),tmp_path_factory.getbasetemp()/'random.nxml'
    own = t.section(2)
    others = ''.join(f'<{tag}><front-stub>{HEAD.format("L")}</front-stub><body><p>{t.words(False)}</p></body></{tag}>' for tag in t.r.choices(['sub-article','response'], k=t.r.randint(0, 2)))
    p.write_text(article(own, after=f'<back><p>{t.words(False)}</p></back>{others}'), encoding='utf-8')
    o, = read_jats(p)
    assert ' '.join(o['paragraphs']).split()==t.want
    assert o['left_out']==t.left+Counter(re.findall('<(sub-article|response)>', others))+Counter(back=1)
    assert (o['title'], o['pmid'], o['license'])==('Rest', None, 'unknown')

@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**40))
def test_random_abstracts(tmp_path_factory, seed):
    t,p = Tree(seed),tmp_path_factory.getbasetemp()/'random.xml'
    p.write_text(citation(t.inline(3, ['i','b','u'])), encoding='utf-8')
    o, = read_pubmed(p)
    assert o['abstract'].split()==t.want

# A referee: pubmed_parser (https://github.com/titipata/pubmed_parser) reads the same files. What it does otherwise:
# 1. It reads one level of tags: text in a tag inside a tag (`<sup><i>6</i></sup>`) is lost. So we compare what has one level.
# 2. It keeps the number of every citation: we give it files without them.
# 3. Its paragraphs are all `//body//p`, those of figures, tables, footnotes and other texts in the file too: we give it files without them.
#    It knows no paragraph but `p`: titles, terms, verse and code are ours alone. A paragraph inside a paragraph it gives twice.
# 4. Its abstract of a PubMed citation puts a label on a line of its own; ours in front of its section.
# 5. It forgets the label of an abstract that has only one section.
# 6. It joins the title and the abstract of an article with blanks at each tag, the rest with nothing: so white space is not compared, and ^, _, brackets of our superscripts neither.

@pytest.fixture(scope='module')
def referee(): return pytest.importorskip('pubmed_parser', reason='the referee: pip install pubmed_parser, or "lightbrain[dev]"')

def signs(text): return ''.join(re.findall(r'[^\W_]', text))
def one_level(e): return all(not len(c) for c in e)

REFEREED = ('Of 10<sup>6</sup> cells', 'We saw <i>Zoravexil</i> and CO<sub>2</sub> (P &lt; 0.05)', 'mL/min/1.73 m<sup>2</sup> in CD4<sup>+</sup> cells', 'the 19<sup>th</sup> day',
    '  white\n space <b>bold</b>  ', '2 x 10<sup>-8</sup> &#945; &amp; &#946;')

def pubmed_differs(referee, path):
    "Where the two readers of PubMed differ, of those citations whose tags are one level deep"
    theirs = {int(o['pmid']):o for o in referee.parse_medline_xml(str(path)) if not o['delete']}
    with gzip.open(path) as f: root = markup.ET.parse(f).getroot()
    flat = {int(a.findtext('MedlineCitation/PMID')) for a in root.iter('PubmedArticle') if all(map(one_level, [*a.iter('AbstractText'), *a.iter('ArticleTitle')]))}
    ours = {o['pmid']:o for o in read_pubmed(path) if 'delete' not in o}
    assert ours.keys()==theirs.keys()
    for a in root.iter('PubmedArticle'):
        sections = [*a.iterfind('MedlineCitation/Article/Abstract/AbstractText')]
        if len(sections)==1: theirs[int(a.findtext('MedlineCitation/PMID'))]['abstract'] = sections[0].get('Label', '')+theirs[int(a.findtext('MedlineCitation/PMID'))]['abstract']   # 5.
    bad = [p for p in flat if (signs(ours[p]['title']), signs(ours[p]['abstract']))!=(signs(theirs[p]['title']), signs(theirs[p]['abstract']))]
    return bad,len(flat),len(ours)

def test_referee_on_pubmed(referee, tmp_path):
    one = '<PubmedArticle><MedlineCitation><PMID>{}</PMID><Article><Journal><Title>J</Title><JournalIssue><PubDate><Year>2020</Year></PubDate></JournalIssue></Journal><ArticleTitle>{}</ArticleTitle><Abstract>{}</Abstract></Article></MedlineCitation><PubmedData/></PubmedArticle>'
    records = [one.format(i+1, s, f'<AbstractText Label="METHODS">{s}</AbstractText><AbstractText Label="RESULTS">{REFEREED[i-1]}</AbstractText>' if i%2 else f'<AbstractText>{s}</AbstractText>')
        for i,s in enumerate(REFEREED)]
    path = tmp_path/'a.xml.gz'                                           # it opens nothing else
    def write(records): path.write_bytes(gzip.compress(f'<PubmedArticleSet>{records}</PubmedArticleSet>'.encode()))
    write(''.join(records))
    assert pubmed_differs(referee, path)==([], len(REFEREED), len(REFEREED))
    write(one.format(1, 'T', '<AbstractText>10<sup><i>6</i></sup></AbstractText>'))
    o, = referee.parse_medline_xml(str(path))                            # 1.: the reason to leave out what is deeper
    assert (o['abstract'], next(read_pubmed(path))['abstract'])==('10', '10^6')

def jats_differs(referee, path, work):
    "Where the two readers of JATS differ, of those paragraphs whose tags are one level deep"
    text = path.read_text(encoding='utf-8')
    text = re.sub(r'<xref ref-type="bibr"[^>]*>\d{1,3}</xref>', '', text)                                                  # 2.
    for tag in ('fig','table-wrap','fn','sub-article','disp-formula'): text = re.sub(rf'<{tag}[ >].*?</{tag}>', ' ', text, flags=re.S)        # 3.
    (work/'b.nxml').write_text(text, encoding='utf-8')
    theirs,(ours,) = referee.parse_pubmed_xml(str(work/'b.nxml')),read_jats(path)
    root = markup.ET.fromstring(re.sub('<!DOCTYPE[^>]*>', '', text))
    flat = [one_level(p) for p in root.find('body').iter('p')]
    paragraphs = [signs(o['text']) for o in referee.parse_pubmed_paragraph(str(work/'b.nxml'), all_paragraph=True)]
    assert len(flat)==len(paragraphs)
    everything = signs(''.join(ours['paragraphs']))
    bad,at = [],0
    for p in (p for p,is_flat in zip(paragraphs, flat) if is_flat):
        found = everything.find(p, at)                                   # in order
        if found<0: bad.append(p)
        else: at = found
    assert (theirs['pmc'].removeprefix('PMC'), theirs['pmid'], theirs['doi'])==(ours['pmcid'][3:], str(ours['pmid'] or ''), ours['doi'])
    assert signs(theirs['full_title'])==signs(ours['title']) and everything.startswith(signs(theirs['abstract']))
    return bad,sum(flat),len(flat)

def test_referee_on_jats(referee, tmp_path):
    body = ''.join(f'<p>{s} [{cite(3)}], {cite("Lee (2013)")}<table-wrap><table><tr><td>9</td></tr></table></table-wrap>.</p><fig><caption><p>F</p></caption></fig>' for s in REFEREED)
    meta = META+'<article-id pub-id-type="pmid">102</article-id><article-id pub-id-type="doi">10.5/own</article-id><pub-date pub-type="ppub"><year>2020</year></pub-date><abstract><title>Aim</title><p>To 10<sup>6</sup> of <i>it</i>.</p></abstract>'
    (tmp_path/'a.nxml').write_text(article(f'<sec><title>T</title>{body}</sec>', meta, f'<sub-article><body><p>Letter</p></body></sub-article>'), encoding='utf-8')
    assert jats_differs(referee, tmp_path/'a.nxml', tmp_path)==([], len(REFEREED), len(REFEREED))

@pytest.mark.skipif(not SHARED.exists(), reason='the real data lies beside the repository on the maintainers\' machines only')
def test_referee_on_real_files(referee, tmp_path):
    seen = Counter()
    for p in sorted((SHARED/'fixtures'/'pubmed_xml').glob('*.gz')):
        bad,flat,n = pubmed_differs(referee, p)
        assert not bad and flat>0.9*n
        seen['pubmed'] += flat
    for p in sorted((SHARED/'fixtures'/'pmc_jats').glob('*.nxml')):
        bad,flat,n = jats_differs(referee, p, tmp_path)
        assert not bad and flat>0.8*n
        seen['paragraphs'] += flat
    assert seen['pubmed']>600 and seen['paragraphs']>50

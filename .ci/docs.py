"""README.md, the sidebar, and the docs site without Quarto: nbdev processes the notebooks, smalldocs lays them out.

On GitHub, Quarto builds the published site (.github/workflows/docs.yaml); this is the local preview and the check in .ci/run."""
import re, shutil, sys, textwrap
import course, pictures
from html.parser import HTMLParser
from itertools import takewhile
import yaml
from fastcore.all import L, call_parse, patch
from fastcore.nbio import read_nb
from nbdev.config import get_config
from nbdev.quarto import IndentDumper, refresh_quarto_yml
from nbdev.readme_filter import doc_link
from nbdev.serve import proc_nbs
from smalldocs import markdown
from smalldocs.site import Site, build
from mathml import mathml

_read = Site.read
@patch
def read(self:Site, src):
    "nbdev drops the number from a page's name (00_core.ipynb -> core.html) by `output-file`, which smalldocs does not look at"
    page = _read(self, src)
    page.out = page.out.with_name(page.front.get('output-file', page.out.name))
    return page

def text_output(
    o, # One output of a cell
)->str: # Its Markdown as it is, or its text, indented as Markdown wants it
    "An output of a notebook as part of a page"
    if md := o.get('data', {}).get('text/markdown'): return ''.join(md)
    txt = o.get('text') or o.get('data', {}).get('text/plain') or ''
    return textwrap.indent(''.join(txt).rstrip(), '    ')

def readme(
    nb, # The processed index notebook
    cfg, # nbdev's config
)->str: # Markdown, laid out as Quarto's `gfm` does it
    "The index notebook as a README: prose, code and text outputs"
    def cell(c):
        if c.cell_type=='raw': return '# ' + yaml.safe_load(c.source.strip().strip('-'))['title'] + '\n'
        if c.cell_type=='code':
            code = [] if options(c).get('echo') is False else [f'``` python\n{c.source}\n```']
            return '\n\n'.join([*code, *L(c.get('outputs')).map(text_output).filter()])
        src = re.sub(r'^```(\w+)$', r'``` \1', c.source.strip(), flags=re.M)
        return re.sub(r'\]\(([^)\s]+)\)', lambda m: f']({doc_link(m[1], cfg.doc_url)})', src)
    text = '\n\n'.join(L(nb.cells).filter(lambda c: c.source).map(cell).filter()) + '\n'
    return text.replace('src="images/', 'src="nbs/images/')

def options(
    c, # A code cell
)->dict: # What its `#|` lines say to Quarto, such as {'fig-alt': 'A falling curve'}
    "The cell's own settings; nbdev's directives are those without a colon"
    lines = takewhile(lambda o: o.startswith('#|'), c.source.splitlines())
    return yaml.safe_load('\n'.join(o[2:].strip() for o in lines if ':' in o)) or {}

def plain_math(module):
    "Formulas as MathML in the preview, with the number of an equation beside it"
    def inline(self, tokens, i, options, env): return f'<span class="math inline">{mathml(tokens[i].content.strip())}</span>'
    def display(self, tokens, i, options, env): return mathml(tokens[i].content.strip(), True)
    def block(self, tokens, i, options, env): return f'<p>{display(self, tokens, i, options, env)}</p>\n'
    module.math_inline,module.math_display,module.math_block = inline,display,block

def own_server_only(docs):
    "No page asks another server: the theme's letters, and Colab's badge"
    for p in docs.rglob('*.css'):
        css = p.read_text(encoding='utf-8')
        if 'fonts.googleapis' in css: p.write_text(re.sub(r'@import url\([^)]*fonts\.googleapis[^)]*\);?', '', css), encoding='utf-8')
    for p in docs.rglob('*.html'):
        page,up = p.read_text(encoding='utf-8'),'../'*(len(p.relative_to(docs).parts)-1)
        own = page.replace('https://colab.research.google.com/assets/colab-badge.svg"', f'{up}images/colab.svg" width="64" height="20"')
        if own!=page: p.write_text(own, encoding='utf-8')

class Alts(HTMLParser):
    "Collects the alt text of each picture of a page; '' where there is none"
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)
    def handle_starttag(self, tag, attrs):
        if tag=='img': self.found.append((dict(attrs).get('alt') or '').strip())

def picture_warnings(
    notebooks, # Paths of the notebooks
    pages, # Paths of the built pages
)->list: # One sentence for each fault
    "Cell settings that are no YAML, which stop Quarto, and pictures that reached no page with their alt text"
    found,warns = {p: Alts(p.read_text(encoding='utf-8')).found for p in pages},[]
    for p,alts in found.items(): warns += [f'{p.name}: a picture has no alt text'] * alts.count('')
    shown = {o for alts in found.values() for o in alts}
    for p in notebooks:
        for c in read_nb(p).cells:
            if c.cell_type!='code': continue
            try: alt = options(c).get('fig-alt')
            except (yaml.YAMLError, AttributeError) as e:
                warns.append(f"{p.name}, cell {c.id}: its #| lines are not YAML; quote what holds a colon ({' '.join(str(e).split())})")
                continue
            pictures = [o for o in c.get('outputs', []) if any(k.startswith('image/') for k in o.get('data', {}))]
            if pictures and alt not in shown: warns.append(f'{p.name}, cell {c.id}: no page shows its alt text {alt!r}')
    return warns

@call_parse
def main():
    "Write what follows from the notebooks: into them, README.md, nbs/sidebar.yml, nbs/llms.txt, nbs/images/ and _docs/; fail on any warning that a reader would notice"
    cfg = get_config()
    nbs = cfg.nbs_path
    for o in course.update(nbs): print(f'{o}: links, minutes, previous and next are up to date')
    pictures.write(nbs/'images', course.lessons(nbs), course.ROOMS)
    refresh_quarto_yml()
    text = yaml.dump(course.sidebar(nbs), Dumper=IndentDumper, sort_keys=False, allow_unicode=True, width=1000)
    (nbs/'sidebar.yml').write_text(f'# Written by .ci/docs.py\n{text}', encoding='utf-8')
    (nbs/'llms.txt').write_text(course.llms(nbs, (cfg.config_path/'AGENTS.md').read_text(encoding='utf-8')), encoding='utf-8')
    proc = proc_nbs(force=True)
    (cfg.config_path/'README.md').write_text(readme(read_nb(proc/cfg.readme_nb), cfg), encoding='utf-8')
    plain_math(markdown)
    site = build(proc, quiet=True)
    shutil.rmtree(cfg.doc_path, ignore_errors=True)
    shutil.move(proc/cfg.doc_path.name, cfg.doc_path)
    own_server_only(cfg.doc_path)
    quarto_only = 'output-file|format-links|commonmark|keep-md|html-math-method|runs no Lua|Sass'
    warns = L(site.warnings).filter(lambda w: not re.search(quarto_only, w))
    warns += picture_warnings(nbs.rglob('*.ipynb'), cfg.doc_path.rglob('*.html'))
    print('\n'.join(warns) or f'{len(site.pages)} pages in {cfg.doc_path.name}/')
    sys.exit(len(warns)>0)

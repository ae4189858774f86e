"""README.md and the docs site without Quarto: nbdev processes the notebooks, smalldocs lays them out.

On GitHub, Quarto builds the published site (.github/workflows/docs.yaml); this is the local preview and the check in .ci/run."""
import re, shutil, sys, textwrap
import yaml
from fastcore.all import L, call_parse, patch
from fastcore.nbio import read_nb
from nbdev.config import get_config
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.readme_filter import doc_link
from nbdev.serve import proc_nbs
from smalldocs.site import Site, build

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
        if c.cell_type=='code': return '\n\n'.join([f'``` python\n{c.source}\n```', *L(c.get('outputs')).map(text_output).filter()])
        src = re.sub(r'^```(\w+)$', r'``` \1', c.source.strip(), flags=re.M)
        return re.sub(r'\]\(([^)\s]+)\)', lambda m: f']({doc_link(m[1], cfg.doc_url)})', src)
    return '\n\n'.join(L(nb.cells).filter(lambda c: c.source).map(cell)) + '\n'

@call_parse
def main():
    "Write README.md and _docs/; fail on any warning that a reader would notice"
    cfg = get_config()
    refresh_quarto_yml()
    nbdev_sidebar.__wrapped__()
    proc = proc_nbs(force=True)
    (cfg.config_path/'README.md').write_text(readme(read_nb(proc/cfg.readme_nb), cfg), encoding='utf-8')
    site = build(proc, quiet=True)
    shutil.rmtree(cfg.doc_path, ignore_errors=True)
    shutil.move(proc/cfg.doc_path.name, cfg.doc_path)
    quarto_only = 'output-file|format-links|commonmark|keep-md'
    warns = L(site.warnings).filter(lambda w: not re.search(quarto_only, w))
    print('\n'.join(warns) or f'{len(site.pages)} pages in {cfg.doc_path.name}/')
    sys.exit(len(warns)>0)

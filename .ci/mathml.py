"""TeX formulas as MathML, for the local preview of the site: browsers draw it themselves, so no page asks another server.

Only the TeX that the lessons use; anything else is an error that names it. The published site gets the same from Quarto
(`html-math-method: mathml`), and its equation numbers from nbs/styles/page.lua."""
import re, unicodedata
from html import escape

SYMBOLS = dict(cdot='⋅', le='≤', ge='≥', pm='±', ln='ln', times='×', to='→', infty='∞', leftarrow='←', rightarrow='→', dots='…', ldots='…', cdots='⋯',
    approx='≈', mid='∣', cap='∩', cup='∪', partial='∂', nabla='∇', top='⊤', ne='≠', neq='≠', gg='≫', ll='≪', sim='∼', odot='⊙', lVert='‖', rVert='‖',
    lfloor='⌊', rfloor='⌋', lceil='⌈', rceil='⌉', langle='⟨', rangle='⟩', propto='∝', quad='\u2003', qquad='\u2003\u2003', prime='′', forall='∀', ast='∗', star='⋆',
    Rightarrow='⇒', mapsto='↦', equiv='≡', colon=':', vert='|', notin='∉', subset='⊂', lbrace='{', rbrace='}', **{'in':'∈', '#':'#', '%':'%', '{':'{', '}':'}', '_':'_', '&':'&', '|':'‖', '$':'$'})
GREEK = dict(alpha='α', beta='β', gamma='γ', delta='δ', epsilon='ϵ', varepsilon='ε', eta='η', theta='θ', lambda_='λ', mu='μ', nu='ν', pi='π', rho='ρ',
    sigma='σ', tau='τ', phi='ϕ', varphi='φ', chi='χ', psi='ψ', omega='ω', ell='ℓ', Delta='Δ', Sigma='Σ', Omega='Ω', Phi='Φ', Theta='Θ', Lambda='Λ', Gamma='Γ')
WORDS = 'ln log exp max min arg argmax argmin Pr cos sin tanh sup inf lim det bmod'.split()
SPACES = {',':'.17em', ';':'.28em', ':':'.22em', '!':'-.17em', ' ':'.25em', 'quad':'1em', 'qquad':'2em'}
ACCENTS = dict(hat='^', bar='¯', tilde='~', vec='→', overline='¯', dot='˙')
BIG = {'sum':'∑', 'prod':'∏', 'int':'∫'}
FONTS = dict.fromkeys(('mathrm','operatorname','mathit'), '') | dict.fromkeys(('mathbf','textbf'), 'font-weight:bold') | \
    dict.fromkeys(('mathtt','texttt'), 'font-family:monospace') | {'text':None, 'mathcal':'SCRIPT', 'mathbb':'DOUBLE-STRUCK'}

def styled(c, kind):
    "A letter in the style that Unicode has for it: `ℒ`, `ℝ`"
    for name in (f'MATHEMATICAL {kind} CAPITAL {c}', f'{kind} CAPITAL {c}'):
        try: return unicodedata.lookup(name)
        except KeyError: pass
    return c

class Reader:
    "Reads one formula"
    def __init__(self, tex): self.tokens,self.i,self.tex = re.findall(r'\\[A-Za-z]+|\\.|[0-9]+(?:[.,][0-9]+)*|\S|\s+', tex),0,tex

    def peek(self):
        while self.i<len(self.tokens) and self.tokens[self.i].isspace(): self.i += 1
        return self.tokens[self.i] if self.i<len(self.tokens) else None

    def take(self):
        t = self.peek()
        self.i += 1
        return t

    def raw(self):
        "What stands in braces, as it is"
        if self.peek()=='*': self.take()
        if self.peek()!='{': return self.take()
        self.take()
        start,depth = self.i,1
        while depth:
            depth += {'{':1, '}':-1}.get(self.tokens[self.i], 0)
            self.i += 1
        return ''.join(self.tokens[start:self.i-1])

    def group(self):
        "An argument: one thing, or several in braces"
        if self.peek()=='{':
            self.take()
            out = self.row('}')
            self.take()
            return out
        t = self.peek()
        if t and t[0].isdigit(): self.tokens[self.i:self.i+1] = [*t]       # \frac37 is three sevenths
        return self.atom()

    def row(self, *ends):
        out = []
        while (t := self.peek()) is not None and t not in ends: out.append(self.scripted())
        return out[0] if len(out)==1 else f"<mrow>{''.join(out)}</mrow>"

    def scripted(self):
        t = self.peek()
        limits = t in ('\\sum','\\prod','\\max','\\min','\\lim','\\underbrace','\\arg','\\operatorname')
        base,below,above = self.atom(),None,None
        while (s := self.peek()) in ('_','^',"'"):
            self.take()
            if s=='_': below = self.group()
            else: above = self.group() if s=='^' else '<mo>′</mo>'
        o,u,b = ('munderover','munder','mover') if limits else ('msubsup','msub','msup')
        if below and above: return f'<{o}>{base}{below}{above}</{o}>'
        return f'<{u}>{base}{below}</{u}>' if below else f'<{b}>{base}{above}</{b}>' if above else base

    def delimiter(self):
        t = self.take().removeprefix('\\')
        return '' if t=='.' else SYMBOLS.get(t, t)

    def table(self, name):
        cols,rows = '',[[]]
        if name=='array': cols = self.raw()
        while True:
            rows[-1].append(self.row('&', '\\\\', '\\end'))
            t = self.take()
            if t=='\\\\': rows.append([])
            elif t=='\\end':
                assert self.raw()==name, self.tex
                break
        side = 'left' if name=='cases' or cols.startswith('l') else None
        def cell(i, o):
            where = side or ('right' if i%2==0 else 'left') if name in ('aligned','align','cases','array') else 'center'
            return f'<mtd style="text-align:{where}">{o}</mtd>'
        body = ''.join(f"<mtr>{''.join(cell(i, o) for i,o in enumerate(r))}</mtr>" for r in rows if r!=['<mrow></mrow>'])
        table = f'<mtable displaystyle="{str(name!="cases").lower()}">{body}</mtable>'
        left,right = dict(cases='{ ', pmatrix='()', bmatrix='[]').get(name, '  ')
        return ''.join([f'<mo stretchy="true">{left}</mo>'*(left!=' '), table, f'<mo stretchy="true">{right}</mo>'*(right!=' ')])

    def atom(self):
        t = self.take()
        if t is None: raise ValueError(f'something is missing in {self.tex!r}')
        if t=='{':
            out = self.row('}')
            self.take()
            return out
        if t[0].isdigit(): return f'<mn>{t}</mn>'
        if t=='}': raise ValueError(f'a brace closes nothing in {self.tex!r}')
        if not t.startswith('\\'):
            if t.isalpha(): return f'<mi>{t}</mi>'
            return f'<mo stretchy="false">{escape({"-":"−", "*":"∗"}.get(t, t))}</mo>'
        name = t[1:]
        if name in ('frac','tfrac','dfrac'):
            out = f'<mfrac>{self.group()}{self.group()}</mfrac>'
            return f'<mstyle displaystyle="false">{out}</mstyle>' if name=='tfrac' else out
        if name=='binom': return f'<mrow><mo stretchy="true">(</mo><mfrac linethickness="0">{self.group()}{self.group()}</mfrac><mo stretchy="true">)</mo></mrow>'
        if name=='sqrt': return f'<msqrt>{self.group()}</msqrt>'
        if name in FONTS:
            s,kind = self.raw(),FONTS[name]
            s = re.sub(r'\\(.)', r'\1', s).replace('~', ' ')
            if kind is None or ' ' in s.strip() or '$' in s: return f'<mtext>{escape(s).replace(" ", chr(160))}</mtext>'
            if kind.isupper(): return f"<mi>{''.join(styled(c, kind) for c in s)}</mi>"
            return f'<mi mathvariant="normal"' + f' style="{kind}"'*bool(kind) + f'>{escape(s)}</mi>'
        if name in ACCENTS: return f'<mover accent="true">{self.group()}<mo>{ACCENTS[name]}</mo></mover>'
        if name=='underbrace': return f'<munder>{self.group()}<mo stretchy="true">⏟</mo></munder>'
        if name=='left':
            out = [f'<mo stretchy="true">{escape(self.delimiter())}</mo>', self.row('\\right', '\\middle')]
            while self.take()=='\\middle': out += [f'<mo stretchy="true">{escape(self.delimiter())}</mo>', self.row('\\right', '\\middle')]
            return f'<mrow>{"".join(out)}<mo stretchy="true">{escape(self.delimiter())}</mo></mrow>'
        if re.fullmatch('[bB]igg?[lrm]?', name):
            return f'<mo stretchy="false" style="font-size:{1.2 if name[0]=="b" else 1.6}em">{escape(self.delimiter())}</mo>'
        if name in BIG: return f'<mo>{BIG[name]}</mo>'
        if name in SPACES: return f'<mspace width="{SPACES[name]}"/>'
        if name in WORDS: return f'<mi>{"mod" if name=="bmod" else name}</mi>' + '<mspace width=".17em"/>'*(name=='bmod')
        if (o := GREEK.get('lambda_' if name=='lambda' else name)): return f'<mi>{o}</mi>'
        if name in SYMBOLS: return f'<mo stretchy="false">{escape(SYMBOLS[name])}</mo>'
        if name=='begin': return f'<mrow>{self.table(self.raw())}</mrow>'
        if name in ('displaystyle','limits','nolimits','textstyle','nonumber'): return ''
        raise ValueError(f'{t} in {self.tex!r} is TeX that .ci/mathml.py does not know; write it otherwise, or add it there')

def pieces(tex):
    "Formulas with a wide blank between them: each on a line of its own where there is no room"
    out,depth = [''],0
    for t in re.findall(r'\\[A-Za-z]+|\\.|.', tex, re.S):
        depth += {'{':1, '}':-1, '\\left':1, '\\right':-1, '\\begin':1, '\\end':-1}.get(t, 0)
        if t=='\\qquad' and depth==0: out.append('')
        else: out[-1] += t
    return [o for o in out if o.strip()]

def mathml(
    tex, # A formula, without dollars
    display=False, # On a line of its own
)->str: # HTML; an equation number stands beside the formula, or below it where there is no room
    "`tex` as MathML"
    tag = re.search(r'\\tag\{([^}]*)\}', tex)
    tex = re.sub(r'\\tag\{[^}]*\}', '', tex).strip()
    if not display: return f'<math>{Reader(tex).row()}</math>'
    side_by_side = ''.join(f'<math display="block">{Reader(o).row()}</math>' for o in pieces(tex))
    return f'<span class="eq">{side_by_side}' + (f'<span class="eqno">({tag[1]})</span>' if tag else '') + '</span>'

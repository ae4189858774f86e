-- For Quarto. Pandoc's MathML knows no \tag: the number of an equation becomes text beside it. The Colab badge becomes our own
-- picture, so that opening a page asks no other server. .ci/docs.py does both for the local preview.
if not FORMAT:match('html') then return {} end

local function root()
  return (quarto and quarto.project and quarto.project.offset or '.') .. '/'
end

-- Formulas with a wide blank between them: each on a line of its own where there is no room
local function pieces(tex)
  local out, depth, i = { '' }, 0, 1
  local nest = { ['{'] = 1, ['}'] = -1, ['\\left'] = 1, ['\\right'] = -1, ['\\begin'] = 1, ['\\end'] = -1 }
  while i <= #tex do
    local t = tex:match('^\\%a+', i) or tex:match('^\\.', i) or tex:sub(i, i)
    depth = depth + (nest[t] or 0)
    if t == '\\qquad' and depth == 0 then out[#out + 1] = '' else out[#out] = out[#out] .. t end
    i = i + #t
  end
  return out
end

local function equation(el)
  if el.mathtype ~= 'DisplayMath' then return nil end
  local tag = el.text:match('\\tag%{([^}]*)%}')
  local parts = {}
  for _, tex in ipairs(pieces((el.text:gsub('%s*\\tag%{[^}]*%}', '')))) do
    if tex:match('%S') then parts[#parts + 1] = pandoc.Math('DisplayMath', tex) end
  end
  if tag then parts[#parts + 1] = pandoc.Span({ pandoc.Str('(' .. tag .. ')') }, { class = 'eqno' }) end
  return pandoc.Span(parts, { class = 'eq' })
end

local function badge(el)
  if not el.format:match('html') then return nil end
  local text, n = el.text:gsub('https://colab%.research%.google%.com/assets/colab%-badge%.svg"', root() .. 'images/colab.svg" width="64" height="20"')
  if n > 0 then return pandoc.RawInline(el.format, text) end
end

local function badge_block(el)
  local inline = badge(el)
  if inline then return pandoc.RawBlock(el.format, inline.text) end
end

return { { Math = equation, RawInline = badge, RawBlock = badge_block } }

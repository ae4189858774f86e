-- For Quarto. Pandoc's MathML knows no \tag: the number of an equation becomes text beside it. The Colab badge becomes our own
-- picture, so that opening a page asks no other server. .ci/docs.py does both for the local preview.
if not FORMAT:match('html') then return {} end

local function root()
  return (quarto and quarto.project and quarto.project.offset or '.') .. '/'
end

local function equation(el)
  if el.mathtype ~= 'DisplayMath' then return nil end
  local tag = el.text:match('\\tag%{([^}]*)%}')
  el.text = el.text:gsub('%s*\\tag%{[^}]*%}', '')
  local parts = { el }
  if tag then parts[2] = pandoc.Span({ pandoc.Str('(' .. tag .. ')') }, { class = 'eqno' }) end
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

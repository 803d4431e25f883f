-- SPDX-License-Identifier: MIT
-- A load for the Lua interpreter, which takes every string, table and closure from malloc: words are
-- counted, records sorted, a tree is grown and dropped, text is built and taken apart.
--   load_lua.lua [ROUNDS]
local rounds = tonumber(arg and arg[1]) or 4
local state = 4711

local function random(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return (state >> 8) % n
end

local function words(count)
  local seen, order = {}, {}
  for i = 1, count do
    local letters = {}
    for j = 1, 2 + random(5) do letters[j] = string.char(97 + random(26)) end
    local word = table.concat(letters)
    if not seen[word] then
      seen[word] = { word = word, places = {} }
      order[#order + 1] = seen[word]
    end
    table.insert(seen[word].places, i)
  end
  table.sort(order, function(a, b)
    if #a.places ~= #b.places then return #a.places > #b.places end
    return a.word < b.word
  end)
  return order[1].word, #order
end

local function tree(depth)
  if depth == 0 then return { weight = random(100) } end
  return { left = tree(depth - 1), right = tree(depth - 1), weight = random(100) }
end

local function weigh(node)
  return node and node.weight + weigh(node.left) + weigh(node.right) or 0
end

local function text(count)
  local lines, sum = {}, 0
  for i = 1, count do
    lines[i] = string.format("%d=%s", random(100000), string.rep("x", random(60)))
  end
  for number, tail in table.concat(lines, "\n"):gmatch("(%d+)=(x*)") do
    sum = (sum * 31 + tonumber(number) + #tail) % 2147483647
  end
  return sum
end

for round = 1, rounds do
  local word, count = words(15000)
  local makers = {}
  for i = 1, 5000 do makers[i] = function(x) return x + i * round end end
  print(round, word, count, weigh(tree(13)), text(12000), makers[random(5000) + 1](state))
end
collectgarbage()

-- SPDX-License-Identifier: MIT
-- Tables, strings, closures, coroutines and full collections in Lua.
local state = 42
local function pseudo_random(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return (state >> 8) % n
end

local words, order = {}, {}
for i = 1, 200000 do
  local letters = {}
  for j = 1, 1 + pseudo_random(6) do letters[j] = string.char(97 + pseudo_random(26)) end
  local word = table.concat(letters)
  if not words[word] then
    words[word] = { count = 0, places = {} }
    order[#order + 1] = word
  end
  local entry = words[word]
  entry.count = entry.count + 1
  entry.places[#entry.places + 1] = i
  if i % 50000 == 0 then collectgarbage() end
end
table.sort(order, function(a, b)
  if words[a].count ~= words[b].count then return words[a].count > words[b].count end
  return a < b
end)
for i = 1, 30 do print(order[i], words[order[i]].count, words[order[i]].places[1]) end
print(#order)

local function walk(tree)
  if tree then
    walk(tree.left)
    coroutine.yield(tree.key)
    walk(tree.right)
  end
end
local root
for _ = 1, 50000 do
  local key = pseudo_random(1000000)
  local new, place = { key = key }, root
  if not root then root = new end
  while place and place ~= new do
    local side = key < place.key and "left" or "right"
    if not place[side] then place[side] = new end
    place = place[side]
  end
end
local sum, n = 0, 0
for key in coroutine.wrap(function() walk(root) end) do
  n = n + 1
  sum = (sum * 31 + key) % 2147483647
end
print(n, sum)

local text = {}
for i = 1, 40000 do text[i] = string.format("%06d:%s", pseudo_random(1000000), string.rep("z", pseudo_random(40))) end
text = table.concat(text, "\n")
local found = 0
for number, tail in text:gmatch("(%d+):(z+)") do found = found + #tail * (tonumber(number) % 7) end
print(#text, found, #text:gsub("z+", string.upper))

local kept = {}
for round = 1, 300 do
  local makers = {}
  for i = 1, 200 do makers[i] = function(x) return x + i * round end end
  kept[round % 20] = makers
  sum = (sum + makers[200](round)) % 2147483647
end
print(sum)
root, words, kept = nil, nil, nil
collectgarbage()
collectgarbage()

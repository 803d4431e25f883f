-- SPDX-License-Identifier: MIT
-- A load with indexes, in memory, for the sqlite3 shell. The numbers are made by a rule, not by chance.
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, weight REAL, kind INTEGER, data BLOB);
CREATE TABLE kind (id INTEGER PRIMARY KEY, title TEXT UNIQUE);
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499)
INSERT INTO kind SELECT i, printf('kind %d of %s', i, hex(zeroblob(i % 40))) FROM n;
BEGIN;
CREATE INDEX item_name ON item (name);
CREATE INDEX item_kind_weight ON item (kind, weight DESC);
WITH RECURSIVE n (i, r) AS (
    SELECT 0, 12345
    UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < 149999)
INSERT INTO item
SELECT i, printf('item %08x %.*c', r, r % 60, 'x'), r / 1000.0, r / 65536 % 500, zeroblob(r / 256 % 200)
FROM n;
COMMIT;
CREATE INDEX item_both ON item (weight, name) WHERE kind < 250;
SELECT count(*), sum(length(name)), sum(length(data)), round(avg(weight), 3) FROM item;
SELECT k.title, count(*), max(i.name), round(sum(i.weight), 2) FROM item i JOIN kind k ON k.id = i.kind
GROUP BY k.id ORDER BY count(*) DESC, k.id LIMIT 40;
UPDATE item SET name = name || ' changed', data = zeroblob(length(data) * 2) WHERE kind % 7 = 3;
DELETE FROM item WHERE id % 5 = 2;
SELECT id, name FROM item WHERE kind BETWEEN 100 AND 140 ORDER BY weight, id LIMIT 100;
SELECT group_concat(name, ',') FROM (SELECT name FROM item WHERE kind = 17 ORDER BY id);
SELECT count(DISTINCT substr(name, 1, 9)), json_array_length(json_group_array(weight)) FROM item;
WITH RECURSIVE walk (id, depth) AS (
    SELECT 1, 0 UNION ALL SELECT (id * 48271) % 149999, depth + 1 FROM walk WHERE depth < 20000)
SELECT count(*), sum(length(name)) FROM walk JOIN item USING (id);
SELECT kind, rank() OVER (ORDER BY total DESC) FROM (SELECT kind, sum(weight) total FROM item GROUP BY kind)
ORDER BY 2 LIMIT 20;
PRAGMA integrity_check;
VACUUM;
SELECT count(*) FROM item WHERE name LIKE '%7f%changed';
.dump kind

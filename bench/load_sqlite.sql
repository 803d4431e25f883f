-- SPDX-License-Identifier: MIT
-- A load for the sqlite3 shell: orders and customers in memory, indexes, joins, JSON, text. Small
-- blocks for statements, records and strings, pages of 4 KiB, some larger ones for sorting.
-- The numbers come from a rule, so that every run prints the same.
PRAGMA temp_store = MEMORY;
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT UNIQUE, town TEXT, notes TEXT);
CREATE TABLE sale (id INTEGER PRIMARY KEY, customer INTEGER, day INTEGER, cents INTEGER, what TEXT);
BEGIN;
WITH RECURSIVE n (i, r) AS (
    SELECT 1, 4711
    UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < 8000)
INSERT INTO customer
SELECT i, printf('customer %08x-%d', r, i), printf('town %d', r / 65536 % 97),
       printf('%.*c', r / 256 % 300, 'n')
FROM n;
WITH RECURSIVE n (i, r) AS (
    SELECT 1, 815
    UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < 60000)
INSERT INTO sale
SELECT i, 1 + r / 16 % 8000, r / 1024 % 365, r / 4096 % 100000, printf('thing %x', r / 65536 % 5000)
FROM n;
COMMIT;
CREATE INDEX sale_customer ON sale (customer, day);
CREATE INDEX sale_what ON sale (what);
SELECT count(*), sum(cents) FROM sale;
SELECT town, count(*), sum(cents), max(length(notes)) FROM sale JOIN customer ON customer.id = customer
GROUP BY town ORDER BY 3 DESC LIMIT 20;
SELECT what, sum(cents) AS total, count(DISTINCT customer) FROM sale GROUP BY what ORDER BY total DESC LIMIT 20;
SELECT length(group_concat(name, ';')) FROM customer;
SELECT json_array_length(json_group_array(json_object('id', id, 'day', day, 'what', what))) FROM sale
WHERE id % 4 = 0;
SELECT day, sum(total) OVER (ORDER BY day) FROM (SELECT day, sum(cents) AS total FROM sale GROUP BY day)
ORDER BY day DESC LIMIT 10;
UPDATE customer SET notes = notes || name WHERE id % 3 = 0;
DELETE FROM sale WHERE id % 5 = 1;
SELECT sum(length(notes)) FROM customer;
SELECT count(*) FROM sale WHERE what IN (SELECT what FROM sale GROUP BY what HAVING count(*) > 9);
PRAGMA integrity_check;

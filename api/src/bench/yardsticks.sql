-- The fixed yardsticks of `amends bench`: what rows and commits cost on this machine, whatever the
-- engine does.
--
-- This file is never edited together with the engine. Its digest stands in every report and is
-- pinned by a test; reports with different digests cannot be compared.
--
-- $1 is the number of the commit, from 1. Ids grow with it, and the tables are emptied before each
-- turn, so that no turn pays for the ones before.

-- part: setup
create schema yardstick;
create table yardstick.plain (
    id uuid not null,
    n integer not null,
    body text not null,
    digest bytea not null,
    primary key (id, n)
);
create table yardstick.shape (
    id uuid not null,
    n integer not null,
    key text,
    body text not null,
    primary key (id, n)
);
create index shape_key on yardstick.shape (key) where key is not null;

-- part: empty
truncate yardstick.plain, yardstick.shape;

-- 512 rows of about 560 bytes in one commit.
-- part: many
insert into yardstick.plain (id, n, body, digest)
select lpad(to_hex($1::bigint), 32, '0')::uuid, n, repeat(md5(n::text), 16),
       sha256(n::text::bytea)
from generate_series(1, 512) n

-- 85 orders in one commit, of 20 rows each: 7 of records, 5 of events, 3 of an instance and its
-- changes, a delivery, 3 attributes, a movement of money. 5 of them have an entry in the second index.
-- part: shape
insert into yardstick.shape (id, n, key, body)
select lpad(to_hex($1::bigint * 85 + o), 32, '0')::uuid, r.n,
       case when r.n <= 5 then 'bench.example.com/' || ($1::bigint * 85 + o) || '/' || r.n end,
       left(repeat(md5((o * 20 + r.n)::text), 18), r.bytes)
from generate_series(1, 85) o
cross join (values
    (1, 220), (2, 170), (3, 170), (4, 520), (5, 60),
    (6, 560), (7, 560), (8, 560), (9, 560), (10, 560), (11, 560), (12, 560),
    (13, 40), (14, 40), (15, 40), (16, 40), (17, 40),
    (18, 10), (19, 10), (20, 10)
) r(n, bytes)

-- One row of about 560 bytes in one commit.
-- part: one
insert into yardstick.plain (id, n, body, digest)
values (lpad(to_hex($1::bigint), 32, '0')::uuid, 1, repeat(md5(($1::bigint)::text), 16),
        sha256(($1::bigint)::text::bytea))

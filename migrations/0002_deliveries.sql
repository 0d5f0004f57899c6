-- What came in, to the byte.
--
-- delivery    one row per webhook or API request received; (source, external_id) is what makes a
--             repetition start nothing; append-only
--
-- Runs on an empty database.

create table amends.delivery (
    delivery_id uuid primary key,
    source text not null,
    external_id text not null,
    digest bytea not null check (length(digest) = 32),
    body bytea not null,
    -- What it is about; null where it starts nothing.
    workflow text,
    business_key text,
    received_at timestamptz not null,
    constraint delivery_once unique (source, external_id)
);

create trigger delivery_is_never_truncated before truncate on amends.delivery
    for each statement execute function amends.refuse_change();
create trigger delivery_is_append_only before update or delete on amends.delivery
    for each row execute function amends.refuse_change();

-- Stock in the database of the engine, for shops that keep it here. The engine does not look at it.
--
-- stock              how many pieces of an article there are, and how many of them are reserved
-- stock_reservation  for which instance, and until when they are certainly kept
--
-- Adds tables: nothing waits. A release before this one does not look at them.

create table amends.stock (
    sku text primary key,
    on_hand integer not null check (on_hand >= 0),
    reserved integer not null default 0 check (reserved >= 0),
    -- Nothing is promised twice, whoever writes here.
    constraint stock_is_not_oversold check (reserved <= on_hand)
);

create table amends.stock_reservation (
    instance_id uuid not null,
    sku text not null references amends.stock,
    quantity integer not null check (quantity > 0),
    -- From then on, whoever needs the pieces may have them.
    kept_until timestamptz not null,
    primary key (instance_id, sku)
);
create index stock_reservation_kept_until on amends.stock_reservation (sku, kept_until);

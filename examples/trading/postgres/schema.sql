-- Run once, by the image's first start on an empty volume.
create type order_side as enum ('buy', 'sell');

create table symbols (
    symbol          text primary key,
    name            text not null,
    reference_price numeric(14, 4) not null check (reference_price > 0),
    details         jsonb not null default '{}'
);

create sequence ticket_numbers start 100000;

-- seq counts each worker's orders without a gap: what a restore lost or doubled shows in it.
create table orders (
    id        bigint generated always as identity primary key,
    ticket    bigint not null default nextval('ticket_numbers'),
    worker    smallint not null,
    seq       bigint not null check (seq > 0),
    symbol    text not null references symbols,
    side      order_side not null,
    quantity  integer not null check (quantity > 0),
    price     numeric(14, 4) not null check (price > 0),
    placed_at timestamptz not null default clock_timestamp(),
    note      text not null default '',
    details   jsonb not null default '{}',
    unique (worker, seq)
);
alter sequence ticket_numbers owned by orders.ticket;
create index orders_by_symbol on orders (symbol, placed_at desc);
create index orders_by_desk on orders ((details ->> 'desk'));

create table fills (
    id        bigint generated always as identity primary key,
    order_id  bigint not null references orders on delete cascade,
    quantity  integer not null check (quantity > 0),
    price     numeric(14, 4) not null check (price > 0),
    filled_at timestamptz not null default clock_timestamp()
);
create index fills_by_order on fills (order_id);

-- Always the sum of the fills: the trigger keeps it in the fill's own transaction.
create table positions (
    symbol     text primary key references symbols,
    quantity   bigint not null,
    cost       numeric(20, 4) not null,
    updated_at timestamptz not null default clock_timestamp()
);

create function book_fill() returns trigger language plpgsql as $$
begin
    insert into positions as p (symbol, quantity, cost)
    select o.symbol, s.signed, s.signed * new.price
    from orders o
    cross join lateral (
        select case o.side when 'buy' then new.quantity else -new.quantity end as signed
    ) s
    where o.id = new.order_id
    on conflict (symbol) do update set
        quantity = p.quantity + excluded.quantity,
        cost = p.cost + excluded.cost,
        updated_at = clock_timestamp();
    return null;
end
$$;
create trigger book_fill after insert on fills for each row execute function book_fill();

-- Empty in a database that is consistent.
create view position_differences as
select symbol, p.quantity as booked, f.quantity as filled
from positions p
full join (
    select o.symbol, sum(case o.side when 'buy' then f.quantity else -f.quantity end) as quantity
    from fills f
    join orders o on o.id = f.order_id
    group by o.symbol
) f using (symbol)
where p.quantity is distinct from f.quantity;

insert into symbols (symbol, name, reference_price, details) values
    ('ALPN', 'Alpenglühen Energie', 84.2500, '{"venue": "Zürich", "lot": 10}'),
    ('BRDG', 'Bridgewater Freight', 41.1000, '{"venue": "London", "lot": 1}'),
    ('CRNT', 'Current & Sons', 12.7300, '{"venue": "London", "lot": 100}'),
    ('DUNE', 'Dune Minerals', 203.9000, '{"venue": "Sydney", "lot": 1}'),
    ('EMBR', 'Ember Foods', 56.6600, '{"venue": "Chicago", "lot": 5}'),
    ('FJRD', 'Fjørd Shipping', 318.0500, '{"venue": "Oslo", "lot": 1}');

create role trading_reader nologin;
grant select on all tables in schema public to trading_reader;
alter database trading set timezone to 'UTC';
comment on database trading is 'Orders, fills and positions';

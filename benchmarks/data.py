"""Mixed data, made inside the servers: ids, words, JSON, numerics; neither all random nor all the same."""

from __future__ import annotations

__all__ = ["REDIS_BATCH", "REDIS_SCRIPT", "postgres_sql"]

MIB = 1024 * 1024
REDIS_BATCH = 2000  # orders per call of the script, about 1.5 MB
REDIS_SCRIPT = """
local from, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local symbols = {'AAPL', 'MSFT', 'NVDA', 'AMZN', 'SAP', 'TSLA', 'BTC-EUR', 'ETH-EUR'}
math.randomseed(from)
for id = from, from + count - 1 do
  local symbol, price = symbols[math.random(#symbols)], string.format('%.4f', math.random() * 1000)
  redis.call('SET', 'order:' .. id, cjson.encode({id = id, symbol = symbol, price = price, account = math.random(5000),
    client = redis.sha1hex('client' .. id), status = 'accepted', message = 'order ' .. id .. ' accepted by the venue'}))
  redis.call('HSET', 'position:' .. id, 'symbol', symbol, 'quantity', math.random(100000), 'average', price)
  redis.call('ZADD', 'prices', price, 'order:' .. id)
  redis.call('XADD', 'orders', '*', 'id', id, 'symbol', symbol, 'price', price, 'quantity', math.random(1000))
end
return redis.status_reply('OK')
"""
_TABLES = """
CREATE TABLE orders (id bigint PRIMARY KEY, account int NOT NULL, symbol text NOT NULL, side text NOT NULL,
  price numeric(12, 4) NOT NULL, quantity numeric(18, 8) NOT NULL, created timestamptz NOT NULL, note text);
CREATE TABLE events (id bigint PRIMARY KEY, kind text NOT NULL, payload jsonb NOT NULL);
CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz NOT NULL, bid double precision NOT NULL, ask double precision NOT NULL, volume int);
CREATE TABLE documents (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL);
"""
_FILL = """
DO $fill$
DECLARE
  done bigint := 0;
  symbols text[] := '{AAPL,MSFT,NVDA,AMZN,SAP,TSLA,BTC-EUR,ETH-EUR}';
  words text[] := '{order,accepted,by,venue,partial,fill,rejected,because,of,limit,account,margin,price,moved,after,news,hedge,closed}';
BEGIN
  PERFORM setseed(0.5);
  WHILE (SELECT sum(pg_table_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace) < %d LOOP
    INSERT INTO orders SELECT i, random() * 5000, symbols[1 + i %% 8], CASE WHEN random() < 0.5 THEN 'buy' ELSE 'sell' END,
      random() * 1000, random() * 100, '2026-01-01'::timestamptz + i * interval '0.7 s',
      words[1 + (random() * 17)::int] || ' ' || words[1 + (random() * 17)::int] || ' ' || (random() * 1e6)::int
      FROM generate_series(done + 1, done + %d) i;
    INSERT INTO events SELECT i, 'order_' || words[1 + (random() * 17)::int], jsonb_build_object('order', i, 'symbol', symbols[1 + i %% 8],
      'price', round((random() * 1000)::numeric, 4), 'client', md5(random()::text), 'status', words[1 + (random() * 17)::int],
      'message', 'order ' || i || ' was accepted by the venue and waits for its fill')
      FROM generate_series(done + 1, done + %d) i;
    INSERT INTO ticks SELECT i, '2026-01-01'::timestamptz + i * interval '0.11 s', random() * 1000, random() * 1000, random() * 10000
      FROM generate_series(done + 1, done + %d) i;
    INSERT INTO documents SELECT i, 'report ' || i, words[1 + (random() * 17)::int] || ' ' || md5(random()::text) || ' '
      || words[1 + (random() * 17)::int] || ' ' || repeat(words[1 + (random() * 17)::int] || ' ', 6) || md5(i::text)
      FROM generate_series(done + 1, done + %d) i;
    done := done + %d;
  END LOOP;
END $fill$;
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
"""


def postgres_sql(mib: int) -> str:
    """Four tables that take ``mib`` MiB in all (indexes not counted)."""
    step = max(500, mib * 40)
    return _TABLES + _FILL % (mib * MIB, *[step] * 5)

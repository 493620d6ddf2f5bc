-- The ledger: accounts, transfers, rates, the meter of each session, and who meters which shard.
--
-- Two rules hold everywhere. Money moves from one account to another in one row, so an imbalance cannot be written; and
-- whoever writes locks in one order: meters by session, then users' accounts by id, then house accounts by id.
--
-- The application moves money through post_transfer and meter_tick and in no other way: they run as the owner, and the
-- application's role may write neither balances nor history by itself.

-- What `live_ms` of live time costs: free time first, then a flat price with the time that it includes, then started
-- steps at a rate. There is one rounding, down, in the client's favour (billing/money.py has the twin of both functions).
-- Neither is strict, and each is one expression: so the planner writes them into the statements that use them.
create function tariff_cost(minor_per_minute bigint, step_ms bigint, free_ms bigint, flat_minor bigint,
                            included_ms bigint, minimum_minor bigint, live_ms bigint) returns bigint
  language sql immutable parallel safe
  return case when live_ms <= free_ms then 0
    else greatest(minimum_minor, flat_minor + minor_per_minute
      * ((greatest(0, live_ms - free_ms - included_ms) + step_ms - 1) / step_ms * step_ms) / 60000) end;

-- The longest live time that costs no more than the amount: the inverse of tariff_cost.
create function tariff_affordable_ms(minor_per_minute bigint, step_ms bigint, free_ms bigint, flat_minor bigint,
                                     included_ms bigint, minimum_minor bigint, amount_minor bigint) returns bigint
  language sql immutable parallel safe
  return case when amount_minor < greatest(minimum_minor, flat_minor) then free_ms
    when minor_per_minute = 0 then free_ms + included_ms
    else free_ms + included_ms + ((least(amount_minor, 1000000000000) - flat_minor + 1) * 60000 - 1)
      / (minor_per_minute * step_ms) * step_ms end;

-- The provider's part of an amount; the platform's is what remains.
create function share_minor(amount_minor bigint, provider_bps bigint) returns bigint
  language sql immutable strict parallel safe
  return amount_minor * provider_bps / 10000;

create table account (
  id bigint generated always as identity,
  tenant_id bigint not null,
  kind text not null check (kind in ('client_wallet', 'provider_earnings', 'receivable', 'platform_revenue',
                                    'payment_clearing', 'promo', 'package_liability')),
  user_id bigint not null default 0,   -- 0: a house account
  lane smallint not null default 0,    -- house accounts that every session touches have a row for each lane of the tick
  currency char(3) not null check (currency ~ '^[A-Z]{3}$'),
  overdraft boolean not null,
  posted_minor bigint not null default 0,
  held_minor bigint not null default 0 check (held_minor >= 0),
  promo_minor bigint not null default 0,  -- how much of a wallet is promotional credit: spent first, never paid out
  primary key (tenant_id, id),
  unique (id),
  unique (tenant_id, kind, user_id, currency, lane),
  constraint account_never_negative check (overdraft or posted_minor - held_minor >= 0),
  -- What people have never falls below zero. What a provider owes (receivable) and what the house earned may.
  constraint account_overdraft check (overdraft = (kind not in ('client_wallet', 'provider_earnings', 'package_liability'))),
  constraint account_house check ((user_id = 0) = (kind not in ('client_wallet', 'provider_earnings', 'receivable'))),
  constraint account_promo check (promo_minor between 0 and case when kind = 'client_wallet' then posted_minor else 0 end),
  constraint account_hold check (held_minor = 0 or kind = 'client_wallet')
) with (fillfactor = 50);
create index account_user on account (tenant_id, user_id) where user_id <> 0;
select enable_tenant_rls('account');
revoke insert, update on account from turnpike_app;
grant insert (tenant_id, kind, user_id, lane, currency, overdraft) on account to turnpike_app;

-- One movement outside the meter. Money leaves the debit account and arrives in the credit account.
create table transfer (
  id bigint generated always as identity,
  tenant_id bigint not null,
  public_id text not null unique,
  kind text not null check (kind in ('topup', 'promo', 'promo_expiry', 'charge', 'reversal', 'package_use',
                                     'package_expiry')),
  debit_account_id bigint not null,
  credit_account_id bigint not null check (credit_account_id <> debit_account_id),
  amount_minor bigint not null check (amount_minor > 0),
  promo_minor bigint not null default 0 check (promo_minor between 0 and amount_minor),  -- promotional credit in it
  currency char(3) not null,
  idempotency_key text not null check (length(idempotency_key) between 1 and 200),
  source_id text,  -- the public id of the charge, reversal, package or session that it is a leg of
  memo text not null check (length(memo) <= 200),
  debit_balance_minor bigint not null,   -- the debit account's balance after this transfer
  credit_balance_minor bigint not null,  -- and the credit account's
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, idempotency_key),
  foreign key (tenant_id, debit_account_id) references account,
  foreign key (tenant_id, credit_account_id) references account
);
create index transfer_debit on transfer (tenant_id, debit_account_id, id);
create index transfer_credit on transfer (tenant_id, credit_account_id, id);
create index transfer_time on transfer (tenant_id, created_at);
create index transfer_source on transfer (tenant_id, source_id) where source_id is not null;
select enable_tenant_rls('transfer');
revoke insert, update on transfer from turnpike_app;

-- What a session was charged in one posting: `amount_minor` leaves the client's wallet, `fee_minor` of it goes to the
-- platform and the rest to the provider. Keyed by time slot first, so that old rows lie together.
create table session_charge (
  tenant_id bigint not null,
  slot bigint not null,
  session_id bigint not null,
  leg smallint not null check (leg in (0, 1)),  -- 0: while it ran, 1: at settlement
  client_account_id bigint not null,
  provider_account_id bigint not null,
  platform_account_id bigint not null,
  amount_minor bigint not null check (amount_minor > 0),
  fee_minor bigint not null check (fee_minor between 0 and amount_minor),
  promo_minor bigint not null default 0 check (promo_minor between 0 and amount_minor),
  through_ms bigint not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, slot, session_id, leg)
) partition by range (slot);
create table session_charge_other partition of session_charge default;  -- slots that no partition was made for
select enable_tenant_rls('session_charge');
revoke insert, update on session_charge from turnpike_app;

-- What providers charge, as a history: a change is a new row, and a session keeps the terms that it was requested at.
-- One provider may offer several tariffs of a kind, told apart by `code`; the newest row of each that is valid counts.
create table tariff (
  id bigint generated always as identity,
  tenant_id bigint not null,
  provider_id bigint not null,
  kind text not null check (kind in ('chat', 'audio', 'video')),
  code text not null default 'standard' check (code ~ '^[a-z0-9_]{1,32}$'),
  minor_per_minute bigint not null check (minor_per_minute between 0 and 10000000),
  step_ms bigint not null default 1 check (step_ms between 1 and 3600000),  -- charged by started steps, in advance
  free_ms bigint not null default 0 check (free_ms between 0 and 3600000),  -- free first time
  free_daily_ms bigint not null default 0 check (free_daily_ms >= 0),       -- at most so much a pair and day; 0: no cap
  flat_minor bigint not null default 0 check (flat_minor between 0 and 10000000000),
  included_ms bigint not null default 0 check (included_ms between 0 and 86400000),  -- time that the flat price covers
  minimum_minor bigint not null default 0 check (minimum_minor between 0 and 10000000000),
  currency char(3) not null check (currency ~ '^[A-Z]{3}$'),
  provider_bps int not null check (provider_bps between 0 and 10000),
  valid_from timestamptz not null default now(),
  valid_until timestamptz,
  primary key (tenant_id, id),
  unique (id),
  -- No rate: the session ends with the time that the flat price covers. Without a flat price there must be a rate.
  constraint tariff_priced check (minor_per_minute > 0 or (flat_minor > 0 and included_ms > 0)),
  constraint tariff_flat check ((flat_minor > 0) = (included_ms > 0)),
  constraint tariff_validity check (valid_until is null or valid_until > valid_from)
);
create index tariff_newest on tariff (tenant_id, provider_id, kind, code, id desc);
select enable_tenant_rls('tariff');
revoke update on tariff from turnpike_app;

-- One row a paid session: its terms, what is posted, what is held ahead, and how far the worker may go.
-- Between ticks: held_minor = cost of granted_ms - posted_minor, where the cost is that of the stretches that are over
-- (after_minor) and tariff_cost of the time since (live time - after_ms). Columns that never change come first: what an
-- update leaves as it was at both ends of a row is not written to the log again.
create table session_meter (
  tenant_id bigint not null,
  session_id bigint not null,
  session_public_id text not null,
  shard smallint not null,
  client_account_id bigint not null,
  provider_account_id bigint not null,
  platform_account_id bigint not null,
  currency char(3) not null,
  opened_at timestamptz not null default now(),
  revision int not null default 1,             -- rises when the terms change
  kind text not null check (kind in ('chat', 'audio', 'video')),
  tariff_id bigint not null,
  minor_per_minute bigint not null check (minor_per_minute >= 0),
  step_ms bigint not null default 1 check (step_ms > 0),
  free_ms bigint not null default 0,           -- time that costs no money: free first time, then package time
  prepaid_ms bigint not null default 0,        -- how much of it is package time
  flat_minor bigint not null default 0,
  included_ms bigint not null default 0,
  minimum_minor bigint not null default 0,
  provider_bps int not null check (provider_bps between 0 and 10000),
  limit_ms bigint not null default 10000000000,  -- as long as the session may be, whatever the wallet has
  after_ms bigint not null default 0,          -- live time before the present terms, and what it cost
  after_minor bigint not null default 0,
  after_provider_minor bigint not null default 0,
  after_prepaid_ms bigint not null default 0,  -- package time used before the present terms
  state text not null default 'open' check (state in ('open', 'settled')),
  epoch int not null default 0,                -- newest room epoch seen
  epoch_base_ms bigint not null default 0,     -- live time of all earlier epochs
  live_ms bigint not null default 0,           -- live time of all epochs, as evidence has it
  billed_through_ms bigint not null default 0, -- how much of it is posted
  granted_ms bigint not null default 0,        -- how much of it is paid for or held
  posted_minor bigint not null default 0,
  posted_provider_minor bigint not null default 0,
  posted_promo_minor bigint not null default 0,
  held_minor bigint not null default 0 check (held_minor >= 0),
  final_unit boolean not null default false,   -- there is no whole further grant
  lease_epoch bigint not null default 0,       -- the newest lease that has metered this session
  last_slot bigint not null default 0,
  client_balance_minor bigint,                 -- both parties' balances after the newest posting
  provider_balance_minor bigint,
  posted_at timestamptz,
  settled_at timestamptz,
  primary key (tenant_id, session_id),
  unique (session_id),
  constraint meter_within_grant check (billed_through_ms <= granted_ms),
  constraint meter_within_limit check (granted_ms <= limit_ms),
  constraint meter_settled check ((state = 'settled') = (settled_at is not null) and (state = 'open' or held_minor = 0))
) with (fillfactor = 50);
create index session_meter_open on session_meter (shard) where state = 'open';
create index session_meter_client on session_meter (tenant_id, client_account_id);
create index session_meter_provider on session_meter (tenant_id, provider_account_id);
select enable_tenant_rls('session_meter');
revoke insert, update on session_meter from turnpike_app;
grant update (lease_epoch) on session_meter to turnpike_app;

-- The terms of each stretch of a session, from its start or a change of kind on: what its charge is recomputed from.
create table session_terms (
  tenant_id bigint not null,
  session_id bigint not null,
  revision int not null,
  from_ms bigint not null,
  kind text not null,
  tariff_id bigint not null,
  free_ms bigint not null,
  prepaid_ms bigint not null,
  at timestamptz not null default now(),
  primary key (tenant_id, session_id, revision)
);
select enable_tenant_rls('session_terms');
revoke insert, update on session_terms from turnpike_app;

-- What is written stays written: not even the owner changes history in passing.
create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% on %: history is append-only; write a reversing row', tg_op, tg_table_name
    using errcode = 'restrict_violation';
end $$;
create trigger transfer_append_only before update or delete or truncate on transfer
  for each statement execute function refuse_change();
create trigger session_charge_append_only before update or delete or truncate on session_charge
  for each statement execute function refuse_change();
create trigger session_charge_append_only before update or delete or truncate on session_charge_other
  for each statement execute function refuse_change();
create trigger session_terms_append_only before update or delete or truncate on session_terms
  for each statement execute function refuse_change();
create trigger tariff_append_only before update or delete or truncate on tariff
  for each statement execute function refuse_change();
create trigger session_meter_settled_is_final before update on session_meter
  for each row when (old.state = 'settled') execute function refuse_change();
create trigger session_meter_kept before delete or truncate on session_meter
  for each statement execute function refuse_change();

-- Who meters which shard. No tenants here: a shard holds sessions of all.
create table shard_lease (
  shard smallint primary key,
  owner text,
  epoch bigint not null default 0,  -- rises with each change of owner, and fences the one before
  expires_at timestamptz not null default '-infinity'
) with (fillfactor = 50);
insert into shard_lease (shard) select generate_series(0, 63);
create table shard_owner (
  owner text primary key,
  expires_at timestamptz not null
);
grant select, update on shard_lease to turnpike_app;
grant select, insert, update, delete on shard_owner to turnpike_app;

-- Renew, give up or take leases so that each living owner comes to hold its fair share; returns what p_owner holds now.
-- A lease that ends further in the future than any can is one from before the clock was set back, and counts as over.
create function lease_shards(p_owner text, p_ttl interval) returns table (r_shard smallint, r_epoch bigint)
language plpgsql set search_path = public, pg_temp as $$
declare
  v_now timestamptz;
  v_fair int;
begin
  perform 1 from shard_lease order by shard for update;
  v_now := clock_timestamp();
  insert into shard_owner values (p_owner, v_now + p_ttl) on conflict (owner) do update set expires_at = excluded.expires_at;
  delete from shard_owner o where o.expires_at < v_now or o.expires_at > v_now + 2 * p_ttl;
  v_fair := (select ceil(64.0 / count(*)) from shard_owner);
  -- One that another has never taken over in the meantime may be renewed even after its time.
  update shard_lease l set expires_at = v_now + p_ttl where l.owner = p_owner;
  update shard_lease l set owner = null, expires_at = '-infinity'
    where l.shard in (select s.shard from shard_lease s where s.owner = p_owner order by s.shard offset v_fair);
  update shard_lease l set owner = p_owner, epoch = l.epoch + 1, expires_at = v_now + p_ttl
    where l.shard in (
      select s.shard from shard_lease s
      where s.owner is null or s.expires_at < v_now or s.expires_at > v_now + 2 * p_ttl
      order by s.shard desc
      limit greatest(0, v_fair - (select count(*) from shard_lease h where h.owner = p_owner)));
  return query select l.shard, l.epoch from shard_lease l where l.owner = p_owner order by l.shard;
end $$;

-- One leg of a movement outside the meter: what all of them are made of. The caller holds the locks and has looked at
-- the key; a debit that is not covered raises. `p_promo` is how much of the amount is promotional credit.
create function move_money(
  p_tenant bigint, p_public_id text, p_kind text, p_debit bigint, p_credit bigint, p_amount bigint, p_promo bigint,
  p_currency text, p_key text, p_source text, p_memo text)
returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_debit_balance bigint;
  v_credit_balance bigint;
begin
  update account a set posted_minor = a.posted_minor - p_amount,
      promo_minor = a.promo_minor - case when a.kind = 'client_wallet' then p_promo else 0 end
    where a.tenant_id = p_tenant and a.id = p_debit and a.currency = p_currency
    returning a.posted_minor into strict v_debit_balance;
  update account a set posted_minor = a.posted_minor + p_amount,
      promo_minor = a.promo_minor + case when a.kind = 'client_wallet' then p_promo else 0 end
    where a.tenant_id = p_tenant and a.id = p_credit and a.currency = p_currency
    returning a.posted_minor into strict v_credit_balance;
  insert into transfer (tenant_id, public_id, kind, debit_account_id, credit_account_id, amount_minor, promo_minor,
                        currency, idempotency_key, source_id, memo, debit_balance_minor, credit_balance_minor)
    values (p_tenant, p_public_id, p_kind, p_debit, p_credit, p_amount, p_promo, p_currency, p_key, p_source, p_memo,
            v_debit_balance, v_credit_balance);
end $$;

-- Users' accounts by id, then house accounts by id: the one order in which accounts are locked.
create function lock_accounts(p_tenant bigint, p_accounts bigint[]) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
  perform 1 from account a where a.tenant_id = p_tenant and a.id = any (p_accounts) and a.user_id <> 0
    order by a.id for no key update;
  perform 1 from account a where a.tenant_id = p_tenant and a.id = any (p_accounts) and a.user_id = 0
    order by a.id for no key update;
end $$;

-- Move money outside the meter, once per key. Status: done, replayed (same key and content: nothing moves),
-- key_reused (same key, other content), insufficient_funds.
create function post_transfer(
  p_tenant bigint, p_public_id text, p_kind text, p_debit bigint, p_credit bigint, p_amount bigint,
  p_currency text, p_key text, p_memo text)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_old transfer;
begin
  if p_kind not in ('topup', 'promo') then
    raise exception 'a % is not posted by itself', p_kind using errcode = 'invalid_parameter_value';
  end if;
  perform lock_accounts(p_tenant, array[p_debit, p_credit]);
  select * into v_old from transfer t where t.tenant_id = p_tenant and t.idempotency_key = p_key;
  if found then
    return case when (v_old.kind, v_old.debit_account_id, v_old.credit_account_id, v_old.amount_minor,
                      v_old.currency::text) = (p_kind, p_debit, p_credit, p_amount, p_currency)
                then 'replayed' else 'key_reused' end;
  end if;
  perform 1 from account a where a.tenant_id = p_tenant and a.id = p_debit and a.currency = p_currency
    and (a.overdraft or a.posted_minor - a.held_minor >= p_amount);
  if not found then
    return 'insufficient_funds';
  end if;
  perform move_money(p_tenant, p_public_id, p_kind, p_debit, p_credit, p_amount,
                     case when p_kind = 'promo' then p_amount else 0 end, p_currency, p_key, null, p_memo);
  return 'done';
end $$;

-- The tick: take in evidence for many sessions, post what they cost, and hold money for the next grant; with p_final,
-- post the rest, release the hold and close the meters. All from totals, so that a repeated, late or reordered call
-- changes nothing that it should not. A session is named once in p_session; p_live counts within p_epoch, p_base is
-- what the caller knows of earlier epochs. p_lease is the caller's lease epoch; whoever opens or settles a session
-- needs none and passes null: the row's lock is enough.
create function meter_tick(
  p_session bigint[], p_epoch int[], p_base bigint[], p_live bigint[], p_lease bigint[],
  p_final boolean, p_slot bigint, p_grant_ms bigint)
returns table (
  r_session bigint, r_status text, r_epoch int, r_base bigint, r_live bigint, r_billed bigint, r_granted bigint,
  r_posted bigint, r_provider bigint, r_held bigint, r_final_unit boolean, r_balance bigint, r_available bigint,
  r_charged bigint, r_over_ms bigint)
language plpgsql security definer set jit = off set search_path = public, pg_temp as $$
declare
  v_users bigint[];
  v_house bigint[];
begin
  perform 1 from session_meter m where m.session_id = any (p_session) order by m.session_id for no key update;
  v_users := array(
    select m.client_account_id from session_meter m where m.session_id = any (p_session)
    union select m.provider_account_id from session_meter m where m.session_id = any (p_session));
  v_house := array(select distinct m.platform_account_id from session_meter m where m.session_id = any (p_session));
  perform 1 from account a where a.id = any (v_users) order by a.id for no key update;
  perform 1 from account a where a.id = any (v_house) order by a.id for no key update;
  -- A statement of its own: it must see what the lock holders before us wrote.
  return query
  with seen as materialized (
    select m.*, a.posted_minor as balance, a.posted_minor - a.held_minor as available, a.promo_minor as promo,
      e.posted_minor as earnings,
      greatest(u.epoch, m.epoch) as new_epoch,
      case when u.epoch > m.epoch then greatest(m.live_ms, u.base) else m.epoch_base_ms end as new_base,
      -- Evidence of an epoch that is over adds nothing to what was known when it ended.
      greatest(m.live_ms, case when u.epoch > m.epoch then greatest(m.live_ms, u.base) + u.live
                               when u.epoch = m.epoch then m.epoch_base_ms + u.live else 0 end) as new_live,
      case when m.state = 'settled' then 'settled'
           when not p_final and (l.epoch <> u.lease or m.lease_epoch > u.lease) then 'fenced'
           else 'ok' end as status,
      greatest(u.lease, m.lease_epoch) as new_lease
    from unnest(p_session, p_epoch, p_base, p_live, p_lease) u (sid, epoch, base, live, lease)
    join session_meter m on m.session_id = u.sid
    join account a on a.id = m.client_account_id
    join account e on e.id = m.provider_account_id
    join shard_lease l on l.shard = m.shard
  ), capped as (
    select s.*, least(s.new_live, s.granted_ms) as new_billed, greatest(0, s.new_live - s.granted_ms) as over_ms,
      s.after_minor + tariff_cost(s.minor_per_minute, s.step_ms, s.free_ms, s.flat_minor, s.included_ms, s.minimum_minor,
                                  s.granted_ms - s.after_ms) as granted_cost
    from seen s where s.status = 'ok'
  ), priced as (
    select c.*, c.after_minor + tariff_cost(c.minor_per_minute, c.step_ms, c.free_ms, c.flat_minor, c.included_ms,
                                            c.minimum_minor, c.new_billed - c.after_ms) as new_posted,
      case when p_final then c.granted_ms
           else greatest(c.granted_ms, least(c.new_billed + p_grant_ms, c.limit_ms)) end as target_ms
    from capped c
  ), wanted as (
    select p.*, p.after_minor - p.granted_cost
      + tariff_cost(p.minor_per_minute, p.step_ms, p.free_ms, p.flat_minor, p.included_ms, p.minimum_minor,
                    p.target_ms - p.after_ms) as want
    from priced p
  ), levelled as (
    -- Sessions on one wallet share it by water level: small wants are met whole, the others get the same.
    select w.*, floor((w.available - (sum(w.want) over wallet - w.want))
                      / (count(*) over (partition by w.client_account_id) + 1 - row_number() over wallet))::bigint as level
    from wanted w window wallet as (partition by w.client_account_id order by w.want, w.session_id)
  ), given as (
    select v.*, least(v.want, max(v.level) over (partition by v.client_account_id)) as got from levelled v
  ), granted as (
    select g.*, case when g.got >= g.want then g.target_ms
                     else least(g.target_ms, g.after_ms + tariff_affordable_ms(
                       g.minor_per_minute, g.step_ms, g.free_ms, g.flat_minor, g.included_ms, g.minimum_minor,
                       g.granted_cost + g.got - g.after_minor)) end as new_granted
    from given g
  ), split as (
    select d.*, d.new_posted - d.posted_minor as charge,
      d.after_provider_minor + share_minor(d.new_posted - d.after_minor, d.provider_bps) as new_provider,
      d.after_provider_minor + share_minor(d.new_posted - d.after_minor, d.provider_bps)
        - d.posted_provider_minor as share,
      case when p_final then 0 else d.after_minor - d.new_posted + tariff_cost(
        d.minor_per_minute, d.step_ms, d.free_ms, d.flat_minor, d.included_ms, d.minimum_minor,
        d.new_granted - d.after_ms) end as new_held,
      d.got < d.want or d.new_granted >= d.limit_ms as new_final
    from granted d
  ), done as materialized (
    -- Balances afterwards by windows: a join with what the update returns would be a nested loop over a thousand rows.
    select p.*, (p.balance - sum(p.charge) over client)::bigint as new_balance,
      (p.available - sum(p.charge + p.new_held - p.held_minor) over client)::bigint as new_available,
      (p.earnings + sum(p.share) over (partition by p.provider_account_id))::bigint as new_earnings,
      -- Promotional credit goes first, to one session of the wallet after the other.
      case when p.promo = 0 then 0
           else least(p.promo, sum(p.charge) over wallet) - least(p.promo, sum(p.charge) over wallet - p.charge)
           end::bigint as promo_charge
    from split p window client as (partition by p.client_account_id),
      wallet as (partition by p.client_account_id order by p.want, p.session_id)
  ), deltas as (
    select x.id, sum(x.posted)::bigint as posted, sum(x.held)::bigint as held, sum(x.promo)::bigint as promo from (
      select client_account_id as id, -charge as posted, new_held - held_minor as held, promo_charge as promo from done
      union all select provider_account_id, share, 0, 0 from done
      union all select platform_account_id, charge - share, 0, 0 from done) x
    group by x.id having sum(x.posted) <> 0 or sum(x.held) <> 0
  ), moved as (
    update account a set posted_minor = a.posted_minor + x.posted, held_minor = a.held_minor + x.held,
      promo_minor = a.promo_minor - x.promo
    from deltas x where a.id = x.id
  ), charged as (
    insert into session_charge (tenant_id, slot, session_id, leg, client_account_id, provider_account_id,
                                platform_account_id, amount_minor, fee_minor, promo_minor, through_ms)
    -- The clock that slots come from may step back; a session's slots never do.
    select d.tenant_id, greatest(p_slot, d.last_slot + 1), d.session_id, p_final::int, d.client_account_id,
      d.provider_account_id, d.platform_account_id, d.charge, d.charge - d.share, d.promo_charge, d.new_billed
    from done d where d.charge > 0
  ), metered as (
    update session_meter m set
      epoch = d.new_epoch, epoch_base_ms = d.new_base, live_ms = d.new_live, billed_through_ms = d.new_billed,
      granted_ms = d.new_granted, posted_minor = d.new_posted, posted_provider_minor = d.new_provider,
      posted_promo_minor = m.posted_promo_minor + d.promo_charge,
      held_minor = d.new_held, final_unit = d.new_final, lease_epoch = d.new_lease,
      last_slot = case when d.charge > 0 then greatest(p_slot, d.last_slot + 1) else d.last_slot end,
      client_balance_minor = case when d.charge > 0 or p_final then d.new_balance else m.client_balance_minor end,
      provider_balance_minor = case when d.charge > 0 or p_final then d.new_earnings else m.provider_balance_minor end,
      posted_at = case when d.charge > 0 then now() else m.posted_at end,
      state = case when p_final then 'settled' else 'open' end,
      settled_at = case when p_final then now() end
    from done d where m.session_id = d.session_id
  )
  select d.session_id, d.status, d.new_epoch, d.new_base, d.new_live, d.new_billed, d.new_granted, d.new_posted,
    d.new_provider, d.new_held, d.new_final, d.new_balance, d.new_available, d.charge, d.over_ms
  from done d
  union all
  select s.session_id, s.status, s.epoch, s.epoch_base_ms, s.live_ms, s.billed_through_ms, s.granted_ms, s.posted_minor,
    s.posted_provider_minor, s.held_minor, s.final_unit, s.balance, s.available, 0::bigint, 0::bigint
  from seen s where s.status <> 'ok';
end $$;

revoke execute on function move_money, lock_accounts, post_transfer, meter_tick from public;
grant execute on function post_transfer, meter_tick to turnpike_app;

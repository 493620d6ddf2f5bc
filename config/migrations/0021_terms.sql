-- A session's money from its first hold to its end: opening, package time, a change of kind, settlement.
--
-- Lock order, as everywhere: the meter, then packages by id, then users' accounts by id, then house accounts by id, and
-- package_liability after all others.

-- The tariff that a session was requested at: its terms, beside the rate that people are shown.
alter table session add column tariff_id bigint;

-- What is sold as prepaid time. A change is a new row; whoever bought keeps what was offered then.
create table package_offer (
  id bigint generated always as identity,
  tenant_id bigint not null,
  public_id text not null unique,
  provider_id bigint,   -- null: time with any provider
  kind text check (kind in ('chat', 'audio', 'video')),  -- null: of any kind
  name text not null check (length(name) between 1 and 100),
  time_ms bigint not null check (time_ms between 1000 and 360000000 and time_ms % 1000 = 0),
  price_minor bigint not null check (price_minor between 1 and 1000000000),
  currency char(3) not null check (currency ~ '^[A-Z]{3}$'),
  provider_bps int not null check (provider_bps between 0 and 10000),
  valid_days int not null check (valid_days between 1 and 3650),
  then_money boolean not null,  -- whether a session goes on with money when the time is used up
  created_at timestamptz not null default now(),
  withdrawn_at timestamptz,
  primary key (tenant_id, id)
);
select enable_tenant_rls('package_offer');
revoke update on package_offer from turnpike_app;
grant update (withdrawn_at) on package_offer to turnpike_app;

-- Time that a client has bought. Its price lies in package_liability, and leaves it in proportion to the time used.
create table client_package (
  id bigint generated always as identity,
  tenant_id bigint not null,
  public_id text not null unique,
  client_account_id bigint not null,
  charge_id bigint not null,
  offer_id bigint not null,
  provider_id bigint,
  kind text,
  total_ms bigint not null check (total_ms > 0),
  used_ms bigint not null default 0 check (used_ms >= 0),
  reserved_ms bigint not null default 0 check (reserved_ms >= 0),
  price_minor bigint not null,
  recognised_minor bigint not null default 0,  -- how much of the price was paid on, to provider and platform
  currency char(3) not null,
  provider_bps int not null,
  then_money boolean not null,
  expires_at timestamptz not null,
  closed_at timestamptz,  -- expired, and what was left of its price is the platform's
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  constraint package_not_overdrawn check (used_ms + reserved_ms <= total_ms),
  constraint package_recognised check (recognised_minor between 0 and price_minor)
);
create index client_package_open on client_package (tenant_id, client_account_id, expires_at, id)
  where closed_at is null;
select enable_tenant_rls('client_package');
revoke insert, update on client_package from turnpike_app;

-- Package time held for a session, and what of it the session used.
create table session_package (
  tenant_id bigint not null,
  session_id bigint not null,
  ordinal int not null,  -- the order in which the time is used: that of expiry
  package_id bigint not null,
  reserved_ms bigint not null check (reserved_ms > 0),
  used_ms bigint check (used_ms between 0 and reserved_ms),  -- null: the session is open
  value_minor bigint check (value_minor >= 0),               -- the part of the price that this was worth
  provider_minor bigint check (provider_minor between 0 and value_minor),
  primary key (tenant_id, session_id, ordinal)
);
create index session_package_of on session_package (tenant_id, package_id);
select enable_tenant_rls('session_package');
revoke insert, update on session_package from turnpike_app;

-- How much free time a pair has left today (UTC): what sessions took, or may still take. Under the client's lock.
create function free_left_ms(p_tenant bigint, p_client bigint, p_provider bigint, p_daily_ms bigint) returns bigint
language sql stable set search_path = public, pg_temp as $$
  select greatest(0, p_daily_ms - coalesce(sum(
    case when m.state = 'settled' then least(m.billed_through_ms, t.free_ms - t.prepaid_ms)
         else t.free_ms - t.prepaid_ms end), 0))::bigint
  from session_meter m join session_terms t on t.tenant_id = m.tenant_id and t.session_id = m.session_id and t.revision = 1
  where m.tenant_id = p_tenant and m.client_account_id = p_client and m.provider_account_id = p_provider
    and m.opened_at >= date_trunc('day', now(), 'UTC')
$$;

-- Make a session's meter at a tariff's terms and reserve package time; false when it is there. Money is held by the
-- tick that the caller runs next, in the same transaction.
create function open_meter(
  p_tenant bigint, p_session bigint, p_public_id text, p_shard smallint, p_client bigint, p_provider bigint,
  p_platform bigint, p_tariff bigint)
returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_tariff tariff;
  v_package client_package;
  v_provider_id bigint;
  v_free bigint;
  v_prepaid bigint := 0;
  v_then_money boolean := true;
  v_ordinal int := 0;
begin
  select * into strict v_tariff from tariff t where t.tenant_id = p_tenant and t.id = p_tariff;
  insert into session_meter (tenant_id, session_id, session_public_id, shard, client_account_id, provider_account_id,
      platform_account_id, currency, kind, tariff_id, minor_per_minute, step_ms, flat_minor, included_ms, minimum_minor,
      provider_bps)
    values (p_tenant, p_session, p_public_id, p_shard, p_client, p_provider, p_platform, v_tariff.currency, v_tariff.kind,
      v_tariff.id, v_tariff.minor_per_minute, v_tariff.step_ms, v_tariff.flat_minor, v_tariff.included_ms,
      v_tariff.minimum_minor, v_tariff.provider_bps)
    on conflict do nothing;
  if not found then
    return false;
  end if;
  v_provider_id := (select a.user_id from account a where a.tenant_id = p_tenant and a.id = p_provider);
  perform 1 from client_package c where c.tenant_id = p_tenant and c.client_account_id = p_client and c.closed_at is null
    order by c.id for no key update;
  for v_package in
    select * from client_package c where c.tenant_id = p_tenant and c.client_account_id = p_client
      and c.closed_at is null and c.expires_at > now() and c.total_ms > c.used_ms + c.reserved_ms
      and (c.provider_id is null or c.provider_id = v_provider_id) and (c.kind is null or c.kind = v_tariff.kind)
    order by c.expires_at, c.id
  loop
    v_ordinal := v_ordinal + 1;
    insert into session_package (tenant_id, session_id, ordinal, package_id, reserved_ms)
      values (p_tenant, p_session, v_ordinal, v_package.id,
              v_package.total_ms - v_package.used_ms - v_package.reserved_ms);
    v_prepaid := v_prepaid + v_package.total_ms - v_package.used_ms - v_package.reserved_ms;
    v_then_money := v_then_money and v_package.then_money;
    update client_package c set reserved_ms = c.total_ms - c.used_ms
      where c.tenant_id = p_tenant and c.id = v_package.id;
  end loop;
  v_free := v_tariff.free_ms;
  if v_free > 0 and v_tariff.free_daily_ms > 0 then
    perform lock_accounts(p_tenant, array[p_client, p_provider]);
    v_free := least(v_free, free_left_ms(p_tenant, p_client, p_provider, v_tariff.free_daily_ms));
  end if;
  update session_meter m set free_ms = v_free + v_prepaid, prepaid_ms = v_prepaid,
      limit_ms = case when not v_then_money then v_free + v_prepaid
                      when v_tariff.minor_per_minute = 0 then v_free + v_prepaid + v_tariff.included_ms
                      else m.limit_ms end
    where m.session_id = p_session and (v_free + v_prepaid > 0 or v_tariff.minor_per_minute = 0);
  insert into session_terms (tenant_id, session_id, revision, from_ms, kind, tariff_id, free_ms, prepaid_ms)
    values (p_tenant, p_session, 1, 0, v_tariff.kind, v_tariff.id, v_free + v_prepaid, v_prepaid);
  return true;
end $$;

-- Pay on what a settled session used of its packages, and give back the rest. The caller holds meter and packages.
create function release_packages(p_meter session_meter) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_row session_package;
  v_package client_package;
  v_liability bigint;
  v_left bigint;
  v_used bigint;
  v_value bigint;
  v_share bigint;
begin
  v_left := p_meter.after_prepaid_ms + least(p_meter.prepaid_ms, greatest(0,
    p_meter.billed_through_ms - p_meter.after_ms - (p_meter.free_ms - p_meter.prepaid_ms)));
  v_liability := (select a.id from account a where a.tenant_id = p_meter.tenant_id and a.kind = 'package_liability'
    and a.currency = p_meter.currency);
  perform lock_accounts(p_meter.tenant_id, array[p_meter.client_account_id, p_meter.provider_account_id,
                                                 p_meter.platform_account_id]);
  perform lock_accounts(p_meter.tenant_id, array[v_liability]);
  for v_row in select * from session_package s where s.tenant_id = p_meter.tenant_id
    and s.session_id = p_meter.session_id and s.used_ms is null order by s.ordinal
  loop
    v_used := least(v_left, v_row.reserved_ms);
    v_left := v_left - v_used;
    select * into strict v_package from client_package c where c.tenant_id = v_row.tenant_id and c.id = v_row.package_id;
    v_value := div(v_package.price_minor::numeric * (v_package.used_ms + v_used), v_package.total_ms)::bigint
      - v_package.recognised_minor;
    v_share := share_minor(v_value, v_package.provider_bps);
    update client_package c set used_ms = c.used_ms + v_used, reserved_ms = c.reserved_ms - v_row.reserved_ms,
        recognised_minor = c.recognised_minor + v_value
      where c.tenant_id = v_row.tenant_id and c.id = v_row.package_id;
    update session_package s set used_ms = v_used, value_minor = v_value, provider_minor = v_share
      where s.tenant_id = v_row.tenant_id and s.session_id = v_row.session_id and s.ordinal = v_row.ordinal;
    if v_share > 0 then
      perform move_money(v_row.tenant_id, 'trf_use' || p_meter.session_id || '_' || v_row.ordinal || 'p', 'package_use',
        v_liability, p_meter.provider_account_id, v_share, 0, p_meter.currency,
        'use:' || p_meter.session_id || ':' || v_row.ordinal || ':p', p_meter.session_public_id, 'Package time used');
    end if;
    if v_value > v_share then
      perform move_money(v_row.tenant_id, 'trf_use' || p_meter.session_id || '_' || v_row.ordinal || 'h', 'package_use',
        v_liability, p_meter.platform_account_id, v_value - v_share, 0, p_meter.currency,
        'use:' || p_meter.session_id || ':' || v_row.ordinal || ':h', p_meter.session_public_id, 'Package time used');
    end if;
  end loop;
end $$;

-- Post the rest, release what is held of money and package time, close the meter: one row as of meter_tick.
create function settle_meter(p_session bigint, p_epoch int, p_live bigint, p_slot bigint)
returns table (
  r_session bigint, r_status text, r_epoch int, r_base bigint, r_live bigint, r_billed bigint, r_granted bigint,
  r_posted bigint, r_provider bigint, r_held bigint, r_final_unit boolean, r_balance bigint, r_available bigint,
  r_charged bigint, r_over_ms bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_meter session_meter;
begin
  select * into v_meter from session_meter m where m.session_id = p_session for no key update;
  if v_meter.prepaid_ms + v_meter.after_prepaid_ms > 0 and v_meter.state = 'open' then
    perform 1 from client_package c where c.tenant_id = v_meter.tenant_id and c.id in (
      select s.package_id from session_package s where s.tenant_id = v_meter.tenant_id and s.session_id = p_session)
      order by c.id for no key update;
  end if;
  return query select * from meter_tick(array[p_session], array[p_epoch], array[0::bigint], array[p_live],
                                        array[null::bigint], true, p_slot, 0);
  if v_meter.prepaid_ms + v_meter.after_prepaid_ms > 0 and v_meter.state = 'open' then
    select * into v_meter from session_meter m where m.session_id = p_session;
    perform release_packages(v_meter);
  end if;
end $$;

-- Go on at another tariff from here: what is posted stays, what is held is held anew at the new rate for all that is
-- granted already, since a worker's grant never shrinks. Free and package time that is left is carried on (packages
-- that are for another kind are not). Status: done, settled, unknown, not_metered (a flat price, or packages alone,
-- are for whole sessions),
-- insufficient_funds (then nothing has changed but that the time so far is posted).
create function rerate_meter(p_session bigint, p_epoch int, p_live bigint, p_tariff bigint, p_slot bigint, p_grant_ms bigint)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_meter session_meter;
  v_tariff tariff;
  v_first bigint;
  v_prepaid bigint;
  v_used bigint;
  v_held bigint;
begin
  perform meter_tick(array[p_session], array[p_epoch], array[0::bigint], array[p_live], array[null::bigint], false,
                     p_slot, 0);
  select * into v_meter from session_meter m where m.session_id = p_session;
  if not found then
    return 'unknown';
  elsif v_meter.state = 'settled' then
    return 'settled';
  end if;
  select * into strict v_tariff from tariff t where t.tenant_id = v_meter.tenant_id and t.id = p_tariff
    and t.currency = v_meter.currency;
  if v_tariff.flat_minor > 0 or v_meter.flat_minor > 0 or v_meter.limit_ms < 10000000000 then
    return 'not_metered';
  elsif v_tariff.id = v_meter.tariff_id then
    return 'done';
  end if;
  v_first := v_meter.free_ms - v_meter.prepaid_ms;
  v_used := least(v_meter.prepaid_ms, greatest(0, v_meter.billed_through_ms - v_meter.after_ms - v_first));
  v_first := greatest(0, v_first - (v_meter.billed_through_ms - v_meter.after_ms));
  v_prepaid := case when exists (
      select from session_package s join client_package c on c.tenant_id = s.tenant_id and c.id = s.package_id
      where s.tenant_id = v_meter.tenant_id and s.session_id = p_session and c.kind <> v_tariff.kind)
    then 0 else v_meter.prepaid_ms - v_used end;
  v_held := tariff_cost(v_tariff.minor_per_minute, v_tariff.step_ms, v_first + v_prepaid, 0, 0, 0,
                        v_meter.granted_ms - v_meter.billed_through_ms);
  update account a set held_minor = a.held_minor + v_held - v_meter.held_minor
    where a.id = v_meter.client_account_id
      and a.posted_minor - a.held_minor >= v_held - v_meter.held_minor;
  if not found then
    return 'insufficient_funds';
  end if;
  update session_meter m set kind = v_tariff.kind, tariff_id = v_tariff.id, minor_per_minute = v_tariff.minor_per_minute,
      step_ms = v_tariff.step_ms, free_ms = v_first + v_prepaid, prepaid_ms = v_prepaid, minimum_minor = 0,
      provider_bps = v_tariff.provider_bps, after_ms = m.billed_through_ms, after_minor = m.posted_minor,
      after_provider_minor = m.posted_provider_minor, after_prepaid_ms = m.after_prepaid_ms + v_used,
      held_minor = v_held, revision = m.revision + 1
    where m.session_id = p_session;
  insert into session_terms (tenant_id, session_id, revision, from_ms, kind, tariff_id, free_ms, prepaid_ms)
    values (v_meter.tenant_id, p_session, v_meter.revision + 1, v_meter.billed_through_ms, v_tariff.kind, v_tariff.id, v_first + v_prepaid,
            v_prepaid);
  perform meter_tick(array[p_session], array[p_epoch], array[0::bigint], array[p_live], array[null::bigint], false,
                     p_slot, p_grant_ms);
  return 'done';
end $$;

revoke execute on function free_left_ms, open_meter, release_packages, settle_meter, rerate_meter from public;
grant execute on function open_meter, settle_meter, rerate_meter, free_left_ms to turnpike_app;

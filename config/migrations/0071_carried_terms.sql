-- A change of kind carries over, to the unit, what was paid: the rest below a whole unit, what is left of a started
-- step, and the minimum. Terms that change and change back come to what they would have come to without.
--
-- The ledger counts in 1/60000 units, in which a rate times milliseconds is a whole number. What a step that was begun
-- has paid for and was not used buys time at the new rate, down to a whole millisecond. A stretch's rounding is thus that
-- of the whole session. The provider's share is carried over in the same way, in 1/10000 units.

alter table session_meter
  add column after_rest bigint not null default 0,      -- in 1/60000 units: what the time before the present terms was
                                                        -- worth beyond after_minor (below 0: paid by a minimum charge)
  add column after_share_rest int not null default 0,   -- in 1/10000 units: the provider's part beyond after_provider_minor
  add column paid_ms bigint not null default 0,         -- how much of free_ms was paid before: what a step had left
  add column changed_at_ms bigint;                      -- when the terms changed, by the clock of who changed them

-- `carried`: whether the terms continue those before to the unit. Those of earlier versions do not.
alter table session_terms
  add column paid_ms bigint not null default 0,
  add column carried boolean not null default false;
alter table session_terms alter column carried set default true;

-- What a session's stretches that are over have used of a package: only those of a kind that it is for.
alter table session_package add column taken_ms bigint not null default 0;
alter table session_package add constraint session_package_taken check (taken_ms between 0 and reserved_ms) not valid;
update session_package s set taken_ms = least(s.reserved_ms, greatest(0, b.taken_ms - b.before_ms))
  from (select p.tenant_id, p.session_id, p.ordinal, m.after_prepaid_ms as taken_ms,
          sum(p.reserved_ms) over (partition by p.tenant_id, p.session_id order by p.ordinal) - p.reserved_ms as before_ms
        from session_package p join session_meter m using (tenant_id, session_id)
        where p.used_ms is null and m.after_prepaid_ms > 0) b
  where (s.tenant_id, s.session_id, s.ordinal) = (b.tenant_id, b.session_id, b.ordinal);

-- Another kind that one side has asked for: by which steps it would be charged.
alter table session add column asked_step_ms bigint;

drop function tariff_cost(bigint, bigint, bigint, bigint, bigint, bigint, bigint);
create function tariff_cost(minor_per_minute bigint, step_ms bigint, free_ms bigint, flat_minor bigint,
                            included_ms bigint, minimum_minor bigint, rest bigint, live_ms bigint) returns bigint
  language sql immutable parallel safe
  return case when live_ms <= free_ms then 0
    else greatest(minimum_minor, flat_minor + (rest + minor_per_minute
      * ((greatest(0, live_ms - free_ms - included_ms) + step_ms - 1) / step_ms * step_ms)) / 60000) end;

drop function tariff_affordable_ms(bigint, bigint, bigint, bigint, bigint, bigint, bigint);
create function tariff_affordable_ms(minor_per_minute bigint, step_ms bigint, free_ms bigint, flat_minor bigint,
                                     included_ms bigint, minimum_minor bigint, rest bigint, amount_minor bigint)
  returns bigint language sql immutable parallel safe
  return case when amount_minor < greatest(minimum_minor, flat_minor) then free_ms
    when minor_per_minute = 0 then free_ms + included_ms
    else free_ms + included_ms + ((least(amount_minor, 1000000000000) - flat_minor + 1) * 60000 - 1 - rest)
      / (minor_per_minute * step_ms) * step_ms end;

-- The tick as before, with both rests.
create or replace function meter_tick(
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
  select array_agg(m.client_account_id) || array_agg(m.provider_account_id), array_agg(distinct m.platform_account_id)
    into v_users, v_house
    from (select s.client_account_id, s.provider_account_id, s.platform_account_id from session_meter s
          where s.session_id = any (p_session) order by s.session_id for no key update) m;
  perform 1 from account a where a.id = any (v_users) order by a.id for no key update;
  perform 1 from account a where a.id = any (v_house) order by a.id for no key update;
  -- A statement of its own: it must see what the lock holders before us wrote.
  return query
  with seen as materialized (
    select m.tenant_id, m.session_id, m.client_account_id, m.provider_account_id, m.platform_account_id,
      m.minor_per_minute, m.step_ms, m.free_ms, m.flat_minor, m.included_ms, m.minimum_minor, m.provider_bps, m.limit_ms,
      m.after_ms, m.after_minor, m.after_provider_minor, m.after_rest, m.after_share_rest, m.epoch, m.epoch_base_ms,
      m.live_ms, m.billed_through_ms,
      m.granted_ms, m.posted_minor, m.posted_provider_minor, m.held_minor, m.final_unit, m.last_slot,
      a.posted_minor as balance, a.posted_minor - a.held_minor as available, a.promo_minor as promo,
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
  ), aimed as (
    select s.*, least(s.new_live, s.granted_ms) as new_billed,
      case when p_final then s.granted_ms
           else greatest(s.granted_ms, least(least(s.new_live, s.granted_ms) + p_grant_ms, s.limit_ms)) end as target_ms
    from seen s where s.status = 'ok' offset 0
  ), priced as (
    select a.*,
      a.after_minor + tariff_cost(a.minor_per_minute, a.step_ms, a.free_ms, a.flat_minor, a.included_ms,
                                  a.minimum_minor, a.after_rest, a.granted_ms - a.after_ms) as granted_cost,
      a.after_minor + tariff_cost(a.minor_per_minute, a.step_ms, a.free_ms, a.flat_minor, a.included_ms,
                                  a.minimum_minor, a.after_rest, a.target_ms - a.after_ms) as target_cost,
      tariff_cost(a.minor_per_minute, a.step_ms, a.free_ms, a.flat_minor, a.included_ms, a.minimum_minor,
                  a.after_rest, a.new_billed - a.after_ms) as since_cost
    from aimed a offset 0
  ), shared as (
    select p.*, p.target_cost - p.granted_cost as want,
      p.after_minor + p.since_cost - p.posted_minor as charge,
      p.after_provider_minor + (p.since_cost * p.provider_bps + p.after_share_rest) / 10000
        - p.posted_provider_minor as share
    from priced p offset 0
  ), earned as (
    -- Balances afterwards by windows: a join with what the update returns would be a nested loop over a thousand rows.
    select h.*, (h.earnings + sum(h.share) over provider)::bigint as new_earnings,
      row_number() over provider as nth_of_provider
    from shared h window provider as (partition by h.provider_account_id)
  ), levelled as (
    -- Sessions on one wallet share it by water level: small wants are met whole, the others get the same.
    select w.*, floor((w.available - (sum(w.want) over wallet - w.want))
                      / (count(*) over (partition by w.client_account_id) + 1 - row_number() over wallet))::bigint as level,
      row_number() over wallet as nth_of_wallet, sum(w.charge) over wallet as charged
    from earned w window wallet as (partition by w.client_account_id order by w.want, w.session_id)
  ), given as (
    select v.*, least(v.want, max(v.level) over (partition by v.client_account_id)) as got from levelled v
  ), granted as (
    select g.*, case when g.got >= g.want then g.target_ms
                     else least(g.target_ms, g.after_ms + tariff_affordable_ms(
                       g.minor_per_minute, g.step_ms, g.free_ms, g.flat_minor, g.included_ms, g.minimum_minor,
                       g.after_rest, g.granted_cost + g.got - g.after_minor)) end as new_granted
    from given g offset 0
  ), held as (
    select d.*, case when p_final then 0
                     when d.new_granted = d.target_ms then d.target_cost - d.posted_minor - d.charge
                     else d.after_minor - d.posted_minor - d.charge + tariff_cost(
                       d.minor_per_minute, d.step_ms, d.free_ms, d.flat_minor, d.included_ms, d.minimum_minor,
                       d.after_rest, d.new_granted - d.after_ms) end as new_held
    from granted d offset 0
  ), done as materialized (
    select p.tenant_id, p.session_id, p.client_account_id, p.provider_account_id, p.platform_account_id, p.charge,
      p.share, p.new_epoch, p.new_base, p.new_live, p.new_billed, p.new_granted, p.new_held, p.new_lease, p.last_slot,
      p.posted_minor + p.charge as new_posted, p.posted_provider_minor + p.share as new_provider,
      p.got < p.want or p.new_granted >= p.limit_ms as new_final, greatest(0, p.new_live - p.granted_ms) as over_ms,
      p.balance, p.available, p.promo, p.earnings, p.new_earnings, p.nth_of_provider, p.nth_of_wallet,
      (p.balance - sum(p.charge) over client)::bigint as new_balance,
      (p.available - sum(p.charge + p.new_held - p.held_minor) over client)::bigint as new_available,
      -- Promotional credit goes first, to one session of the wallet after the other.
      case when p.promo = 0 then 0
           else least(p.promo, p.charged) - least(p.promo, p.charged - p.charge) end::bigint as promo_charge
    from held p window client as (partition by p.client_account_id)
  ), paid as (
    update account a set posted_minor = d.new_balance, held_minor = d.new_balance - d.new_available,
      promo_minor = a.promo_minor - least(d.promo, d.balance - d.new_balance)
    from done d where a.id = d.client_account_id and d.nth_of_wallet = 1
      and (d.new_balance <> d.balance or d.new_available <> d.available)
  ), received as (
    update account a set posted_minor = d.new_earnings
    from done d where a.id = d.provider_account_id and d.nth_of_provider = 1 and d.new_earnings <> d.earnings
  ), kept as (
    update account a set posted_minor = a.posted_minor + f.fee
    from (select d.platform_account_id as id, sum(d.charge - d.share)::bigint as fee from done d group by 1) f
    where a.id = f.id and f.fee <> 0
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
  select d.session_id, 'ok', d.new_epoch, d.new_base, d.new_live, d.new_billed, d.new_granted, d.new_posted,
    d.new_provider, d.new_held, d.new_final, d.new_balance, d.new_available, d.charge, d.over_ms
  from done d
  union all
  select s.session_id, s.status, s.epoch, s.epoch_base_ms, s.live_ms, s.billed_through_ms, s.granted_ms, s.posted_minor,
    s.posted_provider_minor, s.held_minor, s.final_unit, s.balance, s.available, 0::bigint, 0::bigint
  from seen s where s.status <> 'ok';
end $$;

-- How much of each of a session's packages a stretch takes that used `p_used_ms` of package time, at a kind: those that
-- fit it, in their order. `left_ms` is what was left of each before.
create function packages_taken(p_tenant bigint, p_session bigint, p_kind text, p_used_ms bigint)
returns table (r_ordinal int, r_package_id bigint, r_kind text, r_left_ms bigint, r_take_ms bigint)
language sql stable set search_path = public, pg_temp as $$
  select f.ordinal, f.package_id, f.kind, f.left_ms,
    case when f.fits then least(f.left_ms, greatest(0, p_used_ms - f.before_ms)) else 0 end::bigint
  from (
    select s.ordinal, s.package_id, c.kind, s.reserved_ms - s.taken_ms as left_ms,
      coalesce(c.kind = p_kind, true) as fits,
      coalesce(sum(s.reserved_ms - s.taken_ms) filter (where coalesce(c.kind = p_kind, true)) over (order by s.ordinal
        rows between unbounded preceding and 1 preceding), 0) as before_ms
    from session_package s join client_package c on c.tenant_id = s.tenant_id and c.id = s.package_id
    where s.tenant_id = p_tenant and s.session_id = p_session and s.used_ms is null
  ) f
$$;

-- How much package time a meter has used since its terms began.
create function package_used_ms(p_meter session_meter) returns bigint
language sql immutable set search_path = public, pg_temp as $$
  select least(p_meter.prepaid_ms, greatest(0,
    p_meter.billed_through_ms - p_meter.after_ms - (p_meter.free_ms - p_meter.prepaid_ms)))
$$;

create or replace function release_packages(p_meter session_meter) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_row record;
  v_package client_package;
  v_liability bigint;
  v_used bigint;
  v_value bigint;
  v_share bigint;
begin
  v_liability := (select a.id from account a where a.tenant_id = p_meter.tenant_id and a.kind = 'package_liability'
    and a.currency = p_meter.currency);
  perform lock_accounts(p_meter.tenant_id, array[p_meter.client_account_id, p_meter.provider_account_id,
                                                 p_meter.platform_account_id]);
  perform lock_accounts(p_meter.tenant_id, array[v_liability]);
  for v_row in select s.*, t.r_take_ms from packages_taken(p_meter.tenant_id, p_meter.session_id, p_meter.kind,
      package_used_ms(p_meter)) t
    join session_package s on s.tenant_id = p_meter.tenant_id and s.session_id = p_meter.session_id
      and s.ordinal = t.r_ordinal order by s.ordinal
  loop
    v_used := v_row.taken_ms + v_row.r_take_ms;
    select * into strict v_package from client_package c where c.tenant_id = v_row.tenant_id and c.id = v_row.package_id;
    v_value := div(v_package.price_minor::numeric * (v_package.used_ms + v_used), v_package.total_ms)::bigint
      - v_package.recognised_minor;
    v_share := share_minor(v_value, v_package.provider_bps);
    update client_package c set used_ms = c.used_ms + v_used, reserved_ms = c.reserved_ms - v_row.reserved_ms,
        recognised_minor = c.recognised_minor + v_value
      where c.tenant_id = v_row.tenant_id and c.id = v_row.package_id;
    update session_package s set taken_ms = v_used, used_ms = v_used, value_minor = v_value, provider_minor = v_share
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

-- As before; but whether there are packages to give back is what the rows say: time that a change of kind has put aside
-- is in none of the meter's sums.
create or replace function settle_meter(p_session bigint, p_epoch int, p_live bigint, p_slot bigint)
returns table (
  r_session bigint, r_status text, r_epoch int, r_base bigint, r_live bigint, r_billed bigint, r_granted bigint,
  r_posted bigint, r_provider bigint, r_held bigint, r_final_unit boolean, r_balance bigint, r_available bigint,
  r_charged bigint, r_over_ms bigint)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_meter session_meter;
  v_packages boolean;
begin
  select * into v_meter from session_meter m where m.session_id = p_session for no key update;
  v_packages := exists (select from session_package s where s.tenant_id = v_meter.tenant_id
    and s.session_id = p_session and s.used_ms is null);
  if v_packages then
    perform 1 from client_package c where c.tenant_id = v_meter.tenant_id and c.id in (
      select s.package_id from session_package s where s.tenant_id = v_meter.tenant_id and s.session_id = p_session)
      order by c.id for no key update;
  end if;
  return query select * from meter_tick(array[p_session], array[p_epoch], array[0::bigint], array[p_live],
                                        array[null::bigint], true, p_slot, 0);
  if v_packages then
    select * into v_meter from session_meter m where m.session_id = p_session;
    perform release_packages(v_meter);
  end if;
end $$;

-- Go on at another tariff from here: what is posted stays, what is held is held anew at the new rate for all that is
-- granted already, since a worker's grant never shrinks. Free time, what is left of a paid step, and the packages that
-- are for the new kind go along; other packages wait until their kind comes back, or the end.
-- `p_revision`: of the terms that whoever asks has seen (null: any). `p_at_ms`: their clock.
-- Status: done, settled, unknown, not_metered (a flat price, or packages alone, are for whole sessions),
-- changed_meanwhile, too_many_changes (a hundred of a session), too_soon (5 s after the one before), and
-- insufficient_funds; but for `done`, nothing has changed except that the time so far is posted.
drop function rerate_meter(bigint, int, bigint, bigint, bigint, bigint);
create function rerate_meter(
  p_session bigint, p_epoch int, p_live bigint, p_tariff bigint, p_slot bigint, p_grant_ms bigint,
  p_revision int default null, p_at_ms bigint default null)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_meter session_meter;
  v_tariff tariff;
  v_gone bigint;      -- live time since the present terms began
  v_over bigint;      -- how much of it was metered
  v_step_end bigint;  -- and up to where that is paid
  v_unused bigint;
  v_worth bigint;     -- all that was paid for, less what was not used, in 1/60000 units
  v_first bigint;
  v_paid bigint;
  v_used bigint;
  v_prepaid bigint;
  v_rest bigint;
  v_minimum bigint;
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
  elsif v_meter.revision <> p_revision then
    return 'changed_meanwhile';
  elsif v_meter.revision > 100 then
    return 'too_many_changes';
  elsif p_at_ms between v_meter.changed_at_ms and v_meter.changed_at_ms + 4999 then
    return 'too_soon';
  end if;
  v_gone := v_meter.billed_through_ms - v_meter.after_ms;
  v_over := greatest(0, v_gone - v_meter.free_ms);
  v_step_end := (v_over + v_meter.step_ms - 1) / v_meter.step_ms * v_meter.step_ms;
  -- There is no free first time any more once something was metered: what was paid ahead comes in its place.
  v_first := greatest(0, v_meter.free_ms - v_meter.prepaid_ms - v_meter.paid_ms - v_gone);
  v_unused := case when v_over > 0 then v_step_end - v_over else greatest(0, v_meter.paid_ms - v_gone) end;
  v_worth := v_meter.after_minor * 60000 + v_meter.after_rest + v_meter.minor_per_minute * (v_step_end - v_unused);
  v_paid := least(v_meter.minor_per_minute * v_unused / v_tariff.minor_per_minute, 5000000000);
  v_rest := v_worth + v_tariff.minor_per_minute * v_paid - v_meter.posted_minor * 60000;
  v_minimum := case when v_meter.posted_minor = 0 then v_meter.minimum_minor else 0 end;
  v_used := package_used_ms(v_meter);
  v_prepaid := (select coalesce(sum(p.r_left_ms - p.r_take_ms) filter (where coalesce(p.r_kind = v_tariff.kind, true)), 0)
    from packages_taken(v_meter.tenant_id, p_session, v_meter.kind, v_used) p);
  v_held := tariff_cost(v_tariff.minor_per_minute, v_tariff.step_ms, v_first + v_paid + v_prepaid, 0, 0, v_minimum, v_rest,
                        v_meter.granted_ms - v_meter.billed_through_ms);
  update account a set held_minor = a.held_minor + v_held - v_meter.held_minor
    where a.id = v_meter.client_account_id
      and a.posted_minor - a.held_minor >= v_held - v_meter.held_minor;
  if not found then
    return 'insufficient_funds';
  end if;
  update session_package s set taken_ms = s.taken_ms + p.r_take_ms
    from packages_taken(v_meter.tenant_id, p_session, v_meter.kind, v_used) p
    where s.tenant_id = v_meter.tenant_id and s.session_id = p_session and s.ordinal = p.r_ordinal and p.r_take_ms > 0;
  update session_meter m set kind = v_tariff.kind, tariff_id = v_tariff.id, minor_per_minute = v_tariff.minor_per_minute,
      step_ms = v_tariff.step_ms, free_ms = v_first + v_paid + v_prepaid, prepaid_ms = v_prepaid, paid_ms = v_paid,
      minimum_minor = v_minimum, provider_bps = v_tariff.provider_bps, after_ms = m.billed_through_ms,
      after_minor = m.posted_minor, after_rest = v_rest, after_provider_minor = m.posted_provider_minor,
      after_share_rest = ((m.posted_minor - m.after_minor) * m.provider_bps + m.after_share_rest) % 10000,
      after_prepaid_ms = m.after_prepaid_ms + v_used, held_minor = v_held, revision = m.revision + 1,
      changed_at_ms = p_at_ms
    where m.session_id = p_session;
  insert into session_terms (tenant_id, session_id, revision, from_ms, kind, tariff_id, free_ms, prepaid_ms, paid_ms)
    values (v_meter.tenant_id, p_session, v_meter.revision + 1, v_meter.billed_through_ms, v_tariff.kind, v_tariff.id,
            v_first + v_paid + v_prepaid, v_prepaid, v_paid);
  perform meter_tick(array[p_session], array[p_epoch], array[0::bigint], array[p_live], array[null::bigint], false,
                     p_slot, p_grant_ms);
  return 'done';
end $$;

revoke execute on function packages_taken, package_used_ms, release_packages, settle_meter, rerate_meter from public;
grant execute on function settle_meter, rerate_meter, packages_taken, package_used_ms to turnpike_app;

-- Package time that stayed reserved for sessions that are over is given back.
do $$
declare
  v_meter session_meter;
begin
  for v_meter in select * from session_meter m where m.state = 'settled' and exists (select from session_package s
    where s.tenant_id = m.tenant_id and s.session_id = m.session_id and s.used_ms is null) order by m.session_id
  loop
    perform 1 from client_package c where c.tenant_id = v_meter.tenant_id and c.id in (
      select s.package_id from session_package s where s.tenant_id = v_meter.tenant_id
        and s.session_id = v_meter.session_id) order by c.id for no key update;
    perform release_packages(v_meter);
  end loop;
end $$;

-- The tick, made lean: the same rules, locks and results as before. What it saves is copying and sorting: each row
-- carries only what later steps need, prices are computed once (offset 0 keeps the planner from copying expressions into
-- every place that uses them), there is one sort by provider and one by wallet, and balances that the windows know
-- already are written as they are, with no second grouping. docs/performance.md has the figures.

-- Row-level security asks this of every row that a tick touches: with one comparison where all tenants are meant.
create or replace function tenant_visible(t bigint) returns boolean
  language sql stable parallel safe
  return current_setting('turnpike.tenant', true) = '*' or current_setting('turnpike.tenant', true) = t::text;

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
      m.after_ms, m.after_minor, m.after_provider_minor, m.epoch, m.epoch_base_ms, m.live_ms, m.billed_through_ms,
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
                                  a.minimum_minor, a.granted_ms - a.after_ms) as granted_cost,
      a.after_minor + tariff_cost(a.minor_per_minute, a.step_ms, a.free_ms, a.flat_minor, a.included_ms,
                                  a.minimum_minor, a.target_ms - a.after_ms) as target_cost,
      tariff_cost(a.minor_per_minute, a.step_ms, a.free_ms, a.flat_minor, a.included_ms, a.minimum_minor,
                  a.new_billed - a.after_ms) as since_cost
    from aimed a offset 0
  ), shared as (
    select p.*, p.target_cost - p.granted_cost as want,
      p.after_minor + p.since_cost - p.posted_minor as charge,
      p.after_provider_minor + share_minor(p.since_cost, p.provider_bps) - p.posted_provider_minor as share
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
                       g.granted_cost + g.got - g.after_minor)) end as new_granted
    from given g offset 0
  ), held as (
    select d.*, case when p_final then 0
                     when d.new_granted = d.target_ms then d.target_cost - d.posted_minor - d.charge
                     else d.after_minor - d.posted_minor - d.charge + tariff_cost(
                       d.minor_per_minute, d.step_ms, d.free_ms, d.flat_minor, d.included_ms, d.minimum_minor,
                       d.new_granted - d.after_ms) end as new_held
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

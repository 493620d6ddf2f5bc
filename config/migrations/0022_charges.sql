-- What is charged at once, and what is given back.

-- What a provider gets of one-off charges, by kind; provider_id 0: of everybody who has no rule of their own. A history.
create table charge_rule (
  id bigint generated always as identity,
  tenant_id bigint not null,
  provider_id bigint not null default 0,
  kind text not null check (kind in ('gift', 'premium_message', 'tip', 'product', 'package')),
  provider_bps int not null check (provider_bps between 0 and 10000),
  at timestamptz not null default now(),
  primary key (tenant_id, id)
);
create index charge_rule_newest on charge_rule (tenant_id, kind, provider_id, id desc);
select enable_tenant_rls('charge_rule');
revoke update on charge_rule from turnpike_app;

-- A gift, a premium message, a tip, a product, a package: paid from the wallet at once.
create table charge (
  id bigint generated always as identity,
  tenant_id bigint not null,
  public_id text not null unique,
  kind text not null check (kind in ('gift', 'premium_message', 'tip', 'product', 'package')),
  payer_account_id bigint not null,
  provider_account_id bigint,  -- null: the price of a package, which nobody has earned yet
  house_account_id bigint not null,
  currency char(3) not null,
  amount_minor bigint not null check (amount_minor > 0),
  provider_bps int not null check (provider_bps between 0 and 10000),
  provider_minor bigint not null check (provider_minor between 0 and amount_minor),
  promo_minor bigint not null check (promo_minor between 0 and amount_minor),
  session_public_id text,
  idempotency_key text not null check (length(idempotency_key) between 1 and 200),
  content text not null,  -- what the key was used for, to tell a repetition from a mistake
  memo text not null check (length(memo) <= 200),
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, idempotency_key)
);
create index charge_of_session on charge (tenant_id, session_public_id) where session_public_id is not null;
create index charge_of_payer on charge (tenant_id, payer_account_id, created_at);
select enable_tenant_rls('charge');
revoke insert, update on charge from turnpike_app;

-- What was given back of a session or a one-off charge: by whom and why. This is its audit trail, too.
create table reversal (
  id bigint generated always as identity,
  tenant_id bigint not null,
  public_id text not null unique,
  session_id bigint,
  charge_id bigint,
  amount_minor bigint not null check (amount_minor > 0),
  provider_minor bigint not null check (provider_minor >= 0),      -- the provider's part, as it was shared
  receivable_minor bigint not null check (receivable_minor between 0 and provider_minor),  -- of it, what they owe now
  promo_minor bigint not null check (promo_minor between 0 and amount_minor),
  currency char(3) not null,
  reason text not null check (length(reason) between 3 and 500),
  actor_id bigint not null,
  idempotency_key text not null check (length(idempotency_key) between 1 and 200),
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, idempotency_key),
  constraint reversal_of_one check ((session_id is null) <> (charge_id is null)),
  constraint reversal_parts check (provider_minor <= amount_minor)
);
create index reversal_of_session on reversal (tenant_id, session_id) where session_id is not null;
create index reversal_of_charge on reversal (tenant_id, charge_id) where charge_id is not null;
select enable_tenant_rls('reversal');
revoke insert, update on reversal from turnpike_app;

create trigger charge_append_only before update or delete or truncate on charge
  for each statement execute function refuse_change();
create trigger reversal_append_only before update or delete or truncate on reversal
  for each statement execute function refuse_change();
create trigger charge_rule_append_only before update or delete or truncate on charge_rule
  for each statement execute function refuse_change();

-- Charge a wallet at once, once per key, and share it. Without a provider all of it goes to p_house. Status: done,
-- replayed (same key and content: nothing moves), key_reused, insufficient_funds.
create function post_charge(
  p_tenant bigint, p_public_id text, p_kind text, p_payer bigint, p_provider bigint, p_house bigint, p_amount bigint,
  p_currency text, p_bps int, p_session text, p_key text, p_content text, p_memo text)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_content text;
  v_account account;
  v_promo bigint;
  v_share bigint := case when p_provider is null then 0 else share_minor(p_amount, p_bps) end;
  v_share_promo bigint;
begin
  perform lock_accounts(p_tenant, array[p_payer, p_provider, p_house]);
  select c.content into v_content from charge c where c.tenant_id = p_tenant and c.idempotency_key = p_key;
  if found then
    return case when v_content = p_content then 'replayed' else 'key_reused' end;
  end if;
  select * into strict v_account from account a where a.tenant_id = p_tenant and a.id = p_payer
    and a.kind = 'client_wallet' and a.currency = p_currency;
  if v_account.posted_minor - v_account.held_minor < p_amount then
    return 'insufficient_funds';
  end if;
  v_promo := least(p_amount, v_account.promo_minor);
  v_share_promo := least(v_promo, v_share);
  if v_share > 0 then
    perform move_money(p_tenant, 'trf_p' || p_public_id, 'charge', p_payer, p_provider, v_share, v_share_promo,
                       p_currency, p_key || ':p', p_public_id, p_memo);
  end if;
  if p_amount > v_share then
    perform move_money(p_tenant, 'trf_h' || p_public_id, 'charge', p_payer, p_house, p_amount - v_share,
                       v_promo - v_share_promo, p_currency, p_key || ':h', p_public_id, p_memo);
  end if;
  insert into charge (tenant_id, public_id, kind, payer_account_id, provider_account_id, house_account_id, currency,
                      amount_minor, provider_bps, provider_minor, promo_minor, session_public_id, idempotency_key,
                      content, memo)
    values (p_tenant, p_public_id, p_kind, p_payer, p_provider, p_house, p_currency, p_amount,
            case when p_provider is null then 0 else p_bps end, v_share, v_promo, p_session, p_key, p_content, p_memo);
  return 'done';
end $$;

-- Buy an offer's time: a charge into package_liability and the package, in one transaction.
create function buy_package(
  p_tenant bigint, p_public_id text, p_charge_public_id text, p_payer bigint, p_offer bigint, p_key text)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_offer package_offer;
  v_status text;
begin
  select * into strict v_offer from package_offer o where o.tenant_id = p_tenant and o.id = p_offer;
  v_status := post_charge(p_tenant, p_charge_public_id, 'package', p_payer, null, (
      select a.id from account a where a.tenant_id = p_tenant and a.kind = 'package_liability'
        and a.currency = v_offer.currency),
    v_offer.price_minor, v_offer.currency, 0, null, p_key, 'package:' || v_offer.public_id, v_offer.name);
  if v_status = 'done' then
    insert into client_package (tenant_id, public_id, client_account_id, charge_id, offer_id, provider_id, kind,
                                total_ms, price_minor, currency, provider_bps, then_money, expires_at)
      values (p_tenant, p_public_id, p_payer, (select c.id from charge c where c.public_id = p_charge_public_id),
              v_offer.id, v_offer.provider_id, v_offer.kind, v_offer.time_ms, v_offer.price_minor, v_offer.currency, v_offer.provider_bps, v_offer.then_money,
              now() + v_offer.valid_days * interval '1 day');
  end if;
  return v_status;
end $$;

-- Packages that are over: what is left of their price is the platform's. Those that a session holds wait for its end.
create function close_packages(p_tenant bigint) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_package client_package;
  v_platform bigint;
  v_liability bigint;
  v_closed int := 0;
begin
  for v_package in select * from client_package c where c.tenant_id = p_tenant and c.closed_at is null
    and c.reserved_ms = 0 and (c.expires_at <= now() or c.used_ms = c.total_ms)
    order by c.id limit 1000 for no key update skip locked
  loop
    if v_package.price_minor > v_package.recognised_minor then
      v_platform := (select a.id from account a where a.tenant_id = p_tenant and a.kind = 'platform_revenue'
        and a.currency = v_package.currency and a.lane = 0);
      v_liability := (select a.id from account a where a.tenant_id = p_tenant and a.kind = 'package_liability'
        and a.currency = v_package.currency);
      perform lock_accounts(p_tenant, array[v_platform]);
      perform lock_accounts(p_tenant, array[v_liability]);
      perform move_money(p_tenant, 'trf_x' || v_package.public_id, 'package_expiry', v_liability, v_platform,
        v_package.price_minor - v_package.recognised_minor, 0, v_package.currency, 'expiry:' || v_package.id,
        v_package.public_id, 'Package expired');
    end if;
    update client_package c set closed_at = now(), recognised_minor = c.price_minor
      where c.tenant_id = p_tenant and c.id = v_package.id;
    v_closed := v_closed + 1;
  end loop;
  return v_closed;
end $$;

-- Give back part or all of a settled session or a one-off charge, from whom it went to, in proportion; computed from
-- totals, so that many small reversals are one large. What the provider no longer has becomes a receivable. Status:
-- done, replayed, key_reused, not_settled, too_much, unknown.
create function post_reversal(
  p_tenant bigint, p_public_id text, p_session text, p_charge text, p_amount bigint, p_key text, p_actor bigint,
  p_reason text)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_old reversal;
  v_session bigint;
  v_charge bigint;
  v_client bigint;
  v_provider bigint;
  v_house bigint;
  v_receivable bigint;
  v_provider_user bigint;
  v_currency text;
  v_gross bigint;
  v_shared bigint;
  v_promo bigint;
  v_before reversal;
  v_total bigint;
  v_part bigint;
  v_part_promo bigint;
  v_paid bigint;
  v_promo_left bigint;
begin
  if p_session is not null then
    select m.session_id, m.client_account_id, m.provider_account_id, m.platform_account_id, m.currency, m.posted_minor,
        m.posted_provider_minor, m.posted_promo_minor
      into v_session, v_client, v_provider, v_house, v_currency, v_gross, v_shared, v_promo
      from session_meter m where m.tenant_id = p_tenant and m.session_public_id = p_session and m.state = 'settled';
    if not found then
      return case when exists (select from session_meter m where m.tenant_id = p_tenant
        and m.session_public_id = p_session) then 'not_settled' else 'unknown' end;
    end if;
  else
    select c.id, c.payer_account_id, c.provider_account_id, c.house_account_id, c.currency, c.amount_minor,
        c.provider_minor, c.promo_minor
      into v_charge, v_client, v_provider, v_house, v_currency, v_gross, v_shared, v_promo
      from charge c where c.tenant_id = p_tenant and c.public_id = p_charge and c.kind <> 'package';
    if not found then
      return 'unknown';
    end if;
  end if;
  if v_provider is not null then
    v_provider_user := (select a.user_id from account a where a.tenant_id = p_tenant and a.id = v_provider);
    insert into account (tenant_id, kind, user_id, lane, currency, overdraft)
      values (p_tenant, 'receivable', v_provider_user, 0, v_currency, true)
      on conflict (tenant_id, kind, user_id, currency, lane) do nothing;
    v_receivable := (select a.id from account a where a.tenant_id = p_tenant and a.kind = 'receivable'
      and a.user_id = v_provider_user and a.currency = v_currency);
  end if;
  perform lock_accounts(p_tenant, array[v_client, v_provider, v_receivable, v_house]);
  select * into v_old from reversal r where r.tenant_id = p_tenant and r.idempotency_key = p_key;
  if found then
    return case when (v_old.amount_minor, v_old.reason, v_old.session_id, v_old.charge_id)
      is not distinct from (p_amount, p_reason, v_session, v_charge) then 'replayed' else 'key_reused' end;
  end if;
  select coalesce(sum(r.amount_minor), 0), coalesce(sum(r.provider_minor), 0), coalesce(sum(r.promo_minor), 0)
    into v_before.amount_minor, v_before.provider_minor, v_before.promo_minor
    from reversal r where r.tenant_id = p_tenant and (r.session_id = v_session or r.charge_id = v_charge);
  v_total := v_before.amount_minor + p_amount;
  if v_total > v_gross then
    return 'too_much';
  end if;
  v_part := v_shared - div(v_shared::numeric * (v_gross - v_total), v_gross)::bigint - v_before.provider_minor;
  v_part_promo := v_promo - div(v_promo::numeric * (v_gross - v_total), v_gross)::bigint - v_before.promo_minor;
  -- Both parts round up from totals: the last unit may be one more than the amount has; the next reversal evens it.
  v_part := least(v_part, p_amount);
  v_part_promo := least(v_part_promo, p_amount);
  v_paid := least(v_part, (select a.posted_minor - a.held_minor from account a
    where a.tenant_id = p_tenant and a.id = v_provider));
  v_paid := coalesce(v_paid, 0);
  v_promo_left := v_part_promo;
  if v_paid > 0 then
    perform move_money(p_tenant, 'trf_p' || p_public_id, 'reversal', v_provider, v_client, v_paid,
      least(v_promo_left, v_paid), v_currency, p_key || ':p', p_public_id, p_reason::varchar(200));
    v_promo_left := v_promo_left - least(v_promo_left, v_paid);
  end if;
  if v_part > v_paid then
    perform move_money(p_tenant, 'trf_r' || p_public_id, 'reversal', v_receivable, v_client, v_part - v_paid,
      least(v_promo_left, v_part - v_paid), v_currency, p_key || ':r', p_public_id, p_reason::varchar(200));
    v_promo_left := v_promo_left - least(v_promo_left, v_part - v_paid);
  end if;
  if p_amount > v_part then
    perform move_money(p_tenant, 'trf_h' || p_public_id, 'reversal', v_house, v_client, p_amount - v_part,
      v_promo_left, v_currency, p_key || ':h', p_public_id, p_reason::varchar(200));
  end if;
  insert into reversal (tenant_id, public_id, session_id, charge_id, amount_minor, provider_minor, receivable_minor,
                        promo_minor, currency, reason, actor_id, idempotency_key)
    values (p_tenant, p_public_id, v_session, v_charge, p_amount, v_part, v_part - v_paid, v_part_promo, v_currency,
            p_reason, p_actor, p_key);
  return 'done';
end $$;

revoke execute on function post_charge, buy_package, close_packages, post_reversal from public;
grant execute on function post_charge, buy_package, close_packages, post_reversal to turnpike_app;

-- A change of kind that waits for the other side's word; what is told in a session and would be forgotten; packages given
-- back; and how a provider's debt is paid off.

-- What one side has asked for: another kind at a rate that is higher than the present one. The other side agrees or
-- declines; after `asked_until_ms` it counts as declined.
alter table session
  add column asked_kind text check (asked_kind in ('chat', 'audio', 'video')),
  add column asked_by bigint,
  add column asked_minor_per_minute bigint,
  add column asked_tariff_id bigint,
  add column asked_until_ms bigint,
  add constraint session_asked check (
    num_nonnulls(asked_kind, asked_by, asked_minor_per_minute, asked_tariff_id, asked_until_ms) in (0, 5));

-- What happened in a session without changing it: warnings that the money ends, connections that came and went.
create table session_note (
  id bigint generated always as identity,
  tenant_id bigint not null,
  session_id bigint not null,
  at_ms bigint not null,
  what text not null check (length(what) between 1 and 40),
  user_id bigint,   -- whom it is about; null: both
  figure bigint,    -- what it says in figures, by `what`
  primary key (tenant_id, id),
  foreign key (tenant_id, session_id) references session (tenant_id, id)
);
create index session_note_of on session_note (tenant_id, session_id, id);
select enable_tenant_rls('session_note');
revoke update on session_note from turnpike_app;

-- Package time that is not used may be given back for the part of the price that nobody has earned yet.
alter table client_package
  add column refunded_minor bigint not null default 0,
  add constraint package_refunded check (refunded_minor between 0 and price_minor
    and (refunded_minor = 0 or (closed_at is not null and reserved_ms = 0)));

-- Give back what is left of a package, once per key: the price of the time not used, as promotional credit in so far as
-- it was paid with that. The package is closed. Status: done, replayed, key_reused, unknown, package_in_use (a session
-- holds it), package_over (used up, expired and closed, or given back before).
create function refund_package(
  p_tenant bigint, p_public_id text, p_package text, p_key text, p_actor bigint, p_reason text)
returns text language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_package client_package;
  v_charge charge;
  v_old reversal;
  v_liability bigint;
  v_amount bigint;
  v_promo bigint;
begin
  select * into v_package from client_package c where c.tenant_id = p_tenant and c.public_id = p_package
    for no key update;
  if not found then
    return 'unknown';
  end if;
  select * into strict v_charge from charge c where c.tenant_id = p_tenant and c.id = v_package.charge_id;
  v_liability := (select a.id from account a where a.tenant_id = p_tenant and a.kind = 'package_liability'
    and a.currency = v_package.currency);
  perform lock_accounts(p_tenant, array[v_package.client_account_id, v_liability]);
  select * into v_old from reversal r where r.tenant_id = p_tenant and r.idempotency_key = p_key;
  if found then
    return case when (v_old.charge_id, v_old.reason) is not distinct from (v_package.charge_id, p_reason)
      then 'replayed' else 'key_reused' end;
  end if;
  v_amount := v_package.price_minor - v_package.recognised_minor;
  if v_package.closed_at is not null or (v_package.reserved_ms = 0 and v_amount = 0) then
    return 'package_over';
  elsif v_package.reserved_ms > 0 then
    return 'package_in_use';
  end if;
  v_promo := div(v_charge.promo_minor::numeric * v_amount, v_charge.amount_minor)::bigint;
  perform move_money(p_tenant, 'trf_k' || p_public_id, 'reversal', v_liability, v_package.client_account_id, v_amount,
    v_promo, v_package.currency, p_key || ':k', p_public_id, p_reason::varchar(200));
  update client_package c set closed_at = now(), recognised_minor = c.price_minor, refunded_minor = v_amount
    where c.tenant_id = p_tenant and c.id = v_package.id;
  insert into reversal (tenant_id, public_id, session_id, charge_id, amount_minor, provider_minor, receivable_minor,
                        promo_minor, currency, reason, actor_id, idempotency_key)
    values (p_tenant, p_public_id, null, v_package.charge_id, v_amount, 0, 0, v_promo, v_package.currency, p_reason,
            p_actor, p_key);
  return 'done';
end $$;

-- What a provider owes after a refund that they no longer had is paid off with what they earn next. The key names the
-- newest movement of the receivable, so that the same earnings pay it once, however often this is called. Returns how
-- much was paid. A transaction of its own: whoever settles a session holds house accounts by then.
alter table transfer drop constraint transfer_kind_check;
alter table transfer add constraint transfer_kind_check check (kind in (
  'topup', 'promo', 'promo_expiry', 'charge', 'reversal', 'package_use', 'package_expiry', 'recovery'));
-- (Not of those that owe: an index that names a balance would keep every posting from being an update in place.)
create index account_owing on account (tenant_id, user_id) where kind = 'receivable';

create function recover_receivable(p_tenant bigint, p_user bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_pair record;
  v_amount bigint;
  v_last bigint;
  v_paid bigint := 0;
begin
  perform lock_accounts(p_tenant, array(
    select a.id from account a where a.tenant_id = p_tenant and a.user_id = p_user
      and a.kind in ('receivable', 'provider_earnings')));
  for v_pair in
    select o.id as owed, e.id as earned, o.currency, -o.posted_minor as debt_minor,
      e.posted_minor - e.held_minor as available_minor
    from account o join account e on e.tenant_id = o.tenant_id and e.user_id = o.user_id and e.currency = o.currency
      and e.kind = 'provider_earnings'
    where o.tenant_id = p_tenant and o.user_id = p_user and o.kind = 'receivable' and o.posted_minor < 0
  loop
    v_amount := least(v_pair.debt_minor, v_pair.available_minor);
    if v_amount > 0 then
      v_last := (select max(t.id) from transfer t where t.tenant_id = p_tenant
        and v_pair.owed in (t.debit_account_id, t.credit_account_id));
      perform move_money(p_tenant, 'trf_o' || v_pair.owed || '_' || v_last, 'recovery', v_pair.earned, v_pair.owed,
        v_amount, 0, v_pair.currency, 'recovery:' || v_pair.owed || ':' || v_last, null, 'Owed after a refund');
      v_paid := v_paid + v_amount;
    end if;
  end loop;
  return v_paid;
end $$;

revoke execute on function refund_package, recover_receivable from public;
grant execute on function refund_package, recover_receivable to turnpike_app;

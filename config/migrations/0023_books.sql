-- Keeping the books: archives behind signed checkpoints, nightly proofs, alerts.

-- A signed statement of all balances at one moment.
create table checkpoint (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  accounts bigint not null,
  digest text not null,     -- SHA-256 of the balances, one line an account (billing/checkpoints.py)
  signature text not null   -- HMAC-SHA256 of what the checkpoint says, with the installation's key
);
create table checkpoint_balance (
  checkpoint_id bigint not null references checkpoint,
  tenant_id bigint not null,
  account_id bigint not null,
  posted_minor bigint not null,
  held_minor bigint not null,
  promo_minor bigint not null,
  primary key (checkpoint_id, account_id)
);

-- What dropped partitions of session_charge held: sums by account, and by session.
create table archive (
  id bigint generated always as identity primary key,
  from_slot bigint not null,
  until_slot bigint not null,
  checkpoint_id bigint not null references checkpoint,
  rows bigint not null,
  file text not null,
  sha256 text not null,
  at timestamptz not null default now(),
  unique (from_slot)
);
create table archived_movement (
  archive_id bigint not null references archive,
  tenant_id bigint not null,
  account_id bigint not null,
  amount_minor bigint not null,
  promo_minor bigint not null,
  primary key (archive_id, account_id)
);
create table archived_charge (
  archive_id bigint not null references archive,
  tenant_id bigint not null,
  session_id bigint not null,
  amount_minor bigint not null,
  provider_minor bigint not null,
  promo_minor bigint not null,
  through_ms bigint not null,
  parties bigint[] not null,
  primary key (archive_id, session_id)
);
select enable_tenant_rls('archived_movement'), enable_tenant_rls('archived_charge'), enable_tenant_rls('checkpoint_balance');
revoke insert, update on archived_movement, archived_charge, checkpoint_balance from turnpike_app;
grant select on checkpoint, archive to turnpike_app;
do $$
declare
  t text;
begin
  foreach t in array array['checkpoint', 'checkpoint_balance', 'archive', 'archived_movement', 'archived_charge'] loop
    execute format('create trigger %I before update or delete or truncate on %I for each statement execute function'
      ' refuse_change()', t || '_append_only', t);
  end loop;
end $$;

-- A partition of session_charge for the week of a slot (120,960 of them), unless it is there.
create function ensure_charge_partition(p_slot bigint) returns text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_from bigint := p_slot / 120960 * 120960;
  v_name text := 'session_charge_' || p_slot / 120960;
begin
  if to_regclass(v_name) is null and not exists (select from archive a where a.from_slot = v_from)
     and not exists (select from session_charge_other o where o.slot >= v_from and o.slot < v_from + 120960) then
    execute format('create table %I partition of session_charge for values from (%s) to (%s)', v_name, v_from,
                   v_from + 120960);
    execute format('create trigger session_charge_append_only before update or delete or truncate on %I'
      ' for each statement execute function refuse_change()', v_name);
  end if;
  return v_name;
end $$;
select ensure_charge_partition((extract(epoch from now()) / 5)::bigint + n * 120960) from generate_series(0, 1) n;

-- Replace a partition by its sums. For the owner alone: `turnpike ledger archive` has written it to a file before.
create function drop_charge_partition(p_from bigint, p_checkpoint bigint, p_file text, p_sha256 text) returns bigint
language plpgsql set search_path = public, pg_temp as $$
declare
  v_name text := 'session_charge_' || p_from / 120960;
  v_archive bigint;
  v_rows bigint;
begin
  execute format('lock table %I in access exclusive mode', v_name);
  execute format('select count(*) from %I', v_name) into v_rows;
  if exists (select from session_meter m where m.state = 'open' and m.posted_minor > 0 and m.opened_at <
             to_timestamp((p_from + 120960) * 5)) then
    raise exception 'sessions of that time are still open' using errcode = 'object_in_use';
  end if;
  insert into archive (from_slot, until_slot, checkpoint_id, rows, file, sha256)
    values (p_from, p_from + 120960, p_checkpoint, v_rows, p_file, p_sha256) returning id into v_archive;
  execute format('insert into archived_movement
    select %s, x.tenant_id, x.account, sum(x.amount), sum(x.promo) from (
      select tenant_id, client_account_id as account, -amount_minor as amount, -promo_minor as promo from %2$I
      union all select tenant_id, provider_account_id, amount_minor - fee_minor, 0 from %2$I
      union all select tenant_id, platform_account_id, fee_minor, 0 from %2$I) x group by 2, 3', v_archive, v_name);
  execute format('insert into archived_charge
    select %s, tenant_id, session_id, sum(amount_minor), sum(amount_minor - fee_minor), sum(promo_minor),
      max(through_ms), array[client_account_id, provider_account_id, platform_account_id] from %2$I
    group by tenant_id, session_id, client_account_id, provider_account_id, platform_account_id', v_archive, v_name);
  execute format('drop table %I', v_name);
  return v_archive;
end $$;

-- What the nightly proof found; every process shows the newest as metrics.
create table reconcile_run (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  disagreements bigint not null,
  waiting_for_evidence bigint not null,
  findings jsonb not null
);
grant select, insert on reconcile_run to turnpike_app;

-- What looks like abuse, once per rule, account and day: for people to look at. Nothing is done by itself.
create table fraud_alert (
  id bigint generated always as identity,
  tenant_id bigint not null,
  rule text not null,
  account_id bigint not null,
  day date not null,
  figure bigint not null,
  at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, rule, account_id, day)
);
select enable_tenant_rls('fraud_alert');
revoke update on fraud_alert from turnpike_app;

revoke execute on function ensure_charge_partition, drop_charge_partition from public;
grant execute on function ensure_charge_partition to turnpike_app;

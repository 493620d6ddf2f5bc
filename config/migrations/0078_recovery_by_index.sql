-- The newest movement of a receivable is looked up on each of its two indexes: with one condition for both, transfers of
-- all accounts could be walked while the provider's earnings are locked, and every tick of theirs waits.
create or replace function recover_receivable(p_tenant bigint, p_user bigint) returns bigint
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
      v_last := greatest(
        (select max(t.id) from transfer t where t.tenant_id = p_tenant and t.debit_account_id = v_pair.owed),
        (select max(t.id) from transfer t where t.tenant_id = p_tenant and t.credit_account_id = v_pair.owed));
      perform move_money(p_tenant, 'trf_o' || v_pair.owed || '_' || v_last, 'recovery', v_pair.earned, v_pair.owed,
        v_amount, 0, v_pair.currency, 'recovery:' || v_pair.owed || ':' || v_last, null, 'Owed after a refund');
      v_paid := v_paid + v_amount;
    end if;
  end loop;
  return v_paid;
end $$;
